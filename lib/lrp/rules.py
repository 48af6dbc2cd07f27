"""The rules by which relevance comes down through one operation.

They are those of Chefer, Gur and Wolf, "Transformer Interpretability Beyond Attention Visualization" (CVPR
2021, section 3.1) with alpha = 1, as their published code has them; the numbers are those of `lrp`. A rule
takes what went into an operation, what came out and its relevance, and returns the relevance of what went in.
The first dimension is the batch, and no text's relevance depends on another's.

Softmax, layer norm, activations and dropout pass relevance on as it is (rule 8), and so does a scaling.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-9  # of the published code; added whatever the sign of the denominator
ROUNDING = 64  # machine epsilons that a sum of products may be off by


def divide(a: Tensor, b: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Rule 1: a / (b + 1e-9), and 0 where b is 0. A narrower `a` is broadcast to b's shape."""
    quotient = b + epsilon
    return torch.div(a, quotient, out=quotient).masked_fill_(b == 0, 0.0)


def linear(x: Tensor, output: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
    """
    Rule 2: a linear layer, alpha = 1: an output's relevance goes to the inputs that pushed it up.

    With x+ and x- the positive and negative parts of x, Z = x+ W+ + x- W- (the bias left out) and S = R / Z,
    the result is x+ (S W+) + x- (S W-). As 2 Z = x W + |x| |W| and twice the result is x (S W) + |x| (S |W|),
    three products beside the layer's own x W do, and the halves cancel.

    Parameters
    ----------
    x : Tensor
        (batch, ..., in) what went in.
    output : Tensor
        (batch, ..., out) x W + bias, what came out.
    weight : Tensor
        (out, in).
    bias : Tensor or None
        (out,).
    relevance : Tensor
        (batch, ..., out).

    Returns
    -------
    Tensor
        (batch, ..., in).
    """
    size, magnitude = x.abs(), weight.abs()
    pushed = F.linear(size, magnitude)
    denominator = pushed + (output if bias is None else output - bias)  # 2 Z
    # Z is 0 where nothing pushed an output up; rounding would leave a little, and S would make much of it.
    denominator.masked_fill_(denominator <= ROUNDING * torch.finfo(x.dtype).eps * pushed, 0.0)
    s = divide(relevance, denominator, 2 * EPSILON)  # S / 2
    return (s @ weight).mul_(x).addcmul_(s @ magnitude, size)


def addition(a: Tensor, b: Tensor, total: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """
    Rule 3: total = a + b, in proportion; then a's share scaled to |sum a| / (|sum a| + |sum b|) of the whole.

    The sums run over a text. A relevance narrower than the total is broadcast to it, but counted once.
    """
    s = divide(relevance, total)
    share_a, share_b = a * s, b * s
    whole, sum_a, sum_b = _sum_per_text(relevance), _sum_per_text(share_a), _sum_per_text(share_b)
    both = sum_a.abs() + sum_b.abs()
    share_a *= divide(divide(sum_a.abs(), both) * whole, sum_a)
    share_b *= divide(divide(sum_b.abs(), both) * whole, sum_b)
    return share_a, share_b


def reuse(x: Tensor, *relevances: Tensor) -> Tensor:
    """Rule 4: a tensor used several times: x * sum_i R_i / (x + 1e-9)."""
    return divide(sum(relevances), x).mul_(x)


def matmul(a: Tensor, b: Tensor, product: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Rules 5 and 7: a @ b, in proportion on the full product, half to each side."""
    s = divide(relevance, product).div_(2)
    return (s @ b.mT).mul_(a), (a.mT @ s).mul_(b)


def masking(scores: Tensor, relevance: Tensor) -> Tensor:
    """
    Rule 6: adding the mask to the scores: rule 3 with the mask as the second term, whose share is dropped.

    The mask is 0 where a key is seen, and where it is not the probability and so its relevance are exactly 0:
    the mask's share is 0 everywhere, and nothing of the mask is left in the rule but its sum.
    """
    return addition(scores, scores.new_zeros(()), scores, relevance)[0]


def _sum_per_text(x: Tensor) -> Tensor:
    """Sum over everything but the batch: (batch, ...) -> (batch, 1, ...)."""
    return x.sum(tuple(range(1, x.dim())), keepdim=True)
