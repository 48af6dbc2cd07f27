"""Models on texts with marked reasons: what their runs explain, and what becomes of it in papers 1 and 2."""

from dataclasses import replace

import numpy as np
import pytest
from finished import record

from lib.attribution import LRP, RANDOM
from lib.explanations import LABEL_LRP, word_relevance
from lib.models import load_tokenizer
from lib.paper1.compared import FINE_TUNED, FROZEN
from lib.paper1.marked import collect_marked, fine_tuning_gains
from lib.paper1.marked_runs import ExplainTrueClass
from lib.paper1.runs import fine_tune_classifier
from lib.paper2.marked import (
    ONE_SEED,
    RANKINGS,
    SIGNAL,
    SNR,
    correlation,
    ranked_by_seeds,
    residual,
    stability_gains,
    variability_table,
)
from lib.paper2.model_types import ModelType
from lib.rationales.scores import AVERAGE_PRECISION, MEASURES, TOKEN_F1, by_chance
from lib.recipes import TrainingRecipe
from lib.settings import PROJECT_ROOT
from lib.texts import corpus_of
from lib.texts.rationales import load_rationales, windows

MARKED = str(PROJECT_ROOT / "tests" / "data" / "marked_reviews.jsonl")
TRAINING = TrainingRecipe(epochs=1, learning_rate=1e-3, batch_size=4)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def marked(tiny_folder):
    loaded = load_rationales(MARKED, seed=0, train_texts=12, explained_texts=8)
    return windows(loaded, model=tiny_folder, max_length=64)


@pytest.fixture(scope="module")
def corpus(marked, tiny_folder):
    return corpus_of(marked, model=tiny_folder, explained=0, max_length=64, device="cpu")


def run_of(seed, *, frozen, methods):
    return ExplainTrueClass(seed, frozen=frozen, training=TRAINING, methods=methods)


@pytest.fixture(scope="module")
def records(corpus):
    runs = [
        run_of(seed, frozen=frozen, methods={LRP: 8, RANDOM: 3} if seed == 0 else {LRP: 8})
        for frozen in (False, True)
        for seed in (0, 1)
    ]
    return [replace(record(run.settings, run.carry_out(corpus=corpus)), run=run) for run in runs]


def test_windows_lose_no_word_on_their_way_to_a_model(marked, corpus, tiny_folder):
    tokens = corpus.tokens(load_tokenizer(tiny_folder))
    assert [len(text.words) for text in tokens] == [len(marks) for marks in marked["test"]["marks"]]


def test_the_true_class_is_explained(corpus, records):
    tokenizer = load_tokenizer(corpus.model)
    model, _, _ = fine_tune_classifier(corpus, tokenizer, seed=0, recipe=TRAINING)
    tokens, labels = corpus.tokens(tokenizer), np.array(corpus.test_labels)
    for targets, same in ((labels, True), (1 - labels, False)):
        expected = word_relevance(model, tokens, targets)
        assert np.array_equal(records[0][f"relevance/{LRP}"], expected) is same


def test_models_are_scored_on_the_texts_that_each_method_explains(marked, records):
    models = collect_marked(records)
    marks = list(marked["test"]["marks"])
    texts = len(marks)
    for kind in (FINE_TUNED, FROZEN):
        assert models[kind].predicted.shape == (2, texts)
        scores = models[kind].scores(marks)
        assert scores[LRP][AVERAGE_PRECISION].shape == (2, texts)
        assert scores[RANDOM][TOKEN_F1].shape == (1, 3)
    scores = {kind: group.scores(marks) for kind, group in models.items()}
    gains = fine_tuning_gains(scores, 0.95)
    assert list(gains.index) == [LRP, RANDOM]
    assert gains.loc[RANDOM, TOKEN_F1] == "0 [0, 0]"  # the same numbers for every model
    difference = scores[FINE_TUNED][LRP][TOKEN_F1].mean() - scores[FROZEN][LRP][TOKEN_F1].mean()
    assert gains.loc[LRP, TOKEN_F1].startswith(f"{difference:.3g} [")
    with pytest.raises(RuntimeError, match="frozen models on marked texts: no run is done"):
        collect_marked(records[:2])
    failed = [replace(record, status="failed", reason="KeyError: 'a'", result={}) for record in records]
    with pytest.raises(
        RuntimeError, match=rf"no run is done; .* \({len(failed)} of .* runs: KeyError: 'a'\)$"
    ):
        collect_marked(failed)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="methods has 'LPR': allowed are LRP"):
        run_of(0, frozen=True, methods={"LPR": 3})


MARKS = [[True, False, False, True, False, False] for _ in range(10)]


def kind_of(noise, signal):
    """Eight seeds whose words have a mean relevance, ``signal``, and a deviation over seeds, ``noise``."""
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(8, len(MARKS), len(MARKS[0])))
    relevance = np.array(signal) + draws * np.array(noise)
    predicted = np.zeros((8, len(MARKS)), np.uint8)
    return ModelType("m", "fine-tuned", 1, predicted, {LABEL_LRP: relevance.reshape(8, -1)})


@pytest.mark.parametrize(
    ("noise", "signal", "best"),
    [
        # marked words are the stable ones, but no more relevant; or relevant, and so noisy that one seed errs
        ([0.1, 1.5, 1.5, 0.1, 1.5, 1.5], [5, 5, 5, 5, 5, 0], SNR),
        ([2.0, 0.2, 0.2, 2.0, 0.2, 0.2], [6, 4, 4, 6, 4, 0], SIGNAL),
    ],
)
def test_the_ranking_that_holds_the_marks_is_found(noise, signal, best):
    types = {"m": kind_of(noise, signal)}
    found = ranked_by_seeds(types, MARKS, LABEL_LRP)
    assert set(found) == {("m", ranking, measure) for ranking in RANKINGS for measure in MEASURES}
    for measure in MEASURES:
        values = {ranking: found["m", ranking, measure].value.estimate for ranking in RANKINGS}
        assert max(values, key=values.get) == best
        assert values[best] > values[ONE_SEED] + 0.05
        above = found["m", best, measure]
        chance = by_chance(MARKS)[measure].mean()
        assert above.value.estimate - above.above_chance.estimate == pytest.approx(chance)
    gain = float(stability_gains(types, MARKS, LABEL_LRP).loc["m", TOKEN_F1].split()[0])
    assert (gain > 0) is (best == SNR)


def test_variability_is_correlated_with_marks_beyond_the_mean():
    def correlations(noise):
        table = variability_table({"m": kind_of(noise, [6, 4, 4, 6, 4, 0])}, MARKS, LABEL_LRP)
        return [float(text.split()[0]) for text in table.loc["m"]]

    mean, deviation, beyond = correlations([1.0, 0.2, 0.2, 1.0, 0.2, 0.2])
    assert mean > 0.3
    assert deviation > 0.5
    assert beyond > 0.2
    assert correlations([0.2, 1.0, 1.0, 0.2, 1.0, 1.0])[2] < -0.2


def test_correlation_and_residual_are_those_of_numpy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 30))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, np.ones(30)) == 0
    left = residual(a, b)
    slope, intercept = np.polyfit(b, a, 1)
    assert left == pytest.approx(a - slope * b - intercept)
    assert residual(a, np.ones(30)) == pytest.approx(a - a.mean())


def test_correlation_depends_neither_on_scale_nor_on_rounding():
    steps = np.arange(5.0)
    assert correlation(1e-13 * steps, steps) == pytest.approx(1)
    assert correlation(1 + 1e-15 * steps, steps) == correlation(np.ones(1), np.ones(1)) == 0
    assert not residual(0.1 * steps + 0.3, steps).any()  # a line leaves rounding alone
