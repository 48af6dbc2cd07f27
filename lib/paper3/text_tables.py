"""Paper 3's tables of texts: beside the published ones, between and within trials, and how sound they are."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from lib.crossed import crossed_mean, crossed_proportion_interval
from lib.intervals import Interval, proportion_interval
from lib.paper3.texts import (
    between_trials,
    beyond_sampling,
    differ,
    pairs_of_trials,
    pseudo_values,
    share_beyond_sampling,
    share_interval,
    shared_words,
    soundness,
    unlike,
    within,
    within_trials,
)
from lib.qlora.trial import Reading
from lib.repeatability import agreement
from lib.runs import Record

Samples = Sequence[Sequence[Sequence[str]]]
"""Completions at temperature 1: (trials, prompts, samples)."""

COMPARED = (
    "one trial, sampled again",
    "two trials, drawn alike",
    "two trials",
    "beyond sampling",
    "one trial at 0.1, sampled again",
    "two trials at 0.1",
)
"""What `sampling_against_training` compares, in the order of its rows."""


def side_by_side(
    table: pd.DataFrame,
    model: str,
    number: int,
    printed: Mapping[str, Sequence[str]],
    draw: Callable[[Samples], list[list[str]]],
) -> pd.DataFrame:
    """Put each trial's completion of a prompt beside the published ones: (trials, 4).

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`.
    model : str
        Whose completions.
    number : int
        Index of the prompt.
    printed : mapping of str to sequence of str
        The published completions of the trials, by bits.
    draw : callable
        Which sample of each trial is shown: `own_draws` or `first_draws`.

    Returns
    -------
    DataFrame
        Index: the trial, from 1. Columns: "here" or "paper", each with "8-bit" and "32-bit"; NaN where one
        has fewer trials.
    """
    own = table[table["model"] == model]
    texts = {}
    for bits in printed:
        samples = _samples(own[own["bits"] == bits])
        texts["here", bits] = pd.Series([prompts[number] for prompts in draw(samples)], dtype=object)
    texts |= {("paper", bits): pd.Series(column, dtype=object) for bits, column in printed.items()}
    shown = pd.DataFrame(texts)
    return shown.set_axis(range(1, len(shown) + 1)).rename_axis("trial")


def completions(
    table: pd.DataFrame, published: Mapping[str, Any], paper_names: Mapping[str, str]
) -> pd.DataFrame:
    """Return `side_by_side` for the base models and the paper's prompts (paper 3, Tables 4 to 7).

    Each trial shows a sample of its own number (`own_draws`).

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`; the first prompts are the paper's.
    published : mapping
        The paper's values.
    paper_names : mapping of str to str
        The paper's name of each model, by its name here.
    """
    parts = {}
    for model in _printed_models(published["completions"], paper_names):
        printed = published["completions"][paper_names[model]]
        for number, prompt in enumerate(published["prompts"]):
            parts[model, prompt] = side_by_side(table, model, number, printed[prompt], own_draws)
    return pd.concat(parts)


def answers(
    table: pd.DataFrame, published: Mapping[str, Any], paper_names: Mapping[str, str]
) -> pd.DataFrame:
    """Return `side_by_side` for the chat models and the paper's instructions (paper 3, Tables 8 and 9).

    A chat model's trials answer each instruction once, all with the same random numbers (`first_draws`).
    Parameters are those of `completions`.
    """
    parts = {}
    for model in _printed_models(published["answers"], paper_names):
        printed = published["answers"][paper_names[model]]
        for number in range(len(published["instructions"])):
            of_trials = {bits: texts[number] for bits, texts in printed.items()}
            shown = side_by_side(table, model, number, of_trials, first_draws)
            parts[model, f"instruction {number + 1}"] = shown
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
        Of `lib.paper3.tables.frame`, the chat models' rows.
    references : sequence of str or None, (questions,)
        The right answers; None if a question's answer cannot be checked.
    parse : callable
        Returns the answer in a text, or None.

    Returns
    -------
    DataFrame
        Index: model and bits. Columns, as means over trials: the shares of questions answered ``right``
        (among those that can be checked; NaN if there are none), of these ``right, numbers`` (among those
        of which the answer is a number), and ``no answer``. Then, among the questions that they answer, the
        shares on which ``all trials`` and ``two trials`` give the same answer (NaN if there are none), and,
        among all questions, the share on which two trials give the ``same text``.
    """
    checkable = [number for number, reference in enumerate(references) if reference is not None]
    numeric = [number for number in checkable if str(references[number]).lstrip("-").isdigit()]

    def right(given: Sequence[Sequence[str]], questions: Sequence[int]) -> float:
        scores = [of_trial[number] == references[number] for of_trial in given for number in questions]
        return float(np.mean(scores)) if scores else np.nan

    rows = {}
    for kind, texts in table.groupby(["model", "bits"], sort=False)["answers"]:
        given = parsed(texts.to_list(), parse)
        alike = 1 - pairs_of_trials(given, answers_apart)
        together = np.array([all_alike(of_trials) for of_trials in zip(*given, strict=True)])
        rows[kind] = {
            "right": right(given, checkable),
            "right, numbers": right(given, numeric),
            "no answer": np.mean([answer == "" for of_trial in given for answer in of_trial]),
            "all trials": _known_mean(together),
            "two trials": _known_mean(alike),
            "same text": agreement(texts.to_list())[1],
        }
    return pd.DataFrame(rows).T.rename_axis(["model", "bits"])


def all_alike(answers: Sequence[str]) -> float:
    """Return 1 if all trials give the same answer, 0 if not, and NaN if any is missing ("")."""
    return float(len(set(answers)) == 1) if all(answers) else math.nan


def answers_apart(first: str, second: str) -> float:
    """Return 1 if two answers differ, 0 if not, and NaN if either is missing ("")."""
    return differ(first, second) if first and second else math.nan


def _known_mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def parsed(texts: Sequence[Sequence[str]], parse: Callable[[str], str | None]) -> list[list[str]]:
    """Return the answers in the texts of trials, "" where there is none: (trials, questions)."""
    return [[parse(text) or "" for text in of_trial] for of_trial in texts]


def answers_differ(
    table: pd.DataFrame, parse: Callable[[str], str | None], confidence: float
) -> Interval | None:
    """Return the share of questions that two trials answer differently, over all models of the table.

    A pair of trials is compared on the questions that both answer. So the share is a ratio of two means over
    pairs and questions, those that differ over those that are compared, and its interval is that of its
    linearisation (the delta method).

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`: chat models, trained with one optimizer.
    parse : callable
        Returns the answer in a text, or None.
    confidence : float
        Coverage, over trials and questions.

    Returns
    -------
    Interval or None
        None with fewer than three trials of each model, or if no two of them answer the same question.
    """
    models = _with_common_seeds(table)
    if not models:
        return None
    pairs = [pairs_of_trials(parsed(_column(rows, "answers"), parse), answers_apart) for rows in models]
    shares = _linearised_share(np.array(pairs))
    return None if shares is None else share_interval(shares, confidence)


def _linearised_share(pairs: np.ndarray) -> np.ndarray | None:
    """Linearise a share among the values that are known.

    Parameters
    ----------
    pairs : ndarray, (models, trials, trials, questions)
        0 or 1; NaN where unknown.

    Returns
    -------
    ndarray or None, (trials, trials, questions of which anything is known)
        Their mean over pairs and questions is the share, and their variance that of the share. NaN on the
        diagonal. None if nothing is known.
    """
    known = ~np.isnan(pairs)
    asked = known.any(axis=(0, 1, 2))
    if not asked.any():
        return None
    part = known[..., asked].mean(axis=0)  # (trials, trials, questions), of the models
    of_all = np.where(known, pairs, 0.0)[..., asked].mean(axis=0)
    apart = ~np.eye(len(part), dtype=bool)
    share = of_all[apart].sum() / part[apart].sum()
    shares = share + (of_all - share * part) / part[apart].mean()
    shares[~apart] = np.nan
    return shares


def own_draws(samples: Samples) -> list[list[str]]:
    """Take another sample of each trial, so their draws are independent of each other: (trials, prompts).

    Parameters
    ----------
    samples : nested sequences of str, (trials, prompts, samples)
        Sample k of every trial was drawn with the same random numbers.

    Raises
    ------
    ValueError
        With fewer samples than trials: some trials would share their draws.
    """
    fewest = min((len(texts) for trial in samples for texts in trial), default=len(samples))
    if fewest < len(samples):
        raise ValueError(f"samples = {fewest}: {len(samples)} trials need as many, one each")
    return [[texts[number] for texts in trial] for number, trial in enumerate(samples)]


def first_draws(samples: Samples) -> list[list[str]]:
    """Take the first sample of each trial, all of which were drawn with the same random numbers.

    Parameters
    ----------
    samples : nested sequences of str, (trials, prompts, samples)
        At least one sample.

    Returns
    -------
    list of lists of str, (trials, prompts)
    """
    return [[texts[0] for texts in trial] for trial in samples]


def sampling_against_training(table: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Compare one trial sampled again with trials sampled once, at temperature 1, and with both at 0.1.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`: models with completions, at least three trials of each kind.
    confidence : float
        Coverage, over trials and prompts.

    Returns
    -------
    DataFrame
        Index: model, bits, and what is compared. Columns: ``pairs that differ`` (the share of pairs whose
        texts differ at all) and ``unlike`` (1 minus the F1 score of their words), as intervals. The row
        "beyond sampling" is the difference of the rows "two trials" and "one trial, sampled again"; of the
        share of pairs it is NaN.
    """
    parts = {}
    for kind, rows in table.groupby(["model", "bits"], sort=False):
        if len(rows) < 3:  # most of its trials failed
            continue
        shares, means = _Compared.of(rows, differ), _Compared.of(rows, unlike)
        parts[kind] = pd.DataFrame(
            {"pairs that differ": shares.as_shares(confidence), "unlike": means.as_means(confidence)}
        )
    return pd.concat(parts, names=["model", "bits", "compared"])


class _Compared(NamedTuple):
    """What was compared within trials, by row of the table, and between two of them."""

    inside: dict[str, np.ndarray]  # (trials, prompts)
    between: dict[str, np.ndarray]  # (trials, trials, prompts)

    @classmethod
    def of(cls, rows: pd.DataFrame, compare: Callable[[str, str], float]) -> Self:
        samples = _samples(rows)
        cold, again = _column(rows, "cold_completions"), _column(rows, "cold_completions_again")
        twice = [
            [compare(*pair) for pair in zip(*both, strict=True)] for both in zip(cold, again, strict=True)
        ]
        inside = {
            "one trial, sampled again": within_trials(samples, compare),
            "one trial at 0.1, sampled again": np.array(twice),
        }
        between = {
            "two trials, drawn alike": pairs_of_trials(first_draws(samples), compare),
            "two trials": between_trials(samples, compare),
            "two trials at 0.1": pairs_of_trials(cold, compare),
        }
        return cls(inside, between)

    def as_shares(self, confidence: float) -> pd.Series:
        """Return intervals of shares, which have a width where all pairs are alike."""
        inside = {name: crossed_proportion_interval(part, confidence) for name, part in self.inside.items()}
        between = {name: share_interval(part, confidence) for name, part in self.between.items()}
        return pd.Series(inside | between).reindex(COMPARED)

    def as_means(self, confidence: float) -> pd.Series:
        """Return intervals of means, and of the difference between two trials that is beyond sampling."""
        within_one = self.inside["one trial, sampled again"]
        beyond = beyond_sampling(self.between["two trials"], within_one)
        apart = {name: pseudo_values(part) for name, part in self.between.items()}
        values = {**self.inside, **apart, "beyond sampling": pseudo_values(beyond)}
        lowest = {name: -1.0 if name == "beyond sampling" else 0.0 for name in values}
        intervals = {name: crossed_mean(values[name]).interval(confidence) for name in COMPARED}
        return pd.Series({name: within(interval, lowest[name]) for name, interval in intervals.items()})


def two_trials_differ(table: pd.DataFrame, column: str, confidence: float) -> Interval | None:
    """Return the share of pairs of trials that complete a prompt differently, over all models of the table.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`: base models, trained with one optimizer.
    column : str
        ``completions`` (each trial's own draw, so at least as many samples as trials are required) or
        ``cold_completions``.
    confidence : float
        Coverage, over trials and prompts.

    Returns
    -------
    Interval or None
        None with fewer than three trials of each model.
    """
    models = _with_common_seeds(table)
    if not models:
        return None
    pairs = []
    for rows in models:
        texts = own_draws(_samples(rows)) if column == "completions" else _column(rows, column)
        pairs.append(pairs_of_trials(texts, differ))
    return share_interval(np.mean(pairs, axis=0), confidence)


def training_beyond_sampling(table: pd.DataFrame, confidence: float) -> Interval | None:
    """Return how much less two trials share than two samples of one trial, over all models of the table.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`: base models, trained with one optimizer.
    confidence : float
        Coverage, over trials and prompts.

    Returns
    -------
    Interval or None
        In units of `lib.paper3.texts.unlike`; None with fewer than three trials or two samples.
    """
    compared = [_between_and_within(rows) for rows in _with_common_seeds(table)]
    beyond = [beyond_sampling(*both) for both in compared if both is not None]  # all have as many samples
    return crossed_mean(pseudo_values(np.mean(beyond, axis=0))).interval(confidence) if beyond else None


def largest_within(table: pd.DataFrame) -> float:
    """Return which share of their words two samples of one trial do not share, the largest over models.

    Two trials differ by at most 1, so the share of their difference that is beyond sampling
    (`training_share`) is at most 1 minus this.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`: base models, trained with one optimizer.

    Returns
    -------
    float
        Mean over the trials and prompts of that model; NaN without a trial.
    """
    means = [within_trials(_samples(rows), unlike).mean() for _, rows in table.groupby("model", sort=False)]
    return float(max(means, default=math.nan))


def training_share(table: pd.DataFrame, confidence: float) -> Interval | None:
    """Return which share of the difference between two trials' texts is beyond sampling.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`: one base model, trained with one optimizer.
    confidence : float
        Coverage, over trials and prompts.

    Returns
    -------
    Interval or None
        Of `lib.paper3.texts.share_beyond_sampling` by words that are not shared: 0 if all of the difference
        is sampling, 1 if all of it is training. None with fewer than three trials or two samples, or if no
        two differ.
    """
    compared = _between_and_within(table)
    pairs = None if compared is None else share_beyond_sampling(*compared)
    return None if pairs is None else crossed_mean(pseudo_values(pairs)).interval(confidence)


def _between_and_within(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray] | None:
    """Compare one model's trials by words that are not shared, and the samples of each trial.

    Returns
    -------
    tuple of ndarray, (trials, trials, prompts) and (trials, prompts)
        None with fewer than three trials or two samples.
    """
    samples = _samples(table)
    if len(samples) < 3 or len(samples[0][0]) < 2:
        return None
    return between_trials(samples, unlike), within_trials(samples, unlike)


def same_twice(table: pd.DataFrame) -> pd.Series:
    """Return the share of prompts completed identically at 0.1 with two sampling seeds: (trials,)."""
    pairs = zip(table["cold_completions"], table["cold_completions_again"], strict=True)
    shares = [np.mean([a == b for a, b in zip(first, second, strict=True)]) for first, second in pairs]
    return pd.Series(shares, index=table.index, dtype=float)


def trials_that_repeat(table: pd.DataFrame, confidence: float) -> Interval:
    """Return the share of seeds whose trials complete every prompt identically twice, with an exact interval.

    The 8-bit and the 32-bit trial of one model and seed start alike and end almost alike, so they are one
    observation: both have to repeat.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`: the trials of all models.
    confidence : float
        Coverage.
    """
    repeated = (same_twice(table) == 1).groupby([table["model"], table["seed"]]).all()  # (models x seeds,)
    return proportion_interval(int(repeated.sum()), len(repeated), confidence)


def sound_texts(
    table: pd.DataFrame,
    before: Mapping[str, Sequence[Sequence[str]]],
    lexicon: Collection[str],
    nats: Mapping[tuple[str, str, int], float],
) -> pd.DataFrame:
    """Measure how sound the completions at temperature 1 are: one row per trial, one per untrained model.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`, the base models' rows.
    before : mapping of str to sequences of str, (prompts, samples)
        The completions of each model before fine-tuning.
    lexicon : collection of str
        The words of the training texts.
    nats : mapping
        Of `surprise`.

    Returns
    -------
    DataFrame
        Columns ``model``, ``bits`` ("8-bit", "32-bit" or "before"), ``seed``, the means of
        `lib.paper3.texts.sound_words`, and ``surprise`` (nats per token under the model before fine-tuning).
    """
    rows = []
    for model in before:
        for bits, seed, texts in _written(table, before, model):
            measures = soundness([text for samples in texts for text in samples], lexicon)
            kind = {"model": model, "bits": bits, "seed": seed}
            rows.append({**kind, **measures, "surprise": nats[model, bits, seed]})
    return pd.DataFrame(rows)


def published_soundness(
    printed: Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]], lexicon: Collection[str]
) -> pd.DataFrame:
    """Measure how sound the published completions are: (models x bits, measures), means over texts.

    Parameters
    ----------
    printed : mapping
        The published completions by model, prompt and bits (paper 3, Tables 4 to 7).
    lexicon : collection of str
        Known words.
    """
    rows = {
        (model, bits): soundness([text for prompt in of_model.values() for text in prompt[bits]], lexicon)
        for model, of_model in printed.items()
        for bits in ("8-bit", "32-bit")
    }
    return pd.DataFrame(rows).T.rename_axis(["model", "bits"])


def sounder(table: pd.DataFrame, lexicon: Collection[str], model: str, confidence: float) -> Interval:
    """Return the share of sound words, 32-bit minus 8-bit, paired by seed and prompt.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`, the base models' rows.
    lexicon : collection of str
        The words of the training texts.
    model : str
        Which model.
    confidence : float
        Coverage, over trials and prompts.
    """
    own = table[table["model"] == model].pivot(index="seed", columns="bits", values="completions").dropna()
    sound = {
        bits: np.array([[soundness(texts, lexicon)["sound"] for texts in prompts] for prompts in own[bits]])
        for bits in ("8-bit", "32-bit")
    }  # (trials, prompts) each
    return crossed_mean(sound["32-bit"] - sound["8-bit"]).interval(confidence)


def readings(
    table: pd.DataFrame,
    before: Mapping[str, Sequence[Sequence[str]]],
    prompts: Sequence[str],
    *,
    compute: str,
) -> list[Reading]:
    """Let each model, before fine-tuning, read the completions of its trials and its own: one run per model.

    Parameters
    ----------
    table : DataFrame
        Of `lib.paper3.tables.frame`, the base models' rows.
    before : mapping of str to sequences of str, (prompts, samples)
        The completions of each model before fine-tuning.
    prompts : sequence of str, (prompts,)
        What was completed.
    compute : str
        Type in which 4-bit weights are multiplied.
    """
    runs = []
    for model in before:
        read = [
            (prompt, text)
            for *_, texts in _written(table, before, model)
            for prompt, samples in zip(prompts, texts, strict=True)
            for text in samples
        ]
        asked, continuations = zip(*read, strict=True)
        runs.append(
            Reading(0, model=model, task=model, compute=compute, prompts=asked, continuations=continuations)
        )
    return runs


def surprise(
    records: Sequence[Record], table: pd.DataFrame, before: Mapping[str, Sequence[Sequence[str]]]
) -> dict[tuple[str, str, int], float]:
    """Return nats per token of the completions under the model before fine-tuning, by model, bits and seed.

    Parameters
    ----------
    records : sequence of Record
        Of `readings`, which are all done.
    table, before
        As of `readings`.

    Returns
    -------
    dict
        NaN where there was nothing to read. The model's own completions are under bits "before" and seed -1.
    """
    nats: dict[tuple[str, str, int], float] = {}
    for model, record in zip(before, records, strict=True):
        start = 0
        for bits, seed, texts in _written(table, before, model):
            own = slice(start, start + sum(len(samples) for samples in texts))
            tokens = record["tokens"][own].sum()
            nats[model, bits, seed] = float(record["losses"][own].sum() / tokens) if tokens else math.nan
            start = own.stop
    return nats


def _written(
    table: pd.DataFrame, before: Mapping[str, Sequence[Sequence[str]]], model: str
) -> list[tuple[str, int, Sequence[Sequence[str]]]]:
    """Return bits, seed and completions of a model's trials, then of the model before fine-tuning."""
    trials = table[table["model"] == model].sort_values(["bits", "seed"])
    rows = [
        (bits, int(seed), texts)
        for bits, seed, texts in zip(trials["bits"], trials["seed"], trials["completions"], strict=True)
    ]
    return [*rows, ("before", -1, before[model])]


def scored_summaries(texts: Sequence[Sequence[str]], references: Sequence[str]) -> pd.DataFrame:
    """Score the summaries of trials: (trials, 2), means over documents.

    Parameters
    ----------
    texts : sequence of sequences of str, (trials, documents)
        What the trials wrote.
    references : sequence of str, (documents,)
        The documents' own summaries.

    Returns
    -------
    DataFrame
        Columns ``exact`` (the same text) and ``shared words`` (`lib.paper3.texts.shared_words`).
    """
    return pd.DataFrame(
        [
            {
                "exact": np.mean([text == own for text, own in zip(trial, references, strict=True)]),
                "shared words": np.mean(
                    [shared_words(text, own) for text, own in zip(trial, references, strict=True)]
                ),
            }
            for trial in texts
        ]
    )


def agreement_intervals(texts: Sequence[Sequence[str]], confidence: float) -> dict[str, Interval | float]:
    """Return how far trials agree on the same questions.

    Parameters
    ----------
    texts : sequence of sequences of str, (trials, questions)
        Answers, labels or summaries.
    confidence : float
        Coverage, over trials and questions.

    Returns
    -------
    dict
        ``two trials agree``: the share of pairs of trials with the same text. ``all trials agree``: the share
        of questions. ``shared words``: of two trials. The first and the last with intervals if there are
        three trials.
    """
    unanimous, pairwise = agreement(texts)
    alike, close = (
        1 - pairs_of_trials(texts, differ),
        pairs_of_trials(texts, shared_words),
    )
    enough = len(texts) >= 3
    return {
        "two trials agree": share_interval(alike, confidence) if enough else pairwise,
        "all trials agree": unanimous,
        "shared words": share_interval(close, confidence) if enough else float(np.nanmean(close)),
    }


def _samples(rows: pd.DataFrame) -> list[list[list[str]]]:
    """Return the completions at temperature 1 by seed: (trials, prompts, samples)."""
    return rows.sort_values("seed")["completions"].to_list()


def _column(rows: pd.DataFrame, column: str) -> list[list[str]]:
    """Return a column of texts by seed: (trials, prompts)."""
    return rows.sort_values("seed")[column].to_list()


def _with_common_seeds(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Split a table by model, each with the seeds that all models have; no model with fewer than three.

    The models read the same prompts and their trials share seeds, so a prompt is one observation and a seed
    is one, however many models there are: pairs of trials are averaged over models, not counted for each.
    Intervals over pairs require three trials.
    """
    models = [rows for _, rows in table.groupby("model", sort=False)]
    common = set(table["seed"]).intersection(*(rows["seed"] for rows in models))
    return [rows[rows["seed"].isin(common)] for rows in models] if len(common) >= 3 else []


def _printed_models(printed: Mapping[str, Any], paper_names: Mapping[str, str]) -> list[str]:
    """Return the models for which the paper prints these values."""
    return [model for model, name in paper_names.items() if name in printed]
