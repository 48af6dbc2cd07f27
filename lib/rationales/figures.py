"""A figure of how well rankings of words agree with people's marks."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.figures import LINES
from lib.rationales.scores import MEASURES

_REFERENCE_DASHES = (":", "--", "-.")


def agreement_marks(measured: pd.DataFrame, references: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw each ranking's agreement with people's marks, one panel per measure, one mark per kind of model.

    Parameters
    ----------
    measured : DataFrame
        Columns ``measure`` (of `lib.rationales.scores.MEASURES`), ``ranking`` (a row of the figure),
        ``models`` (the kind), ``estimate``, ``low`` and ``high``.
    references : mapping of str to mapping of str to float
        By name and measure, drawn as vertical lines.
    """
    rankings = list(dict.fromkeys(measured["ranking"]))[::-1]  # the first one at the top
    kinds = list(dict.fromkeys(measured["models"]))
    height = 2.0 + 0.35 * len(rankings)
    figure, panels = plt.subplots(1, len(MEASURES), sharey=True, figsize=(7.5, height))
    for axes, measure in zip(panels, MEASURES, strict=True):
        for number, (kind, (colour, _, marker)) in enumerate(zip(kinds, LINES, strict=False)):
            points = measured[(measured["measure"] == measure) & (measured["models"] == kind)]
            beside = 0.3 * ((len(kinds) - 1) / 2 - number) / max(len(kinds) - 1, 1)
            places = points["ranking"].map(rankings.index) + beside
            errors = [points["estimate"] - points["low"], points["high"] - points["estimate"]]
            axes.errorbar(
                points["estimate"], places, xerr=errors, fmt=marker, markersize=4, color=colour, label=kind
            )
        for (name, values), dash in zip(references.items(), _REFERENCE_DASHES, strict=False):
            axes.axvline(values[measure], color="black", linestyle=dash, linewidth=1, label=name)
        axes.set(xlabel=measure, yticks=range(len(rankings)), yticklabels=rankings)
    panels[0].set_ylabel("words ranked by")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, ncols=4, loc="outside lower center")
    return figure
