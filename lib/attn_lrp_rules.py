"""AttnLRP's rules (Achtibat et al. 2024): the operations of a model, differentiated in another way."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class AttnLRPRules(TorchFunctionMode):
    """Within this context operations compute what they always do, but their gradients obey AttnLRP's rules.

    The relevance of a tensor is then itself times its gradient (Achtibat et al. 2024, with epsilon = 0):

    - linear layers and additions: in proportion to the contributions, the epsilon rule: the plain gradient;
    - GELU, ReLU, tanh: passed through, the identity rule: the gradient is output / input;
    - layer norm: the deviation it divides by counts as a constant;
    - products of two activations: half to each side;
    - softmax: the plain gradient.
    """

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Exchange the operations that have a rule of their own; PyTorch calls this for every operation."""
        return _RULES.get(function, function)(*args, **(kwargs or {}))


def _pass_through(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rule(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = function(x, *args, **kwargs).detach()
        return x * torch.where(x == 0, 0, y / x).detach()

    return rule


def _layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    deviation = (x.var(-1, correction=0, keepdim=True) + eps).sqrt().detach()
    return (x - x.mean(-1, keepdim=True)) / deviation * weight + bias


def _half_each(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.detach() + a.detach() @ b) / 2


_RULES: dict[Callable, Callable] = {
    F.layer_norm: _layer_norm,
    F.gelu: _pass_through(F.gelu),
    F.relu: _pass_through(F.relu),
    torch.tanh: _pass_through(torch.tanh),
    torch.matmul: _half_each,
}
