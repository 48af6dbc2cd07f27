"""Post-training quantisation, which part of a classifier is trained, and how many bits that sets.

`quantize` rounds a trained classifier, `choose_trained` selects the weights that training may change, and
`fine_tuning_surface` counts the bits of either (paper 2, section 2.1 and Table 1).
"""

import copy
import warnings
from typing import cast

import bitsandbytes as bnb
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from lib.architectures import head_module_names, head_parameter_names
from lib.trained_parts import ABOVE, LORA, part_of

BLOCK = 64  # weights per scale: bitsandbytes' default for 4 bits
FORMATS = ("nf4", "fp4", "fp8")
PLAIN = "plain"  # stands for "not quantised" where a format is named


class LinearFP8(nn.Linear):
    """A linear layer whose weights are 8-bit floating-point numbers (E4M3, one scale per 64 weights).

    The weights are stored decoded, in 32 bits: they take at most 256 values per block, and the layer computes
    like any other.
    """

    @classmethod
    def rounded(cls, linear: nn.Linear) -> "LinearFP8":
        """Return ``linear`` with its weights rounded to 8 bits by bitsandbytes."""
        layer = cls(linear.in_features, linear.out_features, linear.bias is not None, linear.weight.device)
        layer.load_state_dict(linear.state_dict())
        if linear.weight.device.type != "meta":
            code = bnb.functional.create_fp8_map(signed=True, exponent_bits=4, precision_bits=3)
            weight = layer.weight.data
            packed, state = bnb.functional.quantize_blockwise(weight, code.to(weight.device), blocksize=BLOCK)
            layer.weight.data = bnb.functional.dequantize_blockwise(packed, state)
        return layer


def quantize(model: PreTrainedModel, kind: str) -> PreTrainedModel:
    """Quantise a trained classifier without further training.

    Every linear layer, including the head's, gets 4-bit (bitsandbytes) or 8-bit weights; every other
    parameter is rounded to 16 bits. This is what the mantissa of the 7.4e7 bits in paper 2's Table 1 implies
    (counted: 7.44e8), and how transformers loaded a model in 4 bits. Computation stays in 32 bits.

    Parameters
    ----------
    model : PreTrainedModel
        Not modified. On the meta device the layers are replaced and nothing is rounded.
    kind : {"nf4", "fp4", "fp8"}
        4-bit NormalFloat, 4-bit or 8-bit floating point.

    Returns
    -------
    PreTrainedModel
        A new model in evaluation mode, on the same device.

    Raises
    ------
    ValueError
        If ``kind`` is none of these, or the model is already quantised.
    """
    if kind not in FORMATS:
        raise ValueError(f"quantisation = {kind!r}: no such format; allowed: {', '.join(FORMATS)}")
    if is_quantized(model):
        raise ValueError(f"{type(model).__name__} is already quantised: quantise the plain model instead")
    quantized = copy.deepcopy(model).eval()
    for parameter in quantized.parameters():
        parameter.requires_grad_(False)
    linears = [name for name, module in quantized.named_modules() if isinstance(module, nn.Linear)]
    for module in quantized.modules():
        if not isinstance(module, nn.Linear):
            for parameter in module.parameters(recurse=False):
                _round_to_16_bits(parameter)
    for name in linears:
        linear = quantized.get_submodule(name)
        if linear.bias is not None:
            _round_to_16_bits(linear.bias)
        quantized.set_submodule(name, LinearFP8.rounded(linear) if kind == "fp8" else _four_bit(linear, kind))
    return quantized.eval()


def is_quantized(model: nn.Module) -> bool:
    """Return whether any layer of the model has 4-bit or 8-bit weights."""
    return any(isinstance(module, bnb.nn.Linear4bit | LinearFP8) for module in model.modules())


def fine_tuning_surface(model: PreTrainedModel, trained: str = "all") -> int:
    """Count the bits of a model that its fine-tuning sets (paper 2, section 2.1 and Table 1).

    A parameter counts 32 bits. In a quantised model a linear layer's weight counts 4 (or 8) bits and any
    other parameter 16, except that every parameter of a quantised head counts 4 (or 8): these rules give the
    mantissas of Table 1 for CamemBERT-base. The scales of the 4-bit blocks (half a bit per weight) are not
    counted, as in the paper.

    Parameters
    ----------
    model : PreTrainedModel
        A classifier, plain or quantised; may be on the meta device.
    trained : {"all", "head", "trainable"}
        Every parameter; only the classification head's; or those that require a gradient, which a quantised
        model no longer records.

    Returns
    -------
    int
        The surface in bits.

    Raises
    ------
    ValueError
        If ``trained`` is none of these, or ``trainable`` for a quantised model.
    """
    if trained not in ("all", "head", "trainable"):
        raise ValueError(f"trained = {trained!r}: allowed are 'all', 'head' and 'trainable'")
    quantized = is_quantized(model)
    if trained == "trainable" and quantized:
        raise ValueError(
            "trained = 'trainable': not recorded in a quantised model; allowed: 'all' and 'head'"
        )
    counted = head_parameter_names(model) if trained == "head" else None
    bits = 0
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if counted is not None and name not in counted:
                continue
            if trained == "trainable" and not parameter.requires_grad:
                continue
            bits += _size(module, name) * _bits_each(module, name, quantized, whole_head=counted is not None)
    return bits


def choose_trained(model: PreTrainedModel, trained: str) -> PreTrainedModel:
    """Make only a part of a classifier's weights require a gradient; the head is always included.

    Parameters
    ----------
    model : PreTrainedModel
        Modified in place.
    trained : str
        A name of `lib.trained_parts`. With ``above:K`` the embeddings are frozen too; ``lora:R`` puts peft's
        adapters on queries and values.

    Returns
    -------
    PreTrainedModel
        The model; for adapters, peft's wrapper around it.

    Raises
    ------
    ValueError
        For any other ``trained``, more layers than the model has, or a rank above its dimension.
    """
    kind, number = part_of(trained)
    layers = model.config.num_hidden_layers
    if kind == ABOVE and number > layers:
        raise ValueError(f"trained = {trained!r}: allowed are {ABOVE}:0 to {ABOVE}:{layers}")
    if kind == LORA and number > model.config.hidden_size:
        raise ValueError(f"trained = {trained!r}: allowed are {LORA}:1 to {LORA}:{model.config.hidden_size}")
    if kind == LORA:
        adapters = LoraConfig(
            r=number,
            lora_alpha=2 * number,  # the same scale for every rank
            target_modules=["query", "value"],
            modules_to_save=head_module_names(model),
        )
        with warnings.catch_warnings():
            # peft reads a property of transformers by its deprecated name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            wrapped = get_peft_model(model, adapters)
        return cast(PreTrainedModel, wrapped)  # it forwards to the model whatever it does not define
    names = [name for name, _ in model.named_parameters()]
    if kind == "all":
        chosen = set(names)
    elif kind == "biases":
        chosen = {name for name in names if name.endswith("bias")}
    elif kind == ABOVE:
        above = [f"encoder.layer.{layer}." for layer in range(number, layers)]
        chosen = {name for name in names if any(layer in name for layer in above)}
    else:  # the head alone
        chosen = set()
    chosen |= head_parameter_names(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return model


def curve_points(names: str, layers: int) -> list[str]:
    """Return the points of a curve over the surface, each as `choose_trained` names it.

    Parameters
    ----------
    names : str
        Separated by blanks, each as `lib.trained_parts.CURVE` allows.
    layers : int
        Number of the encoder's layers.
    """
    lowest = [f"{ABOVE}:{k}" for k in range(layers + 1)]
    return [point for name in names.split() for point in (lowest if name == "layers" else [name])]


def surface_bits(config: PreTrainedConfig, trained: str = "all", quantization: str = PLAIN) -> int:
    """Return the fine-tuning surface of a classifier from its configuration alone, in bits.

    Parameters
    ----------
    config : PreTrainedConfig
        Of the encoder, which is built on the meta device: no weight is allocated.
    trained : str
        See `choose_trained`; ``all`` or ``head`` for a quantised model.
    quantization : str
        ``plain``, or a format of `quantize`.
    """
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
        if quantization != PLAIN:
            return fine_tuning_surface(quantize(model, quantization), trained)
        return fine_tuning_surface(choose_trained(model, trained), "trainable")


def _four_bit(linear: nn.Linear, kind: str) -> bnb.nn.Linear4bit:
    layer = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=torch.float32,
        compress_statistics=False,  # transformers' default: the scales stay in 32 bits
        quant_type=kind,
        device=linear.weight.device,
    )
    layer.load_state_dict(linear.state_dict(), assign=linear.weight.device.type == "meta")
    # Otherwise a CPU with AVX512-BF16 repacks the weights at the first call and computes in bfloat16, and
    # the numbers of a run would depend on the machine.
    layer.support_avx512bf16_for_cpu = False
    return layer.to(linear.weight.device).requires_grad_(False)


def _round_to_16_bits(parameter: nn.Parameter) -> None:
    """Round a parameter to float16 but keep its dtype, since computation stays in 32 bits."""
    if parameter.device.type != "meta":
        parameter.data = parameter.data.to(torch.float16).to(parameter.dtype)


def _size(module: nn.Module, name: str) -> int:
    if isinstance(module, bnb.nn.Linear4bit) and name.endswith("weight"):
        return module.in_features * module.out_features  # the parameter itself packs two weights per byte
    return module.get_parameter(name.rpartition(".")[2]).numel()


def _bits_each(module: nn.Module, name: str, quantized: bool, *, whole_head: bool) -> int:
    if not quantized:
        return 32
    if isinstance(module, bnb.nn.Linear4bit | LinearFP8) and (whole_head or name.endswith("weight")):
        return 4 if isinstance(module, bnb.nn.Linear4bit) else 8
    return 16
