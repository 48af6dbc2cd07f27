"""Paper 3's figures, each with one point or line per trial, and the data behind it."""

import math
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures import COLOURS, DASHES, LINES

_BITS = ("32-bit", "8-bit")
_HATCHES = ("", "////", "....", "xxxx")  # of bands


def perplexities(
    here: pd.DataFrame, paper: pd.DataFrame, before: Mapping[str, Mapping[str, float]]
) -> tuple[Figure, pd.DataFrame]:
    """Draw how far every trial ends from its start: trials run here on the left, published ones on the right.

    Parameters
    ----------
    here, paper : DataFrame, (trials, models x bits)
        Perplexities.
    before : mapping
        Perplexity before fine-tuning by "here" or "paper", then by model.
    """
    figure, panels = plt.subplots(1, 2, figsize=(10, 4))
    rows = []
    for axes, where, values in zip(panels, ("here", "paper"), (here, paper), strict=True):
        long = np.log(values).melt(var_name=["model", "bits"], value_name="nats").dropna()
        long["above"] = long["nats"] - np.log(long["model"].map(before[where]))
        _points(axes, long, "above")
        axes.axhline(0, color="grey", linestyle=":")
        axes.set(title=where, ylabel="log-perplexity above the\npre-trained model's (nats per token)")
        rows.append(long.assign(where=where))
    panels[0].legend()
    return figure, pd.concat(rows)


def merging(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw what each trial lost by merging, in nats per token.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`.
    """
    figure, axes = plt.subplots(figsize=(8, 3.6))
    _points(axes, table, "lost")
    axes.axhline(0, color="grey", linestyle=":")
    axes.set_ylabel("log-perplexity lost by\nmerging (nats per token)")
    axes.legend()
    return figure, table[["model", "bits", "seed", "lost", "perplexity", "perplexity_unmerged"]]


def losses(table: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the loss curve of every trial, as a moving mean over a tenth of its steps (paper 3, Figure 4).

    A model's two panels share their axes, so its optimizers can be compared. Models differ in their numbers
    of steps. A seed has a colour and a dash pattern, so lines can be told apart in greyscale too; each of the
    first 24 seeds has a pair of its own.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`, without failed trials.
    """
    models = table["model"].unique().tolist()
    columns, size = len(models), (11, 5.4)
    figure, panels = plt.subplots(2, columns, figsize=size, sharex="col", sharey="col", squeeze=False)
    seeds, rows = sorted(table["seed"].unique()), []
    for trial in table.itertuples():
        axes = panels[_BITS[::-1].index(trial.bits), models.index(trial.model)]
        steps = np.arange(1, len(trial.losses) + 1)
        smooth = pd.Series(trial.losses).rolling(max(1, len(steps) // 10)).mean()
        axes.plot(steps, smooth, **_line(seeds.index(trial.seed)), label=f"seed {trial.seed}")
        axes.set(title=f"{trial.model}, {trial.bits}", ylabel="loss (nats per token)")
        curve = {"step": steps, "loss": trial.losses}
        rows.append(pd.DataFrame(curve).assign(model=trial.model, bits=trial.bits, seed=trial.seed))
    for axes in panels[-1]:
        axes.set_xlabel("step")
    lines = {line.get_label(): line for axes in panels.flat for line in axes.lines}  # one per seed
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=7, handlelength=3.5)
    return figure, pd.concat(rows)


def _line(number: int) -> dict[str, Any]:
    """Return colour and dash pattern of a seed's line: neighbours differ in both, the first 24 in either."""
    colours, patterns = len(COLOURS), 4
    # Six colours and four patterns return together after twelve lines: then the patterns move on by one.
    pattern = (number + number // math.lcm(colours, patterns)) % patterns
    return {"color": COLOURS[number % colours], "linestyle": DASHES[pattern], "linewidth": 1.0}


def variance_shares(shares: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw the shares of the variance by source, with their intervals.

    Parameters
    ----------
    shares : DataFrame
        Results of `lib.repeatability.variance_components`, concatenated under their names: one panel each.
    """
    names = shares.index.get_level_values(0).unique()
    figure, panels = plt.subplots(1, len(names), figsize=(9, 3.2), sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=True):
        part = shares.loc[name]
        axes.barh(part.index, part["share"], color=COLOURS[2])
        axes.hlines(part.index, part["low"], part["high"], color="black")
        axes.set(title=name, xlim=(0, 1), xlabel="share of the variance", ylabel="source")
        axes.label_outer()
    panels[0, 0].invert_yaxis()
    return figure, shares.reset_index(names=["what", "source"])


def explosion(
    outcomes: pd.DataFrame, excess: pd.DataFrame, modes: pd.DataFrame
) -> tuple[Figure, pd.DataFrame]:
    """Draw how far each candidate ends from the pre-trained model, beside the published explosion.

    Left in nats per token, right as a share of a uniform guess's distance. Published 8-bit trials are the
    lower rows; the bands are the modes of the base models. Infinite values stand at the right edge.

    Parameters
    ----------
    outcomes : DataFrame
        Of `lib.paper3.tables.explosion_table`.
    excess : DataFrame
        Of `lib.paper3.tables.published_excess`.
    modes : DataFrame
        Of `lib.paper3.tables.signature`: the modes to draw as bands.
    """
    candidates, printed = outcomes["changed"].unique().tolist(), excess["model"].unique().tolist()
    names = [*candidates, *(f"paper, 8-bit: {model}" for model in printed)]
    figure, panels = plt.subplots(1, 2, figsize=(11, 7), sharey=True)
    height = outcomes["changed"].map(candidates.index)
    finite, infinite = np.isfinite(outcomes["above"]), np.isinf(outcomes["above"])
    ends = {"above": ("low", "high"), "of_guess": ("of_guess_low", "of_guess_high")}
    for axes, (column, (low, high)) in zip(panels, ends.items(), strict=True):
        for number, model in enumerate(modes["model"].unique()):
            colour, hatch = COLOURS[number + 2], _HATCHES[number]
            band = {"facecolor": colour, "edgecolor": colour, "hatch": hatch, "alpha": 0.35, "linewidth": 0}
            for position, mode in enumerate(modes[modes["model"] == model].to_dict("records")):
                label = f"published, {model}" if position == 0 else None
                axes.axvspan(mode[low], mode[high], label=label, **band)
        edge = 1.05 * max(outcomes[column][finite].max(), excess[column].max())
        axes.plot(outcomes[column][finite], height[finite], "o", color=COLOURS[0], label="a run")
        axes.plot([edge] * int(infinite.sum()), height[infinite], "X", color=COLOURS[1], label="not finite")
        published = len(candidates) + excess["model"].map(printed.index)
        axes.plot(excess[column], published, "s", color="black", markersize=4, label="a published trial")
        axes.axvline(0, color="grey", linestyle=":", zorder=1, label="the pre-trained model")
    guess = (outcomes["above"] / outcomes["of_guess"])[finite].median()
    panels[0].axvline(guess, color="grey", linestyle="--", zorder=1)
    panels[1].axvline(1, color="grey", linestyle="--", zorder=1, label="a uniform guess")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set(xlabel="log-perplexity above the pre-trained (nats per token)", ylabel="changed")
    panels[1].set(xlabel="the same, uniform guess = 1", ylabel="changed")
    panels[1].label_outer()
    panels[0].invert_yaxis()
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    own = outcomes[["changed", "seed", "above", "of_guess", "training", "diverged_step"]]
    return figure, pd.concat([own, excess.assign(changed="paper, 8-bit: " + excess["model"])])


def sampling(compared: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw how many words two texts do not share: of one trial sampled again, and of two trials.

    One row of panels per model; left with the 8-bit optimizer, right with the 32-bit one.

    Parameters
    ----------
    compared : DataFrame
        Of `lib.paper3.text_tables.sampling_against_training`.
    """
    kinds = compared.index.droplevel("compared").unique()
    models = kinds.unique("model").tolist()
    names = compared.index.get_level_values("compared").unique().tolist()
    size = (9, 1 + 2.2 * len(models))
    figure, panels = plt.subplots(len(models), 2, figsize=size, sharex=True, sharey=True, squeeze=False)
    rows = []
    for model, bits in kinds:
        axes = panels[models.index(model), _BITS[::-1].index(bits)]
        for position, name in enumerate(names):
            interval = compared.loc[(model, bits, name), "unlike"]
            axes.plot([interval.low, interval.high], [position] * 2, color="black")
            axes.plot(interval.estimate, position, "o", color=COLOURS[0])
            bounds = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
            rows.append({"model": model, "bits": bits, "compared": name, **bounds})
        axes.axvline(0, color="grey", linestyle=":", zorder=1)  # below the marks
        axes.set(title=f"{model}, {bits}", xlabel="words not shared (1 - F1)", ylabel="compared")
        axes.set_yticks(range(len(names)), names)
        axes.label_outer()
    panels[0, 0].invert_yaxis()
    return figure, pd.DataFrame(rows)


def sound_texts(measured: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Draw four measures of the completions, one point per trial; a dash is the model before fine-tuning.

    Parameters
    ----------
    measured : DataFrame
        Of `lib.paper3.text_tables.sound_texts`.
    """
    labels = {
        "known": "share of words known\nfrom the training texts",
        "repeated": "share of neighbouring\npairs repeated",
        "sound": "share of sound words",
        "surprise": "nats per token under\nthe pre-trained model",
    }
    figure, panels = plt.subplots(2, 2, figsize=(9, 6))
    models = measured["model"].unique().tolist()
    for axes, (column, label) in zip(panels.flat, labels.items(), strict=True):
        _points(axes, measured, column)
        for position, model in enumerate(models):
            before = measured[(measured["model"] == model) & (measured["bits"] == "before")][column]
            ends = 2 * position - 0.4, 2 * position + 1.4
            name = "before fine-tuning" if position == 0 else None
            axes.hlines(before, *ends, color="grey", linestyle="--", label=name)
        axes.set_ylabel(label)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure, measured


def _points(axes: Axes, long: pd.DataFrame, value: str) -> None:
    """Draw one column per model and optimizer, one point per trial."""
    models = long["model"].unique().tolist()
    for series, bits in enumerate(_BITS):
        colour, _, marker = LINES[series]
        for position, name in enumerate(models):
            points = long[(long["model"] == name) & (long["bits"] == bits)][value]
            beside = 2 * position + series + np.linspace(-0.2, 0.2, len(points))
            label = bits if position == 0 else None
            axes.plot(beside, points, marker, color=colour, markersize=4, label=label)
    axes.set_xticks([2 * position + 0.5 for position in range(len(models))], models)
    axes.set_xlabel("model")
