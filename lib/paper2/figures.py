"""Paper 2's figures: box plots of each word's relevance; signal, noise and SNR; and the curve."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from lib.figures import COLOURS, LINES
from lib.paper2.model_types import Measured
from lib.paper2.tables import QUANTITIES
from lib.quantization import PLAIN
from lib.trained_parts import ABOVE, LORA

FAR = 1e12  # drawn for an infinite bound: beyond any axis
MARK = 13.0  # pixels that a point covers across
APART = 1.15  # factor between the surfaces of neighbouring types, where these are as large
# A quantised type's marks are larger than the plain one's, so both are seen where they coincide.
FILLS: dict[str, dict[str, Any]] = {
    PLAIN: {"fillstyle": "full", "markersize": 5},
    "fp4": {"fillstyle": "none", "markersize": 8},
    "nf4": {"fillstyle": "left", "markersize": 8, "markerfacecoloralt": "none"},
    "fp8": {"fillstyle": "bottom", "markersize": 8, "markerfacecoloralt": "none"},
}
ABOVE_BELOW, RIGHT_LEFT = ((1, "bottom"), (-1, "top")), ((1, "left"), (-1, "right"))


def word_boxes(
    words: Sequence[str], relevance: Mapping[str, NDArray[np.float64]], title: str
) -> tuple[Figure, pd.DataFrame]:
    """Draw the distribution over seeds of each word's relevance, one panel per type (paper 2, Figure 1).

    Parameters
    ----------
    words : sequence of str, (words,)
    relevance : mapping of str to ndarray
        For each type (seeds, words), in equal shares.
    title : str
        Label of the axis of the words.

    Returns
    -------
    Figure
    DataFrame
        The quartiles, one row per type and word.
    """
    figure, panels = plt.subplots(
        len(relevance), 1, sharex=True, sharey=True, figsize=(max(7, 0.28 * len(words)), 1.6 * len(relevance))
    )
    rows = []
    for axes, (name, values) in zip(panels, relevance.items(), strict=True):
        axes.boxplot(
            values,
            widths=0.6,
            flierprops={"marker": ".", "markersize": 3},
            medianprops={"color": COLOURS[1]},
        )
        axes.axhline(1, color="grey", linewidth=0.8, linestyle=":")
        axes.set_title(f"{name}, {len(values)} seeds")
        for place, word in enumerate(words):
            low, median, high = np.quantile(values[:, place], [0.25, 0.5, 0.75])
            rows.append((name, place + 1, word, low, median, high))
    panels[-1].set_xticks(range(1, len(words) + 1), words, rotation=60, ha="right", fontsize=8)
    panels[-1].set_xlabel(title)
    figure.supylabel("relevance (1: an equal share)")
    return figure, pd.DataFrame(rows, columns=["type", "place", "word", "quartile 1", "median", "quartile 3"])


def stability_intervals(measured: Mapping[str, Mapping[str, Measured]]) -> tuple[Figure, pd.DataFrame]:
    """Draw signal, noise and SNR of model types with 95 % intervals (paper 2, Figures 2 and 3).

    Parameters
    ----------
    measured : mapping of str to mapping of str to Measured
        For each row of panels (a text, or all texts), from `lib.paper2.model_types.measure`.

    Returns
    -------
    Figure
    DataFrame
        Its numbers: the unbiased values (marks) with their bounds, NaN where the value is not positive, and
        the plug-in values (crosses).
    """
    types = list(next(iter(measured.values())))
    trainings = list(dict.fromkeys(name.split()[0] for name in types))
    figure, panels = plt.subplots(
        len(measured), 3, sharex=True, squeeze=False, figsize=(9, 1.4 + 2.1 * len(measured))
    )
    rows = []
    for line, (row_name, by_type) in zip(panels, measured.items(), strict=True):
        for axes, (quantity, label) in zip(line, QUANTITIES.items(), strict=True):
            bounds = []
            for place, name in enumerate(types):
                interval = by_type[name].interval(quantity)
                low, high = (interval.low, interval.high) if interval else (np.nan, np.nan)
                unbiased, plug_in = (
                    float(getattr(numbers, quantity))
                    for numbers in (by_type[name].estimate, by_type[name].plug_in)
                )
                colour, _, marker = LINES[trainings.index(name.split()[0])]
                axes.vlines(place, low, min(high, FAR), color=colour)
                axes.plot(place, unbiased, marker, color=colour, markerfacecolor="white")
                axes.plot(place, plug_in, "x", color="black", markersize=5)
                rows.append((row_name, name, label, unbiased, low, high, plug_in))
                bounds.append((unbiased, low, high))
            axes.set_title(f"{row_name}: {label}")
            _scale(axes, np.array(bounds))
            axes.set_xlim(-0.6, len(types) - 0.4)
            axes.set_xticks(range(len(types)), types, rotation=60, ha="right", fontsize=8)
            axes.set_ylabel("ratio" if quantity == "snr" else "in equal shares, squared")
            axes.tick_params(axis="y", which="minor", labelsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("model type")
    columns = ["text", "type", "quantity", "unbiased", "low", "high", "plug-in"]
    return figure, pd.DataFrame(rows, columns=columns)


def curve(points: pd.DataFrame) -> Figure:
    """Draw noise and SNR over the fine-tuning surface, with 95 % intervals.

    A mark's colour and shape are those of its family; how it is filled shows its format.

    Parameters
    ----------
    points : DataFrame
        From `lib.paper2.tables.curve_table`.
    """
    figure, panels = plt.subplots(2, 1, sharex=True, figsize=(9, 8))
    names = {"noise": "noise (in equal shares, squared)", "snr": "SNR"}
    named: list[tuple[Axes, str, tuple[float, float]]] = []
    for axes, (quantity, label) in zip(panels, names.items(), strict=True):
        intervals = [quantity, f"{quantity}_low", f"{quantity}_high"]
        for number, (_, rows) in enumerate(points.groupby("family", sort=False)):
            rows = rows.sort_values("surface")
            colour, dash, marker = LINES[number % len(LINES)]
            places = _apart(rows["surface"])
            axes.plot(places, rows[quantity], color=colour, linestyle=dash, linewidth=0.8)
            named += _points(axes, places, rows, quantity, colour, marker)
        axes.set_xscale("log")
        axes.set_ylabel(label)
        _scale(axes, points[intervals].to_numpy())
    panels[1].set_xlabel("fine-tuning surface, bits")
    _legend(figure, points)
    _name_points(figure, named)
    return figure


def _points(
    axes: Axes, places: Sequence[float], rows: pd.DataFrame, quantity: str, colour: str, marker: str
) -> list[tuple[Axes, str, tuple[float, float]]]:
    """Draw a family's points with their intervals; return the panel, name and place of each."""
    low, high = rows[f"{quantity}_low"], rows[f"{quantity}_high"].clip(upper=FAR)
    axes.vlines(places, low, high, color=colour, linewidth=1)
    named = []
    for point, place, value in zip(rows["point"], places, rows[quantity], strict=True):
        axes.plot(place, value, marker, color=colour, **FILLS[_format(point)])
        named.append((axes, _short(point), (place, value)))
    return named


def _legend(figure: Figure, points: pd.DataFrame) -> None:
    """Explain the families' colours and shapes, and how the formats that occur are filled."""
    handles = []
    for number, family in enumerate(points["family"].unique()):
        colour, _, marker = LINES[number % len(LINES)]
        handles.append(
            Line2D([], [], color=colour, marker=marker, linestyle="", label=family, **FILLS[PLAIN])
        )
    occurring = set(points["point"].map(_format))
    for name in FILLS:
        if name in occurring and len(occurring) > 1:
            handles.append(Line2D([], [], color="black", marker="o", linestyle="", label=name, **FILLS[name]))
    spaces = {"fontsize": 9, "columnspacing": 1.2, "handletextpad": 0.2}
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), **spaces)


def _name_points(figure: Figure, named: Sequence[tuple[Axes, str, tuple[float, float]]]) -> None:
    """Write each point's name beside it, in the first place where it covers no point and no other name."""
    figure.canvas.draw()  # places are known only after the layout
    points = [axes.transData.transform(place) for axes, _, place in named]  # in pixels
    taken = [Bbox([point - MARK / 2, point + MARK / 2]) for point in points]
    for axes, name, place in named:
        written = axes.annotate(name, place, (0, 0), textcoords="offset points", fontsize=8)
        written.set_bbox({"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5})
        for distance, (up, edge), (across, side) in product((5, 12, 19), ABOVE_BELOW, RIGHT_LEFT):
            written.set(ha=side, va=edge)
            written.xyann = (4 * across, distance * up)
            covered = written.get_window_extent()
            if not any(covered.overlaps(other) for other in taken):
                break  # if none is free, the last place stays
        taken.append(covered)


def _apart(surfaces: pd.Series) -> list[float]:
    """Move sorted surfaces (points,) to the right until each is the factor ``APART`` from the one before."""
    places = [surfaces.iloc[0]]
    for surface in surfaces.iloc[1:]:
        places.append(max(surface, APART * places[-1]))
    return places


def noise_by_accuracy(points: pd.DataFrame) -> Figure:
    """Draw the noise of all types and points over their accuracy, with 95 % intervals of the noise.

    A mark's colour and shape are those of its family; how it is filled shows its format.

    Parameters
    ----------
    points : DataFrame
        From `lib.paper2.tables.curve_table`.
    """
    figure, axes = plt.subplots(figsize=(9, 4.5))
    named: list[tuple[Axes, str, tuple[float, float]]] = []
    for number, (_, rows) in enumerate(points.groupby("family", sort=False)):
        colour, _, marker = LINES[number % len(LINES)]
        named += _points(axes, 100 * rows["accuracy"], rows, "noise", colour, marker)
    _scale(axes, points[["noise", "noise_low", "noise_high"]].to_numpy())
    axes.set_xlabel("accuracy, %")
    axes.set_ylabel("noise (in equal shares, squared)")
    _legend(figure, points)
    _name_points(figure, named)
    return figure


def snr_curves(table: pd.DataFrame) -> Figure:
    """Draw the SNR over the number of seeds.

    Parameters
    ----------
    table : DataFrame
        From `lib.paper2.tables.snr_by_seeds`, of at most as many types and estimates as there are `LINES`.
    """
    figure, axes = plt.subplots()
    for ((name, estimate), part), (colour, dash, marker) in zip(
        table.groupby(["type", "estimate"]), LINES, strict=False
    ):
        label = f"{name}, {estimate}"
        axes.plot(part["seeds"], part["SNR"], color=colour, linestyle=dash, marker=marker, label=label)
        axes.fill_between(part["seeds"], part["low"], part["high"], color=colour, alpha=0.12)
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(table["seeds"])), sorted(set(table["seeds"])), minor=False)
    axes.minorticks_off()
    _scale(axes, table[["SNR", "low", "high"]].to_numpy())
    axes.set_xlabel("seeds")
    axes.set_ylabel("SNR over all texts")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _scale(axes: Axes, intervals: NDArray[np.float64]) -> None:
    """Fit the vertical axis to (marks, 3) estimates and bounds; logarithmic if all estimates are positive.

    Types may differ a hundredfold. A bound may be infinite, or not positive, which a logarithm excludes. An
    estimate may be, too: that of a text of one word, for one. Where fewer than two values are finite and
    differ, the axis stays as it is.
    """
    finite = intervals[np.isfinite(intervals)]
    estimates = intervals[np.isfinite(intervals[:, 0]), 0]
    if len(np.unique(finite)) < 2:
        return
    if len(estimates) and estimates.min() > 0:
        axes.set_yscale("log", nonpositive="clip")
        low = max(finite.min(), estimates.min() / 5)
        axes.set_ylim(low / 1.2, 1.2 * min(finite.max(), 20 * estimates.max()))
    else:
        axes.set_ylim(finite.min(), finite.max())


def _short(point: str) -> str:
    """Name a point within its family: a number of layers or of texts, or a rank; a type has no name here."""
    if point.endswith(" texts"):
        return point
    for kind, symbol in {f"{ABOVE}:": "k = ", f"{LORA}:": "r = "}.items():
        if point.startswith(kind):
            return point.replace(kind, symbol)
    return ""


def _format(point: str) -> str:
    """Return the format of a point's weights, as its name has it after a type."""
    _, _, quantization = point.partition(" ")
    return quantization if quantization in FILLS else PLAIN
