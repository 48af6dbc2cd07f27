"""Paper 1's figures, and its word lists."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lib.attribution import RANDOM
from lib.figures import COLOURS, LINES, MARKERS
from lib.hiding import Curves
from lib.intervals import mean_interval
from lib.paper1.word_lists import LIST
from lib.recipes import TrainingRecipe

Floats = NDArray[np.floating]
ByModels = Mapping[tuple[str, str], Floats]  # values of each kind of model on each task
NARROWEST = 0.05  # least half-height of the conservation figure: otherwise rounding errors could fill it


class Texts(NamedTuple):
    """The texts in a map: positions (texts, 2), classes and predictions (texts,), and class names."""

    picture: Floats
    labels: NDArray[np.integer]
    predicted: NDArray[np.integer]
    classes: Sequence[str]


def accuracy_marks(
    test: ByModels, train: ByModels, bag_of_words: Mapping[str, float]
) -> tuple[Figure, pd.DataFrame]:
    """Draw every model's accuracy on test texts and on training texts, one panel per task.

    Parameters
    ----------
    test, train : mapping of (kind, task) to array, (seeds,)
        Accuracies as fractions.
    bag_of_words : mapping of str to float
        For each task the accuracy of a classifier that ignores word order.
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
            beside = 0.3 * (points["model"] / max(points["model"].max(), 1) - 0.5)
            places = points["kind"].map(kinds.index) + beside
            axes.plot(places, points["accuracy"], marker, color=colour, fillstyle=fill, label=split)
        axes.axhline(baseline, color="black", linestyle=":", linewidth=1, label="bag of words, test")
        axes.set(title=task, xticks=range(len(kinds)), xticklabels=kinds, xlim=(-0.5, len(kinds) - 0.5))
        axes.set(xlabel="model (one mark per seed)", ylabel="accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure, data


def conservation_lines(sums: Mapping[str, Floats]) -> tuple[Figure, pd.DataFrame]:
    """Draw the total relevance after each layer: the median text, and the middle 90 % of texts.

    Parameters
    ----------
    sums : mapping of str to array, (texts, layers + 1)
        For each kind of model ``total`` of `lib.lrp.layer_conservation`.
    """
    figure, axes = plt.subplots()
    reach = NARROWEST
    for (kind, values), (colour, dash, marker) in zip(sums.items(), LINES, strict=False):
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95], axis=0)  # (layers + 1,) each
        reach = max(reach, *np.abs(high - 1) * 1.1, *np.abs(low - 1) * 1.1)
        (line,) = axes.plot(median, linestyle=dash, marker=marker, color=colour, label=f"{kind}, median text")
        line.set_fillstyle("none")  # so coinciding marks are seen
        axes.fill_between(
            range(len(low)), low, high, color=colour, alpha=0.2, label=f"{kind}, 5 to 95 % of texts"
        )
    axes.set(xlabel="layer (0: the encoder's input)", ylabel="total relevance (1 = all)")
    axes.set(ylim=(1 - reach, 1 + reach), xticks=range(len(median)))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.legend(fontsize=8, ncols=2)
    rows = [(kind, *place[::-1], value) for kind in sums for place, value in np.ndenumerate(sums[kind])]
    return figure, pd.DataFrame(rows, columns=["model", "layer", "text", "relevance"])


def two_lists(ranked: pd.DataFrame) -> pd.DataFrame:
    """Show side by side the words more important for the fine-tuned and for the frozen model.

    Parameters
    ----------
    ranked : DataFrame
        From `lib.paper1.word_lists.rank_words`; with fewer than 20 words, some are in both lists.
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
    """Show side by side the word lists under several rules of relevance; the last row counts common words.

    A word's role, if known, follows it in parentheses.

    Parameters
    ----------
    lists : mapping of str to DataFrame
        For each rule the ranking from `lib.paper1.word_lists.rank_words`.
    """
    columns = {}
    for kind, end in (("fine-tuned", slice(LIST)), ("frozen", slice(-1, -LIST - 1, -1))):
        chosen = {rule: ranked.iloc[end] for rule, ranked in lists.items()}
        common = set.intersection(*(set(rows.index) for rows in chosen.values()))
        for rule, rows in chosen.items():
            columns[kind, rule] = pd.Series([*_with_roles(rows), f"{len(common)} in common"])
    table = pd.DataFrame(columns)
    return table.set_axis([*map(str, range(1, len(table))), ""])


def lists_of_kinds(lists: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Show side by side the strongest words of several kinds of models, with their roles if known.

    Parameters
    ----------
    lists : mapping of str to DataFrame
        For each kind the ranking from `lib.paper1.word_lists.strongest_words`.
    """
    columns = {kind: pd.Series(_with_roles(ranked.head(LIST))) for kind, ranked in lists.items()}
    table = pd.DataFrame(columns).fillna("")
    return table.set_axis(range(1, len(table) + 1))


def method_marks(scores: pd.DataFrame) -> Figure:
    """Draw how well each method finds the true cues, one mark per model.

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
    axes.set(xlabel="ROC-AUC of relevance for the true cues (one mark per model)")
    figure.legend(title="model", loc="outside lower center", ncols=2)
    return figure


def faithfulness_lines(
    curves: Mapping[str, Mapping[str, Curves]], confidence: float
) -> tuple[Figure, pd.DataFrame]:
    """Draw the mean deletion and insertion curves; the random order is dashed, with the interval of its mean.

    Parameters
    ----------
    curves : mapping of str to mapping of str to Curves
        For each kind of model, which is a column of panels, the curves of each method.
    confidence : float
        Of the intervals over texts. They are drawn for the random order only; the data have all of them.
    """
    figure, panels = plt.subplots(2, len(curves), sharey="col", figsize=(8.2, 7))
    rows = []
    for column, (kind, by_method) in zip(panels.T, curves.items(), strict=True):
        for axes, part, action in zip(column, ("deletion", "insertion"), ("hidden", "shown"), strict=True):
            styles = iter(LINES)
            for name, curve in by_method.items():
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
            axes.set(title=f"{part}, {kind}", xlabel=f"share of the tokens {action}, most relevant first")
            axes.set_ylabel("probability of the predicted class")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside lower center")
    columns = ["model", "curve", "method", "share", "estimate", "low", "high"]
    return figure, pd.concat(rows)[columns]


def text_maps(maps: Mapping[str, Texts]) -> tuple[Figure, pd.DataFrame]:
    """Draw texts in the plane as in the paper, by class and by correct or wrong, one panel per map.

    Parameters
    ----------
    maps : mapping of str to Texts
        By the panel's title, row by row, two in a row; the maps in a column have the same classes.
    """
    lines = -(-len(maps) // 2)
    figure, panels = plt.subplots(lines, 2, squeeze=False, figsize=(7, 3.3 * lines))
    data = []
    for axes, (title, texts) in zip(panels.flat, maps.items(), strict=True):
        _classes(axes, texts)
        axes.set_title(title)
        x, y = texts.picture.T
        shown = {"map": title, "x": x, "y": y, "label": texts.labels, "predicted": texts.predicted}
        data.append(pd.DataFrame(shown))
    for axes in panels[-1]:  # the panels of a column have the same classes
        axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.08))
    return figure, pd.concat(data)


def variance_lines(curves: Mapping[tuple[str, str], Sequence[Floats]]) -> tuple[Figure, pd.DataFrame]:
    """Draw the variance that the first principal components explain, one panel per task, one line per model.

    The dotted line is at 95 %.

    Parameters
    ----------
    curves : mapping of (kind, task) to sequence of arrays, (models,) of (components,)
        From `lib.components.explained_variance`.
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
        axes.axhline(0.95, color="black", linestyle=":", linewidth=1)
        axes.xaxis.set_major_formatter("{x:g}")
    panels[0].legend()
    return figure, pd.DataFrame(rows, columns=["task", "kind", "model", "components", "share"])


def chain_lines(measured: pd.DataFrame, rounds: Sequence[str]) -> Figure:
    """Draw each task's accuracy and components round by round: the mean over chains, and each chain.

    Parameters
    ----------
    measured : DataFrame
        From `lib.paper1.compared.chain_table`.
    rounds : sequence of str
        Names of the rounds, including "before the first".
    """
    figure, panels = plt.subplots(1, 2, figsize=(7, 4.4))
    _means_and_marks(panels[0], measured, "task", "round", "accuracy")
    _means_and_marks(panels[1], measured, "task", "round", "components")
    for axes in panels:
        axes.set(xticks=range(len(rounds)), xticklabels=rounds, xlabel="fine-tuned on, round by round")
        axes.tick_params(axis="x", rotation=45)
    panels[0].set_ylabel("test accuracy of a frozen head")
    panels[1].set_ylabel("components for 95 %\nof the variance")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def artifact_lines(measured: pd.DataFrame) -> Figure:
    """Draw models' reliance on the artifact, and its share of relevance, over the rate of planting.

    Parameters
    ----------
    measured : DataFrame
        From `lib.paper1.artifact.reliance_table`.
    """
    figure, panels = plt.subplots(1, 2)
    schedules = measured["schedule"].map(lambda name: f", {name}" if name else "")
    series = measured.assign(models=measured["model"] + schedules)
    _means_and_marks(panels[0], series, "models", "rate", "reliance")
    _means_and_marks(panels[1], series, "models", "rate", "relevance")
    for axes in panels:
        axes.set_xlabel("share of class 1 with the artifact")
    panels[0].set_ylabel("share of texts that change to class 1")
    panels[1].set_ylabel("the artifact's share of relevance")
    panels[0].legend()
    return figure


def rate_lines(
    recipes: Mapping[str, Mapping[str, TrainingRecipe]], texts: Mapping[str, int]
) -> tuple[Figure, pd.DataFrame]:
    """Draw the learning rate over the steps of fine-tuning, one panel per task, one line per schedule.

    Parameters
    ----------
    recipes : mapping of str to mapping of str to TrainingRecipe
        By schedule and task.
    texts : mapping of str to int
        Training texts of each task.
    """
    figure, panels = plt.subplots(1, len(texts), squeeze=False)
    rows = []
    for axes, (task, count) in zip(panels[0], texts.items(), strict=True):
        for (schedule, by_task), (colour, dash, _) in zip(recipes.items(), LINES, strict=False):
            recipe = by_task[task]
            rates = recipe.rates(count)
            axes.plot(rates, linestyle=dash, color=colour, label=schedule)
            axes.axvline(len(rates) / recipe.epochs, color="black", linestyle=":", linewidth=1)
            rows += [(task, schedule, step, rate) for step, rate in enumerate(rates)]
        axes.set(title=f"{task}, {count:,} texts", xlabel="step of fine-tuning", ylabel="learning rate")
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, title="schedule", loc="outside lower center", ncols=2)
    return figure, pd.DataFrame(rows, columns=["task", "schedule", "step", "rate"])


def _with_roles(ranked: pd.DataFrame) -> list[str]:
    """Write each word of a ranking with its role in parentheses, if there are roles."""
    if "role" not in ranked:
        return list(ranked.index)
    return [f"{word} ({role})" for word, role in ranked["role"].items()]


def _means_and_marks(axes: Axes, data: pd.DataFrame, series: str, x: str, y: str) -> None:
    """Draw each series as a line through its means, with one open mark per row."""
    for (name, points), (colour, dash, marker) in zip(data.groupby(series, sort=False), LINES, strict=False):
        axes.plot(points.groupby(x)[y].mean(), linestyle=dash, color=colour, label=name)
        axes.plot(points[x], points[y], marker, color=colour, fillstyle="none")


def _classes(axes: Axes, texts: Texts) -> None:
    """Draw texts by class (colour and shape) and prediction: wrong ones are open and larger."""
    for label, (colour, marker) in enumerate(zip(COLOURS, (MARKERS[0], MARKERS[2]), strict=False)):
        for correct in (True, False):
            chosen = (texts.labels == label) & ((texts.predicted == texts.labels) == correct)
            x, y = texts.picture[chosen].T
            axes.scatter(
                x,
                y,
                s=12 if correct else 30,
                marker=marker,
                facecolors=colour if correct else "none",
                edgecolors=colour,
                linewidths=0.8,
                label=f"{texts.classes[label]}, {'correct' if correct else 'wrong'}",
            )
    # The plane of t-SNE has no unit.
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
