"""Layer-wise relevance propagation through an unmodified transformers encoder, a batch at a time.

The relevance is that of Chefer, Gur and Wolf, "Transformer Interpretability Beyond Attention Visualization"
(CVPR 2021), with alpha = 1, as in their published code. The numbering of the rules is this project's:

    1-8  one operation each, in `lib.lrp.rules`
    9    the seed: 1 at the target's logit, propagated through the head to the first token of the encoder
    10   the gradient of the target's logit with respect to the attention probabilities, without dropout
    11   a layer's map: clamp(gradient * relevance of the probabilities, min 0), then the mean over heads
    12   rollout: add the identity, normalise rows, multiply from `start_layer` upward; take the first row

(Rule 13 replaces the first token's own entry by the row's minimum. It is left to whoever plots the row.)

Gradient and relevance are propagated together, since they need the same weights: with the forward pass, that
is five matrix products per linear layer, against three in a training step. The model is read, never run,
hooked or switched to another mode; no weight gradient is computed and no graph is kept.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lib import architectures
from lib.lrp import checks, encoder, rules
from lib.lrp.fusion import can_fuse, fused, fusing
from lib.precision import RelevancePrecision, check_precision, float32_products


class LayerRelevance(NamedTuple):
    """Relevance at one layer: above it, and in its attention."""

    layer: int  # counted from 0; -1 is the embeddings
    # (batch, tokens, hidden) at its output; (batch, 1, hidden) if it is shared by all tokens
    relevance: Tensor
    map: Tensor | None  # (batch, tokens, tokens) rule 11; None where the walk ends


def token_relevance(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    target: int | Tensor | None = None,
    start_layer: int = 1,
    head: checks.Head = "first_token",
    precision: RelevancePrecision = "float32",
) -> Tensor:
    """Relevance of every token of every text for one class.

    Parameters
    ----------
    model : PreTrainedModel
        A BERT, RoBERTa or CamemBERT sequence classifier; its linear layers may be bitsandbytes' `Linear4bit`.
    input_ids : Tensor
        (batch, tokens) padded on the right.
    attention_mask : Tensor, optional
        (batch, tokens) 1 for a token, 0 for padding; by default every position is a token.
    target : int or Tensor, optional
        The class explained: the predicted one (None), one for all texts, or one per text, (batch,).
    start_layer : int
        The lowest layer of the rollout, counted from 0.
    head : {"first_token", "all_tokens"}
        Where the head's relevance enters the encoder: at the first token, which the head reads (Chefer et
        al.), or at every position, padding included, as in the fork of their code used in "Fine-Tuning is not
        (Always) Overfitting Artifacts"; relevance then depends on how far a text is padded (there to 512).
    precision : {"float32", "tf32"}
        Of the products of relevance and gradient; those of the forward pass are in float32, or as exact as
        three products in TF32 (`lib.lrp.encoder.compensated_linear`). Against float64, TF32 is off by up to
        2e-4 of a row's largest value, which is the first token's own, in fine-tuned tiny encoders (float32:
        1e-5), and by up to 3e-2 of the largest of the other tokens (float32: 5e-3). An ill-conditioned model
        loses more: of five random ones of eight layers four stay below 1e-3 of a row's largest value, one
        reaches 5e-3. (Emulated on a CPU, see ``tests/test_lrp.py``; not measured on a GPU.)

    Returns
    -------
    Tensor
        (batch, tokens) the rollout's first row, 0 at padding; float64 for a float64 model, else float32.

    Raises
    ------
    ValueError
        If the model, batch, mask, target, layer, head or precision is not supported, or the logits are not
        finite.
    """
    steps = relevance_by_layer(model, input_ids, attention_mask, target, start_layer, head, precision)
    top = next(steps)
    row = _mixing(top)[:, :1]  # (batch, 1, tokens)
    for step in islice(steps, top.layer - start_layer):
        mixing = _mixing(step)
        with _computing(mixing):
            row = row @ mixing
    return row.squeeze(1)


def _mixing(step: LayerRelevance) -> Tensor:
    """Rule 12: the identity added to a layer's map, rows normalised: (batch, tokens, tokens)."""
    layer_map = cast(Tensor, step.map)  # only the step below the lowest layer has none
    mixing = layer_map + torch.eye(layer_map.shape[-1], dtype=layer_map.dtype, device=layer_map.device)
    mixing /= mixing.sum(-1, keepdim=True)
    return mixing


class Conservation(NamedTuple):
    """Relevance at the borders of the layers: layer l receives column l + 1 and passes column l on."""

    total: Tensor  # (batch, layers + 1) sum over tokens and dimensions; 1, the seed, where it is conserved
    magnitude: Tensor  # (batch, layers + 1) sum of absolute values; the excess over the total cancels out


def layer_conservation(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    target: int | Tensor | None = None,
    head: checks.Head = "first_token",
    precision: RelevancePrecision = "float32",
) -> Conservation:
    """Compare relevance in and out of every layer; arguments and errors are those of `token_relevance`.

    Returns
    -------
    Conservation
        The last column is what the head passes to the encoder, the first what reaches the embeddings.
    """
    borders = [
        (step.relevance.sum((1, 2)), step.relevance.abs().sum((1, 2)))
        for step in relevance_by_layer(model, input_ids, attention_mask, target, 0, head, precision)
    ]
    return Conservation(*(torch.stack(column, dim=1).flip(1) for column in zip(*borders, strict=True)))


@torch.inference_mode(False)  # the derivative of an activation comes from autograd, which that mode forbids
@torch.no_grad()
def relevance_by_layer(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    target: int | Tensor | None = None,
    start_layer: int = 0,
    head: checks.Head = "first_token",
    precision: RelevancePrecision = "float32",
) -> Iterator[LayerRelevance]:
    """Walk down the encoder from its last layer; arguments and errors are those of `token_relevance`.

    What lies below a layer's map is computed only when the next step is requested.

    Yields
    ------
    LayerRelevance
        The layers from the last to `start_layer`, and then the one below, which has a relevance but no map.
    """
    batch = checks.check(model, input_ids, attention_mask, target, start_layer, head)
    if precision not in get_args(RelevancePrecision):
        raise ValueError(f"precision is {precision!r}; allowed are {', '.join(get_args(RelevancePrecision))}")
    check_precision(precision, batch.input_ids.device)
    layers = encoder.layers(model)
    with _computing(batch.input_ids, precision), float32_products("float32"):
        x = encoder.embed(model, batch.input_ids, encoder.precision(model))
        traces = []
        for index, layer in enumerate(layers):
            x, trace = encoder.apply_layer(layer, x, batch.seen, precision)
            if index >= start_layer:
                traces.append(trace)
    with _computing(batch.input_ids):
        flow = _through_head(model, x, batch.target, head)
    for index in range(len(layers) - 1, start_layer - 1, -1):
        flow = yield from _through_layer(index, layers[index], traces.pop(), batch.seen, flow, precision)
    yield LayerRelevance(start_layer - 1, flow.relevance, None)


class _Flow(NamedTuple):
    """Relevance and gradient of one tensor, both of its shape."""

    relevance: Tensor
    gradient: Tensor  # of the target's logit (rule 10)


def _through_head(model: PreTrainedModel, x: Tensor, target: Tensor | None, head: checks.Head) -> _Flow:
    """Rule 9: from 1 at the target's logit to the encoder's output, (batch, tokens, hidden)."""
    first, last = architectures.head_layers(model)
    trace = encoder.apply_head(model, x)
    checks.check_finite(model, trace.logits)
    target = trace.logits.argmax(-1) if target is None else target
    seed = torch.zeros_like(trace.logits).scatter_(1, target[:, None], 1.0)
    activated = trace.dense.tanh()
    flow = _through_linear(last, activated, trace.logits, _Flow(seed, seed))
    flow = _Flow(flow.relevance, flow.gradient * (1 - activated**2))
    flow = _through_linear(first, trace.x, trace.dense, flow)
    gradient = torch.zeros_like(x)
    gradient[:, 0] = flow.gradient
    if head == "all_tokens":
        return _Flow(flow.relevance[:, None], gradient)
    relevance = torch.zeros_like(x)
    relevance[:, 0] = rules.reuse(trace.x, flow.relevance)
    return _Flow(relevance, gradient)


def _through_layer(
    index: int,
    layer: encoder.Layer,
    trace: encoder.Trace,
    seen: Tensor,
    flow: _Flow,
    precision: RelevancePrecision,
) -> Generator[LayerRelevance, None, _Flow]:
    """From a layer's output to its input; yields its map on the way."""
    above = flow.relevance
    with _computing(above, precision):
        flow = _through_feed_forward(layer, trace, flow)
        context, residual = _through_attention_output(layer, trace, flow)
        with float32_products("float32"):  # as in the forward pass
            heads = encoder.attention(layer, trace.query, trace.key, trace.value, seen)
        probabilities, value = _through_mixing(layer, trace, heads, context)
        layer_map = _positive_product(*probabilities).mean(1)  # rule 11
    yield LayerRelevance(index, above, layer_map)
    with _computing(above, precision):
        query, key = _through_scores(heads, probabilities)
        return _to_input(layer, trace, query, key, value, residual)


@fused
def _positive_product(relevance: Tensor, gradient: Tensor) -> Tensor:
    return (gradient * relevance).clamp_(min=0)


def _through_feed_forward(layer: encoder.Layer, trace: encoder.Trace, flow: _Flow) -> _Flow:
    """From a layer's output to the input of its feed-forward block."""
    output, residual = _through_residual(layer.output_norm, trace.output, trace.attended, flow)
    activated, pull_back = _differentiable(layer.activation, trace.intermediate)
    flow = _through_linear(layer.output, activated, trace.output, output)
    flow = _Flow(flow.relevance, pull_back(flow.gradient))
    flow = _through_linear(layer.intermediate, trace.attended, trace.intermediate, flow)
    return _join(trace.attended, flow, residual)


def _through_attention_output(layer: encoder.Layer, trace: encoder.Trace, flow: _Flow) -> tuple[_Flow, _Flow]:
    """From the attention block's output to its context and its residual, both (batch, tokens, hidden)."""
    output, residual = _through_residual(layer.attention_norm, trace.attention_output, trace.x, flow)
    return _through_linear(layer.attention_output, trace.context, trace.attention_output, output), residual


def _through_mixing(
    layer: encoder.Layer, trace: encoder.Trace, heads: encoder.Attention, flow: _Flow
) -> tuple[_Flow, _Flow]:
    """From the context to attention probabilities, (batch, heads, tokens, tokens), and values, by head."""
    context, relevance, gradient = (encoder.split_heads(part, layer.heads) for part in (trace.context, *flow))
    p, v = heads.probabilities, heads.value
    relevance_p, relevance_v = rules.matmul(p, v, context, relevance)  # rule 5
    return _Flow(relevance_p, gradient @ v.mT), _Flow(relevance_v, p.mT @ gradient)


def _through_scores(heads: encoder.Attention, flow: _Flow) -> tuple[_Flow, _Flow]:
    """From attention probabilities to queries and keys, all by head."""
    p, q, k = heads.probabilities, heads.query, heads.key
    relevance = rules.masking(heads.scores, flow.relevance)
    relevance_q, relevance_k = rules.matmul(q, k.mT, heads.products, relevance)  # rule 7
    gradient = _through_softmax(p, flow.gradient) * heads.scale
    return _Flow(relevance_q, gradient @ k), _Flow(relevance_k.mT, gradient.mT @ q)


def _through_softmax(probabilities: Tensor, gradient: Tensor) -> Tensor:
    """From the gradient of the probabilities to that of the scores."""
    return _centred(probabilities, gradient, (probabilities * gradient).sum(-1, keepdim=True))


@fused
def _centred(probabilities: Tensor, gradient: Tensor, mean: Tensor) -> Tensor:
    return probabilities * (gradient - mean)


def _to_input(
    layer: encoder.Layer, trace: encoder.Trace, query: _Flow, key: _Flow, value: _Flow, residual: _Flow
) -> _Flow:
    """From queries, keys and values by head, and the residual, to the layer's input."""
    uses = [
        _through_linear(linear, trace.x, output, _Flow(*map(encoder.merge_heads, flow)))
        for linear, output, flow in (
            (layer.query, trace.query, query),
            (layer.key, trace.key, key),
            (layer.value, trace.value, value),
        )
    ]
    return _join(trace.x, _join(trace.x, *uses), residual)  # the published code groups the uses like this


def _through_linear(linear: nn.Linear, x: Tensor, output: Tensor, flow: _Flow) -> _Flow:
    weight, bias = encoder.parameters(linear, x.dtype)
    return _Flow(rules.linear(x, output, weight, bias, flow.relevance), flow.gradient @ weight)


def _through_residual(norm: nn.LayerNorm, a: Tensor, b: Tensor, flow: _Flow) -> tuple[_Flow, _Flow]:
    """From norm(a + b) to a and to b."""
    total = a + b
    _, pull_back = _differentiable(lambda x: encoder.apply_norm(norm, x), total)
    gradient = pull_back(flow.gradient)
    relevance_a, relevance_b = rules.addition(a, b, total, flow.relevance)
    return _Flow(relevance_a, gradient), _Flow(relevance_b, gradient)


def _join(x: Tensor, *uses: _Flow) -> _Flow:
    """From the uses of x to x."""
    gradient = _total(*(use.gradient for use in uses))
    return _Flow(rules.reuse(x, *(use.relevance for use in uses)), gradient)


@fused
def _total(*gradients: Tensor) -> Tensor:
    return sum(gradients[1:], start=gradients[0])


@contextmanager
def _computing(tensor: Tensor, precision: RelevancePrecision = "float32") -> Iterator[None]:
    """Compute on the tensor's device in 32 bits, with products of a precision, whatever the caller set.

    In TF32 what is between the products is fused, too.
    """
    # Shapes with a one would need kernels of their own: not worth it for a single text.
    fast = precision == "tf32" and len(tensor) > 1 and can_fuse(tensor.device)
    with torch.autocast(tensor.device.type, enabled=False), float32_products(precision), fusing(fast):
        yield


def _differentiable(
    function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return function(x), and a function that pulls its gradient back to x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
    return y.detach(), lambda gradient: torch.autograd.grad(y, x, gradient)[0]
