"""The rules that propagate relevance through one operation, from its output to its inputs.

They are those of Chefer, Gur and Wolf, "Transformer Interpretability Beyond Attention Visualization" (CVPR
2021, section 3) with alpha = 1, as in their published code; `lib.lrp.walk` lists them by number. A rule
takes an operation's inputs, its output and the output's relevance, and returns the relevance of the inputs.
The first dimension is the batch; a text's relevance does not depend on the other texts.

Softmax, layer norm, activations, dropout and scaling pass relevance on unchanged (rule 8).

What a rule does between two products and sums is a `fused` function.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.lrp.fusion import fused

EPSILON = 1e-9  # as in the published code: added whatever the denominator's sign
ROUNDING = 64  # error bound of a sum of products, in machine epsilons


def divide(a: Tensor, b: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Rule 1: a / (b + 1e-9), and 0 where b is 0. A narrower `a` is broadcast to b's shape."""
    return (a / (b + epsilon)).masked_fill_(b == 0, 0.0)


def linear(x: Tensor, output: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
    """Rule 2: a linear layer, alpha = 1: an output's relevance goes to the inputs that contribute positively.

    With x+ and x- the positive and negative parts of x, Z = x+ W+ + x- W- (without the bias) and S = R / Z,
    the result is x+ (S W+) + x- (S W-). Since 2 Z = x W + |x| |W|, and twice the result is
    x (S W) + |x| (S |W|), three products suffice besides the layer's own x W; the factors of 2 cancel.

    Parameters
    ----------
    x : Tensor
        (batch, ..., in) the input.
    output : Tensor
        (batch, ..., out) the output, x W + bias.
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
    s = _per_contribution(relevance, output, bias, pushed)  # S / 2
    return _sum_of_products(x, s @ weight, size, s @ magnitude)


@fused
def _per_contribution(relevance: Tensor, output: Tensor, bias: Tensor | None, pushed: Tensor) -> Tensor:
    """Relevance divided by 2 Z, where 2 Z = x W + |x| |W|: all but the bias (batch, ..., out)."""
    denominator = pushed + (output if bias is None else output - bias)
    # Z is 0 where no contribution is positive; rounding would leave a tiny value, by which S then divides.
    denominator.masked_fill_(denominator <= ROUNDING * torch.finfo(pushed.dtype).eps * pushed, 0.0)
    return divide(relevance, denominator, 2 * EPSILON)


@fused
def _sum_of_products(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Return a * b + c * d, written over b."""
    return b.mul_(a).addcmul_(d, c)


def addition(a: Tensor, b: Tensor, total: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Rule 3: total = a + b, in proportion; then a's share is scaled to |sum a| / (|sum a| + |sum b|) of R.

    The sums run over the shares of one text. A relevance that is narrower than the total is broadcast to it,
    but counted once.
    """
    share_a, share_b = _shares(a, b, total, relevance)
    whole, sum_a, sum_b = _sum_per_text(relevance), _sum_per_text(share_a), _sum_per_text(share_b)
    both = sum_a.abs() + sum_b.abs()
    share_a *= divide(divide(sum_a.abs(), both) * whole, sum_a)
    share_b *= divide(divide(sum_b.abs(), both) * whole, sum_b)
    return share_a, share_b


@fused
def _shares(a: Tensor, b: Tensor, total: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Divide relevance in proportion to a and b."""
    s = divide(relevance, total)
    return a * s, b * s


@fused
def reuse(x: Tensor, *relevances: Tensor) -> Tensor:
    """Rule 4: a tensor used several times: x * sum_i R_i / (x + 1e-9)."""
    return divide(sum(relevances, start=x.new_zeros(())), x).mul_(x)


def matmul(a: Tensor, b: Tensor, product: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Rules 5 and 7: a @ b, in proportion to the contributions to the product, half to each factor."""
    s = _half(relevance, product)
    return (s @ b.mT).mul_(a), (a.mT @ s).mul_(b)


@fused
def _half(relevance: Tensor, product: Tensor) -> Tensor:
    """Relevance divided by twice the product that it belongs to."""
    return divide(relevance, product).div_(2)


def masking(scores: Tensor, relevance: Tensor) -> Tensor:
    """Rule 6: adding the mask to the scores is rule 3 with the mask as second term, whose share is dropped.

    Where a key is seen, the mask is 0; elsewhere the probability, and so the relevance, is exactly 0. The
    mask's share is therefore 0 everywhere, and a zero mask gives the same result.
    """
    return addition(scores, scores.new_zeros(()), scores, relevance)[0]


def _sum_per_text(x: Tensor) -> Tensor:
    """Sum over everything but the batch: (batch, ...) -> (batch, 1, ...)."""
    return x.sum(tuple(range(1, x.dim())), keepdim=True)
