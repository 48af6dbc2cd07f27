"""How matrix products are rounded, in a training or an explanation: float32, TF32 or bfloat16.

Weights, gradients, moments and sums of relevance stay in 32 bits whatever the products' precision.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

Precision = Literal["float32", "tf32", "bfloat16"]
"""Of the products of a training."""

RelevancePrecision = Literal["float32", "tf32"]
"""Of the products of relevance. bfloat16 is not among them: a result in 8 bits is too coarse for the
differences of products in rule 2 of `lib.lrp.rules`."""


def default_precision(device: torch.device) -> Precision:
    """Return how classifiers are trained where nothing else is said: bfloat16 on GPUs that have it."""
    return "bfloat16" if device.type == "cuda" and has_bfloat16() else "float32"


def has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16 itself; older ones emulate it, slowly."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def check_precision(precision: str, device: torch.device) -> None:
    """Check that a device has a precision.

    Raises
    ------
    ValueError
        For an unknown precision, or one that the device does not have.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision = {precision!r}: allowed are {', '.join(get_args(Precision))}")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision = 'tf32' on {device}: only CUDA devices have it; allowed is 'float32'")


@contextmanager
def float32_products(precision: Precision) -> Iterator[None]:
    """Round the operands of float32 products to TF32 if that is the precision; otherwise leave them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def mixed(device: torch.device, precision: Precision) -> torch.autocast:
    """Return a context in which a forward pass computes in bfloat16, if that is the precision.

    Weights are cast anew in every forward pass: a cast that autocast keeps would be a tensor of one CUDA
    graph that another one reads.
    """
    enabled = precision == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled, cache_enabled=False)


def in_bfloat16(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights and biases of a model's linear layers in bfloat16, by name.

    All that are trained are cast as one tensor, and so are their gradients. A cast of each, which is what
    autocast does, takes a GPU longer to start than to carry out.
    """
    linear = {
        f"{layer}.{name}": parameter
        for layer, module in model.named_modules()
        if isinstance(module, nn.Linear)
        for name, parameter in module.named_parameters(recurse=False)
    }
    cast: dict[str, Tensor] = {}
    for trained in (True, False):
        chosen = {name: part for name, part in linear.items() if part.requires_grad == trained}
        if chosen:
            vector = parameters_to_vector(chosen.values()).to(torch.bfloat16)
            parts = vector.split([part.numel() for part in chosen.values()])
            cast |= {
                name: half.view_as(part) for half, (name, part) in zip(parts, chosen.items(), strict=True)
            }
    return cast
