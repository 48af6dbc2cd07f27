"""What repeats among trials: which results are the same to the bit, on which texts and answers they agree."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from lib.paper3.tables import bits_of
from lib.runs.records import Record
from lib.runs.sweep import finished
from lib.seeding import fingerprint


def bitwise(records: Sequence[Mapping[str, object]], what: Iterable[str]) -> dict[str, int]:
    """Count the different values among records: 1 where all are equal to the bit.

    Parameters
    ----------
    records : sequence of mapping
        Results of trials.
    what : iterable of str
        Names of results, compared by their fingerprints.
    """
    return {name: len({fingerprint(record[name]) for record in records}) for name in what}


def repeats(trials: Sequence[Record], repetitions: Sequence[Record], what: Sequence[str]) -> pd.DataFrame:
    """Count the different results of trials: of the same seeds done twice, and of different seeds.

    Parameters
    ----------
    trials : sequence of Record
        Several of each model and recipe.
    repetitions : sequence of Record
        One of each model and recipe, with the seeds of one of its trials.
    what : sequence of str
        Names of results.

    Returns
    -------
    DataFrame
        Index: "same seeds, twice" or "different seeds", then model, then bits. A column for each of ``what``.
        Runs that failed are left out.
    """
    same, different = {}, {}
    for second in finished(repetitions):
        kind = [second.settings[name] for name in ("model", "recipe")]
        alike = [one for one in finished(trials) if [one.settings[n] for n in ("model", "recipe")] == kind]
        twice = [one for one in alike if one.settings["seeds"] == second.settings["seeds"]]
        label = second.settings["model"], bits_of(second)
        same["same seeds, twice", *label] = bitwise([*twice, second], what)
        different["different seeds", *label] = bitwise(alike, what)
    return pd.DataFrame(same | different).T


def different_texts(texts: Sequence[Sequence[str]]) -> list[float]:
    """Return, for each prompt, the number of different texts by the number of trials: (prompts,).

    Parameters
    ----------
    texts : (trials, prompts)
    """
    return [len(set(column)) / len(texts) for column in zip(*texts, strict=True)]


def agreement(answers: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Return how far trials agree on the answers to the same questions.

    Parameters
    ----------
    answers : (trials, questions)
        At least two trials.

    Returns
    -------
    unanimous : float
        The share of questions that all trials answer alike.
    pairwise : float
        The mean share of questions that two trials answer alike.
    """
    table = np.array(answers)  # (trials, questions)
    unanimous = (table == table[0]).all(0).mean()
    pairs = [(first == second).mean() for first, second in combinations(table, 2)]
    return float(unanimous), float(np.mean(pairs))
