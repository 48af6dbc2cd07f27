"""Paper 3's tables: trials measured here, and the published values in the same form."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lib.crossed import crossed_mean
from lib.intervals import Interval, proportion_interval, sd_factors
from lib.qlora.recipes import Recipe
from lib.qlora.trial import Trial
from lib.repeatability import bitwise, coarsest_grid, compare, with_holm
from lib.runs import Record, finished

PRINTED_DECIMALS = 3  # of the paper's perplexities with the 32-bit optimizer

NUMBERS = (
    "perplexity",
    "perplexity_unmerged",
    "vocabulary",
    "trained_parameters",
    "model_bytes",
    "adapter_bytes",
    "state_bytes",
    "train_seconds",
    "test_seconds",
    "starved",
    "diverged_step",
)
OTHER_RESULTS = (
    "initial_adapter",
    "order",
    "losses",
    "state_dtypes",
    "adapter",
    "company",
    "at_a_time",
    "merged_losses",
    "text_losses",
    "text_tokens",
    "completions",
    "cold_completions",
    "cold_completions_again",
    "answers",
)
"""What `lib.qlora.Trial` returns: `frame` has these columns even if every trial failed."""


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return the records of trials as a table, one row per trial, including failed ones.

    Returns
    -------
    DataFrame
        Columns ``model``, ``bits`` ("8-bit" or "32-bit"), ``seed``, ``status``, ``peak_memory`` (bytes), all
        results of `lib.qlora.Trial` (NaN where a trial failed), and log-perplexities in nats per token:
        ``nats`` of the merged model, ``nats_unmerged`` of the adapter beside its base, and their difference
        ``lost``, the cost of merging. ``scored_nats`` is ``nats`` with a perplexity that is not finite
        replaced by that of a uniform guess, and ``total_bytes`` what training keeps: 4-bit model, adapters
        and optimizer states.
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
    given = ["model", "bits", "seed", "status", "peak_memory"]
    table = pd.DataFrame(rows, columns=None if rows else given)
    for name in (*NUMBERS, *OTHER_RESULTS):
        if name not in table:
            table[name] = pd.Series(np.nan, table.index, float if name in NUMBERS else object)
    nats, unmerged = np.log(table["perplexity"]), np.log(table["perplexity_unmerged"])
    guess = np.log(table["vocabulary"].astype(float))
    return table.assign(
        nats=nats,
        nats_unmerged=unmerged,
        lost=nats - unmerged,
        scored_nats=nats.where(np.isfinite(nats) | table["vocabulary"].isna(), guess),
        total_bytes=table["model_bytes"] + table["adapter_bytes"] + table["state_bytes"],
    )


def factorial_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return `frame` with a column per factor: the seeds of `lib.qlora.Sources` by name, and ``kernel``.

    The column ``order`` holds the seed of the order, in place of the order's fingerprint, and ``printed`` and
    ``printed_unmerged`` the perplexity, merged (as in the paper's tables) and beside the base, in units of
    the last decimal that the paper prints.
    """
    trials = [_trial(record) for record in records]
    table = frame(records)
    return table.assign(
        initialisation=[trial.sources.initialisation for trial in trials],
        order=[trial.sources.order for trial in trials],
        dropout=[trial.sources.dropout for trial in trials],
        kernel=[trial.recipe.attention for trial in trials],
        printed=np.exp(table["scored_nats"]) * 10**PRINTED_DECIMALS,
        printed_unmerged=table["perplexity_unmerged"] * 10**PRINTED_DECIMALS,
    )


def paired_table(records: Sequence[Record]) -> pd.DataFrame:
    """Compare runs of the same seed that differ in one thing alone, such as the kernel: one row per seed.

    Parameters
    ----------
    records : sequence of Record
        Two of each seed. Seeds with a failed one are left out.

    Returns
    -------
    DataFrame
        Index: the seed. Columns: whether the ``same adapter`` came out, and the difference of the
        log-perplexities in nats per token, ``unmerged`` (beside the base) and ``merged``.
    """
    done = frame(finished(records))
    by_seed = done[done.groupby("seed")["seed"].transform("size") > 1].groupby("seed")
    return pd.DataFrame(
        {
            "same adapter": by_seed["adapter"].nunique() == 1,
            "unmerged": by_seed["nats_unmerged"].agg(np.ptp),
            "merged": by_seed["scored_nats"].agg(np.ptp),
        }
    )


def explosion_table(
    records: Sequence[Record], candidates: Mapping[str, Recipe], pretrained_nats: float
) -> pd.DataFrame:
    """Return `frame` with what is needed to compare the candidates with the published explosion.

    Parameters
    ----------
    records : sequence of Record
        In the order of the candidates, equally many of each.
    candidates : mapping of str to Recipe
        Of `lib.paper3.trials.explosion_candidates`.
    pretrained_nats : float
        Log-perplexity of the pre-trained model.

    Returns
    -------
    DataFrame
        Columns beside those of `frame`: ``changed`` (the candidate), ``states`` (their types), ``above`` (a
        trial's log-perplexity minus the pre-trained model's; infinite if its outputs are not finite, NaN if
        the run failed),
        ``of_guess`` (the same as a share of a uniform guess's distance from the pre-trained model) and
        ``training`` (the training loss in nats per token, mean over the last tenth of the steps).
    """
    table = frame(records)
    above = table["nats"] - pretrained_nats
    guess = np.log(table["vocabulary"].astype(float)) - pretrained_nats
    return table.assign(
        changed=np.repeat(list(candidates), len(records) // len(candidates)),
        states=table["state_dtypes"].str.join(", "),
        above=above,
        of_guess=above / guess,
        training=[_mean_of_last_tenth(losses) for losses in table["losses"]],
    )


def published_excess(
    perplexity: Mapping[str, Mapping[str, Sequence[float]]],
    pretrained: Mapping[str, float],
    vocabulary: Mapping[str, int],
) -> pd.DataFrame:
    """Return how far the published 8-bit trials end above the pre-trained models: one row per trial.

    Parameters
    ----------
    perplexity : mapping
        Published perplexities of the trials, by model and bits (paper 3, Tables 1 and 2).
    pretrained : mapping of str to float
        Published perplexities before fine-tuning, by model (paper 3, section IX).
    vocabulary : mapping of str to int
        Tokens of each model's vocabulary.

    Returns
    -------
    DataFrame
        Columns ``model``, ``above`` (nats per token), and ``of_guess``, the same as a share of a uniform
        guess's distance from the pre-trained model: above 1, the model is worse than a uniform guess.
    """
    rows = []
    for model, trials in perplexity.items():
        before = math.log(pretrained[model])
        guess = math.log(vocabulary[model]) - before
        for value in trials["8-bit"]:
            above = math.log(value) - before
            rows.append({"model": model, "above": above, "of_guess": above / guess})
    return pd.DataFrame(rows)


def signature(excess: pd.DataFrame) -> pd.DataFrame:
    """Return the modes of the published explosion, on either side of the largest gap within a model.

    A model whose trials leave no gap of more than 2 nats has one mode. (GPT-NeoX leaves none above 1.4 nats,
    Llama-2 one of 9.)

    Parameters
    ----------
    excess : DataFrame
        Of `published_excess`.

    Returns
    -------
    DataFrame
        One row per model and mode ("low", "high" or "only"), with the range of ``above`` and ``of_guess`` as
        ``low``, ``high``, ``of_guess_low`` and ``of_guess_high``, and the number of ``trials``.
    """
    rows = []
    for model, trials in excess.groupby("model", sort=False):
        ordered = trials.sort_values("above").reset_index(drop=True)
        gaps = ordered["above"].diff()
        mode = pd.Series("only", index=ordered.index)
        if gaps.max() > 2:
            mode = pd.Series(np.where(ordered.index < gaps.idxmax(), "low", "high"))
        for name, part in ordered.groupby(mode, sort=False):
            rows.append(
                {
                    "model": model,
                    "mode": name,
                    "low": part["above"].min(),
                    "high": part["above"].max(),
                    "of_guess_low": part["of_guess"].min(),
                    "of_guess_high": part["of_guess"].max(),
                    "trials": len(part),
                }
            )
    return pd.DataFrame(rows)


def reached(outcomes: pd.DataFrame, modes: pd.DataFrame) -> pd.DataFrame:
    """Count the runs of each candidate that end within a mode of the published explosion.

    Parameters
    ----------
    outcomes : DataFrame
        Of `explosion_table`.
    modes : DataFrame
        Of `signature`.

    Returns
    -------
    DataFrame
        Index: the candidates. One column per model and mode, and "beyond a uniform guess" and "not finite",
        with numbers of runs. A run is within a mode if its share of a uniform guess's distance
        (``of_guess``) is: nats cannot be compared between vocabularies.
    """
    finite = outcomes[np.isfinite(outcomes["above"])]
    counts = {}
    for mode in modes.itertuples():
        inside = finite["of_guess"].between(mode.of_guess_low, mode.of_guess_high)
        name = mode.model if mode.mode == "only" else f"{mode.model}, {mode.mode}"
        counts[name] = inside.groupby(finite["changed"]).sum()
    counts["beyond a uniform guess"] = (finite["of_guess"] > 1).groupby(finite["changed"]).sum()
    counts["not finite"] = np.isinf(outcomes["above"]).groupby(outcomes["changed"]).sum()
    table = pd.DataFrame(counts).reindex(outcomes["changed"].unique())
    return table.fillna(0).astype(int)


def departures(rows: Sequence[tuple[str, Any, Any, str]]) -> pd.DataFrame:
    """Set what the paper states beside what is done here, with a reason where they differ, and there only.

    Parameters
    ----------
    rows : sequence of tuple
        Parameter, its value in the paper, its value here, and why they differ.

    Returns
    -------
    DataFrame
        Columns ``parameter``, ``paper``, ``here`` and ``why, where they differ``, with numbers as text.
    """
    shown = [(name, _as_text(paper), _as_text(here), reason) for name, paper, here, reason in rows]
    return pd.DataFrame(
        [(name, paper, here, reason if paper != here else "") for name, paper, here, reason in shown],
        columns=["parameter", "paper", "here", "why, where they differ"],
    )


def _as_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


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


def comparisons(nats: pd.DataFrame, *, paired: bool, confidence: float) -> pd.DataFrame:
    """Compare the 8-bit with the 32-bit trials of each model by `lib.repeatability.compare`.

    Parameters
    ----------
    nats : DataFrame, (trials, models x bits)
        Finite log-perplexities, as of `by_trial`.
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
    for model in nats.columns.unique("model"):
        trials = nats[model].dropna()
        rows[model] = compare(trials["8-bit"], trials["32-bit"], paired=paired, confidence=confidence)
    return with_holm(pd.DataFrame(rows).T)


def by_text(losses: Sequence[np.ndarray], subtracted: Sequence[np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """Turn a difference of log-perplexities into one value per trial and text: (trials, texts).

    A log-perplexity is a ratio, summed losses over the number of tokens. The values are its linearisation:
    their mean is the difference of the log-perplexities, in nats per token, and their variance that of the
    ratio, whatever the lengths of the texts (Cochran 1977, section 6.4).

    Parameters
    ----------
    losses, subtracted : sequence of ndarray, (trials, texts)
        Summed losses of each text, in nats.
    tokens : ndarray, (texts,)
        Number of tokens in the sums.
    """
    difference = np.asarray(losses, float) - np.asarray(subtracted, float)  # (trials, texts)
    ratio = difference.sum() / (len(difference) * tokens.sum())
    return (difference - ratio * tokens) / tokens.mean() + ratio


def difference_interval(
    first: pd.DataFrame, second: pd.DataFrame | np.ndarray, confidence: float
) -> Interval:
    """Return the difference of two mean log-perplexities in nats per token, over trials and texts jointly.

    Parameters
    ----------
    first : DataFrame
        Of `frame`: the trials of one kind.
    second : DataFrame or ndarray, (texts,)
        The trials with the same seeds of another kind, or the losses of a model that is no trial.
    confidence : float
        Coverage.
    """
    own = first.set_index("seed").sort_index()
    tokens = own["text_tokens"].iloc[0]
    if isinstance(second, np.ndarray):
        return crossed_mean(by_text(_scored(own), [second] * len(own), tokens)).interval(confidence)
    other = second.set_index("seed").sort_index()
    shared = own.index.intersection(other.index)
    values = by_text(_scored(own.loc[shared]), _scored(other.loc[shared]), tokens)
    return crossed_mean(values).interval(confidence)


def _scored(trials: pd.DataFrame) -> list[np.ndarray]:
    """Return the merged models' losses by text; those of a uniform guess where they are not finite."""
    return [
        row.merged_losses
        if np.isfinite(row.merged_losses).all()
        else row.text_tokens * math.log(row.vocabulary)
        for row in trials.itertuples()
    ]


def printed_values(perplexities: pd.DataFrame) -> pd.DataFrame:
    """Count the different perplexities as the paper prints them, with three decimals.

    Parameters
    ----------
    perplexities : DataFrame, (trials, models x bits)
        Of `by_trial` or `as_printed`.

    Returns
    -------
    DataFrame
        Index: model and bits. Columns: ``different`` values, ``trials``, the share of ``pairs that differ``,
        and the standard deviation in units of the last printed decimal (``sd``).
    """
    rows = {}
    for kind, column in perplexities.items():
        values = column.dropna()
        printed = values.round(PRINTED_DECIMALS)
        counts = printed.value_counts()
        alike = (counts * (counts - 1) / 2).sum() / (len(values) * (len(values) - 1) / 2)
        rows[kind] = {
            "different": len(counts),
            "trials": len(values),
            "pairs that differ": 1 - alike,
            "sd": values.std() * 10**PRINTED_DECIMALS,
        }
    return pd.DataFrame(rows).T.rename_axis(["model", "bits"])


def single_source(
    design: pd.DataFrame, factor: str, others: Sequence[str], confidence: float, value: str = "printed"
) -> Interval:
    """Return the standard deviation of a perplexity when one source alone is reseeded.

    Parameters
    ----------
    design : DataFrame
        Of `factorial_table`, one run per combination.
    factor : str
        The source.
    others : sequence of str
        The other sources, which are held fixed.
    confidence : float
        Coverage, at least: the levels of the other sources share those of the factor, so they add degrees of
        freedom only as far as the sources interact, and none are counted.
    value : {"printed", "printed_unmerged"}
        The column: the perplexity of merged models, which the paper prints, or that beside the base.

    Returns
    -------
    Interval
        In units of the last decimal that the paper prints.
    """
    sd = math.sqrt(design.groupby(list(others))[value].var().mean())
    freedom = design[factor].nunique() - 1
    low, high = sd_factors(freedom, confidence)
    return Interval(sd, sd * low, sd * high)


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

    Parameters
    ----------
    table : DataFrame, (trials, columns)
        Of `frame`.
    printed : mapping of str to mapping of str to float
        Published percent of a GPU's memory, by the paper's name of a model, then by bits.
    paper_names : mapping of str to str
        The paper's name of each model, by its name here.

    Returns
    -------
    DataFrame, (models x bits, 7)
        Index: model and bits. Columns ``peak`` (MiB), ``weights``, ``adapters``, ``states`` and their sum
        ``total`` (bytes), ``trained`` (parameters) and ``paper`` (percent of a GPU's memory).
    """
    memory = table.groupby(["model", "bits"], sort=False).agg(
        peak=("peak_memory", "max"),
        weights=("model_bytes", "max"),
        adapters=("adapter_bytes", "max"),
        states=("state_bytes", "max"),
        total=("total_bytes", "max"),
        trained=("trained_parameters", "max"),
    )
    percent = [printed[paper_names[model]][bits] for model, bits in memory.index]
    return memory.assign(peak=memory["peak"] / 2**20, paper=percent)


def times(table: pd.DataFrame, published: Mapping[str, Any], paper_names: Mapping[str, str]) -> pd.DataFrame:
    """Return means and standard deviations of times in seconds (paper 3, Tables 10 and 11).

    Parameters
    ----------
    table : DataFrame, (trials, columns)
        Of `frame`.
    published : mapping
        The paper's values; of these ``train_seconds`` and ``test_seconds``, the trials' seconds by the
        paper's name of a model, then by bits.
    paper_names : mapping of str to str
        The paper's name of each model, by its name here.

    Returns
    -------
    DataFrame, (models x bits, 8)
        Index: model and bits. Columns: ``train_seconds`` or ``test_seconds``; ``here`` or ``paper``; ``mean``
        or ``sd`` (seconds).
    """
    columns = {}
    for name in ("train_seconds", "test_seconds"):
        own, printed = by_trial(table, name), as_printed(published[name], paper_names)
        columns[name, "here", "mean"], columns[name, "here", "sd"] = own.mean(), own.std()
        columns[name, "paper", "mean"], columns[name, "paper", "sd"] = printed.mean(), printed.std()
    return pd.DataFrame(columns)


def repeats(groups: Mapping[str, Sequence[Record]], names: Sequence[str]) -> pd.DataFrame:
    """Count the distinct results of trials of each model and optimizer, in several groups of trials.

    Parameters
    ----------
    groups : mapping of str to sequence of Record
        The trials to compare with each other, such as those with the same seeds.
    names : sequence of str
        Which results to compare.

    Returns
    -------
    DataFrame
        Index: group, model and bits. Columns: ``runs`` (failed ones are left out), then one per name.
    """
    rows = {}
    for group, records in groups.items():
        kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for record in finished(records):
            trial = _trial(record)
            kinds.setdefault((trial.model, trial.recipe.bits), []).append(record.result)
        for kind, results in kinds.items():
            rows[group, *kind] = {"runs": len(results), **bitwise(results, names)}
    return pd.DataFrame(rows).T.rename_axis(["trials", "model", "bits"])


def repetitions_alike(records: Sequence[Record], name: str, confidence: float) -> Interval | None:
    """Return the share of repetitions with their setting's commonest result, to the bit, with its interval.

    Parameters
    ----------
    records : sequence of Record
        Trials, several of which differ in their number alone; failed ones are left out.
    name : str
        Which result to compare, such as the fingerprint ``adapter``.
    confidence : float
        Coverage, over repetitions: of each setting all but one, which is the standard of comparison.

    Returns
    -------
    Interval or None
        Exact. None if no trial was repeated.
    """
    results: dict[Trial, Counter[Any]] = defaultdict(Counter)
    for record in finished(records):
        results[replace(_trial(record), repetition=0)][record[name]] += 1
    repetitions = sum(counts.total() - 1 for counts in results.values())
    alike = sum(max(counts.values()) - 1 for counts in results.values())
    return proportion_interval(alike, repetitions, confidence) if repetitions else None


def _mean_of_last_tenth(losses: np.ndarray | float) -> float:
    """Return the mean loss at the end of a training; NaN for a failed run, which has none."""
    if not isinstance(losses, np.ndarray):
        return math.nan
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def _trial(record: Record) -> Trial:
    """Return the trial of a record that a sweep returned."""
    if not isinstance(record.run, Trial):
        raise TypeError(f"run = {record.run!r}: the record of a trial is required")
    return record.run
