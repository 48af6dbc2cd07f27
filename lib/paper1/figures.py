"""Paper 1's figures, each with the data that it was drawn from, and the word lists beside them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lib.attribution import RANDOM
from lib.faithfulness import Curves
from lib.figures import COLOURS, LINES, MARKERS
from lib.intervals import mean_interval

Floats = NDArray[np.floating]
ByModels = Mapping[tuple[str, str], Floats]  # something of each kind of model on each task
LIST = 10  # words of a list, as in the paper
NARROWEST = 0.05  # half the height of the conservation figure, lest rounding fill it


class Texts(NamedTuple):
    """What a map of texts shows: their places (texts, 2), classes and predictions (texts,), class names."""

    picture: Floats
    labels: NDArray[np.integer]
    predicted: NDArray[np.integer]
    classes: Sequence[str]


def accuracy_marks(
    test: ByModels, train: ByModels, bag_of_words: Mapping[str, float]
) -> tuple[Figure, pd.DataFrame]:
    """Draw every model's accuracy on test and on training texts, a panel a task.

    Parameters
    ----------
    test, train : mapping of (kind, task) to array, (seeds,)
    bag_of_words : mapping of str to float
        For each task the line that a model which reads is to beat.
    """
    rows = [
        (task, kind, model, split, value)
        for split, accuracies in (("test", test), ("train", train))
        for (kind, task), values in accuracies.items()
        for model, value in enumerate(values)
    ]
    data = pd.DataFrame(rows, columns=["task", "kind", "model", "split", "accuracy"])
    kinds = list(dict.fromkeys(kind for kind, _ in test))
    figure, panels = plt.subplots(1, len(bag_of_words), sharey=True)
    for axes, (task, baseline) in zip(panels, bag_of_words.items(), strict=True):
        for split, fill, (colour, _, marker) in zip(("test", "train"), ("full", "none"), LINES, strict=False):
            points = data[(data["task"] == task) & (data["split"] == split)]
            beside = 0.3 * (points["model"] / points["model"].max() - 0.5)
            places = points["kind"].map(kinds.index) + beside
            axes.plot(places, points["accuracy"], marker, color=colour, fillstyle=fill, label=split)
        axes.axhline(baseline, color="black", linestyle=":", linewidth=1, label="bag of words, test")
        axes.set(title=task, xticks=range(len(kinds)), xticklabels=kinds, xlim=(-0.5, len(kinds) - 0.5))
        axes.set(xlabel="model, a mark a seed", ylabel="accuracy")
    panels[0].legend()
    return figure, data


def conservation_lines(sums: Mapping[str, Floats]) -> tuple[Figure, pd.DataFrame]:
    """Draw the relevance that each layer hands on: the median text, and nine texts in ten.

    Parameters
    ----------
    sums : mapping of str to array, (texts, layers + 1)
        For each kind of model ``total`` of `lib.lrp.walk.layer_conservation`.
    """
    figure, axes = plt.subplots()
    reach = NARROWEST
    for (kind, values), (colour, dash, marker) in zip(sums.items(), LINES, strict=False):
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95], axis=0)  # (layers + 1,) each
        reach = max(reach, *np.abs(high - 1) * 1.1, *np.abs(low - 1) * 1.1)
        axes.plot(median, linestyle=dash, marker=marker, color=colour, label=f"{kind}, median text")
        axes.fill_between(
            range(len(low)), low, high, color=colour, alpha=0.2, label=f"{kind}, 5 to 95 % of texts"
        )
    axes.set(xlabel="layer (0: the encoder's input)", ylabel="sum of relevance handed on (1 = all)")
    axes.set(ylim=(1 - reach, 1 + reach), xticks=range(len(median)))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.legend(fontsize=8, ncols=2)
    rows = [(kind, *place[::-1], value) for kind in sums for place, value in np.ndenumerate(sums[kind])]
    return figure, pd.DataFrame(rows, columns=["model", "layer", "text", "relevance"])


def two_lists(ranked: pd.DataFrame) -> pd.DataFrame:
    """Set the words more important for the fine-tuned and for the frozen model side by side.

    Parameters
    ----------
    ranked : DataFrame
        Of `lib.paper1.compared.rank_words`; with fewer words than two lists, some stand in both.
    """
    ends = {"fine-tuned": ranked.head(LIST), "frozen": ranked.tail(LIST)[::-1]}
    columns = ["word", *(name for name in ("role", "count", "fine_tuned", "frozen") if name in ranked)]
    sides = {
        f"more important for the {kind} model": rows.rename_axis("word").reset_index()[columns]
        for kind, rows in ends.items()
    }
    table = pd.concat(sides, axis=1)
    return table.set_axis(range(1, len(table) + 1))


def lists_of_rules(lists: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Set the lists that several rules of relevance give beside each other; the last row counts common words.

    Parameters
    ----------
    lists : mapping of str to DataFrame
        For each rule what `lib.paper1.compared.rank_words` gives, a word's role in parentheses if known.
    """
    columns = {}
    for kind, end in (("fine-tuned", slice(LIST)), ("frozen", slice(-1, -LIST - 1, -1))):
        chosen = {rule: ranked.iloc[end] for rule, ranked in lists.items()}
        common = set.intersection(*(set(rows.index) for rows in chosen.values()))
        for rule, rows in chosen.items():
            words = (
                [f"{word} ({role})" for word, role in rows["role"].items()] if "role" in rows else rows.index
            )
            columns[kind, rule] = pd.Series([*words, f"{len(common)} in common"])
    table = pd.DataFrame(columns)
    return table.set_axis([*map(str, range(1, len(table))), ""])


def method_marks(scores: pd.DataFrame) -> Figure:
    """Draw how well each method finds the true cues, a mark a model.

    Parameters
    ----------
    scores : DataFrame
        Columns ``method``, ``model`` (the kind) and ``roc_auc``.
    """
    figure, axes = plt.subplots()
    names = list(dict.fromkeys(scores["method"]))[::-1]  # the first method at the top
    for (kind, points), (colour, _, marker) in zip(scores.groupby("model"), LINES, strict=False):
        axes.plot(points["roc_auc"], points["method"].map(names.index), marker, color=colour, label=kind)
    axes.axvline(0.5, color="black", linestyle=":", linewidth=1)
    axes.set(yticks=range(len(names)), yticklabels=names, ylabel="method")
    axes.set(xlabel="ROC-AUC of relevance for the true cues, a mark a model")
    axes.legend(title="model")
    return figure


def faithfulness_lines(
    found: Mapping[str, Mapping[str, Curves]], confidence: float
) -> tuple[Figure, pd.DataFrame]:
    """Draw the mean deletion and insertion curves, the random order dashed with the interval of its mean.

    Parameters
    ----------
    found : mapping of str to mapping of str to Curves
        For each kind of model, a column of panels, the curves of each method.
    confidence : float
        Of the intervals over texts: drawn of the random order, in the data of every method.
    """
    figure, panels = plt.subplots(2, len(found), sharey="col", figsize=(7.5, 6.4))
    rows = []
    for column, (kind, curves) in zip(panels.T, found.items(), strict=True):
        for axes, part, done in zip(column, ("deletion", "insertion"), ("hidden", "shown"), strict=True):
            styles = iter(LINES)
            for name, curve in curves.items():
                means = [mean_interval(values, confidence) for values in getattr(curve, part).T]
                points = pd.DataFrame(map(vars, means)).assign(share=curve.shares)
                rows.append(points.assign(model=kind, curve=part, method=name))
                if name == RANDOM:
                    axes.plot(points["share"], points["estimate"], "--", color="black", label=name)
                    band = points[["share", "low", "high"]].to_numpy().T
                    axes.fill_between(*band, color="black", alpha=0.12)
                else:
                    colour, _, marker = next(styles)
                    line = {"marker": marker, "markersize": 4, "linewidth": 1, "color": colour}
                    axes.plot(points["share"], points["estimate"], **line, label=name)
            axes.set(title=f"{part}, {kind}", xlabel=f"share of the tokens {done}, most relevant first")
            axes.set_ylabel("probability of the predicted class")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside lower center")
    columns = ["model", "curve", "method", "share", "estimate", "low", "high"]
    return figure, pd.concat(rows)[columns]


def text_maps(maps: Mapping[str, Texts], columns: int = 2) -> tuple[Figure, pd.DataFrame]:
    """Draw texts in the plane as the paper colours them, by class and by right or wrong, a panel a map.

    Parameters
    ----------
    maps : mapping of str to Texts
        By the panel's title, row by row; maps that stand below one another have the same classes.
    columns : int
        Panels in a row.
    """
    lines = -(-len(maps) // columns)
    figure, panels = plt.subplots(lines, columns, squeeze=False, figsize=(7, 3.3 * lines))
    data = []
    for axes, (title, texts) in zip(panels.flat, maps.items(), strict=True):
        _classes(axes, texts)
        axes.set_title(title)
        x, y = texts.picture.T
        shown = {"map": title, "x": x, "y": y, "label": texts.labels, "predicted": texts.predicted}
        data.append(pd.DataFrame(shown))
    for axes in panels[-1]:  # a column of panels has the same classes
        axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    return figure, pd.concat(data)


def variance_lines(
    curves: Mapping[tuple[str, str], Sequence[Floats]], share: float = 0.95
) -> tuple[Figure, pd.DataFrame]:
    """Draw the variance that the first principal components explain, a panel a task, a line a model.

    Parameters
    ----------
    curves : mapping of (kind, task) to sequence of arrays, (models,) of (components,)
        Of `lib.projection.explained_variance`.
    share : float
        The line whose crossing counts.
    """
    kinds, tasks = (list(dict.fromkeys(names)) for names in zip(*curves, strict=True))
    figure, panels = plt.subplots(1, len(tasks), sharey=True)
    rows = []
    for (kind, task), models in curves.items():
        axes = panels[tasks.index(task)]
        colour, dash, _ = LINES[kinds.index(kind)]
        for model, values in enumerate(models):
            components = range(1, len(values) + 1)
            axes.plot(components, values, linestyle=dash, color=colour, label="" if model else kind)
            rows += [(task, kind, model, *point) for point in zip(components, values, strict=True)]
        axes.set(title=task, xscale="log", xlabel="principal components", ylabel="share of the variance")
    for axes in panels:
        axes.axhline(share, color="black", linestyle=":", linewidth=1)
        axes.xaxis.set_major_formatter("{x:g}")
    panels[0].legend()
    return figure, pd.DataFrame(rows, columns=["task", "kind", "model", "components", "share"])


def chain_lines(measured: pd.DataFrame, rounds: Sequence[str]) -> Figure:
    """Draw each task's accuracy and components round by round: the mean of the chains, and each chain.

    Parameters
    ----------
    measured : DataFrame
        Of `lib.paper1.compared.chain_table`.
    rounds : sequence of str
        Names of the rounds, that before the first included.
    """
    figure, panels = plt.subplots(1, 2)
    _means_and_marks(panels[0], measured, "task", "round", "accuracy")
    _means_and_marks(panels[1], measured, "task", "round", "components")
    for axes in panels:
        axes.set(xticks=range(len(rounds)), xticklabels=rounds, xlabel="fine-tuned on, round by round")
        axes.tick_params(axis="x", rotation=45)
    panels[0].set_ylabel("test accuracy of a frozen head")
    panels[1].set_ylabel("components for 95 % of the variance")
    panels[0].legend()
    return figure


def artifact_lines(measured: pd.DataFrame) -> Figure:
    """Draw what the planted word does, and what relevance it gets, over the rate at which it was planted.

    Parameters
    ----------
    measured : DataFrame
        Rows of `lib.paper1.artifacts.reliance`.
    """
    figure, panels = plt.subplots(1, 2)
    _means_and_marks(panels[0], measured, "model", "rate", "reliance")
    _means_and_marks(panels[1], measured, "model", "rate", "relevance")
    for axes in panels:
        axes.set_xlabel("planted share of class 1's training texts")
    panels[0].set_ylabel("share of texts that change to class 1")
    panels[1].set_ylabel("the artifact's share of relevance")
    panels[0].legend()
    return figure


def _means_and_marks(axes: Axes, data: pd.DataFrame, series: str, x: str, y: str) -> None:
    """Draw each series as the line of its means, with an open mark for every row."""
    for (name, points), (colour, dash, marker) in zip(data.groupby(series, sort=False), LINES, strict=False):
        axes.plot(points.groupby(x)[y].mean(), linestyle=dash, color=colour, label=name)
        axes.plot(points[x], points[y], marker, color=colour, fillstyle="none")


def _classes(axes: Axes, texts: Texts) -> None:
    """Draw texts by class (colour and shape) and prediction: a wrong one is open and larger."""
    for label, (colour, marker) in enumerate(zip(COLOURS, (MARKERS[0], MARKERS[2]), strict=False)):
        for right in (True, False):
            chosen = (texts.labels == label) & ((texts.predicted == texts.labels) == right)
            axes.scatter(
                *texts.picture[chosen].T,
                s=12 if right else 30,
                marker=marker,
                facecolors=colour if right else "none",
                edgecolors=colour,
                linewidths=0.8,
                label=f"{texts.classes[label]}, {'right' if right else 'wrong'}",
            )
    # The plane of t-SNE has no unit.
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
