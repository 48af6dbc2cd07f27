"""Paper 2's tables and figures, on explanations whose signal and noise are known."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from transformers import CamembertConfig

from lib import figures
from lib.attribution import LRP
from lib.claims import published
from lib.paper2 import figures as draw
from lib.paper2 import tables
from lib.paper2.model_types import Bootstrap, ModelType, shares, unit_scale

matplotlib.use("Agg")
LENGTHS = [8, 12, 20, 9]
LABELS = [0, 0, 0, 1]
SURFACES = {
    "fine-tuned": 1000,
    "fine-tuned fp4": 125,
    "frozen": 10,
    "above:1": 500,
    "lora:2": 20,
    "biases": 12,
}


def simulated(name: str, noise: float, seed: int, seeds: int = 12) -> ModelType:
    """Every second word of a text is relevant; a quantised type is its original with a little more noise."""
    signal = np.concatenate([np.resize([2.0, 0.0], length) for length in LENGTHS])
    drawn = np.random.default_rng(seed).standard_normal((seeds, len(signal)))
    predicted = np.zeros((seeds, len(LABELS)), np.uint8)
    return ModelType(name, name.split()[0], SURFACES[name], predicted, {LRP: signal + np.sqrt(noise) * drawn})


@pytest.fixture(scope="module")
def types() -> dict[str, ModelType]:
    noises = {
        "fine-tuned": 1,
        "fine-tuned fp4": 1,
        "frozen": 0.1,
        "above:1": 0.8,
        "lora:2": 1.2,
        "biases": 0.5,
    }
    return {name: simulated(name, noise, index) for index, (name, noise) in enumerate(noises.items())}


@pytest.fixture(scope="module")
def measured(types):
    return Bootstrap(LENGTHS, resamples=200, seed=0).measure(types, scale=unit_scale)


def test_table_1_is_in_percent(types):
    printed = published(2)["table_1"]
    two = {name: types[name] for name in ("fine-tuned", "above:1")}
    table = tables.accuracy_table(two, two, LABELS, printed)
    assert table.loc["fine-tuned", "accuracy, %"] == "75.0 ± 0.0"
    assert table.loc["fine-tuned", "paper, %"] == "96.0 ± 0.6"
    assert table.loc["fine-tuned", "by the pooled z"] == "12 of 12"
    assert table.loc["above:1", "paper, %"] == "—"


def test_counted_surfaces_match_the_printed_ones():
    printed = published(2)["table_1"]
    config = CamembertConfig(**published(2)["camembert_base"])
    table = tables.surface_table(["plain", "nf4"], printed, {"counted": config})
    assert table.index.tolist() == ["fine-tuned", "fine-tuned nf4", "frozen", "frozen nf4"]
    ratios = (table["counted"] / table["printed in the paper"]).astype(float)
    np.testing.assert_allclose(ratios, [1, 10, 1.05, 1], rtol=0.02)  # one exponent and one digit are wrong


def test_reductions_and_ratios(types, measured):
    pairs = [("frozen", "fine-tuned"), ("fine-tuned", "fine-tuned")]
    reductions = tables.reductions(types, pairs, LABELS)
    assert reductions.loc["frozen / fine-tuned"].tolist() == ["÷ 100", "+0.0"]
    ratios = tables.ratio_table(measured, pairs, 1.25)
    assert ratios.loc["frozen / fine-tuned", "noise is"] == "lower"
    assert ratios.loc["fine-tuned / fine-tuned", "signal"] == "1 [1, 1]"
    assert ratios.loc["fine-tuned / fine-tuned", ["signal is", "noise is"]].tolist() == ["same", "same"]


def test_seeds_agree_if_there_is_a_signal(types):
    rng = np.random.default_rng(0)
    frozen = {"frozen": types["frozen"]}
    table = tables.agreement_table(frozen, LENGTHS, top_words=4, permutations=20, rng=rng)
    assert table.loc["frozen", "not uniform"] == 1
    assert table.loc["frozen", "overlap"] > 0.6 > table.loc["frozen", "overlap, most by chance"]
    assert table.loc["frozen", "tau"] > 0.3 > table.loc["frozen", "tau, most by chance"]
    assert tables.shared_top_words(types["frozen"], types["frozen"], LENGTHS, 4).tolist() == [1] * 4
    even, odd = types["biases"].keep(range(0, 12, 2)), types["biases"].keep(range(1, 12, 2))
    halves = tables.shared_between_halves(types["biases"], LENGTHS, 4)
    assert halves.tolist() == tables.shared_top_words(even, odd, LENGTHS, 4).tolist()


def test_the_plug_in_snr_falls_with_the_seeds_and_the_unbiased_one_does_not(types):
    rng = np.random.default_rng(0)
    table = tables.snr_by_seeds({"fine-tuned": types["fine-tuned"]}, LENGTHS, [3, 12], rng)
    snr = table.set_index(["estimate", "seeds"])["SNR"]
    assert snr["plug-in", 3] > 1.3 * snr["plug-in", 12]
    assert snr["unbiased", 12] < snr["plug-in", 12]


def test_true_cues_are_found(types):
    roles = [np.resize(["cue", "other"], length).tolist() for length in LENGTHS]
    table = tables.cue_table({"frozen": types["frozen"]}, LENGTHS, roles)
    assert float(table.loc["frozen", "most relevant"].split()[0]) > 0.95
    assert table.loc["frozen", "by chance"].startswith("0.5")


def test_the_proxy_table_has_one_row_per_group(types, measured):
    groups = {"all points": list(types.values()), "two": [types["frozen"], types["fine-tuned"]]}
    table = tables.proxy_table(measured, groups)
    assert table.index.tolist() == ["all points", "two"]
    assert table.loc["two", "τ of surface and noise"].startswith("1 [")


def test_every_figure_can_be_saved_with_its_data(types, measured, tmp_path):
    curve_table = tables.curve_table(measured, types, LABELS)
    assert curve_table["family"].tolist() == [
        "fine-tuned", "fine-tuned", "frozen", "upper layers", "LoRA", "biases"
    ]  # fmt: skip
    by_seeds = tables.snr_by_seeds(types, LENGTHS, [2, 12], np.random.default_rng(0))
    relevance = shares(types["frozen"].relevance[LRP], LENGTHS)[:, :8]
    drawn = {
        "words": draw.word_boxes(list("abcdefgh"), {"frozen": relevance, "again": relevance}, "words"),
        "intervals": draw.stability_intervals({"all": measured}),
        "curve": (draw.curve(curve_table), curve_table),
        "seeds": (draw.snr_curves(by_seeds[by_seeds["type"].isin(["frozen", "biases"])]), by_seeds),
    }
    with matplotlib.rc_context():
        figures.use_style()
        for name, (figure, table) in drawn.items():
            figures.save(figure, table, tmp_path, name)
    plt.close("all")
