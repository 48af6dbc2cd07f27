"""Texts that trained models write: how far two trials differ beyond sampling, and how sound a text is."""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import combinations, pairwise, product

import numpy as np
import pandas as pd

from lib.crossed import crossed_mean, pair_pseudo_values
from lib.intervals import Interval, proportion_interval

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

Comparison = Callable[[str, str], float]


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without numbers and punctuation."""
    return _WORD.findall(text.lower())


def shared_words(first: str, second: str) -> float:
    """Return how much two texts share, 0 to 1: the F1 score of their words (1 if neither has any).

    A word counts as often as it occurs in both. Token F1, as in question answering (Rajpurkar et al. 2016).
    """
    own, other = Counter(words(first)), Counter(words(second))
    total = own.total() + other.total()
    return 2 * (own & other).total() / total if total else 1.0


def unlike(first: str, second: str) -> float:
    """Return 1 minus `shared_words`: 0 for texts of the same words, 1 for texts without a common word."""
    return 1 - shared_words(first, second)


def differ(first: str, second: str) -> float:
    """Return 1 if two texts differ in any character, else 0."""
    return float(first != second)


def pairs_of_trials(texts: Sequence[Sequence[str]], compare: Comparison) -> np.ndarray:
    """Compare the texts of every pair of trials.

    Parameters
    ----------
    texts : sequence of sequences of str, (trials, prompts)
        One text per trial and prompt.
    compare : callable
        Symmetric, such as `differ`.

    Returns
    -------
    ndarray, (trials, trials, prompts)
        Symmetric; NaN on the diagonal.
    """
    trials, prompts = len(texts), len(texts[0])
    compared = np.full((trials, trials, prompts), np.nan)
    for first, second in combinations(range(trials), 2):
        for prompt in range(prompts):
            value = compare(texts[first][prompt], texts[second][prompt])
            compared[first, second, prompt] = compared[second, first, prompt] = value
    return compared


def within_trials(samples: Sequence[Sequence[Sequence[str]]], compare: Comparison) -> np.ndarray:
    """Compare the samples of one trial with each other, mean over their pairs: (trials, prompts).

    Parameters
    ----------
    samples : nested sequences of str, (trials, prompts, samples)
        At least two samples, drawn independently of each other.
    compare : callable
        Symmetric.
    """
    return np.array(
        [
            [np.mean([compare(first, second) for first, second in combinations(texts, 2)]) for texts in trial]
            for trial in samples
        ]
    )


def between_trials(samples: Sequence[Sequence[Sequence[str]]], compare: Comparison) -> np.ndarray:
    """Compare samples of two trials that were drawn independently of each other: (trials, trials, prompts).

    Sample k of every trial was drawn with the same random numbers, so only samples of different numbers are
    compared: what differs is the model and the draw.

    Parameters
    ----------
    samples : nested sequences of str, (trials, prompts, samples)
        At least two trials and two samples.
    compare : callable
        Symmetric.

    Returns
    -------
    ndarray, (trials, trials, prompts)
        Means over pairs of samples; symmetric, NaN on the diagonal.
    """
    trials, prompts = len(samples), len(samples[0])
    compared = np.full((trials, trials, prompts), np.nan)
    for first, second in combinations(range(trials), 2):
        for prompt in range(prompts):
            own, other = samples[first][prompt], samples[second][prompt]
            numbers = product(range(len(own)), range(len(other)))
            mean = np.mean([compare(own[k], other[m]) for k, m in numbers if k != m])
            compared[first, second, prompt] = compared[second, first, prompt] = mean
    return compared


def beyond_sampling(between: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Return how much further apart two trials are than two samples of one: (trials, trials, prompts).

    Parameters
    ----------
    between : ndarray, (trials, trials, prompts)
        Of `between_trials`.
    within : ndarray, (trials, prompts)
        Of `within_trials`.
    """
    return between - (within[:, None] + within[None, :]) / 2


def share_beyond_sampling(between: np.ndarray, within: np.ndarray) -> np.ndarray | None:
    """Return which share of the difference between two trials is beyond sampling: (trials, trials, prompts).

    The share is a ratio of means, `beyond_sampling` over ``between``. The values are its linearisation (the
    delta method): their mean over pairs and prompts is the ratio, and their variance that of the ratio.

    Parameters
    ----------
    between : ndarray, (trials, trials, prompts)
        Of `between_trials`.
    within : ndarray, (trials, prompts)
        Of `within_trials`.

    Returns
    -------
    ndarray or None
        NaN on the diagonal. None if no two trials differ: there is nothing of which to take a share.
    """
    beyond, whole = beyond_sampling(between, within), np.nanmean(between)
    if not whole > 0:
        return None
    share = np.nanmean(beyond) / whole
    return share + (beyond - share * between) / whole


def pseudo_values(pairs: np.ndarray) -> np.ndarray:
    """Turn a quantity of pairs of trials into one value per trial, for intervals over trials and prompts.

    See `lib.crossed.pair_pseudo_values`.

    Parameters
    ----------
    pairs : ndarray, (trials, trials, prompts)
        Symmetric; the diagonal is ignored.

    Returns
    -------
    ndarray, (trials, prompts)

    Raises
    ------
    ValueError
        With fewer than three trials.
    """
    apart = np.where(np.eye(len(pairs), dtype=bool)[:, :, None], 0.0, pairs)
    return pair_pseudo_values(apart.sum(1))


def sound_words(text: str, lexicon: Collection[str]) -> dict[str, float]:
    """Measure how sound a text is, by its words.

    Parameters
    ----------
    text : str
        A completion.
    lexicon : collection of str
        Known words, in lower case.

    Returns
    -------
    dict
        ``known``: the share of words in the lexicon. ``repeated``: the share of pairs of neighbouring words
        that the text contains already. ``sound``: the share of words that are known and do not end such a
        pair; 0 for a text without words.
    """
    own = words(text)
    known = [word in lexicon for word in own]
    seen: set[tuple[str, str]] = set()
    repeated = [False]
    for pair in pairwise(own):
        repeated.append(pair in seen)
        seen.add(pair)
    sound = [is_known and not again for is_known, again in zip(known, repeated, strict=False)]
    return {
        "known": float(np.mean(known)) if own else 0.0,
        "repeated": float(np.mean(repeated[1:])) if len(own) > 1 else 0.0,
        "sound": float(np.mean(sound)) if own else 0.0,
    }


def soundness(texts: Sequence[str], lexicon: Collection[str]) -> pd.Series:
    """Return the means of `sound_words` over texts."""
    return pd.DataFrame([sound_words(text, lexicon) for text in texts]).mean()


def lexicon_of(texts: Sequence[str]) -> frozenset[str]:
    """Return the words of texts."""
    return frozenset(word for text in texts for word in words(text))


def share_interval(pairs: np.ndarray, confidence: float) -> Interval:
    """Return the share of pairs of trials for which something holds, with its interval.

    Parameters
    ----------
    pairs : ndarray, (trials, trials, prompts)
        1 where it holds of a pair and a prompt, else 0, or the mean over models that share seeds and prompts;
        the diagonal is ignored.
    confidence : float
        Coverage.

    Returns
    -------
    Interval
        Over trials and prompts jointly (`pseudo_values`), in Wilson's form, which keeps its coverage near 0
        and 1. If it holds of all pairs or of none, there is no variance to go by: the exact interval of
        Clopper and Pearson, one observation per prompt. One exception cannot tell more than none: the ends
        never lie nearer to 1 or 0 than those.
    """
    prompts = pairs.shape[-1]
    of_none, of_all = (proportion_interval(number, prompts, confidence) for number in (0, prompts))
    apart = pairs[~np.eye(len(pairs), dtype=bool)]
    if apart.max() == 0:
        return of_none
    if apart.min() == 1:
        return of_all
    interval = crossed_mean(pseudo_values(pairs)).interval(confidence)
    share = interval.estimate
    width = (interval.high - share) ** 2 / (share * (1 - share))  # t^2 / n, n the effective sample size
    centre = (share + width / 2) / (1 + width)
    half = math.sqrt(share * (1 - share) * width + width**2 / 4) / (1 + width)
    return Interval(share, min(centre - half, of_all.low), max(centre + half, of_none.high))


def within(interval: Interval, lowest: float) -> Interval:
    """Return the part of an interval between the lowest possible value and 1."""
    estimate = min(max(interval.estimate, lowest), 1.0)  # rounding alone can put it outside
    return Interval(
        estimate, min(max(interval.low, lowest), estimate), max(min(interval.high, 1.0), estimate)
    )
