"""Figures are saved with their data and need labels; tables of texts are shown as they are, and safely."""

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib import figures

matplotlib.use("Agg")
COMMITTED = [Path(__file__).parents[1] / "figures" / profile for profile in ("demo", "real")]
DATA = pd.DataFrame({"seed": [0, 1], "accuracy": [0.5, 0.75]})


def labelled() -> plt.Figure:
    figure, axes = plt.subplots()
    axes.plot(DATA["seed"], DATA["accuracy"])
    axes.set(xlabel="seed", ylabel="accuracy")
    return figure


def test_a_figure_is_three_files_and_the_same_svg_each_time(tmp_path):
    written = []
    for _ in range(2):
        with matplotlib.rc_context():
            figures.use_style()
            figures.save(labelled(), DATA, tmp_path, "accuracy", "Who is right?")
        written.append((tmp_path / "accuracy.svg").read_bytes())
    assert {path.name for path in tmp_path.iterdir()} == {"accuracy.svg", "accuracy.png", "accuracy.csv"}
    assert pd.read_csv(tmp_path / "accuracy.csv").equals(DATA)
    assert written[0] == written[1]
    assert b"<dc:title>Who is right?</dc:title>" in written[0]
    plt.close("all")


@pytest.mark.parametrize(("labels", "lacking"), [({"xlabel": "seed", "ylabel": " "}, "y"), ({}, "x")])
def test_an_axis_without_a_label_is_refused(labels, lacking, tmp_path):
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    axes.set(title="seeds", **labels)
    line = f"^figure 'bare': the {lacking} axis of panel 'seeds' has no label; allowed: set_{lacking}label, "
    with pytest.raises(ValueError, match=line):
        figures.save(figure, DATA, tmp_path, "bare", "")
    plt.close("all")


def test_a_label_of_the_figure_is_that_of_every_panel(tmp_path):
    figure, panels = plt.subplots(2, 1)
    for axes in panels:
        axes.plot([0, 1])
        axes.set_xlabel("seed")
    figure.supylabel("accuracy")
    figures.save(figure, DATA, tmp_path, "common", "")
    plt.close("all")


def test_a_shared_axis_needs_its_label_once(tmp_path):
    figure, panels = plt.subplots(1, 2, sharey=True)
    for axes in panels:
        axes.plot([0, 1])
        axes.set_xlabel("seed")
    panels[0].set_ylabel("accuracy")
    figures.save(figure, DATA, tmp_path, "shared", "")
    plt.close("all")


def test_a_figure_without_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="its data are empty"):
        figures.save(labelled(), DATA.head(0), tmp_path, "empty", "")
    plt.close("all")


def test_series_differ_in_greyscale():
    def luminance(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    assert abs(luminance(figures.COLOURS[0]) - luminance(figures.COLOURS[1])) > 0.03
    assert len(set(figures.MARKERS)) == len(figures.MARKERS) == len(set(map(str, figures.DASHES)))


def test_texts_keep_their_tags_and_empty_texts_are_visible():
    html = figures.as_text(pd.DataFrame({"text": ["<human>", "", np.nan]})).to_html()
    assert "&lt;human&gt;" in html
    assert "(nothing)" in html


def test_headings_made_of_data_are_escaped_like_texts():
    hostile = pd.DataFrame({"<script>": ["a"]}, index=["<img src=x>"])
    assert not {"<script>", "<img"} & set(re.findall("<script>|<img", figures.as_text(hostile).to_html()))


def test_only_a_long_word_is_broken_to_narrow_its_column():
    html = figures.as_text(pd.DataFrame({"text": ["x" * 40, "not reproduced", np.nan]})).to_html()
    assert html.count("overflow-wrap: anywhere") == 1
    assert "overflow-wrap: break-word" in html


@pytest.mark.parametrize(
    "path",
    [path for folder in COMMITTED for path in sorted(folder.glob("*/*.png"))],
    ids=lambda path: f"{path.parts[-3]}-{path.stem}",
)
def test_no_committed_figure_is_cut_off_at_its_edges(path):
    pixels = plt.imread(path)[..., :3]  # (height, width, colours), 1 is white
    assert pixels[[0, -1]].min() == pixels[:, [0, -1]].min() == 1
