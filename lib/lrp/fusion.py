"""Element-wise operations as few kernels instead of many, each of which reads and writes a GPU's memory.

Under TF32, an explanation spends more time on them than on its products. PyTorch's compiler fuses what a rule
does between two products or sums. Sums stay as they are: in which order a compiled one adds depends on the
shape for which it was first compiled, and so would the last bits of a result.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

import torch

logger = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_fusing = ContextVar("fusing", default=False)


def fused(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorate an element-wise function of tensors, so that it is compiled where `fusing` is on."""

    @functools.wraps(function)
    def carried_out(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return (_compiled(function) if _fusing.get() else function)(*args, **kwargs)

    return carried_out


@contextmanager
def fusing(on: bool) -> Iterator[None]:
    """Compile the `fused` functions that are called in this context, or carry them out as they stand."""
    token = _fusing.set(on)
    try:
        yield
    finally:
        _fusing.reset(token)


@functools.cache
def can_fuse(device: torch.device) -> bool:
    """Whether PyTorch's compiler works on a device: it requires a C compiler, and Triton on CUDA.

    If it does not, the log says why, once.
    """
    try:
        torch.compile(torch.neg)(torch.ones(2, device=device))
    except Exception as error:  # whatever the compiler's many parts raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        logger.warning("relevance is not fused on %s, and slower: %s", device, reason)
        return False
    return True


@functools.cache
def _compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    # Dynamic: one kernel for all lengths and numbers of texts.
    return torch.compile(function, dynamic=True)
