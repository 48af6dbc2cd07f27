from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from small import CORPUS, bert_tokenizer, classifier
from torch import Tensor, nn
from transformers import PreTrainedModel

from lib import attribution, hiding
from lib.attribution import RANDOM
from lib.faithfulness import BETTER, compared_with, scores
from lib.hiding import Curves, curves

TOKENIZER = bert_tokenizer()
MASK, CLS, SEP, PAD, UNKNOWN = (
    TOKENIZER.convert_tokens_to_ids(f"[{name}]") for name in ("MASK", "CLS", "SEP", "PAD", "UNK")
)


class Additive(nn.Module):
    """A classifier whose logit for class 1 is the sum of its tokens' weights; it records its inputs."""

    def __init__(self, weights: dict[int, float]) -> None:
        super().__init__()
        self.table = torch.zeros(1000, dtype=torch.float64)
        for token, weight in weights.items():
            self.table[token] = weight
        self.config = SimpleNamespace(pad_token_id=PAD, _attn_implementation="eager")
        self.device = torch.device("cpu")
        self.seen: list[list[int]] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        assert not self.training
        assert ((input_ids == PAD) == (attention_mask == 0)).all()
        self.seen += [row[row != PAD].tolist() for row in input_ids]
        logit = self.table[input_ids].sum(1)
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(logit), logit], dim=1))


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def test_curves_and_scores_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiding, "STEPS", 4)
    # Four words of weights 3, 1, -1, 0; the order of relevance is 3, 1, 0, -1.
    model = Additive({101: 3.0, 102: 1.0, 103: -1.0, 104: 0.0})
    text = [CLS, 103, 101, 104, 102, SEP]
    found = curves(model, TOKENIZER, [text], {"oracle": [[9.0, -1.0, 3.0, 0.0, 1.0, 9.0]]})["oracle"]
    np.testing.assert_allclose(found.shares, [0, 0.25, 0.5, 0.75, 1])
    deletion = [sigmoid(x) for x in (3, 0, -1, -1, 0)]
    insertion = [sigmoid(x) for x in (0, 3, 4, 4, 3)]
    np.testing.assert_allclose(found.deletion, [deletion])
    np.testing.assert_allclose(found.insertion, [insertion])
    row = scores(found).iloc[0]
    whole = sigmoid(3)
    assert row["comprehensiveness"] == pytest.approx(whole - (sigmoid(0) + sigmoid(-1)) / 2)
    assert row["sufficiency"] == pytest.approx(whole - (sigmoid(3) + sigmoid(4)) / 2)
    assert row["deletion"] == pytest.approx((deletion[0] / 2 + sum(deletion[1:4]) + deletion[4] / 2) / 4)
    assert row["insertion"] == pytest.approx((insertion[0] / 2 + sum(insertion[1:4]) + insertion[4] / 2) / 4)


def test_curves_follow_the_class_predicted_for_the_whole_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiding, "STEPS", 2)
    model = Additive({101: -3.0})
    found = curves(model, TOKENIZER, [[CLS, 101, 102, SEP]], {"oracle": [[0.0, 1.0, 0.0, 0.0]]})
    np.testing.assert_allclose(found["oracle"].deletion, [[sigmoid(3), sigmoid(0), sigmoid(0)]])


def test_hidden_tokens_become_masks_and_special_tokens_are_never_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hiding, "STEPS", 4)
    model = Additive({})
    texts = [[CLS, 101, UNKNOWN, 102, 103, SEP], [CLS, 104, SEP], [CLS, SEP]]
    relevance = {"ours": [np.arange(len(text))[::-1] for text in texts]}  # the special tokens at both ends
    curves(model, TOKENIZER, texts, relevance)
    for text in texts:
        versions = [row for row in model.seen if len(row) == len(text)]
        assert len(versions) == 2 + 2 * 3
        for row in versions:
            assert row[0] == CLS
            assert row[-1] == SEP
            assert all(after in (before, MASK) for before, after in zip(text, row, strict=True))
    assert [CLS, 101, UNKNOWN, 102, 103, SEP] in model.seen
    assert [CLS, MASK, MASK, MASK, MASK, SEP] in model.seen
    assert [CLS, MASK, MASK, 102, 103, SEP] in model.seen  # the unknown piece is hidden like any other


def one_at_a_time(
    model: PreTrainedModel, text: list[int], relevance: np.ndarray, share: float, *, hide: bool
) -> float:
    """The definition of the two curves, one text and one point at a time."""
    words = [place for place in range(len(text)) if text[place] not in (CLS, SEP)]
    ordered = sorted(words, key=lambda place: relevance[place], reverse=True)
    count = round(share * len(words))
    masked = ordered[:count] if hide else ordered[count:]
    row = torch.tensor([[MASK if place in masked else token for place, token in enumerate(text)]])
    with torch.no_grad():
        predicted = model(torch.tensor([text])).logits.argmax()
        return model(row).logits.softmax(-1)[0, predicted].item()


def test_curves_match_their_definition_on_a_real_model_for_any_batch_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hiding, "STEPS", 5)
    model = classifier("bert", vocab_size=len(TOKENIZER), pad_token_id=PAD, spread=0.6)
    texts = TOKENIZER([text[:40] for text in CORPUS])["input_ids"]
    rng = np.random.default_rng(0)
    relevance = {name: [rng.normal(size=len(text)) for text in texts] for name in ("ours", "theirs")}
    model.train()
    monkeypatch.setattr(hiding, "BATCH_SIZE", 7)
    found = curves(model, TOKENIZER, texts, relevance)
    assert model.training
    for name, explained in found.items():
        for batch_size in (1, 1000):
            monkeypatch.setattr(hiding, "BATCH_SIZE", batch_size)
            again = curves(model, TOKENIZER, texts, relevance)[name]
            np.testing.assert_allclose(again.deletion, explained.deletion, rtol=1e-9)
            np.testing.assert_allclose(again.insertion, explained.insertion, rtol=1e-9)
    model.eval()
    for name, explained in found.items():
        for row, text in enumerate(texts):
            for point, share in enumerate(explained.shares):
                for curve, hide in ((explained.deletion, True), (explained.insertion, False)):
                    by_hand = one_at_a_time(model, text, relevance[name][row], share, hide=hide)
                    assert curve[row, point] == pytest.approx(by_hand, rel=1e-9)


def test_an_oracle_beats_the_random_order_on_every_score_and_its_opposite_loses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hiding, "STEPS", 5)
    rng = np.random.default_rng(0)
    weights = {token: rng.normal() for token in range(100, 300)}
    model = Additive(weights)
    texts = [[CLS, *rng.integers(100, 300, size=20).tolist(), SEP] for _ in range(60)]
    sign = [np.sign(sum(weights.get(token, 0) for token in text)) for text in texts]
    oracle = [np.array([s * weights.get(t, 0) for t in text]) for s, text in zip(sign, texts, strict=True)]
    relevance = {
        "oracle": oracle,
        "opposite": [-values for values in oracle],
        "random": [rng.random(len(text)) for text in texts],
        "another random": [rng.random(len(text)) for text in texts],
    }
    table = compared_with(curves(model, TOKENIZER, texts, relevance), RANDOM)
    higher = table["better"] == "higher"
    wins = (table["low"] > 0).where(higher, table["high"] < 0)
    loses = (table["high"] < 0).where(higher, table["low"] > 0)
    assert wins["oracle"].all()
    assert loses["opposite"].all()
    assert not (wins | loses)["another random"].any()


def test_scores_beside_a_random_order_by_hand() -> None:
    shares = np.array([0, 0.5, 1])
    ours = Curves(shares, np.array([[0.9, 0.1, 0.5], [0.9, 0.5, 0.5]]), np.full((2, 3), 0.5))
    null = Curves(shares, np.array([[0.9, 0.5, 0.5], [0.9, 0.5, 0.5]]), np.full((2, 3), 0.5))
    row = compared_with({"ours": ours, "random": null}, RANDOM).loc[("ours", "comprehensiveness")]
    # 0.8 and 0.4 against 0.4 and 0.4: differences 0.4 and 0; Student's t with 1 degree of freedom is 12.706.
    assert row[["mean", "reference", "difference"]].tolist() == pytest.approx([0.6, 0.4, 0.2])
    assert row["high"] - row["difference"] == pytest.approx(12.706 * 0.2, rel=1e-4)
    assert row["difference"] - row["low"] == pytest.approx(12.706 * 0.2, rel=1e-4)
    row = compared_with({"ours": ours, "random": null}, RANDOM, 0.9).loc[("ours", "comprehensiveness")]
    assert row["high"] - row["difference"] == pytest.approx(6.314 * 0.2, rel=1e-4)


def test_explanations_are_compared_with_one_of_them() -> None:
    shares, flat = np.array([0, 0.5, 1]), np.full((2, 3), 0.5)
    of = {
        name: Curves(shares, np.array([[0.9, low, 0.5]] * 2), flat) for name, low in (("a", 0.1), ("b", 0.3))
    }
    table = compared_with({**of, RANDOM: Curves(shares, flat, flat)}, "a")
    assert set(table.index.get_level_values("explanation")) == {"b"}
    assert table.loc[("b", "comprehensiveness"), "difference"] == pytest.approx(-0.2)


def test_equally_relevant_tokens_are_taken_in_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiding, "STEPS", 2)
    # If ties were broken by position, the first half of every text would be hidden first.
    model = Additive({101: 1.0})
    texts = [[CLS, 101, *range(200, 209), SEP] for _ in range(200)]
    relevance = {"flat": [np.zeros(len(text)) for text in texts]}
    found = curves(model, TOKENIZER, texts, relevance)["flat"]
    hidden = np.isclose(found.deletion[:, 1], sigmoid(0)).mean()
    assert hidden == pytest.approx(0.5, abs=0.1)
    again = curves(model, TOKENIZER, texts, relevance)["flat"]
    np.testing.assert_array_equal(again.deletion, found.deletion)
    other = curves(model, TOKENIZER, texts, relevance, seed=1)["flat"]
    assert (other.deletion != found.deletion).any()


def test_every_method_can_be_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hiding, "STEPS", 3)
    model = classifier("camembert", vocab_size=len(TOKENIZER), pad_token_id=PAD)
    texts = TOKENIZER([text[:30] for text in CORPUS])["input_ids"]
    explained = {
        name: attribution.explain(method, model, texts) for name, method in attribution.METHODS.items()
    }
    table = compared_with(curves(model, TOKENIZER, texts, explained), RANDOM)
    assert len(table) == (len(attribution.METHODS) - 1) * len(BETTER)
    assert np.isfinite(table[["mean", "reference", "difference", "low", "high"]]).all(axis=None)
    assert isinstance(table, pd.DataFrame)


def test_bad_input_raises_one_clear_line() -> None:
    model, text = Additive({}), [CLS, 101, SEP]
    with pytest.raises(ValueError, match="ours: relevance of 2 texts, but there are 1 texts"):
        curves(model, TOKENIZER, [text], {"ours": [[0.0] * 3] * 2})
    with pytest.raises(ValueError, match="ours: text 0 has relevance of shape"):
        curves(model, TOKENIZER, [text], {"ours": [[0.0] * 2]})
    with pytest.raises(ValueError, match="3 finite numbers are required"):
        curves(model, TOKENIZER, [text], {"ours": [[0.0, np.nan, 0.0]]})
    with pytest.raises(ValueError, match="no mask token, which is required"):
        curves(model, SimpleNamespace(mask_token_id=None), [text], {"ours": [[0.0] * 3]})
    found = curves(model, TOKENIZER, [text], {"ours": [[0.0] * 3]})
    with pytest.raises(ValueError, match="no explanation named 'random' among ours"):
        compared_with(found, RANDOM)
    with pytest.raises(ValueError, match="1 text: an interval requires two or more"):
        compared_with({"random": found["ours"]}, RANDOM)
