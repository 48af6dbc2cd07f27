"""Paper 2's tables: equally accurate models, ratios between types, the curve, and what choices change."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from transformers import PreTrainedConfig

from lib import stability
from lib.attribution import LRP
from lib.intervals import mean_interval
from lib.paper2.model_types import (
    FROZEN,
    TRAININGS,
    Floats,
    Measured,
    ModelType,
    rank_correlation,
    shares,
    type_name,
)
from lib.quantization import surface_bits
from lib.stability import Stability, equivalent_subset, over_texts, signal_noise
from lib.words import role_agreement

QUANTITIES = {"signal": "signal", "noise": "noise", "snr": "SNR"}
SUBSETS = 50  # random subsets of the seeds, for each size


def surface_table(
    formats: Sequence[str],
    printed: Mapping[str, Mapping[str, float]],
    encoders: Mapping[str, PreTrainedConfig],
) -> pd.DataFrame:
    """Return the fine-tuning surfaces in bits, printed and counted, one row per model type.

    Parameters
    ----------
    formats : sequence of str
        ``plain`` and formats of `lib.quantization.quantize`.
    printed : mapping
        ``surface`` of each of the paper's types.
    encoders : mapping of str to PreTrainedConfig
        One column each.
    """
    rows = {}
    for training in TRAININGS:
        trained = "head" if training == FROZEN else "all"
        for quantization in formats:
            name = type_name(training, quantization)
            row = {"printed in the paper": printed.get(name, {}).get("surface")}
            for label, config in encoders.items():
                row[label] = surface_bits(config, trained, quantization)
            rows[name] = row
    return pd.DataFrame(rows).T


def accuracy_table(
    types: Mapping[str, ModelType],
    equivalent: Mapping[str, ModelType],
    labels: ArrayLike,
    printed: Mapping[str, Mapping[str, float]],
) -> pd.DataFrame:
    """Return the paper's Table 1 beside ours, one row per type, accuracies in percent.

    Parameters
    ----------
    types, equivalent : mapping of str to ModelType
        All models of each type, and those that are compared.
    labels : array_like of int, (test texts,)
    printed : mapping
        ``accuracy`` (a fraction) and ``plus_minus`` (percentage points) of each of the paper's types.
    """
    rows = {}
    for name, kind in equivalent.items():
        accuracies, published = 100 * kind.accuracy(labels), "—"
        if name in printed:
            paper = printed[name]
            published = f"{100 * paper['accuracy']:.1f} ± {paper['plus_minus']:.1f}"
        rows[name] = {
            "accuracy, %": f"{accuracies.mean():.1f} ± {accuracies.std(ddof=1):.1f}",
            "paper, %": published,
            "equivalent by the authors' z": _kept(types[name].accuracy(labels), np.size(labels), "paper"),
            "by the pooled z": _kept(types[name].accuracy(labels), np.size(labels), "pooled"),
        }
    return pd.DataFrame(rows).T


def _kept(accuracies: Floats, n: int, z: Literal["paper", "pooled"]) -> str:
    return f"{len(equivalent_subset(accuracies, n, z))} of {len(accuracies)}"


def reductions(
    types: Mapping[str, ModelType], pairs: Sequence[tuple[str, str]], labels: ArrayLike
) -> pd.DataFrame:
    """Return the factor between two types' surfaces and the difference in accuracy, one row per pair."""
    rows = {}
    for one, other in pairs:
        points = 100 * (types[one].accuracy(labels).mean() - types[other].accuracy(labels).mean())
        factor = types[other].surface / types[one].surface
        surface = f"÷ {factor:.3g}" if factor >= 1 else f"× {1 / factor:.3g}"
        rows[f"{one} / {other}"] = {"surface": surface, "accuracy, points": f"{points:+.1f}"}
    return pd.DataFrame(rows).T


def ratio_table(
    measured: Mapping[str, Measured], pairs: Sequence[tuple[str, str]], margin: float
) -> pd.DataFrame:
    """Return ratios of signal, noise and SNR with 95 % intervals, one row per pair.

    Two more columns say whether signal and noise are the same within ``margin``
    (`lib.paper2.model_types.Measured.likeness`).
    """
    rows = {}
    for one, other in pairs:
        a, b = measured[one], measured[other]
        row = {label: str(a.ratio(b, quantity)) for quantity, label in QUANTITIES.items()}
        row["signal is"] = a.likeness(b, "signal", margin)
        row["noise is"] = a.likeness(b, "noise", margin)
        rows[f"{one} / {other}"] = row
    return pd.DataFrame(rows).T


def agreement_table(
    types: Mapping[str, ModelType],
    lengths: Sequence[int],
    *,
    top_words: int,
    permutations: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return how far two seeds agree, and in what share of the texts Friedman's test finds any agreement.

    Parameters
    ----------
    types : mapping of str to ModelType
    lengths : sequence of int, (texts,)
        Words of each explained text.
    top_words : int
        Number of top words whose overlap is measured.
    permutations : int
        Of each permuted null; the columns "most by chance" give the highest mean over the texts.
    rng : numpy.random.Generator
    """

    def overlap(text: ArrayLike) -> float:
        return stability.top_k_overlap(text, top_words)

    measures = {"tau": stability.kendall_tau, "overlap": overlap}
    rows = {}
    for name, kind in types.items():
        texts = stability.split_texts(kind.relevance[LRP], lengths)
        rows[name] = {"not uniform": np.mean([stability.concordance(text).p < 0.05 for text in texts])}
        for label, measure in measures.items():
            nulls = [stability.permuted_null(measure, text, permutations, rng) for text in texts]
            rows[name][label] = np.nanmean([measure(text) for text in texts])
            rows[name][f"{label}, most by chance"] = np.nanmean(nulls, axis=0).max()
    return pd.DataFrame(rows).T


def shared_top_words(one: ModelType, other: ModelType, lengths: Sequence[int], top_words: int) -> Floats:
    """Return the share of the top words of mean relevance that two types have in common: (texts,)."""
    means = np.stack([one.relevance[LRP].mean(axis=0), other.relevance[LRP].mean(axis=0)])
    return np.array(
        [stability.top_k_overlap(text, top_words) for text in stability.split_texts(means, lengths)]
    )


def shared_between_halves(kind: ModelType, lengths: Sequence[int], top_words: int) -> Floats:
    """Return `shared_top_words` between the models in even and in odd rows of one type: (texts,)."""
    even, odd = (kind.keep(range(start, len(kind.predicted), 2)) for start in (0, 1))
    return shared_top_words(even, odd, lengths, top_words)


def curve_table(
    measured: Mapping[str, Measured], types: Mapping[str, ModelType], labels: ArrayLike
) -> pd.DataFrame:
    """Return the curve's points, one row per type: surface, accuracy; signal, noise, SNR with intervals."""
    rows = []
    for name, kind in types.items():
        row = {
            "point": name,
            "family": _family(kind),
            "surface": kind.surface,
            "accuracy": kind.accuracy(labels).mean(),
            "seeds": len(kind.predicted),
        }
        for quantity in Stability._fields:
            interval = measured[name].interval(quantity)
            row[quantity] = interval.estimate
            row[f"{quantity}_low"], row[f"{quantity}_high"] = interval.low, interval.high
        rows.append(row)
    return pd.DataFrame(rows)


def proxy_table(measured: Mapping[str, Measured], groups: Mapping[str, Sequence[ModelType]]) -> pd.DataFrame:
    """Return Kendall's tau between surface and noise, and surface and SNR, one row per group of points."""
    rows = {}
    for label, types in groups.items():
        rows[label] = {
            "τ of surface and noise": str(rank_correlation(measured, types, "noise")),
            "τ of surface and SNR": str(rank_correlation(measured, types, "snr")),
        }
    return pd.DataFrame(rows).T


def snr_by_seeds(
    types: Mapping[str, ModelType], lengths: Sequence[int], sizes: Sequence[int], rng: np.random.Generator
) -> pd.DataFrame:
    """Return the SNR over all texts from random subsets of the seeds, plug-in and unbiased.

    Columns ``type``, ``estimate``, ``seeds``, ``SNR`` (the mean over `SUBSETS` subsets), ``low`` and ``high``
    (between which 90 % of them lie).
    """
    rows = []
    for name, kind in types.items():
        relevance = shares(kind.relevance[LRP], lengths)
        for size in sizes:
            subsets = [rng.choice(len(relevance), size, replace=False) for _ in range(SUBSETS)]
            for estimate in ("plug-in", "unbiased"):
                by_text = [signal_noise(relevance[subset], lengths, estimate=estimate) for subset in subsets]
                snr = [over_texts(subset).snr for subset in by_text]
                rows.append((name, estimate, size, np.mean(snr), *np.quantile(snr, [0.05, 0.95])))
    return pd.DataFrame(rows, columns=["type", "estimate", "seeds", "SNR", "low", "high"])


def cue_table(
    types: Mapping[str, ModelType], lengths: Sequence[int], roles: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Return how well relevance finds the texts' cues, by its mean over the seeds and by its stability.

    Parameters
    ----------
    types : mapping of str to ModelType
    lengths : sequence of int, (texts,)
        Words of each explained text.
    roles : sequence of sequences of str, (texts,) of (words,)
        See `lib.words.role_agreement`.
    """
    rows: dict[str, dict[str, str]] = {}
    for name, kind in types.items():
        relevance = shares(kind.relevance[LRP], lengths)
        mean, spread = relevance.mean(axis=0), relevance.std(axis=0, ddof=1)
        rows[name] = {}
        for label, score in {"most relevant": mean, "most stable": mean / (spread + 1e-9)}.items():
            by_text = [text[0] for text in stability.split_texts(score[None], lengths)]
            scores = role_agreement(by_text, roles, {"cue"})
            rows[name][label] = str(mean_interval(scores["average_precision"].dropna(), 0.95))
        rows[name]["by chance"] = f"{scores['share'].mean():.3g}"
    return pd.DataFrame(rows).T


def _family(kind: ModelType) -> str:
    """Name what a type has in common with its neighbours on the curve."""
    if kind.training in TRAININGS:
        return kind.training
    return {"above": "upper layers", "lora": "LoRA"}.get(kind.training.split(":")[0], kind.training)
