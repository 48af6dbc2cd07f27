"""The forward pass that `lib.lrp.walk` goes back through, computed from the weights of the model.

The model is read, never run. Weights are used one layer at a time, in float32 or better: 16-bit weights are
widened and 4-bit weights decoded where they are used, and not kept. Dropout is always off, whatever the
model's mode.

Rounded activations would cost what is written in `benchmarks/README.md`: the forward pass is as exact as in
float32 even where products are in TF32.
"""

from typing import Any, NamedTuple

import bitsandbytes as bnb
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from lib import architectures
from lib.lrp.fusion import fused
from lib.precision import RelevancePrecision, float32_products


class Layer(NamedTuple):
    """The parts of one encoder layer."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_output: nn.Linear
    attention_norm: nn.LayerNorm
    intermediate: nn.Linear
    activation: nn.Module
    output: nn.Linear
    output_norm: nn.LayerNorm
    heads: int


class Trace(NamedTuple):
    """What the walk down needs of a layer, except its attention: quadratic in tokens, that is recomputed."""

    x: Tensor  # (batch, tokens, hidden) the layer's input; all others but `intermediate` have this shape
    query: Tensor
    key: Tensor
    value: Tensor
    context: Tensor  # attention probabilities times values
    attention_output: Tensor
    attended: Tensor  # layer norm of attention_output + x
    intermediate: Tensor  # (batch, tokens, intermediate) before the activation
    output: Tensor


class Attention(NamedTuple):
    """One layer's attention, by head."""

    query: Tensor  # (batch, heads, tokens, hidden / heads), and so are key and value
    key: Tensor
    value: Tensor
    products: Tensor  # (batch, heads, tokens, tokens) query times key, and so are scores and probabilities
    scale: float
    scores: Tensor  # products * scale, before the mask
    probabilities: Tensor


class HeadTrace(NamedTuple):
    """What the classification head computed: dense, tanh, output."""

    x: Tensor  # (batch, hidden) the encoder's output at the first token
    dense: Tensor  # (batch, hidden)
    logits: Tensor  # (batch, labels)


def layers(model: PreTrainedModel) -> list[Layer]:
    """Return the parts of every encoder layer, from the first to the last."""
    return [
        Layer(
            query=block.attention.self.query,
            key=block.attention.self.key,
            value=block.attention.self.value,
            attention_output=block.attention.output.dense,
            attention_norm=block.attention.output.LayerNorm,
            intermediate=block.intermediate.dense,
            activation=block.intermediate.intermediate_act_fn,
            output=block.output.dense,
            output_norm=block.output.LayerNorm,
            heads=block.attention.self.num_attention_heads,
        )
        for block in architectures.encoder_layers(model)
    ]


def precision(model: PreTrainedModel) -> torch.dtype:
    """Return float64 for a model with float64 weights, else float32."""
    doubles = any(parameter.dtype == torch.float64 for parameter in model.parameters())
    return torch.float64 if doubles else torch.float32


def parameters(linear: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Return a linear layer's weights, (out, in), decoded if they have 4 bits, and its bias, (out,)."""
    # Detached: PyTorch's compiler would compile a `fused` function for every shape of an `nn.Parameter`.
    bias = None if linear.bias is None else linear.bias.detach().to(dtype)
    if not isinstance(linear, bnb.nn.Linear4bit):
        return linear.weight.detach().to(dtype), bias
    packed: Any = linear.weight
    if getattr(packed.quant_state, "packing_format_for_cpu", False):
        # The first call on a CPU with AVX512-BF16 repacked the weights: only bitsandbytes reads them now.
        identity = torch.eye(linear.in_features, dtype=torch.bfloat16)
        return bnb.matmul_4bit(identity, packed, quant_state=packed.quant_state).mT.to(dtype), bias
    return bnb.functional.dequantize_4bit(packed.data, packed.quant_state).to(dtype), bias


def apply_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Apply layer norm in the precision of x."""
    return F.layer_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split x by head: (batch, tokens, hidden) -> (batch, heads, tokens, hidden / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Merge the heads of x: (batch, heads, tokens, hidden / heads) -> (batch, tokens, hidden)."""
    return x.transpose(1, 2).flatten(2)


def embed(model: PreTrainedModel, input_ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the encoder's input, (batch, tokens, hidden), with token type 0 everywhere."""
    embeddings = architectures.embeddings(model)
    x = embeddings.word_embeddings(input_ids).to(dtype) + embeddings.token_type_embeddings.weight[0].to(dtype)
    x += embeddings.position_embeddings(architectures.position_ids(model, input_ids)).to(dtype)
    return apply_norm(embeddings.LayerNorm, x)


def apply_layer(
    layer: Layer, x: Tensor, seen: Tensor, precision: RelevancePrecision = "float32"
) -> tuple[Tensor, Trace]:
    """Run one encoder layer.

    Parameters
    ----------
    layer : Layer
        The layer's parts.
    x : Tensor
        (batch, tokens, hidden).
    seen : Tensor
        (batch, tokens) True where a token may be attended to.
    precision : {"float32", "tf32"}
        Linear layers are one product in float32, or three in TF32; attention is always in float32.

    Returns
    -------
    Tensor
        (batch, tokens, hidden) the layer's output.
    Trace
        Its intermediate results.
    """
    query, key, value = (_linear(part, x, precision) for part in (layer.query, layer.key, layer.value))
    heads = attention(layer, query, key, value, seen)
    context = merge_heads(heads.probabilities @ heads.value)
    attention_output = _linear(layer.attention_output, context, precision)
    attended = apply_norm(layer.attention_norm, attention_output + x)
    intermediate = _linear(layer.intermediate, attended, precision)
    output = _linear(layer.output, layer.activation(intermediate), precision)
    trace = Trace(x, query, key, value, context, attention_output, attended, intermediate, output)
    return apply_norm(layer.output_norm, output + attended), trace


def attention(layer: Layer, query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Attention:
    """Compute attention from queries, keys and values of (batch, tokens, hidden)."""
    query, key, value = (split_heads(part, layer.heads) for part in (query, key, value))
    products, scale = query @ key.mT, query.shape[-1] ** -0.5
    scores = products * scale
    probabilities = scores.masked_fill(~seen[:, None, None, :], -torch.inf).softmax(-1)
    return Attention(query, key, value, products, scale, scores, probabilities)


def apply_head(model: PreTrainedModel, x: Tensor) -> HeadTrace:
    """Run the classification head on the encoder's output, (batch, tokens, hidden)."""
    first, last = architectures.head_layers(model)
    dense = _linear(first, x[:, 0])
    return HeadTrace(x[:, 0], dense, _linear(last, dense.tanh()))


def _linear(linear: nn.Linear, x: Tensor, precision: RelevancePrecision = "float32") -> Tensor:
    weight, bias = parameters(linear, x.dtype)
    if precision == "tf32" and x.dtype == torch.float32:
        return compensated_linear(x, weight, bias)
    return F.linear(x, weight, bias)


def compensated_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a linear layer by TF32 products: far more exact than one, and faster on CUDA than in float32.

    With x = x' + x'' and W = W' + W'', where x' and W' are the nearest TF32 numbers, the result is
    x' W' + x' W'' + x'' W'. What is left out is of the order of 2^-22 of |x| |W|. But tensor cores cut sums
    where float32 rounds them: with 768 inputs the error is up to 5e-7 of |x| |W|, with 3,072 up to 1e-6
    (emulated; float32: 1e-7, one TF32 product: 7e-5), and several times that if all terms have one sign.
    (Ootomo and Yokota, "Recovering single precision accuracy from Tensor Cores while surpassing the FP32
    theoretical peak performance", IJHPCA 2022, without their scaling and their sums outside the cores.)

    Parameters
    ----------
    x : Tensor
        (batch, ..., in).
    weight : Tensor
        (out, in).
    bias : Tensor or None
        (out,).

    Returns
    -------
    Tensor
        (batch, ..., out).
    """
    x_high, x_low = _tf32_parts(x)
    weight_high, weight_low = _tf32_parts(weight)
    with float32_products("tf32"):
        return F.linear(
            torch.cat([x_low, x_high, x_high], -1),  # (batch, ..., 3 in): one product instead of three
            torch.cat([weight_high, weight_low, weight_high], -1),
            bias,
        )


@fused
def _tf32_parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split x into the nearest number with 10 of its 23 mantissa bits (TF32) and the remainder."""
    dropped = 23 - 10
    bits = x.view(torch.int32) + (1 << (dropped - 1))
    high = (bits & -(1 << dropped)).view(torch.float32)
    return high, x - high
