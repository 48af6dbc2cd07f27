"""What every explanation method guarantees, each method against its definition, and whole data sets."""

import functools
from collections.abc import Callable

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from small import classifier
from torch import Tensor
from transformers import PreTrainedModel

from lib import attribution
from lib.attribution import AUTHORS_LRP, LRP, METHODS, RANDOM, AttnLRPRules
from lib.lrp import token_relevance
from lib.padding import pad, token_mask
from lib.quantization import quantize

KINDS = ("camembert", "roberta", "bert")
PADDING = 1
LENGTHS = (9, 5, 7)

# The rules of LRP and of the authors' fork, which depends on the padding, are tested in `test_lrp`.
OTHERS = {name: method for name, method in METHODS.items() if name not in (LRP, AUTHORS_LRP)}

any_method = pytest.mark.parametrize("method", OTHERS.values(), ids=OTHERS.keys())
any_kind = pytest.mark.parametrize("kind", KINDS)


def batch(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(seed)
    rows = [torch.randint(5, 60, (length,), generator=stream).tolist() for length in lengths]
    return pad(rows, PADDING), token_mask(rows)


def state(model: PreTrainedModel) -> tuple:
    """Everything about a model that an explanation must not change."""
    return (
        [(name, parameter.requires_grad, parameter.grad) for name, parameter in model.named_parameters()],
        [(module.training, len(module._forward_hooks)) for module in model.modules()],
        [value.clone() for value in model.state_dict().values()],
        model.config.to_dict(),
        model.config._attn_implementation,
    )


def same(before: tuple, after: tuple) -> bool:
    weights = zip(before[2], after[2], strict=True)
    return before[:2] + before[3:] == after[:2] + after[3:] and all(torch.equal(a, b) for a, b in weights)


# What every method guarantees


@any_method
@any_kind
def test_a_text_in_a_batch_is_explained_as_it_is_alone_and_padding_gets_0(
    kind: str, method: Callable
) -> None:
    model = classifier(kind)
    ids, mask = batch()
    together = method(model, ids, mask)
    assert together.shape == ids.shape
    assert not together.requires_grad
    for row, length in enumerate(LENGTHS):
        alone = method(model, ids[row : row + 1, :length])
        torch.testing.assert_close(together[row, :length], alone[0], rtol=1e-9, atol=1e-12)
        assert (together[row, length:] == 0).all()


@any_method
def test_the_target_is_the_predicted_class_unless_given(method: Callable) -> None:
    model = classifier("camembert", num_labels=3)
    ids, mask = batch()
    predicted = model(ids, attention_mask=mask).logits.argmax(-1)
    torch.testing.assert_close(method(model, ids, mask), method(model, ids, mask, predicted))
    other = method(model, ids, mask, (predicted + 1) % 3)
    changed = not torch.allclose(method(model, ids, mask), other)
    assert changed == (method not in (attribution.attention_rollout, attribution.random_scores))
    torch.testing.assert_close(method(model, ids, mask, 2)[0], method(model, ids[:1], mask[:1], 2)[0])


@any_method
@any_kind
def test_the_model_is_left_unchanged_and_dropout_is_off(kind: str, method: Callable) -> None:
    model = classifier(kind, hidden_dropout_prob=0.5)
    ids, mask = batch()
    quiet = method(model, ids, mask)
    model.train()
    model.base_model.encoder.layer[0].eval()
    next(model.parameters()).requires_grad_(False)
    before = state(model)
    for callers_mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with callers_mode():
            torch.testing.assert_close(method(model, ids, mask), quiet)
    assert same(before, state(model))


@any_method
def test_bad_input_raises_one_clear_line_and_leaves_the_model_unchanged(method: Callable) -> None:
    model = classifier("camembert").train()
    ids, mask = batch()
    before = state(model)
    for arguments, message in (
        ((ids[:0],), r"input_ids is \(0, 9\)"),
        ((ids, mask[:, :5]), r"attention_mask is \(3, 5\)"),
        ((ids, mask * 0), "text 0 is all padding"),
        ((ids, mask, 2), "target is 2; allowed are classes 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            method(model, *arguments)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="model is a Linear"):
        method(torch.nn.Linear(2, 2), ids)
    assert same(before, state(model))


@pytest.mark.parametrize("method", [method for name, method in OTHERS.items() if name != RANDOM])
def test_weights_that_are_not_finite_are_named(method: Callable) -> None:
    model = classifier("bert").train()
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight[0, 0] = torch.nan
    training = [module.training for module in model.modules()]
    with pytest.raises(ValueError, match=r"layer\.1\.output\.dense\.weight is not finite"):
        method(model, *batch())
    assert [module.training for module in model.modules()] == training
    assert not model.get_input_embeddings()._forward_hooks


@any_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_16_bit_and_32_bit_models_are_explained_in_float32(method: Callable, dtype: torch.dtype) -> None:
    ids, mask = batch()
    model = classifier("camembert").to(dtype)
    relevance = method(model, ids, mask, 0)
    assert relevance.dtype == torch.float32
    exact = method(model.double(), ids, mask, 0).float()
    tolerance = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.05}[dtype]
    assert (relevance - exact).abs().max() < tolerance * exact.abs().max()


@any_method
def test_four_bit_weights_are_explained_by_their_decoded_values(method: Callable) -> None:
    model = classifier("camembert", hidden_size=64, intermediate_size=64, num_labels=2).float()
    quantized = quantize(model, "nf4")
    decoded = quantize(model, "nf4")
    for name, module in quantized.named_modules():
        if isinstance(module, bnb.nn.Linear4bit):
            plain = torch.nn.Linear(module.in_features, module.out_features)
            plain.weight.data = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            plain.bias.data = module.bias.data
            decoded.set_submodule(name, plain)
    ids, mask = batch()
    ours, theirs = method(quantized, ids, mask, 1), method(decoded, ids, mask, 1)
    assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max()


# Gradient x input


@any_kind
def test_gradient_x_input_is_the_logits_change_as_a_word_embedding_is_scaled(kind: str) -> None:
    model = classifier(kind)
    ids, _ = batch((6,))
    embedded = model.get_input_embeddings()(ids).detach()
    relevance = attribution.gradient_x_input(model, ids, target=1)[0]
    for token in range(6):
        scale = torch.zeros(1, 6, 1, dtype=torch.float64)
        scale[0, token] = 1e-5
        above, below = (model(inputs_embeds=embedded * (1 + s)).logits[0, 1] for s in (scale, -scale))
        torch.testing.assert_close(relevance[token], (above - below) / 2e-5, rtol=1e-6, atol=1e-8)


# Integrated gradients


@any_kind
def test_integrated_gradients_match_a_fine_sum_and_are_complete(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier(kind)
    ids, _ = batch((5,))
    words = model.get_input_embeddings()
    end, start = words(ids).detach(), words(torch.full_like(ids, PADDING)).detach()
    steps = 200
    total = torch.zeros_like(end)
    for step in range(steps):
        point = (start + (step + 0.5) / steps * (end - start)).requires_grad_()
        logit = model(inputs_embeds=point).logits[0, 0]
        total += torch.autograd.grad(logit, point)[0] / steps
    by_hand = ((end - start) * total).sum(-1)
    monkeypatch.setattr(attribution, "INTEGRATION_STEPS", 64)
    relevance = attribution.integrated_gradients(model, ids, target=0)
    torch.testing.assert_close(relevance, by_hand, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        gained = model(inputs_embeds=end).logits[0, 0] - model(inputs_embeds=start).logits[0, 0]
    torch.testing.assert_close(relevance.sum(), gained, rtol=1e-3, atol=1e-4)


def test_integrated_gradients_require_a_padding_token() -> None:
    model = classifier("bert")
    model.config.pad_token_id = None
    with pytest.raises(ValueError, match="pad_token_id = None"):
        attribution.integrated_gradients(model, batch()[0])


# Attention rollout and AttnLRP


class Literal:
    """AttnLRP for one unpadded text, forward and backward, each rule written out (epsilon = 0)."""

    def __init__(self, model: PreTrainedModel, ids: Tensor, target: int) -> None:
        self.model, self.target = model, target
        emb = model.base_model.embeddings
        word = emb.word_embeddings(ids)
        first_place = 0 if model.config.model_type == "bert" else PADDING + 1
        places = first_place + torch.arange(len(ids))
        summed = word + emb.token_type_embeddings.weight[0] + emb.position_embeddings(places)
        x = emb.LayerNorm(summed)
        back, self.attentions = [], []
        for layer in model.base_model.encoder.layer:
            x, relevance_of_input = self.layer(layer, x)
            back.append(relevance_of_input)
        relevance = self.head(x)
        for relevance_of_input in reversed(back):
            relevance = relevance_of_input(relevance)
        relevance = self.norm(emb.LayerNorm, summed, relevance)
        self.relevance = (word * relevance / summed).sum(-1)

    @staticmethod
    def linear(layer: torch.nn.Linear, x: Tensor, relevance: Tensor) -> Tensor:
        """R_i = sum_j x_i W_ji R_j / y_j; the bias keeps its share."""
        return x * ((relevance / layer(x)) @ layer.weight)

    @staticmethod
    def norm(norm: torch.nn.LayerNorm, x: Tensor, relevance: Tensor) -> Tensor:
        """The deviation counts as constant: y_j = sum_i x_i (delta_ij - 1/n) w_j / deviation + b_j."""
        size = x.shape[-1]
        centre = torch.eye(size, dtype=x.dtype) - 1 / size
        deviation = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
        share = relevance / norm(x) * norm.weight / deviation
        return x * (share @ centre)

    def layer(self, layer: torch.nn.Module, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        attention, heads = layer.attention.self, layer.attention.self.num_attention_heads

        def split(t: Tensor) -> Tensor:
            return t.view(len(t), heads, -1).transpose(0, 1)

        def merge(t: Tensor) -> Tensor:
            return t.transpose(0, 1).reshape(len(x), -1)

        q, k, v = (split(part(x)) for part in (attention.query, attention.key, attention.value))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        p = scores.softmax(-1)
        self.attentions.append(p.mean(0))
        context = p @ v
        mixed = layer.attention.output.dense(merge(context))
        attended = layer.attention.output.LayerNorm(mixed + x)
        inner = layer.intermediate.dense(attended)
        active = torch.nn.functional.gelu(inner)
        outer = layer.output.dense(active)
        y = layer.output.LayerNorm(outer + attended)

        def relevance_of_input(relevance: Tensor) -> Tensor:
            relevance = self.norm(layer.output.LayerNorm, outer + attended, relevance)
            share = relevance / (outer + attended)
            at_active = self.linear(layer.output.dense, active, outer * share)
            at_inner = at_active  # identity rule
            at_attended = attended * share + self.linear(layer.intermediate.dense, attended, at_inner)
            at_sum = self.norm(layer.attention.output.LayerNorm, mixed + x, at_attended)
            share = at_sum / (mixed + x)
            at_context = split(self.linear(layer.attention.output.dense, merge(context), mixed * share))
            halved = at_context / (2 * context)
            at_p = p * (halved @ v.mT)
            at_v = v * (p.mT @ halved)
            at_scores = scores * (at_p - p * at_p.sum(-1, keepdim=True))
            halved = at_scores / (2 * scores * q.shape[-1] ** 0.5)
            at_q, at_k = q * (halved @ k), k * (halved.mT @ q)
            parts = ((attention.query, at_q), (attention.key, at_k), (attention.value, at_v))
            return x * share + sum(self.linear(part, x, merge(at)) for part, at in parts)

        return y, relevance_of_input

    def head(self, x: Tensor) -> Tensor:
        model = self.model
        pooled = model.base_model.pooler is not None
        dense = model.base_model.pooler.dense if pooled else model.classifier.dense
        last = model.classifier if pooled else model.classifier.out_proj
        active = torch.tanh(dense(x[0]))
        logits = last(active)
        at_logits = torch.zeros_like(logits)
        at_logits[self.target] = logits[self.target]
        relevance = torch.zeros_like(x)
        relevance[0] = self.linear(dense, x[0], self.linear(last, active, at_logits))
        return relevance


@any_kind
def test_attention_rollout_is_the_product_of_its_layers(kind: str) -> None:
    model = classifier(kind, num_hidden_layers=3)
    ids, _ = batch((7,))
    one = torch.eye(7, dtype=torch.float64)
    product = one
    for attention in Literal(model, ids[0], target=0).attentions:  # from the first layer up
        product = (0.5 * attention + 0.5 * one) @ product
    relevance = attribution.attention_rollout(model, ids)
    torch.testing.assert_close(relevance[0], product[0])
    assert relevance.sum() == pytest.approx(1)


@any_kind
@pytest.mark.parametrize("target", [0, 1])
def test_attn_lrp_matches_its_rules_written_out(kind: str, target: int) -> None:
    model = classifier(kind)
    ids, _ = batch((7,))
    with torch.no_grad():
        literal = Literal(model, ids[0], target).relevance
    relevance = attribution.attn_lrp(model, ids, target=target)[0]
    torch.testing.assert_close(relevance, literal, rtol=1e-7, atol=1e-9)
    assert not torch.allclose(relevance, attribution.gradient_x_input(model, ids, target=target)[0], rtol=0.1)


def test_attn_lrp_rules_change_no_value() -> None:
    model = classifier("bert")
    ids, mask = batch()
    plain = model(ids, attention_mask=mask).logits
    with AttnLRPRules():
        torch.testing.assert_close(model(ids, attention_mask=mask).logits, plain)
        x = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(torch.nn.functional.relu(x).sum(), x)
    assert gradient.tolist() == [0, 1, 0]


def test_attn_lrp_refuses_an_activation_without_a_rule() -> None:
    with pytest.raises(ValueError, match="hidden_act = 'silu'; allowed are 'gelu' and 'relu'"):
        attribution.attn_lrp(classifier("bert", hidden_act="silu"), batch()[0])


# The null


def test_random_scores_are_uniform_and_depend_only_on_the_text() -> None:
    ids, mask = batch((60, 40, 50))
    scores = attribution.random_scores(classifier("bert"), ids, mask)
    torch.testing.assert_close(scores, attribution.random_scores(classifier("roberta", seed=5), ids, mask))
    kept = scores[mask.bool()]
    assert kept.unique().numel() == 150
    assert kept.mean().item() == pytest.approx(0.5, abs=0.1)
    assert 0 < kept.min() < 0.1 < 0.9 < kept.max() < 1


# A data set


@any_method
def test_explain_keeps_the_order_and_does_not_depend_on_the_batches(
    method: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier("camembert")
    ids, mask = batch((9, 3, 7, 5, 8))
    rows = [row[seen.bool()].tolist() for row, seen in zip(ids, mask, strict=True)]
    monkeypatch.setattr(attribution, "CPU_TOKENS", 18)
    explained = attribution.explain(method, model, rows)
    for row, found in zip(rows, explained, strict=True):
        np.testing.assert_allclose(
            found, method(model, torch.tensor([row]))[0].numpy(), rtol=1e-9, atol=1e-12
        )
    targets = [0, 1, 1, 0, 1]
    monkeypatch.setattr(attribution, "CPU_TOKENS", 30)
    explained = attribution.explain(method, model, rows, targets=targets)
    for row, target, found in zip(rows, targets, explained, strict=True):
        alone = method(model, torch.tensor([row]), None, target)[0].numpy()
        np.testing.assert_allclose(found, alone, rtol=1e-9, atol=1e-12)


def test_explain_pads_to_a_given_length() -> None:
    model = classifier("camembert")
    rows = [[5, 9, 30, 22, 6], [5, 8, 6]]
    fork = functools.partial(token_relevance, head="all_tokens")
    found = attribution.explain(fork, model, rows, pad_to=20)
    ids, mask = pad(rows, PADDING, 20), token_mask(rows, 20)
    for row, values, padded in zip(rows, found, fork(model, ids, mask), strict=True):
        np.testing.assert_allclose(values, padded[: len(row)].numpy(), rtol=1e-9)
        assert not np.allclose(values, fork(model, torch.tensor([row]))[0].numpy(), rtol=1e-3)


def noting(shapes: list[tuple[int, int]], most: int) -> Callable:
    def method(model: object, ids: torch.Tensor, *_: object) -> torch.Tensor:
        shapes.append(tuple(ids.shape))
        if ids.numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return ids.double()

    return method


def test_batches_are_counted_in_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "CPU_TOKENS", 18)
    model, rows = classifier("bert"), [[7] * length for length in (9, 3, 7, 5, 8, 30)]
    for pad_to, expected in (
        (None, [(2, 5), (2, 8), (1, 9), (1, 30)]),  # 18 tokens at most, padding included
        (40, [(1, 40)] * 6),
    ):
        shapes: list[tuple[int, int]] = []
        method = noting(shapes, most=100)
        found = attribution.explain(method, model, rows, pad_to=pad_to)
        assert shapes == expected
        assert [len(row) for row in found] == [9, 3, 7, 5, 8, 30]


def test_a_batch_that_does_not_fit_into_memory_is_halved(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribution, "CPU_TOKENS", 80)
    model, rows = classifier("bert"), [[7] * 10] * 10
    shapes: list[tuple[int, int]] = []
    assert len(attribution.explain(noting(shapes, most=30), model, rows)) == 10
    assert shapes == [(8, 10), (4, 10), *[(2, 10)] * 5]
    assert "texts: 8 at a time do not fit into memory, now half of that" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        attribution.explain(noting(shapes, most=5), model, rows)


def test_explain_refuses_texts_that_are_too_long_and_missing_targets() -> None:
    model, rows = classifier("bert"), [[5, 9, 6], [5, 6]]
    with pytest.raises(ValueError, match="pad_to = 2, but text 0 has 3 tokens"):
        attribution.explain(attribution.random_scores, model, rows, pad_to=2)
    with pytest.raises(ValueError, match="1 targets for 2 texts: one per text is required"):
        attribution.explain(attribution.random_scores, model, rows, targets=[0])
    assert attribution.explain(attribution.random_scores, model, []) == []
