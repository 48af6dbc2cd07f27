"""Paper 1's figures match their data and can be saved."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.attribution import LRP, RANDOM
from lib.figures import save
from lib.hiding import Curves
from lib.paper1 import figures as draw
from lib.recipes import SCHEDULES, TrainingRecipe

A, B = "reviews", "opinion"
KEYS = [(kind, task) for task in (A, B) for kind in ("fine-tuned", "frozen")]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def ranked(words, roles):
    values = np.linspace(0.3, -0.3, len(words))
    table = pd.DataFrame(
        {"count": 12, "fine_tuned": values, "frozen": 0.1, "difference": values}, index=words
    )
    return table.assign(role=roles)


def test_the_accuracy_of_a_single_model_has_a_mark():
    accuracies = {key: np.array([0.9]) for key in KEYS}
    figure, _ = draw.accuracy_marks(accuracies, accuracies, {A: 0.8, B: 0.9})
    places = [line.get_xdata() for line in figure.axes[0].lines[:2]]
    assert np.isfinite(np.concatenate(places)).all()


def test_every_figure_can_be_saved_with_its_data(tmp_path):
    rng = np.random.default_rng(0)
    accuracies = {key: rng.random(3) for key in KEYS}
    curve = Curves(np.linspace(0, 1, 5), rng.random((6, 5)), rng.random((6, 5)))
    texts = draw.Texts(rng.random((8, 2)), np.arange(8) % 2, np.arange(8) // 4, ["no", "yes"])
    components = {key: [np.linspace(0.5, 1, 6)] for key in KEYS}
    recipes = {
        schedule: dict.fromkeys((A, B), TrainingRecipe(2, 1e-3, 4, schedule)) for schedule in SCHEDULES
    }
    rows = [("fine-tuned", "authors"), ("fine-tuned", "described"), ("frozen", "")]
    reliance = pd.DataFrame(2 * rows, columns=["model", "schedule"])
    reliance = reliance.assign(rate=[0, 0, 0, 1, 1, 1], reliance=0.5, relevance=0.1)
    figures = {
        "accuracy": draw.accuracy_marks(accuracies, accuracies, {A: 0.8, B: 0.9}),
        "conservation": draw.conservation_lines({"fine-tuned": 1 + 1e-7 * rng.random((4, 5))}),
        "faithfulness": draw.faithfulness_lines(
            {"fine-tuned": {LRP: curve, RANDOM: curve}, "frozen": {RANDOM: curve}}, 0.95
        ),
        "tsne": draw.text_maps({"one": texts, "other": texts}),
        "pca": draw.variance_lines(components),
        "rates": draw.rate_lines(recipes, {A: 80, B: 40}),
        "artifact": (draw.artifact_lines(reliance), reliance),
    }
    for name, (figure, data) in figures.items():
        save(figure, data, tmp_path, name, name)
    assert len(figures["accuracy"][1]) == 4 * 3 * 2
    assert len(figures["faithfulness"][1]) == 3 * 2 * 5
    assert len(figures["tsne"][1]) == 16
    assert figures["artifact"][0].axes[0].get_legend_handles_labels()[1] == [
        "fine-tuned, authors",
        "fine-tuned, described",
        "frozen",
    ]


def test_the_rates_fall_to_zero_in_half_an_epoch_or_in_two():
    recipes = {schedule: {A: TrainingRecipe(2, 1e-3, 4, schedule)} for schedule in SCHEDULES}
    figure, data = draw.rate_lines(recipes, {A: 80})
    assert [line.get_label() for line in figure.axes[0].lines][::2] == list(SCHEDULES)
    positive = data[data["rate"] > 0].groupby("schedule")["step"].count()
    assert positive.to_dict() == {"authors": 10, "described": 40}  # of 40 steps, 20 an epoch


def test_conservation_is_drawn_around_one_without_an_offset():
    figure, _ = draw.conservation_lines({"fine-tuned": np.full((4, 5), 1 + 1e-6)})
    (axes,) = figure.axes
    figure.canvas.draw()
    assert axes.get_ylim() == (0.95, 1.05)
    assert axes.yaxis.get_major_formatter().get_offset() == ""
    wide, _ = draw.conservation_lines({"frozen": np.array([[1.0, 3.0], [1.0, 3.0]])})
    assert wide.axes[0].get_ylim()[1] > 3


def test_word_lists_are_side_by_side_and_common_words_are_counted():
    words = [f"mot{i}" for i in range(24)]
    first = ranked(words, ["cue"] * 12 + ["filler"] * 12)
    other = ranked([*words[5:15], *words[:5], *words[15:]], ["cue"] * 24)
    beside = draw.two_lists(first)
    assert beside.shape == (10, 10)
    assert beside.iloc[0, 0] == "mot0"
    assert beside.iloc[0, 5] == "mot23"
    rules = draw.lists_of_rules({"one": first, "other": other})
    assert rules.iloc[0].tolist() == ["mot0 (cue)", "mot5 (cue)", "mot23 (filler)", "mot23 (cue)"]
    assert rules.iloc[-1].tolist() == ["5 in common"] * 2 + ["9 in common"] * 2
    kinds = draw.lists_of_kinds({"one": first, "few": other.head(3).drop(columns="role")})
    assert kinds.shape == (10, 2)
    assert kinds.loc[3].tolist() == ["mot2 (cue)", "mot7"]
    assert kinds.loc[4, "few"] == ""
