"""The model types of paper 2, fine-tuned or frozen, plain or quantised, and how they compare.

All types explain the same texts, and a type and its quantised versions have the same seeds: texts, and within
a training seeds, are drawn together whenever types are compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lib.attribution import LRP
from lib.intervals import Interval, bootstrap_interval
from lib.runs.records import Record
from lib.seeding import derive
from lib.stability import (
    Stability,
    bootstrap_signal_noise,
    equivalent,
    equivalent_subset,
    over_texts,
    resample,
    signal_noise,
    split_texts,
)
from lib.words import normalise

Floats = NDArray[np.float64]
Scale = Callable[[Floats, Sequence[int]], Floats]


@dataclass(frozen=True)
class ModelType:
    """The models of one type, a row a seed.

    Attributes
    ----------
    name : str
    training : str
        What was trained: types of the same training are the same models, quantised or not.
    surface : int
        Fine-tuning surface in bits.
    predicted : ndarray of int, (seeds, test texts)
    relevance : dict of ndarray, (seeds, words)
        For each method, of all words of the explained texts in a row.
    """

    name: str
    training: str
    surface: int
    predicted: NDArray[np.uint8]
    relevance: Mapping[str, Floats]

    def keep(self, seeds: Sequence[int]) -> "ModelType":
        """Return the type with some of its models, by their row."""
        relevance = {method: values[seeds] for method, values in self.relevance.items()}
        return replace(self, predicted=self.predicted[seeds], relevance=relevance)

    def accuracy(self, labels: Sequence[int]) -> Floats:
        """Return each model's share of test texts classified rightly: (seeds,)."""
        return (self.predicted == np.asarray(labels)).mean(axis=1)


def model_type(
    name: str,
    records: Sequence[Record],
    *,
    quantization: str,
    training: str,
    surface: int,
    methods: Sequence[str] = (LRP,),
) -> ModelType:
    """Collect a type from the records of `lib.paper2.runs`'s runs, one a seed."""
    relevance = {
        method: np.stack([record[f"{quantization}/{method}"] for record in records]).astype(float)
        for method in methods
    }
    predicted = np.stack([record[f"{quantization}/predicted"] for record in records])
    return ModelType(name, training, surface, predicted, relevance)


def shares(relevance: Floats, lengths: Sequence[int]) -> Floats:
    """Bring every text's relevances to paper 1's scale, in units of an equal share: (seeds, words).

    A text's words then have 1 in the mean, and long texts count as short ones do. The sign, which says what
    class was predicted, is left out.
    """
    texts = split_texts(relevance, lengths)
    return np.concatenate([normalise(text, 0) * text.shape[1] for text in texts], axis=1)


def unit_scale(relevance: Floats, lengths: Sequence[int]) -> Floats:
    """Leave relevances as the method gave them, but for one factor a type: their mean magnitude is 1.

    The other side of `shares`: nothing is done to a text.
    """
    return relevance / np.abs(relevance).mean()


@dataclass(frozen=True)
class Measured:
    """Signal, noise and SNR of a type over all texts.

    Attributes
    ----------
    estimate : Stability
        Of numbers, without bias.
    plug_in : Stability
        Of numbers, by the paper's definition.
    resamples : Stability
        Of arrays (resamples,).
    drawn : int
        The smaller of the numbers of seeds and texts that were resampled.
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
        """Say whether a quantity is the same as that of ``other`` within a factor, by two one-sided tests."""
        return equivalent(self._resampled_ratio(other, quantity), margin, n=min(self.drawn, other.drawn))

    def likeness(self, other: "Measured", quantity: str, margin: float) -> str:
        """Say what is known of a quantity beside that of ``other``: same, lower, higher or open."""
        if self.equivalent(other, quantity, margin):
            return "same"
        ratio = self.ratio(other, quantity)
        if ratio is None or ratio.low <= 1 <= ratio.high:
            return "open"
        return "lower" if ratio.high < 1 else "higher"

    def _resampled_ratio(self, other: "Measured", quantity: str) -> Floats:
        return _ratio(getattr(self.resamples, quantity), getattr(other.resamples, quantity))


def _ratio(one: ArrayLike, other: ArrayLike) -> Floats:
    """Divide what cannot be negative, as the true signal cannot, though its unbiased estimate may be."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(np.maximum(one, 0), np.maximum(other, 0))


def measure(
    types: Sequence[ModelType],
    lengths: Sequence[int],
    *,
    resamples: int,
    seed: int,
    scale: Scale = shares,
    method: str = LRP,
    texts: NDArray[np.intp] | None = None,
) -> dict[str, Measured]:
    """Measure every type over all texts, with a bootstrap over seeds and texts jointly.

    Parameters
    ----------
    types : sequence of ModelType
    lengths : sequence of int
        (texts,): words of each explained text.
    resamples : int
    seed : int
        Of the resampling.
    scale : callable
        `shares` or `unit_scale`.
    method : str
        Which relevance.
    texts : ndarray, optional
        Indices of the texts to use, by default all. Of a single text only the seeds are resampled. Relevance
        may end where the last of them ends.

    Returns
    -------
    dict
        By the type's name. Row i of the resamples has the same texts in every type, and the same seeds in
        types of one training, so that ratios are paired.
    """
    lengths = np.asarray(lengths)
    chosen = np.arange(len(lengths)) if texts is None else np.unique(texts)
    words = np.flatnonzero(np.repeat(np.isin(np.arange(len(lengths)), chosen), lengths))
    text_counts = resample(len(chosen), resamples, np.random.default_rng(derive(seed, "texts")))
    measured = {}
    for kind in types:
        relevance = scale(kind.relevance[method][:, words], lengths[chosen])
        seeds = len(relevance)
        seed_counts = resample(seeds, resamples, np.random.default_rng(derive(seed, kind.training)))
        measured[kind.name] = Measured(
            over_texts(signal_noise(relevance, lengths[chosen], estimate="unbiased")),
            over_texts(signal_noise(relevance, lengths[chosen])),
            over_texts(bootstrap_signal_noise(relevance, seed_counts, lengths[chosen]), text_counts),
            min(seeds, len(chosen)) if len(chosen) > 1 else seeds,
        )
    return measured


def rank_correlation(measured: Mapping[str, Measured], types: Sequence[ModelType], quantity: str) -> Interval:
    """Return Kendall's tau-b of surface and a quantity over types, with its 95 % bootstrap interval."""
    surfaces = np.array([kind.surface for kind in types])
    estimates = np.array([getattr(measured[kind.name].estimate, quantity) for kind in types])
    resamples = np.stack([getattr(measured[kind.name].resamples, quantity) for kind in types], axis=1)
    drawn = min(measured[kind.name].drawn for kind in types)
    estimate = stats.kendalltau(surfaces, estimates).statistic
    return bootstrap_interval(float(estimate), _kendall_taus(surfaces, resamples), 0.95, n=drawn)


def _kendall_taus(x: NDArray[np.number], rows: Floats) -> Floats:
    """Return tau-b of ``x`` (points,) and each of ``rows`` (resamples, points), as scipy does of one."""
    one, other = np.triu_indices(len(x), k=1)
    rows = stats.rankdata(rows, axis=1)  # two infinite SNRs are a tie
    signs, row_signs = np.sign(x[one] - x[other]), np.sign(rows[:, one] - rows[:, other])
    return row_signs @ signs / (np.linalg.norm(signs) * np.linalg.norm(row_signs, axis=1))


def equivalent_share(accuracies: Floats, n: int, *, seed: int, resamples: int = 1_000) -> Interval:
    """Return the share of models that are equivalent by the authors' z, with a bootstrap over the seeds."""
    rng = np.random.default_rng(seed)
    seeds = len(accuracies)
    drawn = rng.choice(accuracies, (resamples, seeds))
    shares_kept = np.array([len(equivalent_subset(row, n)) for row in drawn]) / seeds
    return bootstrap_interval(len(equivalent_subset(accuracies, n)) / seeds, shares_kept, 0.95, n=seeds)
