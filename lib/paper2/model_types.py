"""The model types of paper 2, fine-tuned or frozen, plain or quantised, and how they compare.

All types explain the same texts, and a type and its quantised versions have the same seeds. Comparisons are
therefore paired: all types share the texts, and the types of one training the seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lib.attribution import LRP
from lib.claims import Region
from lib.crossed import Crossed, crossed_difference
from lib.explanations import LABEL_LRP
from lib.intervals import Interval, bootstrap_interval, exponential
from lib.proportions import z_statistic
from lib.quantization import PLAIN
from lib.runs import Record
from lib.stability import (
    SIGNIFICANT,
    Stability,
    equivalent_subset,
    log_stability,
    over_texts,
    signal_noise,
    split_texts,
    stability_interval,
)
from lib.words import normalise

Floats = NDArray[np.float64]
Scale = Callable[[Floats, ArrayLike], Floats]

FINE_TUNED, FROZEN = "fine-tuned", "frozen"
TRAININGS = (FINE_TUNED, FROZEN)
"""The trainings of the paper's types; those between are named as in `lib.quantization.choose_trained`."""


def type_name(training: str, quantization: str) -> str:
    """Name a model type: ``frozen`` or ``frozen nf4``, for example (Table 1: Frozen_q (NF4))."""
    return training if quantization == PLAIN else f"{training} {quantization}"


@dataclass(frozen=True)
class ModelType:
    """The models of one type, one row per seed.

    Attributes
    ----------
    name : str
        From `type_name`, or the point of the curve.
    training : str
        What was trained: types of the same training are the same models, plain or quantised.
    surface : int
        Fine-tuning surface in bits.
    predicted : ndarray of int, (seeds, test texts)
        Predicted classes.
    relevance : dict of ndarray, (seeds, words)
        For each method, of all words of the explained texts, concatenated.
    """

    name: str
    training: str
    surface: int
    predicted: NDArray[np.uint8]
    relevance: Mapping[str, Floats]

    def keep(self, rows: Sequence[int] | NDArray[np.intp]) -> "ModelType":
        """Return the type with only the models in these rows."""
        relevance = {method: values[rows] for method, values in self.relevance.items()}
        return replace(self, predicted=self.predicted[rows], relevance=relevance)

    def correct(self, labels: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each model classifies each test text correctly: (seeds, test texts)."""
        return self.predicted == np.asarray(labels)

    def accuracy(self, labels: ArrayLike) -> Floats:
        """Return each model's share of test texts classified correctly: (seeds,)."""
        return self.correct(labels).mean(axis=1)


def model_type(
    name: str,
    records: Sequence[Record],
    *,
    surface: int,
    training: str | None = None,
    quantization: str = PLAIN,
    methods: Sequence[str] = (LRP, LABEL_LRP),
) -> ModelType:
    """Collect a type from finished records of `lib.paper2.runs`, one per seed.

    Parameters
    ----------
    name, surface, training
        As in `ModelType`; the training's name is that of the type if not given.
    records : sequence of Record, (seeds,)
    quantization : str
        ``plain`` or a format, whose results are taken from the records.
    methods : sequence of str
        Whose relevance is taken.

    Raises
    ------
    ValueError
        If there are fewer than three records: the noise of two has no interval.
    """
    if len(records) < 3:
        raise ValueError(f"model type {name!r}: {len(records)} finished runs; at least 3 are required")
    relevance = {
        method: np.stack([record[f"{quantization}/{method}"] for record in records]).astype(float)
        for method in methods
    }
    predicted = np.stack([record[f"{quantization}/predicted"] for record in records])
    return ModelType(name, training or name, surface, predicted, relevance)


def equally_accurate(kind: ModelType, accuracy: float, labels: ArrayLike) -> NDArray[np.intp]:
    """Return the rows of the models whose accuracy does not differ significantly from a given one.

    Parameters
    ----------
    kind : ModelType
    accuracy : float
        A fraction, such as the mean accuracy of the models to compare with.
    labels : array_like of int, (test texts,)

    Returns
    -------
    ndarray, (models,)
        In ascending order; by the authors' z.
    """
    z = z_statistic(accuracy, kind.accuracy(labels), np.size(labels))
    return np.flatnonzero(np.abs(z) <= SIGNIFICANT)


def accuracy_loss(one: ModelType, other: ModelType, labels: ArrayLike) -> Crossed:
    """Return by how much ``one`` is more accurate than ``other``, with its error over seeds and texts.

    Paired by seed if the types are versions of the same models.
    """
    return crossed_difference(one.correct(labels), other.correct(labels), paired=_same_models(one, other))


def mostly_correct(types: Sequence[ModelType], labels: ArrayLike) -> NDArray[np.bool_]:
    """Return whether most models of these types together classify each test text correctly: (test texts,)."""
    return np.concatenate([kind.correct(labels) for kind in types]).mean(axis=0) > 0.5


def shares(relevance: Floats, lengths: ArrayLike) -> Floats:
    """Bring every text's relevances to paper 1's scale, in units of an equal share: (seeds, words).

    Each text's words then have mean 1, so long and short texts count alike. The sign, which only gives the
    predicted class, is dropped.
    """
    texts = split_texts(relevance, lengths)
    return np.concatenate([normalise(text, 0) * text.shape[1] for text in texts], axis=1)


def unit_scale(relevance: Floats, lengths: ArrayLike) -> Floats:
    """Leave relevances as the method gave them, except for one factor per type: their mean magnitude is 1.

    The alternative to `shares`: texts are not normalised.
    """
    return relevance / np.abs(relevance).mean()


@dataclass(frozen=True)
class Measured:
    """Signal, noise and SNR of a type over all texts.

    Attributes
    ----------
    estimate : Stability
        Of numbers, unbiased.
    plug_in : Stability
        Of numbers, by the paper's definition.
    logs : Stability
        Of arrays (seeds, texts): what each contributes to the logarithm (`lib.stability.log_stability`).
    training : str
        Types of the same training are the same models.
    """

    estimate: Stability
    plug_in: Stability
    logs: Stability
    training: str

    def interval(self, quantity: str) -> Interval | None:
        """Return ``signal``, ``noise`` or ``snr`` with its 95 % interval; None if it is not positive."""
        return stability_interval(getattr(self.logs, quantity))

    def compared(self, other: "Measured", quantity: str) -> Crossed | None:
        """Return the logarithm of the ratio of a quantity to that of ``other``, with its error.

        Paired by text, and by seed if both types are the same models. None if either is not positive.
        """
        one, another = getattr(self.logs, quantity), getattr(other.logs, quantity)
        if np.isnan(one).any() or np.isnan(another).any():
            return None
        return crossed_difference(one, another, paired=_same_models(self, other))

    def ratio(self, other: "Measured", quantity: str, confidence: float = 0.95) -> Interval | None:
        """Return the ratio of a quantity to that of ``other``; None if either is not positive."""
        compared = self.compared(other, quantity)
        return None if compared is None else exponential(compared.interval(confidence))

    def likeness(self, other: "Measured", quantity: str, margin: float) -> str:
        """Return how a quantity compares with that of ``other``: same, lower, higher or open.

        The same within a factor, by two one-sided tests at 5 %; otherwise by the interval of 95 %.
        """
        inner, ratio = self.ratio(other, quantity, 0.9), self.ratio(other, quantity)
        if inner is None or ratio is None:
            return "open"
        if Region(above=1 / margin, below=margin).contains(inner):
            return "same"
        if ratio.low <= 1 <= ratio.high:
            return "open"
        return "lower" if ratio.high < 1 else "higher"


def _same_models(one: ModelType | Measured, other: ModelType | Measured) -> bool:
    return one.training == other.training


def measure(
    types: Mapping[str, ModelType],
    lengths: ArrayLike,
    *,
    method: str = LRP,
    scale: Scale = shares,
    texts: Sequence[int] | NDArray[np.intp] | None = None,
) -> dict[str, Measured]:
    """Measure signal, noise and SNR of every type over all texts.

    Parameters
    ----------
    types : mapping of str to ModelType
        At least three seeds each.
    lengths : array_like of int, (texts,)
        Words of each explained text.
    method : str
        Which relevance.
    scale : callable
        `shares` or `unit_scale`.
    texts : sequence of int, optional
        Indices of the texts to use; all by default. With a single text, the error is that of the seeds. The
        relevance may stop after the last of them.

    Returns
    -------
    dict
        By the names of ``types``.
    """
    lengths = np.asarray(lengths)
    chosen = np.arange(len(lengths)) if texts is None else np.unique(texts)
    words = np.flatnonzero(np.repeat(np.isin(np.arange(len(lengths)), chosen), lengths))
    measured = {}
    for name, kind in types.items():
        relevance = scale(kind.relevance[method][:, words], lengths[chosen])
        measured[name] = Measured(
            over_texts(signal_noise(relevance, lengths[chosen], estimate="unbiased")),
            over_texts(signal_noise(relevance, lengths[chosen])),
            log_stability(relevance, lengths[chosen]),
            kind.training,
        )
    return measured


def rank_correlation(measured: Mapping[str, Measured], types: Sequence[ModelType], quantity: str) -> float:
    """Return Kendall's tau-b between the surface and a quantity over types: a description, not a sample."""
    surfaces = [kind.surface for kind in types]
    estimates = [float(getattr(measured[kind.name].estimate, quantity)) for kind in types]
    return float(stats.kendalltau(surfaces, estimates).statistic)


def equivalent_share(correct: NDArray[np.bool_], n: int, *, seed: int, resamples: int) -> Interval:
    """Return the share of models that are equivalent to the best by the authors' z.

    The bootstrap draws seeds and texts jointly. It adds the texts' error to a spread of accuracies that holds
    it already, so resampled shares are rather too low: an interval above a bound is above it.

    Parameters
    ----------
    correct : ndarray of bool, (seeds, test texts)
        Whether each model classifies each text correctly.
    n : int
        Number of texts in z; the paper's 1,000 make a band of the same width whatever the test texts.
    seed : int
        Of the resampling.
    resamples : int
        Number of resamples.
    """
    rng = np.random.default_rng(seed)
    seeds, texts = correct.shape
    drawn_texts = rng.multinomial(texts, np.full(texts, 1 / texts), size=resamples)  # (resamples, texts)
    accuracies = drawn_texts.astype(float) @ correct.T / texts  # (resamples, seeds)
    drawn = np.take_along_axis(accuracies, rng.integers(seeds, size=(resamples, seeds)), axis=1)
    best = drawn.max(axis=1, keepdims=True)
    shares_kept = (z_statistic(best, drawn, n) <= SIGNIFICANT).mean(axis=1)
    estimate = len(equivalent_subset(correct.mean(axis=1), n)) / seeds
    return bootstrap_interval(estimate, shares_kept, n=min(seeds, texts))


def expected_share(accuracies: Floats, n: int, *, models: int, seed: int, resamples: int) -> float:
    """Return the share that would be equivalent to the best among so many models, by the authors' z.

    The best of many models is better than the best of few, so the share falls as models are added. Accuracies
    are drawn from a normal distribution with the mean and the standard deviation of those observed.

    Parameters
    ----------
    accuracies : ndarray, (seeds,)
        At least two. They hold the texts' error, so it is not added.
    n : int
        Number of texts in z.
    models : int
        Number of models among which the best one is.
    seed : int
        Of the draws.
    resamples : int
        Number of draws, (models,) each.
    """
    normal = np.random.default_rng(seed).normal
    drawn = normal(accuracies.mean(), accuracies.std(ddof=1), (resamples, models)).clip(0, 1)
    return float((z_statistic(drawn.max(axis=1, keepdims=True), drawn, n) <= SIGNIFICANT).mean())
