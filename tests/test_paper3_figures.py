"""Paper 3's figures keep their panels where a kind of trial is missing, and can be saved."""

from itertools import pairwise

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from lib.figures import save
from lib.intervals import Interval
from lib.paper3 import figures as draw

KINDS = [("GPT-NeoX", "8-bit"), ("GPT-NeoX", "32-bit"), ("Llama", "32-bit")]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_a_kind_that_is_missing_leaves_its_panel_empty(tmp_path):
    compared = pd.DataFrame(
        {"unlike": [Interval(0.5, 0.4, 0.6)] * 6},
        index=pd.MultiIndex.from_tuples(
            [(*kind, name) for kind in KINDS for name in ("two trials", "beyond sampling")],
            names=["model", "bits", "compared"],
        ),
    )
    figure, data = draw.sampling(compared)
    assert len(data) == 6
    titles = [axes.get_title(plt.rcParams["axes.titlelocation"]) for axes in figure.axes]
    assert titles == [
        "GPT-NeoX, 8-bit", "GPT-NeoX, 32-bit", "", "Llama, 32-bit"
    ]  # fmt: skip
    save(figure, data, tmp_path, "sampling", "Does training vary texts more than sampling does?")


def loss_curves(seeds, steps=(3, 3)):
    by_model = dict(zip(("GPT-NeoX", "Llama"), steps, strict=True))
    rows = [(*kind, seed, [1.0] * by_model[kind[0]]) for kind in KINDS for seed in range(seeds)]
    return pd.DataFrame(rows, columns=["model", "bits", "seed", "losses"])


@pytest.mark.parametrize("seeds", [8, 24])
def test_every_seed_has_a_line_of_its_own_in_the_legend(seeds, tmp_path):
    figure, data = draw.losses(loss_curves(seeds))
    (legend,) = figure.legends
    lines = {(line.get_color(), line.get_linestyle()) for line in legend.get_lines()}
    assert len(lines) == len(legend.texts) == seeds
    save(figure, data, tmp_path, "losses", "Do loss curves tell the optimizers apart?")


def test_lines_of_neighbouring_seeds_differ_in_greyscale_too():
    figure, _ = draw.losses(loss_curves(7))
    (legend,) = figure.legends
    dashes = [line.get_linestyle() for line in legend.get_lines()]
    assert len(set(dashes)) == 4
    assert all(first != second for first, second in pairwise(dashes))


def test_a_model_with_fewer_steps_fills_its_panels():
    figure, _ = draw.losses(loss_curves(2, steps=(40, 20)))
    ends = [axes.get_xlim()[1] for axes in figure.axes]
    assert max(ends) > 40
    assert min(ends) < 25


def test_the_legend_of_the_explosion_covers_no_panel(tmp_path):
    outcomes = pd.DataFrame({"changed": ["none", "epsilon 0"], "seed": 0, "above": [0.1, float("inf")]})
    outcomes = outcomes.assign(of_guess=outcomes["above"] / 5, training=2.0, diverged_step=None)
    excess = pd.DataFrame({"model": ["A", "A", "B"], "above": [4.0, 7.0, 10.0], "of_guess": [0.5, 0.9, 1.2]})
    ends = {"low": [4.0, 10.0], "high": [7.0, 11.0], "of_guess_low": [0.5, 1.1], "of_guess_high": [0.9, 1.2]}
    figure, data = draw.explosion(outcomes, excess, pd.DataFrame({"model": ["A", "B"], **ends}))
    figure.set_layout_engine("constrained")
    save(figure, data, tmp_path, "explosion", "Which recipe reaches the published explosion?")
    (legend,) = figure.legends
    covered = legend.get_window_extent()
    assert not any(covered.overlaps(axes.get_tightbbox()) for axes in figure.axes)
