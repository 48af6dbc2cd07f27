"""Relevance through whole models: exact, batched, in 4 bits and 16 bits, and without side effects."""

import copy
import statistics

import bitsandbytes as bnb
import lrp_literal as literal
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from small import MODELS, classifier
from torch import nn
from torch.overrides import TorchFunctionMode

from lib.architectures import head_layers
from lib.finetuning import fine_tune
from lib.lrp import encoder, fusion, layer_conservation, relevance_by_layer, token_relevance, walk
from lib.models import load_classifier, load_tokenizer
from lib.precision import float32_products
from lib.texts.generated.mini_corpora import mini_corpus

LENGTHS = (5, 9, 12, 7)
EXACT = 1e-9
to_input = walk._to_input


@pytest.fixture(params=MODELS)
def model(request):
    return classifier(request.param, num_hidden_layers=3, num_labels=3)


def batch(lengths=LENGTHS, pad=1):
    generator = torch.Generator().manual_seed(4)
    ids = torch.full((len(lengths), max(lengths)), pad)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.randint(5, 60, (length,), generator=generator)
    return ids, (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def error(found, expected):
    """Largest deviation in a row, except the first entry, as a share of the row's largest value."""
    difference = (found.double() - expected.double())[:, 1:].abs().amax(1)
    return float((difference / expected.double()[:, 1:].abs().amax(1)).max())


def linear_layers(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def four_bit(model, kind):
    """Return the model with 4-bit layers, and the model with their decoded weights in plain layers."""
    packed, plain = copy.deepcopy(model).float(), copy.deepcopy(model).float()
    for name in linear_layers(model):
        linear = packed.get_submodule(name)
        layer = bnb.nn.Linear4bit(
            linear.in_features, linear.out_features, compute_dtype=torch.float32, quant_type=kind
        )
        layer.load_state_dict(linear.state_dict())
        layer = layer.to("cpu")
        packed.set_submodule(name, layer)
        decoded = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        plain.get_submodule(name).weight.data = decoded.to(torch.float32)
    return packed.eval(), plain.eval()


@pytest.mark.parametrize("head", ["first_token", "all_tokens"])
@pytest.mark.parametrize("target", [None, 2])
def test_every_layer_matches_the_literal_transcription(model, target, head):
    ids, mask = batch()
    steps = {step.layer: step for step in relevance_by_layer(model, ids, mask, target, 0, head)}
    rows = {start: token_relevance(model, ids, mask, target, start, head) for start in (0, 1, 2)}
    for text in range(len(ids)):
        _, layers = literal.explain(model, ids[text], mask[text], target, head)
        for index, layer in enumerate(layers):
            found = steps[index].map[text], steps[index].relevance[text], steps[index - 1].relevance[text]
            for one, expected in zip(found, (layer["map"], layer["above"], layer["below"]), strict=True):
                assert (one - expected).abs().max() < EXACT * expected.abs().max()
        for start, row in rows.items():
            expected = literal.rollout([layer["map"] for layer in layers], start)
            torch.testing.assert_close(row[text], expected, rtol=0, atol=EXACT * float(expected[1:].max()))


def test_each_text_may_have_its_own_target(model):
    ids, mask = batch()
    classes = torch.tensor([0, 2, 1, 0])
    rows = token_relevance(model, ids, mask, classes)
    for text, target in enumerate(classes.tolist()):
        alike = token_relevance(model, ids, mask, target)
        assert error(rows[text : text + 1], alike[text : text + 1]) < EXACT
    logits = model(ids, attention_mask=mask).logits
    predicted = token_relevance(model, ids, mask, logits.argmax(-1))
    assert error(token_relevance(model, ids, mask), predicted) == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_a_text_in_a_padded_batch_is_explained_as_it_is_alone(model, dtype, tolerance):
    model, (ids, mask) = model.to(dtype), batch()
    rows = token_relevance(model, ids, mask)
    assert rows.shape == ids.shape
    for text, length in enumerate(LENGTHS):
        alone = token_relevance(model, ids[text : text + 1, :length])
        assert error(rows[text : text + 1, :length], alone) < tolerance
        assert (rows[text, length:] == 0).all()


def test_with_all_tokens_relevance_depends_on_the_padding(model):
    ids, mask = batch((9, 30))
    padded = token_relevance(model, ids, mask, head="all_tokens")[:1, :9]
    alone = token_relevance(model, ids[:1, :9], head="all_tokens")
    assert error(padded, alone) > 1e-3
    assert (token_relevance(model, ids, mask, head="all_tokens")[0, 9:] == 0).all()


@pytest.mark.parametrize("head", ["first_token", "all_tokens"])
@pytest.mark.parametrize("kind", MODELS)
def test_relevance_is_conserved_at_every_layer(kind, head):
    # Wide enough for every output to have a positive contribution; without one its relevance is lost.
    model = classifier(kind, num_hidden_layers=3, hidden_size=64, intermediate_size=128)
    total, magnitude = layer_conservation(model, *batch(), head=head)
    assert total.shape == magnitude.shape == (len(LENGTHS), 4)
    # Rule 1's epsilon costs a little.
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)
    # Positive and negative relevance grow beyond the seed and cancel, which the total does not show.
    assert (magnitude[:, -1] < 1 + 1e-5).all()
    assert (magnitude[:, :-1] > 1.1).any(1).all()


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bit_weights_are_explained_by_their_decoded_values(model, kind):
    packed, plain = four_bit(model, kind)
    ids, mask = batch()
    target = plain(ids, attention_mask=mask).logits.argmax(-1)
    found = token_relevance(packed, ids, mask, target)
    assert torch.equal(found, token_relevance(plain, ids, mask, target))
    assert error(found, token_relevance(model.float(), ids, mask, target)) > 1e-3


def test_four_bit_weights_repacked_for_the_cpu_are_decoded_as_the_cpu_uses_them():
    model = classifier("camembert", hidden_size=64, intermediate_size=64, num_labels=32)
    packed, plain = four_bit(model, "nf4")
    ids, mask = batch()
    with torch.no_grad():
        packed(ids, attention_mask=mask)
    state = packed.classifier.dense.weight.quant_state
    if not getattr(state, "packing_format_for_cpu", False):
        pytest.skip("this CPU has no AVX512-BF16, for which bitsandbytes repacks 4-bit weights")
    for name in linear_layers(model):
        layer = packed.get_submodule(name)
        identity = torch.eye(layer.in_features, dtype=torch.bfloat16)
        weight = bnb.matmul_4bit(identity, layer.weight, quant_state=layer.weight.quant_state).T.float()
        before = plain.get_submodule(name).weight
        assert (weight - before).abs().max() < 0.01 * before.abs().max()
        before.data = weight
    assert torch.equal(token_relevance(packed, ids, mask, 1), token_relevance(plain, ids, mask, 1))


def test_a_layer_without_a_bias_is_one_whose_bias_is_0(model):
    layer = model.base_model.encoder.layer[1].attention.self.value
    layer.bias.data.zero_()
    expected = token_relevance(model, *batch())
    layer.bias = None
    assert torch.equal(token_relevance(model, *batch()), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_weights_are_explained_in_32_bits(model, dtype):
    ids, mask = batch()
    model = model.to(dtype)
    found = token_relevance(model, ids, mask)
    assert found.dtype == torch.float32
    assert torch.equal(found, token_relevance(copy.deepcopy(model).float(), ids, mask))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(token_relevance(model, ids, mask), found)


def state(model):
    return {
        "modes": [module.training for module in model.modules()],
        "hooks": [
            len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
            for module in model.modules()
        ],
        "needs": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [id(parameter.grad) for parameter in model.parameters()],
        "versions": [parameter._version for parameter in model.parameters()],
        "attention": model.config._attn_implementation,
    }


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_unchanged(model, fails):
    ids, mask = batch()
    model.train()
    model.base_model.encoder.layer[1].eval()
    model.base_model.embeddings.requires_grad_(False)
    model(ids, attention_mask=mask, labels=torch.zeros(4, dtype=torch.long)).loss.backward()
    if fails:
        model.base_model.encoder.layer[2].output.dense.weight.data[0, 0] = torch.nan
    before, random, grad_enabled = state(model), torch.get_rng_state(), torch.is_grad_enabled()
    if fails:
        with pytest.raises(ValueError, match=r"encoder\.layer\.2\.output\.dense\.weight is not finite"):
            token_relevance(model, ids, mask)
    else:
        found = token_relevance(model, ids, mask)
        assert found.grad_fn is None
        assert not found.requires_grad
        assert torch.equal(found, token_relevance(copy.deepcopy(model).eval(), ids, mask))
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled() == grad_enabled


def test_it_works_in_inference_mode(model):
    ids, mask = batch()
    expected = token_relevance(model, ids, mask)
    with torch.inference_mode():
        assert torch.equal(token_relevance(model, ids.clone(), mask.clone()), expected)


def test_the_walk_ends_below_the_start_layer(model):
    steps = list(relevance_by_layer(model, *batch(), start_layer=1))
    assert [step.layer for step in steps] == [2, 1, 0]
    assert [step.map is None for step in steps] == [False, False, True]


def test_nothing_below_the_start_layers_map_is_computed(model, monkeypatch):
    joined = []
    monkeypatch.setattr(walk, "_to_input", lambda *parts: joined.append(parts) or to_input(*parts))
    token_relevance(model, *batch(), start_layer=1)
    assert len(joined) == 1  # from layer 2 to layer 1, and no further


def bad_input(name, model):
    ids, mask = batch()
    return {
        "empty batch": ((ids[:0], mask[:0]), {}, r"input_ids is \(0, 12\)"),
        "no tokens": ((ids[:, :0],), {}, r"input_ids is \(4, 0\)"),
        "one dimension": ((ids[0],), {}, r"input_ids is \(12,\)"),
        "floats": ((ids.float(),), {}, "torch.float32"),
        "16-bit tokens": ((ids.short(),), {}, "torch.int16"),
        "unknown token": ((ids + 100,), {}, "a token 1"),
        "first unknown token": ((torch.full((1, 3), 60),), {}, "a token 60; allowed are 0 to 59"),
        "negative token": ((-ids,), {}, "a token -"),
        "too long": ((torch.full((1, 81), 7),), {}, "a position 8"),
        "mask's shape": ((ids, mask[:, :-1]), {}, r"attention_mask is \(4, 11\); allowed is \(4, 12\)"),
        "mask's values": ((ids, mask * 2), {}, "from 0 to 2"),
        "mask's sign": ((ids, -mask), {}, "from -1 to 0"),
        "mask's fractions": ((ids, mask / 2), {}, "from 0.0 to 0.5; allowed are only 0 and 1"),
        "masked text": ((ids, mask * torch.tensor([[1], [1], [0], [1]])), {}, "text 2 is all padding"),
        "padding alone": ((torch.full_like(ids, 1),), {}, "text 0 is all padding"),
        "padded on the left": ((ids.flip(1), mask.flip(1)), {}, "text 0 begins with padding"),
        "start_layer": ((ids,), {"start_layer": 3}, "start_layer is 3; allowed are 0 to 2"),
        "negative layer": ((ids,), {"start_layer": -1}, "start_layer is -1"),
        "fractional layer": ((ids,), {"start_layer": 1.0}, "start_layer is 1.0"),
        "truth for a layer": ((ids,), {"start_layer": True}, "start_layer is True"),
        "head": ((ids,), {"head": "last"}, "head is 'last'; allowed are first_token, all_tokens"),
        "class": ((ids,), {"target": 3}, "target is 3; allowed are classes 0 to 2"),
        "negative class": ((ids,), {"target": -1}, "target is -1"),
        "class of a text": ((ids,), {"target": torch.tensor([0, 3, 1, 0])}, r"target is \[0, 3, 1, 0\]"),
        "fractional class": ((ids,), {"target": 1.0}, "target is 1.0; allowed: None, a class"),
        "name for a class": ((ids,), {"target": "positive"}, "target is 'positive'"),
        "classes' shape": ((ids,), {"target": torch.tensor([0, 1])}, r"target is \(2,\)"),
        "class of one text": ((ids,), {"target": torch.tensor([0])}, r"target is \(1,\)"),
        "classes' type": ((ids,), {"target": torch.zeros(4)}, "torch.float32"),
        "16-bit classes": ((ids,), {"target": torch.zeros(4).short()}, "torch.int16"),
    }[name]


BAD = """empty batch, no tokens, one dimension, floats, 16-bit tokens, unknown token, first unknown token,
negative token, too long, mask's shape, mask's values, mask's sign, mask's fractions, masked text,
padding alone, padded on the left, start_layer, negative layer, fractional layer, truth for a layer,
head, class, negative class, class of a text, fractional class, name for a class, classes' shape,
class of one text, classes' type, 16-bit classes"""


@pytest.mark.parametrize("name", [name.strip() for name in BAD.split(",")])
def test_bad_input_raises_one_clear_line(name):
    model = classifier("roberta", num_hidden_layers=3, num_labels=3)
    arguments, options, message = bad_input(name, model)
    before = state(model)
    with pytest.raises(ValueError, match=message) as raised:
        token_relevance(model, *arguments, **options)
    assert "\n" not in str(raised.value)
    assert state(model) == before


def test_an_unsupported_model_raises_one_clear_line(model):
    ids, mask = batch()
    with pytest.raises(ValueError, match=r"model is a \w+Model; allowed are BertFor"):
        token_relevance(model.base_model, ids, mask)
    decoder = copy.deepcopy(model)
    decoder.config.is_decoder = True
    with pytest.raises(ValueError, match="is_decoder = True"):
        token_relevance(decoder, ids, mask)
    unlabelled = copy.deepcopy(model)
    unlabelled.config.num_labels = 0
    with pytest.raises(ValueError, match="model has 0 labels; at least 1 is required"):
        token_relevance(unlabelled, ids, mask)
    adapted = copy.deepcopy(model)
    query = adapted.base_model.encoder.layer[0].attention.self
    query.query = bnb.nn.Linear8bitLt(16, 16)
    with pytest.raises(ValueError, match=r"layer\.0\.attention\.self\.query is a .*Linear8bitLt"):
        token_relevance(adapted, ids, mask)
    query.query = bnb.nn.Linear4bit(16, 16)  # not on a device yet, which would quantise it
    with pytest.raises(ValueError, match=r"layer\.0\.attention\.self\.query is a .*Linear4bit; allowed are"):
        token_relevance(adapted, ids, mask)


def test_an_adapter_beside_a_layer_is_refused_and_not_left_out(model):
    ids, mask = batch()
    adapted = inject_adapter_in_model(LoraConfig(r=2, target_modules=["key"]), model)
    with pytest.raises(ValueError, match=r"layer\.0\.attention\.self\.key is a peft\..*; allowed are"):
        token_relevance(adapted, ids, mask)


def test_32_bit_numbers_of_tokens_and_classes_are_read_like_64_bit_ones(model):
    (ids, mask), classes = batch(), torch.tensor([0, 2, 1, 0])
    expected = token_relevance(model, ids, mask, classes)
    assert torch.equal(token_relevance(model, ids.int(), mask.int(), classes.int()), expected)


def test_a_single_text_whose_logits_are_not_finite_is_an_error(model):
    ids, mask = batch()
    alone = next(token for token in ids[1].tolist() if (ids == token).sum() == 1)
    words = model.base_model.embeddings.word_embeddings.weight.data
    words[alone, 0] = torch.nan
    with pytest.raises(ValueError, match=r"not finite: .*word_embeddings\.weight is not finite$"):
        token_relevance(model, ids, mask)
    words[alone, 0] = 0
    bias = head_layers(model)[1].bias.data
    bias[2] = torch.inf
    with pytest.raises(ValueError, match=r"not finite: classifier\.(out_proj\.)?bias is not finite$"):
        token_relevance(model, ids, mask)


def test_finite_weights_that_overflow_are_said_to_be_finite(model):
    model = model.float()
    head_layers(model)[1].weight.data.fill_(3e38)
    with pytest.raises(ValueError, match=r"not finite: its weights are finite, but it overflows$"):
        token_relevance(model, *batch())


def test_one_weight_in_64_bits_is_enough_for_all_to_be_read_so(model):
    assert encoder.precision(copy.deepcopy(model).half()) == torch.float32
    head_layers(model.float())[1].double()
    assert encoder.precision(model) == torch.float64


def to_tf32(x):
    """Round to ten bits of mantissa, as tensor cores round the operands of a product."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


def cut_product(a, b):
    """Multiply as tensor cores do: eight terms at a time are added to the sum, which is cut to 24 bits."""
    total = torch.zeros(())
    for start in range(0, a.shape[-1], 8):
        terms = a[..., start : start + 8].double() @ b[..., start : start + 8, :].double()
        exact = total.double() + terms
        total = exact.float()
        too_large = total.double().abs() > exact.abs()
        total = torch.where(too_large, total.nextafter(torch.zeros_like(total)), total)
    return total


class TensorCores(TorchFunctionMode):
    """Products of a GPU that rounds to TF32 where it is allowed to, and cuts their sums."""

    rounded = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        is_product = function in (torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, F.linear)
        if is_product and torch.get_float32_matmul_precision() == "high":
            self.rounded += 1
            a, b, *bias = args
            b = b.mT if function is F.linear else b
            return sum((part for part in bias if part is not None), start=cut_product(to_tf32(a), to_tf32(b)))
        return function(*args, **(kwargs or {}))


def deep(seed=0):
    """Build eight layers whose weights are large: what is rounded in one is enlarged in the next."""
    sizes = {"num_hidden_layers": 8, "hidden_size": 64, "intermediate_size": 128}
    return classifier("camembert", seed=seed, spread=0.1, **sizes)


def off_by(found, expected):
    """Largest deviation, as a share of a row's largest value: the first token's own."""
    return float(((found.cpu().double() - expected).abs() / expected.amax(1, keepdim=True)).max())


@pytest.mark.usefixtures("tf32_on_a_cpu")
@pytest.mark.parametrize("kind", ["bert", "camembert"])
def test_tf32_costs_a_thousandth_of_a_row_s_largest_value(kind):
    exact, (ids, mask) = classifier(kind), batch((40, 30, 20, 35))
    expected = token_relevance(exact, ids, mask, 1)
    model = exact.float()
    with TensorCores() as cores:
        token_relevance(model, ids, mask, 1)
        assert cores.rounded == 0
        rounded = token_relevance(model, ids, mask, 1, precision="tf32")
        assert cores.rounded > 0
    assert 1e-6 < off_by(rounded, expected) < 1e-3
    assert 0 < error(rounded, expected) < 1e-2  # of the largest of the other tokens
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.usefixtures("tf32_on_a_cpu")
def test_of_deep_random_models_most_lose_no_more_than_that():
    off = []
    for seed in range(5):  # one of them is so ill-conditioned that it loses five times as much
        exact, (ids, mask) = deep(seed), batch((40, 30, 20, 35))
        expected = token_relevance(exact, ids, mask, 1)
        with TensorCores():
            off.append(off_by(token_relevance(exact.float(), ids, mask, 1, precision="tf32"), expected))
    assert 1e-6 < statistics.median(off) < 1e-3
    assert max(off) < 1e-2


@pytest.mark.slow
@pytest.mark.usefixtures("tf32_on_a_cpu")
def test_in_a_fine_tuned_encoder_a_rounded_forward_pass_would_cost_most(tiny_folder, monkeypatch):
    texts = mini_corpus("mini-infopinion", seed=0, train=400, validation=2, test=8)
    model, tokenizer = load_classifier(tiny_folder, seed=0), load_tokenizer(tiny_folder)
    recipe = {"epochs": 1, "learning_rate": 4e-4, "batch_size": 4, "max_length": 128}
    fine_tune(model, tokenizer, texts["train"]["text"], texts["train"]["label"], seed=0, **recipe)
    encoded = tokenizer(texts["test"]["text"][:], padding=True, return_tensors="pt")
    given = encoded["input_ids"], encoded["attention_mask"], 1
    expected = token_relevance(copy.deepcopy(model).double(), *given)

    def off():
        with TensorCores():
            return off_by(token_relevance(model, *given, precision="tf32"), expected)

    compensated = off()
    monkeypatch.setattr(encoder, "compensated_linear", F.linear)  # in float32, as precision is there
    exact = off()
    monkeypatch.setattr(encoder, "compensated_linear", float32_products("tf32")(F.linear))
    assert exact < compensated < 1e-3
    assert off() > 10 * compensated


@pytest.fixture
def tf32_on_a_cpu(monkeypatch):
    """Allow TF32 on a CPU, not fused unless a test says so."""
    monkeypatch.setattr(walk, "check_precision", lambda precision, device: None)
    monkeypatch.setattr(walk, "can_fuse", lambda device: False)


def test_a_compensated_linear_layer_is_nearly_as_exact_as_in_float32():
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(size, generator=generator) for size in ((4, 9, 300), (70, 300), (70,)))
    exact = F.linear(x.double(), weight.double(), bias.double())
    scale = F.linear(x.double().abs(), weight.double().abs())
    with TensorCores() as cores:
        compensated = encoder.compensated_linear(x, weight, bias)
    assert cores.rounded == 1
    off = [
        float(((found - exact).abs() / scale).max())
        for found in (F.linear(x, weight, bias), compensated, F.linear(to_tf32(x), to_tf32(weight), bias))
    ]
    assert off[1] < 10 * off[0]  # sums are cut
    assert off[2] > 100 * off[0]


def test_a_number_is_split_into_the_nearest_one_of_eleven_binary_digits_and_the_rest():
    x = torch.randn(2_000, generator=torch.Generator().manual_seed(0))
    high, low = encoder._tf32_parts(x)
    mantissa, exponent = np.frexp(x.double().numpy())  # the mantissa is from 0.5 to 1
    assert high.tolist() == np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent).tolist()
    assert torch.equal(high.double() + low.double(), x.double())


@pytest.mark.usefixtures("tf32_on_a_cpu")
def test_all_linear_layers_but_those_of_the_head_are_compensated(monkeypatch):
    model, compensated, plain = classifier("bert").float(), set(), encoder.compensated_linear

    def noting(x, weight, bias):
        compensated.add(weight.data_ptr())
        return plain(x, weight, bias)

    monkeypatch.setattr(encoder, "compensated_linear", noting)
    token_relevance(model, *batch(), precision="tf32")
    layers = model.bert.encoder.modules()
    assert compensated == {layer.weight.data_ptr() for layer in layers if isinstance(layer, nn.Linear)}


@pytest.mark.usefixtures("tf32_on_a_cpu")
def test_a_model_in_64_bits_is_not_rounded(model):
    assert error(token_relevance(model, *batch(), precision="tf32"), token_relevance(model, *batch())) < EXACT


@pytest.mark.usefixtures("tf32_on_a_cpu")
def test_fused_relevance_is_that_of_single_operations(monkeypatch):
    compiled, plain_compile = [], torch.compile

    def compile_without_kernels(function, **options):
        compiled.append(function.__name__)
        return plain_compile(function, backend="aot_eager", **options)

    model, (ids, mask) = deep().float(), batch()
    plain = token_relevance(model, ids, mask, 1, precision="tf32")
    monkeypatch.setattr(walk, "can_fuse", lambda device: True)
    monkeypatch.setattr(torch, "compile", compile_without_kernels)
    fusion._compiled.cache_clear()
    try:
        fused = token_relevance(model, ids, mask, 1, precision="tf32")
        assert torch.equal(fused, plain)
        assert {"_per_contribution", "_shares", "reuse", "_half", "_positive_product"} <= set(compiled)
        assert "_tf32_parts" in compiled  # of the forward pass
        before = len(compiled)
        token_relevance(model, ids, mask, 1)
        token_relevance(model, ids[:1], mask[:1], 1, precision="tf32")
        assert len(compiled) == before
    finally:
        fusion._compiled.cache_clear()


@pytest.mark.usefixtures("tf32_on_a_cpu")
def test_no_model_or_batch_is_compiled_for_anew(monkeypatch):
    graphs, plain_compile = [], torch.compile

    def compile_and_count(function, **options):
        def counting(graph, _):
            graphs.append(function.__name__)
            return graph.forward

        return plain_compile(function, backend=counting, **options)

    monkeypatch.setattr(walk, "can_fuse", lambda device: True)
    monkeypatch.setattr(torch, "compile", compile_and_count)
    fusion._compiled.cache_clear()
    try:
        first = classifier("camembert", num_hidden_layers=2).float()
        token_relevance(first, *batch(), precision="tf32")
        token_relevance(first, *batch((8, 6, 11)), precision="tf32")
        met = len(graphs)
        wider = classifier("camembert", num_hidden_layers=2, hidden_size=48, intermediate_size=80).float()
        for other in (copy.deepcopy(first).requires_grad_(False), wider, four_bit(first, "nf4")[1]):
            token_relevance(other, *batch((10, 9, 4, 6, 5)), precision="tf32")
        assert len(graphs) == met > 0
    finally:
        fusion._compiled.cache_clear()


def test_without_a_compiler_the_log_says_why_relevance_is_slower(monkeypatch, caplog):
    def no_compiler(function):
        raise RuntimeError("no C compiler found\nset CC")

    monkeypatch.setattr(torch, "compile", no_compiler)
    fusion.can_fuse.cache_clear()
    try:
        assert not fusion.can_fuse(torch.device("cpu"))
        assert not fusion.can_fuse(torch.device("cpu"))
    finally:
        fusion.can_fuse.cache_clear()
    assert [record.getMessage() for record in caplog.records] == [
        "relevance is not fused on cpu, and slower: RuntimeError: no C compiler found"
    ]


@pytest.mark.usefixtures("tf32_on_a_cpu")
def test_the_forward_pass_is_not_rounded(monkeypatch):
    allowed = []
    forward, attention = walk.encoder.apply_layer, walk.encoder.attention

    def noting(function):
        def noted(*args):
            allowed.append(torch.get_float32_matmul_precision())
            return function(*args)

        return noted

    monkeypatch.setattr(walk.encoder, "apply_layer", noting(forward))
    monkeypatch.setattr(walk.encoder, "attention", noting(attention))
    token_relevance(classifier("bert").float(), *batch(), precision="tf32")
    assert set(allowed) == {"highest"}


def test_other_precisions_are_refused():
    model, (ids, mask) = classifier("bert"), batch()
    with pytest.raises(ValueError, match="precision is 'bfloat16'; allowed are float32, tf32"):
        token_relevance(model, ids, mask, precision="bfloat16")
    with pytest.raises(ValueError, match="precision = 'tf32' on cpu: only CUDA devices have it"):
        token_relevance(model, ids, mask, precision="tf32")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
def test_cuda_matches_the_cpu(model):
    ids, mask = batch()
    expected = token_relevance(model, ids, mask)
    found = token_relevance(model.cuda(), ids, mask)
    assert found.is_cuda
    assert error(found.cpu(), expected) < EXACT


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_on_cuda_a_precision_costs_at_most_a_thousandth(precision):
    off = []
    for seed in range(5):
        exact, (ids, mask) = deep(seed), batch((40, 30, 20, 35))
        expected = token_relevance(exact, ids, mask, 1)
        found = token_relevance(exact.float().cuda(), ids, mask, 1, precision=precision)
        off.append(off_by(found, expected))
    assert statistics.median(off) < 1e-3
    assert max(off) < {"float32": 1e-3, "tf32": 1e-2}[precision]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
def test_on_cuda_tf32_is_fused_and_does_not_depend_on_what_came_before(monkeypatch):
    assert fusion.can_fuse(torch.device("cuda", 0))
    model = deep().float().cuda()
    small, large = batch((9, 12, 7)), batch((40, 30, 20, 35))
    found = []
    for first in (small, large):
        torch.compiler.reset()
        fusion._compiled.cache_clear()
        token_relevance(model, *first, 1, precision="tf32")
        found += [token_relevance(model, *large, 1, precision="tf32") for _ in range(2)]
    assert all(torch.equal(again, found[0]) for again in found)
    monkeypatch.setattr(walk, "can_fuse", lambda device: False)
    plain = token_relevance(model, *large, 1, precision="tf32")
    assert off_by(found[0], plain.cpu().double()) < 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("width", [768, 3072])
def test_on_cuda_a_compensated_linear_layer_is_nearly_as_exact_as_in_float32(width, positive):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(size, generator=generator, dtype=torch.float64).float()
        for size in ((256, width), (768, width), (768,))
    )
    if positive:  # the largest sums: tensor cores cut what float32 would round
        x, weight = x.abs(), weight.abs()
    exact = F.linear(x.double(), weight.double(), bias.double())
    scale = F.linear(x.double().abs(), weight.double().abs())
    x, weight, bias = x.cuda(), weight.cuda(), bias.cuda()
    found = encoder.compensated_linear(x, weight, bias).cpu()
    rounded = F.linear(to_tf32(x.cpu()), to_tf32(weight.cpu()), bias.cpu())
    off, off_rounded = (float(((each - exact).abs() / scale).max()) for each in (found, rounded))
    # By an emulation that cuts every sum, 9e-6 and 1e-6 with 3,072 inputs.
    assert off < (2e-5 if positive else 3e-6)
    assert off < off_rounded / 2
