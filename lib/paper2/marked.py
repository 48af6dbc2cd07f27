"""Whether the words on which seeds agree are those that people marked."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lib import stability
from lib.paper2.model_types import ModelType, shares
from lib.rationales.scores import MEASURES, Marks, agreement, by_chance
from lib.rationales.tables import Agreement, Key, over_models

Floats = NDArray[np.float64]
OfMoments = Callable[[Floats, Floats], Floats]
"""A function of the mean and the mean square over seeds of each word's relevance, (words,) each."""

ONE_SEED, SIGNAL, SNR = "one seed", "mean over seeds (signal)", "mean ÷ deviation over seeds (SNR)"
RANKINGS = (ONE_SEED, SIGNAL, SNR)

ROUNDING = 1e-9
"""The share of a row's largest number up to which a difference may be rounding. Relevances of a text's words
have a fixed sum, so the two words of a text deviate alike over seeds, and computed deviations almost."""


def mean_only(mean: Floats, _: Floats) -> Floats:
    """Return each word's mean relevance over seeds, the signal: (words,)."""
    return mean


def ranked_by_seeds(types: Mapping[str, ModelType], marks: Marks, method: str) -> dict[Key, Agreement]:
    """Return how well three rankings of words find the marked ones: of one seed, and of all seeds together.

    Parameters
    ----------
    types : mapping of str to ModelType
        Their explained texts are the marked ones.
    marks : sequence of sequences of bool, (texts,) of (words,)
    method : str
        Which relevance.

    Returns
    -------
    dict
        By type, ranking (`RANKINGS`) and measure; errors are those of seeds and texts.
    """
    lengths = [len(text) for text in marks]
    chance = by_chance(marks)
    found: dict[Key, Agreement] = {}
    for name, kind in types.items():
        relevance = shares(kind.relevance[method], lengths)
        by_model = agreement(stability.split_texts(relevance, lengths), marks)
        found |= over_models(name, ONE_SEED, by_model, chance)
        for ranking, score in ((SIGNAL, mean_only), (SNR, stability.mean_over_deviation)):
            for measure in MEASURES:
                values = _scored(score, marks, lengths, measure)
                above = _difference(values, _constant(chance[measure][0]))
                found[name, ranking, measure] = Agreement(
                    stability.mean_relevance_statistic(values, relevance, relevance**2),
                    stability.mean_relevance_statistic(above, relevance, relevance**2),
                    len(lengths),
                )
    return found


def stability_gains(types: Mapping[str, ModelType], marks: Marks, method: str) -> pd.DataFrame:
    """Return the agreement of words ranked by SNR minus that of words ranked by signal, with its interval.

    Parameters
    ----------
    types, marks, method
        As in `ranked_by_seeds`.

    Returns
    -------
    DataFrame, (types, measures)
        As text.
    """
    lengths = [len(text) for text in marks]
    rows: dict[str, dict[str, str]] = {}
    for name, kind in types.items():
        relevance = shares(kind.relevance[method], lengths)
        rows[name] = {}
        for measure in MEASURES:
            stable = _scored(stability.mean_over_deviation, marks, lengths, measure)
            relevant = _scored(mean_only, marks, lengths, measure)
            gain = stability.mean_relevance_statistic(_difference(stable, relevant), relevance, relevance**2)
            rows[name][measure] = str(gain.interval())
    return pd.DataFrame(rows).T.rename_axis("SNR minus signal")


def variability_table(types: Mapping[str, ModelType], marks: Marks, method: str) -> pd.DataFrame:
    """Return how a word's relevance and its variability over seeds go with being marked, as correlations.

    Parameters
    ----------
    types, marks, method
        As in `ranked_by_seeds`.

    Returns
    -------
    DataFrame, (types, 3)
        Pearson correlations of being marked (0 or 1) over a text's words, means over texts with their
        intervals, as text: with the mean over seeds, with the standard deviation over seeds, and with the
        part of the deviation that the mean does not predict (semipartial), since words of much relevance
        also vary more.
    """
    lengths = [len(text) for text in marks]
    truth = [np.array(text, float) for text in marks]

    def correlations(score: OfMoments) -> OfMoments:
        def by_text(mean: Floats, mean_square: Floats) -> Floats:
            scores = stability.split_texts(score(mean, mean_square)[None], lengths)
            return np.array([correlation(row[0], text) for row, text in zip(scores, truth, strict=True)])

        return by_text

    def beyond_mean(mean: Floats, mean_square: Floats) -> Floats:
        pairs = zip(
            stability.split_texts(mean[None], lengths),
            stability.split_texts(stability.deviation_over_seeds(mean, mean_square)[None], lengths),
            strict=True,
        )
        return np.concatenate([residual(spread[0], by[0]) for by, spread in pairs])

    scores = {
        "mean": mean_only,
        "deviation": stability.deviation_over_seeds,
        "deviation beyond the mean": beyond_mean,
    }
    rows = {}
    for name, kind in types.items():
        relevance = shares(kind.relevance[method], lengths)
        rows[name] = {
            label: str(
                stability.mean_relevance_statistic(correlations(score), relevance, relevance**2).interval()
            )
            for label, score in scores.items()
        }
    return pd.DataFrame(rows).T.rename_axis("correlation with being marked")


def correlation(a: Floats, b: Floats) -> float:
    """Return Pearson's correlation of two rows of numbers; 0 if one varies by no more than rounding."""
    for row in (a, b):
        if np.ptp(row) <= ROUNDING * np.abs(row).max():
            return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def residual(values: Floats, by: Floats) -> Floats:
    """Return what is left of values after their regression on others, (words,); 0 for mere rounding."""
    centred, predictor = values - values.mean(), by - by.mean()
    spread = predictor @ predictor
    left = centred - predictor * (predictor @ centred / spread if spread > 0 else 0.0)
    return np.where(np.abs(left) > ROUNDING * np.abs(values).max(), left, 0.0)


def _scored(score: OfMoments, marks: Marks, lengths: Sequence[int], measure: str) -> OfMoments:
    """Return a function of the words' moments over seeds that scores their ranking: (texts,)."""

    def by_text(mean: Floats, mean_square: Floats) -> Floats:
        rows = stability.split_texts(score(mean, mean_square)[None], lengths)
        return agreement(rows, marks, (measure,))[measure][0]

    return by_text


def _difference(one: OfMoments, other: OfMoments) -> OfMoments:
    return lambda mean, mean_square: one(mean, mean_square) - other(mean, mean_square)


def _constant(by_text: Floats) -> OfMoments:
    return lambda mean, mean_square: by_text
