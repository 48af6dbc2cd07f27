"""Paper 3's tables: trials measured here, the published values in the same form, and texts side by side."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.intervals import Interval
from lib.qlora.recipes import Recipe
from lib.qlora.trial import Trial
from lib.repeatability import agreement, bitwise, coarsest_grid, compare, different_texts, with_holm
from lib.runs import Record, finished


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return the records of trials as a table, one row per trial, including failed ones.

    Returns
    -------
    DataFrame
        Columns ``model``, ``bits`` ("8-bit" or "32-bit"), ``seed``, ``status``, ``peak_memory`` (bytes), all
        results of `lib.qlora.Trial`, and log-perplexities in nats per token: ``nats`` of the merged model,
        ``nats_unmerged`` of the adapter beside its base, and their difference ``lost``, the cost of merging.
    """
    rows = []
    for record in records:
        trial = _trial(record)
        rows.append(
            {
                "model": trial.model,
                "bits": trial.recipe.bits,
                "seed": trial.seed,
                "status": record.status,
                "peak_memory": record.peak_memory,
                **record.result,
            }
        )
    table = pd.DataFrame(rows)
    nats, unmerged = np.log(table["perplexity"]), np.log(table["perplexity_unmerged"])
    return table.assign(nats=nats, nats_unmerged=unmerged, lost=nats - unmerged)


def factorial_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return `frame` with a column per factor: the seeds of `lib.qlora.Sources` by name, and ``kernel``.

    The column ``order`` holds the seed of the order, in place of the order's fingerprint.
    """
    trials = [_trial(record) for record in records]
    return frame(records).assign(
        initialisation=[trial.sources.initialisation for trial in trials],
        order=[trial.sources.order for trial in trials],
        dropout=[trial.sources.dropout for trial in trials],
        kernel=[trial.recipe.attention for trial in trials],
    )


def explosion_table(
    records: Sequence[Record], candidates: Mapping[str, Recipe], pretrained_nats: float
) -> pd.DataFrame:
    """Return `frame` with the columns ``changed`` (the candidate), ``above`` and ``states`` (their types).

    Parameters
    ----------
    records : sequence of Record
        In the order of the candidates, equally many of each.
    candidates : mapping of str to Recipe
        Of `lib.paper3.trials.explosion_candidates`.
    pretrained_nats : float
        Log-perplexity of the pre-trained model; ``above`` is a trial's log-perplexity minus this.
    """
    table = frame(records)
    return table.assign(
        changed=np.repeat(list(candidates), len(records) // len(candidates)),
        above=table["nats"] - pretrained_nats,
        states=table["state_dtypes"].str.join(", "),
    )


def by_trial(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Pivot a column of `frame`: (trials, models x bits), the trials numbered from 1."""
    columns = pd.MultiIndex.from_frame(table[["model", "bits"]].drop_duplicates())
    wide = table.pivot(index="seed", columns=["model", "bits"], values=value)[columns]
    return wide.set_axis(range(1, len(wide) + 1)).rename_axis("trial")


def as_printed(
    values: Mapping[str, Mapping[str, Sequence[float]]], paper_names: Mapping[str, str]
) -> pd.DataFrame:
    """Bring published values of trials into the form of `by_trial`.

    Parameters
    ----------
    values : mapping
        The trials' values by the paper's name of a model, then by bits.
    paper_names : mapping of str to str
        The paper's name of each model, by its name here.
    """
    columns = {
        (model, bits): column for model, name in paper_names.items() for bits, column in values[name].items()
    }
    wide = pd.DataFrame(columns).rename_axis(columns=["model", "bits"])
    return wide.set_axis(range(1, len(wide) + 1)).rename_axis("trial")


def comparisons(perplexities: pd.DataFrame, *, paired: bool, confidence: float) -> pd.DataFrame:
    """Compare the 8-bit with the 32-bit trials of each model by `lib.repeatability.compare`.

    Parameters
    ----------
    perplexities : DataFrame, (trials, models x bits)
        Of `by_trial` or `as_printed`; compared as logarithms.
    paired : bool
        Whether trials of the same number share their seeds.
    confidence : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        One row per model; each column of p-values is corrected by Holm's method.
    """
    rows = {}
    for model in perplexities.columns.unique("model"):
        nats = np.log(perplexities[model].dropna())
        rows[model] = compare(nats["8-bit"], nats["32-bit"], paired=paired, confidence=confidence)
    return with_holm(pd.DataFrame(rows).T)


def largest(intervals: Iterable[Interval]) -> Interval:
    """Return the interval with the largest estimate."""
    return max(intervals, key=lambda interval: interval.estimate)


def smallest(intervals: Iterable[Interval]) -> Interval:
    """Return the interval with the smallest estimate."""
    return min(intervals, key=lambda interval: interval.estimate)


def printed_grids(printed: Mapping[str, Sequence[float]], *, decimals: int) -> pd.DataFrame:
    """Find the coarsest binary grid that fits the published perplexities of each model.

    Parameters
    ----------
    printed : mapping of str to sequence of float
        The values as printed, by model.
    decimals : int
        Number of printed decimals.

    Returns
    -------
    DataFrame
        One row per model: the values, the grid (as text), the values as multiples of it, the chance that
        random values all fit, and how many values equal another.
    """
    unit = 10.0**-decimals
    rows = {}
    for model, values in printed.items():
        k = coarsest_grid(values, decimals=decimals)
        rows[model] = {
            "printed": ", ".join(map(str, values)),
            "grid": "none" if k is None else f"1/{2**k}",
            "multiples of it": "" if k is None else ", ".join(str(round(value * 2**k)) for value in values),
            "chance that all fit": np.nan if k is None else (2 * unit * 2**k) ** len(values),
            "equal values": len(values) - len(set(values)),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def memory_table(
    table: pd.DataFrame, printed: Mapping[str, Mapping[str, float]], paper_names: Mapping[str, str]
) -> pd.DataFrame:
    """Return the largest memory of each model's trials beside the published shares (paper 3, Table 3).

    Returns
    -------
    DataFrame
        Index: model and bits. Columns ``peak`` (MiB), ``states`` and ``weights`` (bytes), ``trained``
        (parameters) and ``paper`` (percent of a GPU's memory).
    """
    memory = table.groupby(["model", "bits"], sort=False).agg(
        peak=("peak_memory", "max"),
        states=("state_bytes", "max"),
        weights=("model_bytes", "max"),
        trained=("trained_parameters", "max"),
    )
    percent = [printed[paper_names[model]][bits] for model, bits in memory.index]
    return memory.assign(peak=memory["peak"] / 2**20, paper=percent)


def side_by_side(
    table: pd.DataFrame, model: str, number: int, printed: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Put each trial's completion of a prompt beside the published ones: (trials, 4).

    Parameters
    ----------
    table : DataFrame
        Of `frame`.
    model : str
        Whose completions.
    number : int
        Index of the prompt.
    printed : mapping of str to sequence of str
        The published completions of the trials, by bits.

    Returns
    -------
    DataFrame
        Index: the trial, from 1. Columns: "here" or "paper", each with "8-bit" and "32-bit"; NaN where one
        has fewer trials.
    """
    own = table[table["model"] == model].sort_values("seed")
    texts = {("here", bits): own.loc[own["bits"] == bits, "completions"].str[number] for bits in printed}
    texts |= {("paper", bits): pd.Series(column) for bits, column in printed.items()}
    shown = pd.DataFrame({name: column.reset_index(drop=True) for name, column in texts.items()})
    return shown.set_axis(range(1, len(shown) + 1)).rename_axis("trial")


def completions(
    table: pd.DataFrame, published: Mapping[str, Any], paper_names: Mapping[str, str]
) -> pd.DataFrame:
    """Return `side_by_side` for the base models and the paper's prompts (paper 3, Tables 4 to 7).

    Parameters
    ----------
    table : DataFrame
        Of `frame`.
    published : mapping
        The paper's values.
    paper_names : mapping of str to str
        The paper's name of each model, by its name here.
    """
    parts = {}
    for model in _printed_models(published["completions"], paper_names):
        printed = published["completions"][paper_names[model]]
        for number, prompt in enumerate(published["prompts"]):
            parts[model, prompt] = side_by_side(table, model, number, printed[prompt])
    return pd.concat(parts)


def answers(
    table: pd.DataFrame, published: Mapping[str, Any], paper_names: Mapping[str, str]
) -> pd.DataFrame:
    """Return `side_by_side` for the chat models and the paper's instructions (paper 3, Tables 8 and 9).

    Parameters are those of `completions`.
    """
    parts = {}
    for model in _printed_models(published["answers"], paper_names):
        printed = published["answers"][paper_names[model]]
        for number in range(len(published["instructions"])):
            of_trials = {bits: texts[number] for bits, texts in printed.items()}
            parts[model, f"instruction {number + 1}"] = side_by_side(table, model, number, of_trials)
    return pd.concat(parts)


def letters(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the `letter` of each trial's answer, in one text per model and instruction."""
    return answers.groupby(level=[0, 1], sort=False).agg(
        lambda texts: " ".join(letter(text) for text in texts.dropna())
    )


def letter(text: str) -> str:
    """Return the letter from A to D that an answer gives, or a dash; the article "A" is not an answer."""
    match = re.search(r"(?<=answer is )[A-D]\b|\b[A-D](?=[:.)]|$)", text)
    return match[0] if match else "—"


def checked_answers(
    table: pd.DataFrame, references: Sequence[str | None], parse: Callable[[str], str | None]
) -> pd.DataFrame:
    """Score the answers of chat models, and their agreement among trials.

    Parameters
    ----------
    table : DataFrame
        Of `frame`, the chat models' rows.
    references : sequence of str or None, (questions,)
        The right answers; None if a question's answer cannot be checked.
    parse : callable
        Returns the answer in a text, or None.

    Returns
    -------
    DataFrame
        Index: model and bits. Columns: the shares of questions answered ``right`` (among those that can be
        checked; NaN if there are none) and with ``no answer``, means over trials, and the shares on which
        ``all trials`` and ``two trials`` give the same text.
    """
    checkable = [number for number, reference in enumerate(references) if reference is not None]

    def right(texts: Sequence[str]) -> float:
        hits = [parse(texts[number]) == references[number] for number in checkable]
        return float(np.mean(hits)) if hits else np.nan

    def no_answer(texts: Sequence[str]) -> float:
        return float(np.mean([parse(text) is None for text in texts]))

    rows = {}
    for kind, texts in table.groupby(["model", "bits"], sort=False)["answers"]:
        unanimous, pairwise = agreement(texts.to_list())
        rows[kind] = {
            "right": texts.map(right).mean(),
            "no answer": texts.map(no_answer).mean(),
            "all trials": unanimous,
            "two trials": pairwise,
        }
    return pd.DataFrame(rows).T.rename_axis(["model", "bits"])


def same_twice(table: pd.DataFrame) -> pd.Series:
    """Return the share of prompts completed identically at 0.1 with two sampling seeds: (trials,)."""
    pairs = zip(table["cold_completions"], table["cold_completions_again"], strict=True)
    shares = [np.mean([a == b for a, b in zip(first, second, strict=True)]) for first, second in pairs]
    return pd.Series(shares, index=table.index)


def distinct_texts(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the number of distinct texts per trial: (models x bits, prompts).

    Parameters
    ----------
    table : DataFrame
        Of `frame`.
    column : str
        A column of completions.
    """
    groups = table.groupby(["model", "bits"], sort=False)[column]
    shares = pd.DataFrame({kind: different_texts(texts.to_list()) for kind, texts in groups}).T
    prompts = [f"prompt {number + 1}" for number in shares]
    return shares.set_axis(prompts, axis="columns").rename_axis(["model", "bits"])


def times(table: pd.DataFrame, published: Mapping[str, Any], paper_names: Mapping[str, str]) -> pd.DataFrame:
    """Return means and standard deviations of times in seconds (paper 3, Tables 10 and 11).

    Parameters are those of `completions`.
    """
    columns = {}
    for name in ("train_seconds", "test_seconds"):
        own, printed = by_trial(table, name), as_printed(published[name], paper_names)
        columns[name, "here", "mean"], columns[name, "here", "sd"] = own.mean(), own.std()
        columns[name, "paper", "mean"], columns[name, "paper", "sd"] = printed.mean(), printed.std()
    return pd.DataFrame(columns)


def repeats(trials: Sequence[Record], repetitions: Sequence[Record], names: Sequence[str]) -> pd.DataFrame:
    """Count the distinct results of trials: with the same seeds, done twice, and with different seeds.

    Parameters
    ----------
    trials : sequence of Record
        Several of each model and recipe.
    repetitions : sequence of Record
        One of each model and recipe, with the seeds of one of its trials.
    names : sequence of str
        Which results to compare.

    Returns
    -------
    DataFrame
        Index: "same seeds, twice" or "different seeds", then model, then bits. One column per name. Failed
        runs are left out.
    """
    same, different = {}, {}
    for repetition in finished(repetitions):
        second = _trial(repetition)
        alike = [
            record
            for record in finished(trials)
            if (_trial(record).model, _trial(record).recipe) == (second.model, second.recipe)
        ]
        first = [record for record in alike if _trial(record).sources == second.sources]
        kind = second.model, second.recipe.bits
        same["same seeds, twice", *kind] = bitwise([record.result for record in [*first, repetition]], names)
        different["different seeds", *kind] = bitwise([record.result for record in alike], names)
    return pd.DataFrame(same | different).T


def _trial(record: Record) -> Trial:
    """Return the trial of a record that a sweep returned."""
    if not isinstance(record.run, Trial):
        raise TypeError(f"run = {record.run!r}: the record of a trial is required")
    return record.run


def _printed_models(printed: Mapping[str, Any], paper_names: Mapping[str, str]) -> list[str]:
    """Return the models for which the paper prints these values."""
    return [model for model, name in paper_names.items() if name in printed]
