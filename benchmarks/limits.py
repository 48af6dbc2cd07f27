"""What a device reaches at best, measured: the rate of its memory and of its matrix products."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from lib.precision import float32_products

COPIED = {"cuda": 2**30, "cpu": 2**27}  # bytes: far more than any cache holds
SIDE = {"cuda": 8192, "cpu": 1024}  # of the square matrices that are multiplied
REPEATS = 5
OPTIMIZER_BYTES = 28  # AdamW reads a weight, its gradient and two moments, and writes all but the gradient


class Limits(NamedTuple):
    """Rates of a device."""

    bandwidth: float  # bytes read or written a second
    products: dict[str, float]  # FLOP/s by precision

    def training(self, parameters: int, flops: float, precision: str) -> float:
        """Return the least seconds of a training step: AdamW's traffic, and the arithmetic of the model."""
        return OPTIMIZER_BYTES * parameters / self.bandwidth + flops / self.products[precision]


def measure(device: torch.device) -> Limits:
    """Measure the limits of a device, in a second or two."""
    source = torch.randn(COPIED[device.type] // 4, device=device)
    target = torch.empty_like(source)
    bandwidth = 2 * COPIED[device.type] / _fastest(lambda: target.copy_(source), device)
    side, products = SIDE[device.type], {}
    for precision in ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32",):
        kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
        a = torch.randn(side, side, device=device, dtype=kind)  # zeros and ones would be multiplied faster
        with float32_products(precision):
            products[precision] = 2 * side**3 / _fastest(lambda a=a: a @ a, device)
    return Limits(bandwidth, products)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    taken = float("inf")
    for _ in range(REPEATS):
        wait(device)
        start = time.perf_counter()
        work()
        wait(device)
        taken = min(taken, time.perf_counter() - start)
    return taken


def wait(device: torch.device) -> None:
    """Wait until a device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def described(limits: Limits) -> str:
    """Say in one line what was measured."""
    rates = ", ".join(f"{rate / 1e12:.3g} TFLOP/s in {name}" for name, rate in limits.products.items())
    return f"measured limits of the device: {limits.bandwidth / 1e9:.3g} GB/s, {rates}"
