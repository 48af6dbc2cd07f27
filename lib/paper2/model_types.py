"""The model types of paper 2, fine-tuned or frozen, plain or quantised, and how they compare.

All types explain the same texts, and a type and its quantised versions have the same seeds. Comparisons are
therefore paired: all types share the resampled texts, and the types of one training the resampled seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lib.attribution import LRP
from lib.intervals import Interval, bootstrap_interval
from lib.proportions import z_statistic
from lib.quantization import PLAIN
from lib.runs import Record
from lib.seeding import derive
from lib.stability import (
    SIGNIFICANT,
    Stability,
    equivalent,
    equivalent_subset,
    over_texts,
    resample,
    signal_noise,
    split_texts,
)
from lib.words import normalise

RESAMPLES = 10_000
CHUNK = 500  # resamples at a time: (resamples, words) then fits into a CPU's cache

Floats = NDArray[np.float64]
Scale = Callable[[Floats, ArrayLike], Floats]

FINE_TUNED, FROZEN = "fine-tuned", "frozen"
TRAININGS = (FINE_TUNED, FROZEN)
"""The trainings of the paper's types; those between are named as in `lib.quantization.choose_trained`."""


def type_name(training: str, quantization: str) -> str:
    """Name a model type as the paper's Table 1 does: ``frozen`` or ``frozen nf4``, for example."""
    return training if quantization == PLAIN else f"{training} {quantization}"


@dataclass(frozen=True)
class ModelType:
    """The models of one type, one row per seed.

    Attributes
    ----------
    name : str
        As in the paper's Table 1, or the point of the curve.
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
    quantization: str,
    training: str,
    surface: int,
    methods: Sequence[str] = (LRP,),
) -> ModelType:
    """Collect a type from finished records of `lib.paper2.runs`, one per seed.

    Raises
    ------
    ValueError
        If there are fewer than two records: one model has no noise.
    """
    if len(records) < 2:
        raise ValueError(f"model type {name!r}: {len(records)} finished runs; at least 2 are required")
    relevance = {
        method: np.stack([record[f"{quantization}/{method}"] for record in records]).astype(float)
        for method in methods
    }
    predicted = np.stack([record[f"{quantization}/predicted"] for record in records])
    return ModelType(name, training, surface, predicted, relevance)


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
    z = [z_statistic(accuracy, own, np.size(labels)) for own in kind.accuracy(labels)]
    return np.flatnonzero(np.abs(z) <= SIGNIFICANT)


def accuracy_loss(
    one: ModelType, other: ModelType, labels: ArrayLike, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """Return by how much ``one`` is more accurate than ``other``, with its 95 % bootstrap interval.

    Seeds and texts are resampled jointly: the texts once for both types, and the seeds too if the types are
    versions of the same models.

    Parameters
    ----------
    one, other : ModelType
    labels : array_like of int, (test texts,)
    seed : int
        Of the resampling.
    resamples : int
        Number of resamples.
    """
    text_counts = resample(np.size(labels), resamples, np.random.default_rng(derive(seed, "texts")))
    means, drawn = [], []
    for kind in (one, other):
        correct = kind.correct(labels).astype(float)
        seed_counts = resample(len(correct), resamples, np.random.default_rng(derive(seed, kind.training)))
        means.append(correct.mean())
        drawn.append(((seed_counts @ correct) * text_counts).sum(axis=1) / correct.size)
    n = min(len(one.predicted), len(other.predicted), np.size(labels))
    return bootstrap_interval(float(means[0] - means[1]), drawn[0] - drawn[1], n=n)


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
    resamples : Stability
        Of arrays (resamples,).
    drawn : int
        The number of seeds or of texts that were resampled, whichever is smaller.
    """

    estimate: Stability
    plug_in: Stability
    resamples: Stability
    drawn: int

    def interval(self, quantity: str, level: float = 0.95) -> Interval:
        """Return ``signal``, ``noise`` or ``snr`` with its bootstrap interval."""
        estimate, values = getattr(self.estimate, quantity), getattr(self.resamples, quantity)
        return bootstrap_interval(float(estimate), values, level, n=self.drawn)

    def ratio(self, other: "Measured", quantity: str, level: float = 0.95) -> Interval | None:
        """Return the paired ratio of a quantity to that of ``other``; None if the other is not positive."""
        estimate = float(_ratio(getattr(self.estimate, quantity), getattr(other.estimate, quantity)))
        if not np.isfinite(estimate):
            return None
        drawn = min(self.drawn, other.drawn)
        return bootstrap_interval(estimate, self._resampled_ratio(other, quantity), level, n=drawn)

    def equivalent(self, other: "Measured", quantity: str, margin: float) -> bool:
        """Return whether a quantity equals that of ``other`` within a factor, by two one-sided tests."""
        return equivalent(self._resampled_ratio(other, quantity), margin, n=min(self.drawn, other.drawn))

    def likeness(self, other: "Measured", quantity: str, margin: float) -> str:
        """Return how a quantity compares with that of ``other``: same, lower, higher or open."""
        if self.equivalent(other, quantity, margin):
            return "same"
        ratio = self.ratio(other, quantity)
        if ratio is None or ratio.low <= 1 <= ratio.high:
            return "open"
        return "lower" if ratio.high < 1 else "higher"

    def _resampled_ratio(self, other: "Measured", quantity: str) -> Floats:
        return _ratio(getattr(self.resamples, quantity), getattr(other.resamples, quantity))


def _ratio(one: ArrayLike, other: ArrayLike) -> Floats:
    """Divide, negative values set to 0: the true signal is not negative, but its unbiased estimate may be."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(np.maximum(one, 0), np.maximum(other, 0))


@dataclass(frozen=True)
class Bootstrap:
    """How types are measured: over these texts, with a bootstrap over seeds and texts jointly.

    Attributes
    ----------
    lengths : sequence of int, (texts,)
        Words of each explained text.
    resamples : int
        Number of resamples.
    seed : int
        Of the resampling.
    """

    lengths: Sequence[int]
    resamples: int
    seed: int

    def measure(
        self,
        types: Mapping[str, ModelType],
        *,
        scale: Scale = shares,
        method: str = LRP,
        texts: Sequence[int] | NDArray[np.intp] | None = None,
    ) -> dict[str, Measured]:
        """Measure signal, noise and SNR of every type over all texts.

        Parameters
        ----------
        types : mapping of str to ModelType
        scale : callable
            `shares` or `unit_scale`.
        method : str
            Which relevance.
        texts : sequence of int, optional
            Indices of the texts to use; all by default. With a single text, only the seeds are resampled. The
            relevance may stop after the last of them.

        Returns
        -------
        dict
            By the names of ``types``. Row i of the resamples has the same texts in every type, and the same
            seeds in types of one training, so ratios are paired.
        """
        lengths = np.asarray(self.lengths)
        chosen = np.arange(len(lengths)) if texts is None else np.unique(texts)
        words = np.flatnonzero(np.repeat(np.isin(np.arange(len(lengths)), chosen), lengths))
        text_counts = resample(len(chosen), self.resamples, np.random.default_rng(derive(self.seed, "texts")))
        measured = {}
        for name, kind in types.items():
            relevance = scale(kind.relevance[method][:, words], lengths[chosen])
            seeds = len(relevance)
            rng = np.random.default_rng(derive(self.seed, kind.training))
            seed_counts = resample(seeds, self.resamples, rng)
            measured[name] = Measured(
                over_texts(signal_noise(relevance, lengths[chosen], estimate="unbiased")),
                over_texts(signal_noise(relevance, lengths[chosen])),
                over_texts(_resampled(relevance, seed_counts, lengths[chosen]), text_counts),
                min(seeds, len(chosen)) if len(chosen) > 1 else seeds,
            )
        return measured


def _resampled(relevance: Floats, seed_counts: Floats, lengths: NDArray[np.intp]) -> Stability:
    """Return signal, noise and SNR of each text in each resample of the seeds: arrays (resamples, texts).

    Over all pairs of different seeds, the unbiased noise (`lib.stability.signal_noise`) is the mean of half
    the squared difference of their relevances, and the unbiased signal the mean covariance over words. A
    resample may draw a seed several times; it is not paired with itself, so the expectation over resamples is
    the unbiased estimate, and few seeds do not make a resample's noise vary more than they differ.
    """
    weights = seed_counts / seed_counts.sum(axis=1, keepdims=True)  # (resamples, seeds)
    pairs = 1 - (weights**2).sum(axis=1)  # 0 where a resample has a single seed
    pairs[pairs < 1e-12] = np.nan
    quantities = []
    for text in split_texts(relevance, lengths):
        around_mean = text - text.mean(axis=0)  # small numbers to square: no cancellation
        products = around_mean @ around_mean.T / text.shape[1]
        squares = np.diag(products)
        centred = text - text.mean(axis=1, keepdims=True)
        covariances = centred @ centred.T / text.shape[1]  # (seeds, seeds)
        signal = ((weights @ covariances) * weights).sum(axis=1) - weights**2 @ np.diag(covariances)
        noise = weights @ squares - ((weights @ products) * weights).sum(axis=1)
        quantities.append((signal / pairs, noise / pairs))
    signal, noise = (np.stack(values, axis=1) for values in zip(*quantities, strict=True))
    return Stability(signal, noise, _ratio(signal, noise))


def rank_correlation(measured: Mapping[str, Measured], types: Sequence[ModelType], quantity: str) -> Interval:
    """Return Kendall's tau-b between surface and a quantity over types, with its 95 % bootstrap interval."""
    surfaces = np.array([kind.surface for kind in types])
    estimates = np.array([getattr(measured[kind.name].estimate, quantity) for kind in types])
    resamples = np.stack([getattr(measured[kind.name].resamples, quantity) for kind in types], axis=1)
    drawn = min(measured[kind.name].drawn for kind in types)
    estimate = stats.kendalltau(surfaces, estimates).statistic
    return bootstrap_interval(float(estimate), _kendall_taus(surfaces, resamples), 0.95, n=drawn)


def _kendall_taus(x: NDArray[np.number], rows: Floats) -> Floats:
    """Return tau-b between ``x`` (points,) and each of ``rows`` (resamples, points), as scipy for one."""
    one, other = np.triu_indices(len(x), k=1)
    rows = stats.rankdata(rows, axis=1)  # two infinite SNRs are a tie
    signs, row_signs = np.sign(x[one] - x[other]), np.sign(rows[:, one] - rows[:, other])
    return row_signs @ signs / (np.linalg.norm(signs) * np.linalg.norm(row_signs, axis=1))


def equivalent_share(
    correct: NDArray[np.bool_], n: int, *, seed: int, resamples: int = RESAMPLES
) -> Interval:
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
    accuracies = resample(texts, resamples, rng) @ correct.T / texts  # (resamples, seeds)
    drawn = np.take_along_axis(accuracies, rng.integers(seeds, size=(resamples, seeds)), axis=1)
    best = drawn.max(axis=1, keepdims=True)
    mean = (best + drawn) / 2
    # z is 0 where both are 1: there is no difference
    shares_kept = (best - drawn <= SIGNIFICANT * np.sqrt(mean * (1 - mean) / n)).mean(axis=1)
    estimate = len(equivalent_subset(correct.mean(axis=1), n)) / seeds
    return bootstrap_interval(estimate, shares_kept, 0.95, n=min(seeds, texts))
