"""Load causal language models in 4 bits from local folders, without executing remote code.

The built-in tiny ones are pre-trained by `lib.tiny.causal`, which returns their folders; `lib.checkpoints`
finds the folder of a model on the Hub.
"""

from pathlib import Path

import torch
from bitsandbytes.nn import Linear4bit
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lib.errors import first_line
from lib.memory import free_bytes
from lib.models import ModelError, load_whole, name_of, quiet_libraries, read_config

# Paper 3, section VII, as printed (except <bot>, printed <both>): the tags before an instruction, between it
# and its output, and after the output.
TAGS = {"gpt_neox": ("<s><human>", "<bot>", "</s>"), "llama": ("<s><INST>", "</INST>", "</s>")}

# Bytes per weight in NF4 with double quantisation: 4 bits, an 8-bit scale per 64 weights, and a 32-bit scale
# per 256 of these scales.
NF4_BYTES = 4 / 8 + 1 / 64 + 4 / (64 * 256)


def load_config(model: str | Path) -> PreTrainedConfig:
    """Read a causal model's configuration, which is small: problems show before any weights are loaded.

    Raises
    ------
    ModelError
        As `lib.models.read_config`, and if the paper gives no tags for the architecture.
    """
    config = read_config(model)
    if config.model_type not in TAGS:
        raise ModelError(
            f"model {name_of(model)!r}: architecture {config.model_type!r}; allowed: {', '.join(TAGS)}"
        )
    return config


def load_tokenizer(model: str | Path) -> PreTrainedTokenizerBase:
    """Load a causal model's tokenizer; without a padding token, it pads with its end-of-text token.

    Raises
    ------
    ModelError
        If the model has no tokenizer.
    """
    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {name_of(model)!r}: no tokenizer ({first_line(error)})") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_four_bit(
    model: str | Path, *, device: torch.device, dtype: torch.dtype, attention: str = "sdpa"
) -> PreTrainedModel:
    """Load a causal model with its linear layers in NF4 with double quantisation, in evaluation mode.

    Parameters
    ----------
    model : str or Path
        A folder with weights in safetensors format.
    device : torch.device
        Where the model goes.
    dtype : torch.dtype
        Type in which the 4-bit weights are multiplied, and of all other parameters.
    attention : str
        transformers' attention kernel: ``sdpa`` or ``eager``. The formula is the same, the order of summation
        differs.

    Raises
    ------
    ModelError
        As `check_weights`.
    """
    check_weights(model)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    loaded = load_whole(
        AutoModelForCausalLM,
        model,
        quantization_config=quantization,
        dtype=dtype,
        device_map={"": device},
        attn_implementation=attention,
    ).eval()
    for module in loaded.modules():
        if isinstance(module, Linear4bit):
            # On CPUs with AVX512-BF16, bitsandbytes would repack the weights in place at the first call. It
            # would then multiply in bfloat16 whatever the dtype, and peft's merging would give garbage.
            module.support_avx512bf16_for_cpu = False
    return loaded


def check_weights(model: str | Path) -> None:
    """Check that a causal model's weights are whole, by their names and shapes.

    The shapes of those in 4 bits are not compared when they are loaded. A folder that is quantised already
    cannot be checked, since its weights have other names and shapes.

    Raises
    ------
    ModelError
        As `lib.models.load_whole`.
    """
    if not hasattr(read_config(model), "quantization_config"):
        load_whole(AutoModelForCausalLM, model, device_map="meta")


def check_fits(model: str | Path, *, device: torch.device, dtype: torch.dtype, max_length: int) -> int:
    """Return the bytes that a model's weights need in 4 bits, once it is clear that the model is usable.

    Parameters
    ----------
    model : str or Path
        A folder; the configuration in it is enough.
    device : torch.device
        Where the model will go.
    dtype : torch.dtype
        Type of the parameters that are not quantised.
    max_length : int
        Tokens in the longest text.

    Raises
    ------
    ModelError
        If texts of that length exceed the model's context, or its weights alone exceed the free memory.
    """
    config = load_config(model)
    if max_length > config.max_position_embeddings:
        raise ModelError(
            f"max_length = {max_length}: allowed for model {name_of(model)!r}: at most "
            f"{config.max_position_embeddings} tokens"
        )
    needed = weight_bytes(config, dtype)
    free = free_bytes(device)
    if needed > free:
        raise ModelError(
            f"model {name_of(model)!r}: its weights need {needed / 2**30:.1f} GiB in 4 bits; "
            f"{free / 2**30:.1f} GiB are free on this {device.type}"
        )
    return needed


def weight_bytes(config: PreTrainedConfig, dtype: torch.dtype) -> int:
    """Return the bytes of a model's weights, its linear layers in NF4 and the rest in ``dtype``.

    The output layer is not quantised, as in bitsandbytes.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    output = model.get_output_embeddings()
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    )
    return round(linear * NF4_BYTES + (total - linear) * dtype.itemsize)


def prompt(family: str, instruction: str) -> str:
    """Put a family's tags around an instruction, up to where the output begins (paper 3, section VII)."""
    before, between, _ = TAGS[family]
    return f"{before}{instruction}{between}"


def dialogue(family: str, instruction: str, output: str) -> str:
    """Put a family's tags around an instruction and its output (paper 3, section VII)."""
    return f"{prompt(family, instruction)}{output}{TAGS[family][2]}"
