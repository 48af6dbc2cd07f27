"""Causal language models in, in 4 bits: by Hub id or local folder, without running anybody's code.

The built-in tiny ones are made by ``causal_pretraining.py``, which returns their folders.
"""

from pathlib import Path

import psutil
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

from lib import hub
from lib.models import ModelError, quiet_libraries, read_config

# Paper 3, section VII, as printed there (<bot> is printed <both>): what stands before an instruction, between
# it and its output, and after the output.
TAGS = {"gpt_neox": ("<s><human>", "<bot>", "</s>"), "llama": ("<s><INST>", "</INST>", "</s>")}

# Bytes of a weight in NF4 with double quantisation: 4 bits, a scale of 8 bits for 64 weights, and one of 32
# bits for 256 scales.
NF4_BYTES = 4 / 8 + 1 / 64 + 4 / (64 * 256)


def load_config(model: str | Path) -> PreTrainedConfig:
    """Read a causal model's configuration: what is wrong shows here, before weights are loaded.

    Raises
    ------
    ModelError
        If there is no such model, no answer from the Hub, no access to a gated model, or an architecture
        without tags of its own.
    """
    config = read_config(model)
    if config.model_type not in TAGS:
        raise ModelError(
            f"model {str(model)!r}: architecture {config.model_type!r}; allowed: {', '.join(TAGS)}"
        )
    return config


def load_tokenizer(model: str | Path) -> PreTrainedTokenizerBase:
    """Load a causal model's tokenizer; one without a padding token pads with its end-of-text token.

    Raises
    ------
    ModelError
        If there is none.
    """
    try:
        with quiet_libraries():
            tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {str(model)!r}: no tokenizer ({hub.first_line(error)})") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_four_bit(
    model: str | Path, *, device: torch.device, dtype: torch.dtype, attention: str = "sdpa"
) -> PreTrainedModel:
    """Load a causal model with its linear layers in NF4 and double quantisation, in evaluation mode.

    Parameters
    ----------
    model : str or Path
        A Hub id or a folder, with weights in safetensors format.
    device : torch.device
        Where it goes.
    dtype : torch.dtype
        In which the 4-bit weights are multiplied, and which the other parameters have.
    attention : str
        Which of transformers' kernels computes the attention: ``sdpa`` or ``eager``. The formula is the same,
        the order of summation is not.

    Raises
    ------
    ModelError
        If the weights are not to be had in safetensors format.
    """
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    try:
        with quiet_libraries():
            loaded = AutoModelForCausalLM.from_pretrained(
                model,
                quantization_config=quantization,
                dtype=dtype,
                device_map={"": device},
                attn_implementation=attention,
                use_safetensors=True,
            ).eval()
    except OSError as error:
        raise ModelError(
            f"model {str(model)!r}: no weights in safetensors format ({hub.first_line(error)}); convert them "
            "elsewhere with save_pretrained and give the folder"
        ) from error
    for module in loaded.modules():
        if isinstance(module, Linear4bit):
            # On CPUs with AVX512-BF16 bitsandbytes would repack the weights in place at the first evaluation:
            # it then multiplies in bfloat16 whatever was asked for, and peft merges an adapter into garbage.
            module.support_avx512bf16_for_cpu = False
    return loaded


def check_fits(model: str | Path, *, device: torch.device, dtype: torch.dtype, max_length: int) -> int:
    """Return the bytes that a model's weights need in 4 bits; refuse a model that cannot do the work.

    Parameters
    ----------
    model : str or Path
        A Hub id or a folder.
    device : torch.device
        Where it is to go.
    dtype : torch.dtype
        Of the parameters that are not quantised.
    max_length : int
        Tokens of the longest text.

    Raises
    ------
    ModelError
        If the model reads no texts of that length, or its weights alone need more than the free memory.
    """
    config = load_config(model)
    if max_length > config.max_position_embeddings:
        raise ModelError(
            f"max_length = {max_length}: allowed for model {str(model)!r}: at most "
            f"{config.max_position_embeddings} tokens"
        )
    needed = weight_bytes(config, dtype)
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else psutil.virtual_memory().available
    if needed > free:
        raise ModelError(
            f"model {str(model)!r}: its weights need {needed / 2**30:.1f} GiB in 4 bits; "
            f"{free / 2**30:.1f} GiB are free on this {device.type}"
        )
    return needed


def weight_bytes(config: PreTrainedConfig, dtype: torch.dtype) -> int:
    """Return the bytes of a model's weights with its linear layers in NF4 and the rest in ``dtype``.

    The output layer stays unquantised, as bitsandbytes leaves it.
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
    """Put a family's tags around an instruction, up to where its output begins (paper 3, section VII)."""
    before, between, _ = TAGS[family]
    return f"{before}{instruction}{between}"


def dialogue(family: str, instruction: str, output: str) -> str:
    """Put a family's tags around an instruction and its output (paper 3, section VII)."""
    return f"{prompt(family, instruction)}{output}{TAGS[family][2]}"
