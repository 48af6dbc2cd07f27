"""Paper 2's tables: equally accurate models, ratios between types, the curve, and what choices change."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from transformers import PretrainedConfig

from lib import stability as agreement
from lib.attribution import LRP
from lib.intervals import mean_interval
from lib.paper2.model_types import Floats, Measured, ModelType, shares
from lib.quantization import surface_bits
from lib.stability import Stability, equivalent_subset, over_texts, signal_noise
from lib.words import role_agreement

QUANTITIES = {"signal": "signal", "noise": "noise", "snr": "SNR"}
SUBSETS = 50  # random subsets of the seeds, of each size


def surface_table(
    names: Mapping[tuple[str, str], str],
    printed: Mapping[str, Mapping[str, float]],
    encoders: Mapping[str, PretrainedConfig],
) -> pd.DataFrame:
    """Return the fine-tuning surfaces in bits, printed and counted, a row a model type.

    Parameters
    ----------
    names : mapping of (training, quantisation) to str
        The types' names; training is ``fine-tuned`` or ``frozen``.
    printed : mapping
        For the paper's types ``surface``.
    encoders : mapping of str to PretrainedConfig
        A column each.
    """
    rows = {}
    for (training, quantization), name in names.items():
        trained = "head" if training == "frozen" else "all"
        rows[name] = {"printed in the paper": printed.get(name, {}).get("surface")}
        rows[name] |= {
            label: surface_bits(config, trained, quantization) for label, config in encoders.items()
        }
    return pd.DataFrame(rows).T


def accuracy_table(
    types: Mapping[str, ModelType],
    equivalent: Mapping[str, ModelType],
    labels: Sequence[int],
    printed: Mapping[str, Mapping[str, float]],
) -> pd.DataFrame:
    """Return the paper's Table 1 beside ours, a row a type, accuracies in percent.

    Parameters
    ----------
    types, equivalent : mapping of str to ModelType
        All models of each type, and those that are compared.
    labels : sequence of int
        (test texts,)
    printed : mapping
        For the paper's types ``accuracy`` (a fraction) and ``plus_minus`` (percentage points).
    """

    def kept(name: str, z: str) -> str:
        accuracies = types[name].accuracy(labels)
        return f"{len(equivalent_subset(accuracies, len(labels), z))} of {len(accuracies)}"

    rows = {}
    for name, kind in equivalent.items():
        accuracies, theirs = 100 * kind.accuracy(labels), printed.get(name)
        rows[name] = {
            "accuracy, %": f"{accuracies.mean():.1f} ± {accuracies.std(ddof=1):.1f}",
            "paper, %": f"{100 * theirs['accuracy']:.1f} ± {theirs['plus_minus']:.1f}" if theirs else "—",
            "equivalent by the authors' z": kept(name, "paper"),
            "by the pooled z": kept(name, "pooled"),
        }
    return pd.DataFrame(rows).T


def reductions(
    types: Mapping[str, ModelType], pairs: Sequence[tuple[str, str]], labels: Sequence[int]
) -> pd.DataFrame:
    """Return by what the surface is divided from one type to another, and what that costs, a row a pair."""
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
    """Return ratios of signal, noise and SNR with 95 % intervals, and what is known of the first two."""
    rows = {}
    for one, other in pairs:
        a, b = measured[one], measured[other]
        row = {
            label: str(a.ratio(b, name)) for name, label in zip(Stability._fields, QUANTITIES, strict=True)
        }
        row |= {f"{name} is": a.likeness(b, name, margin) for name in ("signal", "noise")}
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
    """Return how far two seeds agree, and in which share of the texts Friedman's test finds any agreement.

    Parameters
    ----------
    types : mapping of str to ModelType
    lengths : sequence of int
        (texts,): words of each.
    top_words : int
        Whose overlap is taken.
    permutations : int
        Of each permuted null; the columns "most by chance" hold the highest mean over the texts.
    rng : numpy.random.Generator
    """
    measures = {
        "tau": agreement.kendall_tau,
        "overlap": lambda text: agreement.top_k_overlap(text, top_words),
    }
    rows = {}
    for name, kind in types.items():
        texts = agreement.split_texts(kind.relevance[LRP], lengths)
        rows[name] = {"not uniform": np.mean([agreement.concordance(text).p < 0.05 for text in texts])}
        for label, measure in measures.items():
            dealt = [agreement.permuted_null(measure, text, permutations, rng) for text in texts]
            rows[name][label] = np.nanmean([measure(text) for text in texts])
            rows[name][f"{label}, most by chance"] = np.nanmean(dealt, axis=0).max()
    return pd.DataFrame(rows).T


def shared_top_words(one: ModelType, other: ModelType, lengths: Sequence[int], top_words: int) -> Floats:
    """Return the share of the top words of mean relevance that two types have in common: (texts,)."""
    means = np.stack([one.relevance[LRP].mean(axis=0), other.relevance[LRP].mean(axis=0)])
    return np.array(
        [agreement.top_k_overlap(text, top_words) for text in agreement.split_texts(means, lengths)]
    )


def curve_table(
    measured: Mapping[str, Measured], types: Mapping[str, ModelType], labels: Sequence[int]
) -> pd.DataFrame:
    """Return the curve's points, a row a type: surface, accuracy, signal, noise and SNR with intervals."""
    rows = []
    for name, kind in types.items():
        row = {"point": name, "family": _family(kind), "surface": kind.surface}
        row |= {"accuracy": kind.accuracy(labels).mean(), "seeds": len(kind.predicted)}
        for quantity in Stability._fields:
            interval = measured[name].interval(quantity)
            row |= {quantity: interval.estimate, f"{quantity}_low": interval.low}
            row |= {f"{quantity}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)


def snr_by_seeds(
    types: Mapping[str, ModelType], lengths: Sequence[int], sizes: Sequence[int], rng: np.random.Generator
) -> pd.DataFrame:
    """Return the SNR over all texts from random subsets of the seeds, plug-in and unbiased.

    Columns ``type``, ``estimate``, ``seeds``, ``SNR`` (the mean over `SUBSETS` subsets), ``low`` and ``high``
    (which hold 90 % of them).
    """
    rows = []
    for name, kind in types.items():
        relevance = shares(kind.relevance[LRP], lengths)
        for size in sizes:
            drawn = [rng.choice(len(relevance), size, replace=False) for _ in range(SUBSETS)]
            for estimate in ("plug-in", "unbiased"):
                by_text = [signal_noise(relevance[some], lengths, estimate=estimate) for some in drawn]
                snr = [over_texts(of_texts).snr for of_texts in by_text]
                rows.append((name, estimate, size, np.mean(snr), *np.quantile(snr, [0.05, 0.95])))
    return pd.DataFrame(rows, columns=["type", "estimate", "seeds", "SNR", "low", "high"])


def cue_table(
    types: Mapping[str, ModelType], lengths: Sequence[int], roles: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Return how well relevance finds the cues of the texts, by its mean over the seeds and by its stability.

    Parameters
    ----------
    types : mapping of str to ModelType
    lengths : sequence of int
        (texts,): words of each.
    roles : sequence of sequences of str
        (texts,) of (words,): see `lib.words.role_agreement`.
    """
    rows = {}
    for name, kind in types.items():
        relevance = shares(kind.relevance[LRP], lengths)
        mean, spread = relevance.mean(axis=0), relevance.std(axis=0, ddof=1)
        rows[name] = {}
        for label, score in {"most relevant": mean, "most stable": mean / (spread + 1e-9)}.items():
            by_text = [text[0] for text in agreement.split_texts(score[None], lengths)]
            scores = role_agreement(by_text, roles, {"cue"})
            rows[name][label] = str(mean_interval(scores["average_precision"].dropna(), 0.95))
        rows[name]["by chance"] = f"{scores['share'].mean():.3g}"
    return pd.DataFrame(rows).T


def _family(kind: ModelType) -> str:
    """Name what a type has in common with its neighbours on the curve."""
    if kind.training in ("fine-tuned", "frozen"):
        return kind.training
    return {"above": "upper layers", "lora": "LoRA"}.get(kind.training.split(":")[0], kind.training)
