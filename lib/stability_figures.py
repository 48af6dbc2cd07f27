"""Paper 2's figures: box-plots of each word's relevance, bars of signal, noise and SNR, and the curve."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lib.figures import COLOURS, HATCHES, LINES
from lib.model_types import Measured

QUANTITIES = {"signal": "signal", "noise": "noise", "snr": "SNR"}


def word_boxes(
    words: Sequence[str], relevance: Mapping[str, NDArray[np.float64]], title: str
) -> tuple[Figure, pd.DataFrame]:
    """Draw the distribution over seeds of each word's relevance, a panel a model type (paper 2, Figure 1).

    Parameters
    ----------
    words : sequence of str, (words,)
    relevance : mapping of str to ndarray
        For each type (seeds, words), in equal shares.
    title : str

    Returns
    -------
    Figure, DataFrame
        And its quartiles, a row a word and type.
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
    panels[0].set_ylabel(" ")
    return figure, pd.DataFrame(rows, columns=["type", "place", "word", "quartile 1", "median", "quartile 3"])


def stability_bars(measured: Mapping[str, Mapping[str, Measured]]) -> tuple[Figure, pd.DataFrame]:
    """Draw signal, noise and SNR of model types with 95 % intervals (paper 2, Figures 2 and 3).

    Parameters
    ----------
    measured : mapping of str to mapping of str to Measured
        For each row of panels (a text, or all of them) what `lib.model_types.measure` gave.

    Returns
    -------
    Figure, DataFrame
        And its numbers, the plug-in values (crosses in the figure) beside the unbiased ones (bars).
    """
    types = list(next(iter(measured.values())))
    figure, panels = plt.subplots(
        len(measured), 3, sharex=True, squeeze=False, figsize=(8.5, 1.2 + 2.2 * len(measured))
    )
    rows = []
    for line, (row_name, by_type) in zip(panels, measured.items(), strict=True):
        for axes, (quantity, label) in zip(line, QUANTITIES.items(), strict=True):
            for place, name in enumerate(types):
                interval = by_type[name].interval(quantity)
                plug_in = float(getattr(by_type[name].plug_in, quantity))
                error = [[interval.estimate - interval.low], [interval.high - interval.estimate]]
                colour = COLOURS[2] if name.startswith("frozen") else COLOURS[3]
                hatch = HATCHES[len({*name.split()} - {"frozen"}) and place % len(HATCHES)]
                axes.bar(
                    place, interval.estimate, color=colour, hatch=hatch, edgecolor="black", linewidth=0.6
                )
                axes.errorbar(place, interval.estimate, error, color="black", capsize=3, linewidth=1)
                axes.plot(place, plug_in, "x", color=COLOURS[1], markersize=5)
                rows.append((row_name, name, label, interval.estimate, interval.low, interval.high, plug_in))
            axes.set_title(f"{row_name}: {label}")
            if quantity == "snr" and all(kind.estimate.snr > 0 for kind in by_type.values()):
                axes.set_yscale("log")  # it may differ a hundredfold between types
            axes.set_xticks(range(len(types)), types, rotation=45, ha="right", fontsize=8)
            axes.set_ylabel("ratio" if quantity == "snr" else "in equal shares, squared")
    for axes in panels[-1]:
        axes.set_xlabel("model type")
    columns = ["text", "type", "quantity", "unbiased", "low", "high", "plug-in"]
    return figure, pd.DataFrame(rows, columns=columns)


def curve(points: pd.DataFrame) -> Figure:
    """Draw noise and SNR over the fine-tuning surface, with 95 % intervals where these are finite.

    Parameters
    ----------
    points : DataFrame
        As `lib.model_types.curve_table` returns it.
    """
    figure, panels = plt.subplots(2, 1, sharex=True, figsize=(8.5, 7))
    names = {"noise": "noise (in equal shares, squared)", "snr": "SNR"}
    for axes, (quantity, label) in zip(panels, names.items(), strict=True):
        families = points.replace([np.inf, -np.inf], np.nan).groupby("family", sort=False)
        for (family, rows), (colour, _, marker) in zip(families, LINES, strict=False):
            errors = [rows[quantity] - rows[f"{quantity}_low"], rows[f"{quantity}_high"] - rows[quantity]]
            axes.errorbar(
                rows["surface"], rows[quantity], errors, fmt=marker, color=colour, capsize=2, label=family
            )
            for point, surface, value in zip(rows["point"], rows["surface"], rows[quantity], strict=True):
                place = {"xytext": (5, 3), "textcoords": "offset points", "fontsize": 7, "rotation": 35}
                axes.annotate(point, (surface, value), **place)
        axes.set_xscale("log")
        axes.set_ylabel(label)
    if (points["snr"] > 0).all():
        panels[1].set_yscale("log")
    panels[1].set_xlabel("fine-tuning surface, bits")
    panels[0].legend(fontsize=8, ncols=3, loc="upper left", bbox_to_anchor=(0, 1.2))
    return figure
