"""Paper 2's tables: equally accurate models, ratios between types, the curve, and what choices change."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from transformers import PreTrainedConfig

from lib import claims, stability
from lib.claims import Claim, decisive_part
from lib.crossed import Crossed
from lib.intervals import Interval, exponential
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
from lib.stability import (
    Stability,
    equivalent_subset,
    mean_relevance_statistic,
    over_texts,
    signal_noise,
)
from lib.trained_parts import ABOVE, LORA
from lib.word_tables import role_agreement

QUANTITIES = {"signal": "signal", "noise": "noise", "snr": "SNR"}
SUBSETS = 50  # random subsets of the seeds, for each size

DEPARTURES = {
    "model": "a base model is out of reach of two CPU cores",
    "dataset": "the authors' texts have to be fetched, and a base model learns from them",
    "max_length": "time",
    "train_texts": "time",
    "test_texts": "time",
    "seeds": "time",
    "frozen_seeds": "time",
    "epochs": "changed by a parameter",
    "learning_rate": "a smaller encoder on few texts needs a higher one",
    "batch_size": "changed by a parameter",
    "precision": "time",
    "schedule": "changed by a parameter",
    "head_epochs": "changed by a parameter",
    "head_learning_rate": "a smaller encoder on few texts needs another one",
    "head_batch_size": "changed by a parameter",
}
"""Why a parameter differs from the authors' value."""


def departure_table(authors: Mapping[str, Any], here: Mapping[str, Any], longer: str) -> pd.DataFrame:
    """Return the parameters whose values differ from the authors', one row each, with the reason.

    Parameters
    ----------
    authors, here : mapping of str to value
        By the parameter's name; those of `DEPARTURES`.
    longer : str
        Which share of the texts is longer than what is read: from `lib.texts.longer_texts`.
    """
    reasons = DEPARTURES | {"max_length": f"{DEPARTURES['max_length']}; {longer}"}
    rows = {
        name: {"authors": str(authors[name]), "here": str(here[name]), "why": why}
        for name, why in reasons.items()
        if authors[name] != here[name]
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["authors", "here", "why"])


def side_by_side(
    claims_by_name: Mapping[str, Claim], measured: Mapping[str, Mapping[str, Interval | None]]
) -> pd.DataFrame:
    """Return what each of several trainings or formats would say about the claims: interval and verdict.

    What a claim requires is not checked; these verdicts do not enter the ledger.

    Parameters
    ----------
    claims_by_name : mapping of str to Claim
    measured : mapping of str to mapping of str to Interval
        For each column, what was measured for each claim; None where nothing could be.
    """
    columns: dict[str, dict[str, str]] = {}
    for column, intervals in measured.items():
        columns[column] = {}
        for name, interval in intervals.items():
            verdict = claims.judge(claims_by_name[name], interval, "nothing could be measured")
            text = f"{verdict.measured or '—'}: {verdict.verdict}"
            columns[column][claims_by_name[name].statement] = text
    return pd.DataFrame(columns)


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
    """Return the factor between two types' surfaces and the difference in accuracy, one row per pair.

    Parameters
    ----------
    types : mapping of str to ModelType
    pairs : sequence of (str, str), (pairs,)
        Names of the two types: the first is compared with the second.
    labels : array_like of int, (test texts,)

    Returns
    -------
    DataFrame, (pairs, 2)
        Index: "first / second". Columns, as text: ``surface``, the factor by which the first one's is smaller
        (÷) or larger (×), and ``accuracy, points``, the first one's minus the second one's in percentage
        points.
    """
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

    Parameters
    ----------
    measured : mapping of str to Measured
        By the types' names.
    pairs : sequence of (str, str), (pairs,)
        Names of the two types: the ratio is that of the first to the second.
    margin : float
        The factor within which two quantities count as the same, above 1.

    Returns
    -------
    DataFrame, (pairs, 5)
        Index: "first / second". Columns, as text: ``signal``, ``noise`` and ``SNR``, the ratios ("—" where
        one of the two is not positive), and ``signal is`` and ``noise is``, how the first compares with the
        second (`lib.paper2.model_types.Measured.likeness`).
    """
    rows = {}
    for one, other in pairs:
        a, b = measured[one], measured[other]
        row = {label: str(a.ratio(b, quantity) or "—") for quantity, label in QUANTITIES.items()}
        row["signal is"] = a.likeness(b, "signal", margin)
        row["noise is"] = a.likeness(b, "noise", margin)
        rows[f"{one} / {other}"] = row
    return pd.DataFrame(rows).T


def decomposition_table(
    steps: Mapping[str, tuple[str, str]],
    types: Mapping[str, ModelType],
    labels: ArrayLike,
    measured: Mapping[str, Mapping[str, Measured]],
) -> pd.DataFrame:
    """Return what each step from one type to another does to accuracy and noise, one row per step.

    Parameters
    ----------
    steps : mapping of str to (str, str)
        For each row the types after and before the step.
    types : mapping of str to ModelType
    labels : array_like of int, (test texts,)
    measured : mapping of str to mapping of str to Measured
        One column of noise ratios each.
    """
    rows = {}
    for label, (after, before) in steps.items():
        points = 100 * (types[after].accuracy(labels).mean() - types[before].accuracy(labels).mean())
        row = {"ratio": f"{after} / {before}", "accuracy, points": f"{points:+.1f}"}
        for name, by_type in measured.items():
            row[f"noise, {name}"] = str(by_type[after].ratio(by_type[before], "noise") or "—")
        rows[label] = row
    return pd.DataFrame(rows).T


def agreement_table(
    types: Mapping[str, ModelType],
    lengths: Sequence[int],
    method: str,
    *,
    top_words: int,
    permutations: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return how far two seeds agree, and in what share of the texts Friedman's test finds any agreement.

    That test needs three words: texts with fewer are left out of its share, which is NaN if none is left.

    Parameters
    ----------
    types : mapping of str to ModelType
    lengths : sequence of int, (texts,)
        Words of each explained text.
    method : str
        Which relevance.
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
        texts = stability.split_texts(kind.relevance[method], lengths)
        found = [stats.friedmanchisquare(*text.T).pvalue < 0.05 for text in texts if text.shape[1] >= 3]
        rows[name] = {"not uniform": np.mean(found) if found else math.nan}
        for label, measure in measures.items():
            nulls = [stability.permuted_null(measure, text, permutations, rng) for text in texts]
            rows[name][label] = np.nanmean([measure(text) for text in texts])
            rows[name][f"{label}, most by chance"] = np.nanmean(nulls, axis=0).max()
    return pd.DataFrame(rows).T


_POWER_COLUMNS = (
    "measured",
    "a true difference of 0 is possible",
    "seeds here",
    "seeds needed",
    "texts here",
    "texts needed",
)


class Equality(NamedTuple):
    """The measurements behind a claim of equality.

    Attributes
    ----------
    parts : sequence of Crossed
        All that the claim is about, at least one; None where nothing could be measured.
    logarithm : bool
        Whether they are those of a factor, in which the claim's region is given.
    equal : float
        The value if there is no difference.
    """

    parts: Sequence[Crossed | None]
    logarithm: bool = False
    equal: float = 0.0


def power_table(measured: Mapping[str, Equality], claims_by_name: Mapping[str, Claim]) -> pd.DataFrame:
    """Return how many seeds, or how many texts, a claim of equality needs, one row per claim.

    With so many seeds (and the texts of this run), or so many texts (and its seeds), the interval lies inside
    the region with a probability of 80 % if there is no difference at all. Where the interval excludes that,
    no number is given: more of either would show the difference. Nor is one where the interval has no width:
    nothing varied. Of several parts, the row is that of the decisive one (`lib.claims.decisive_part`).

    Parameters
    ----------
    measured : mapping of str to Equality
        By the claim's name.
    claims_by_name : mapping of str to Claim
    """
    rows = {}
    for name, equality in measured.items():
        claim = claims_by_name[name]
        rows[claim.statement] = {"region": str(claim.region), **_needed(equality, claim)}
    return pd.DataFrame(rows).T


def _needed(equality: Equality, claim: Claim) -> dict[str, str]:
    """Return the columns of `power_table` for one claim, apart from its region."""
    parts = [part for part in equality.parts if part is not None]
    if len(parts) < len(equality.parts):
        return dict.fromkeys(_POWER_COLUMNS, "—")
    measure = _factor if equality.logarithm else Crossed.interval
    confidence = claim.confidence or 0.95
    part, interval = decisive_part(measure, parts, claim.region, confidence)
    bounds = {"above": claim.region.above, "below": claim.region.below}
    equal = equality.equal
    if equality.logarithm:
        bounds = {side: math.log(bound) if bound > 0 else -math.inf for side, bound in bounds.items()}
        equal = math.exp(equal)
    needed = {**bounds, "truth": equality.equal, "confidence": confidence}
    contained = interval.low <= equal <= interval.high
    has_numbers = contained and interval.has_width
    return {
        "measured": str(interval),
        "a true difference of 0 is possible": "yes" if contained else "no",
        "seeds here": ", ".join(str(sample.count) for sample in part.seeds),
        "seeds needed": _number(part.seeds_needed(**needed)) if has_numbers else "—",
        "texts here": ", ".join(str(sample.count) for sample in part.texts),
        "texts needed": _number(part.texts_needed(**needed)) if has_numbers else "—",
    }


def _factor(logarithm: Crossed, confidence: float) -> Interval:
    return exponential(logarithm.interval(confidence))


def _number(needed: int | None) -> str:
    return "more than any" if needed is None else f"{needed:,}"


def curve_table(
    measured: Mapping[str, Measured], types: Mapping[str, ModelType], labels: ArrayLike
) -> pd.DataFrame:
    """Return the curve's points: surface, accuracy, and signal, noise and SNR with 95 % intervals.

    Parameters
    ----------
    measured : mapping of str to Measured
        By the types' names.
    types : mapping of str to ModelType
        The points, in their order.
    labels : array_like of int, (test texts,)

    Returns
    -------
    DataFrame, (types, 14)
        Columns ``point`` (the type's name), ``family`` (what it has in common with its neighbours),
        ``surface`` (bits), ``accuracy`` (a fraction), ``seeds`` (their number), and for each quantity
        ``signal``, ``noise`` and ``snr`` the unbiased estimate and its bounds, such as ``snr_low`` and
        ``snr_high``: NaN where the estimate is not positive.
    """
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
            row[quantity] = float(getattr(measured[name].estimate, quantity))
            row[f"{quantity}_low"] = interval.low if interval else math.nan
            row[f"{quantity}_high"] = interval.high if interval else math.nan
        rows.append(row)
    return pd.DataFrame(rows)


def proxy_table(measured: Mapping[str, Measured], groups: Mapping[str, Sequence[ModelType]]) -> pd.DataFrame:
    """Return Kendall's tau between surface and noise, and surface and SNR, one row per group of points.

    Parameters
    ----------
    measured : mapping of str to Measured
        By the types' names.
    groups : mapping of str to sequence of ModelType
        For each row the points, two at least.

    Returns
    -------
    DataFrame, (groups, 2)
        Columns ``τ of surface and noise`` and ``τ of surface and SNR``, from -1 to 1
        (`lib.paper2.model_types.rank_correlation`).
    """
    rows = {}
    for label, types in groups.items():
        rows[label] = {
            "τ of surface and noise": rank_correlation(measured, types, "noise"),
            "τ of surface and SNR": rank_correlation(measured, types, "snr"),
        }
    return pd.DataFrame(rows).T


def snr_by_seeds(
    types: Mapping[str, ModelType],
    lengths: Sequence[int],
    method: str,
    sizes: Sequence[int],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return the SNR over all texts from random subsets of the seeds, plug-in and unbiased.

    Parameters
    ----------
    types : mapping of str to ModelType
    lengths : sequence of int, (texts,)
        Words of each explained text.
    method : str
        Which relevance.
    sizes : sequence of int, (sizes,)
        Numbers of seeds: at least 2, and at most those of every type.
    rng : numpy.random.Generator
        Draws the subsets.

    Returns
    -------
    DataFrame, (types x sizes x 2, 6)
        Columns ``type``, ``estimate`` ("plug-in" or "unbiased"), ``seeds``, ``SNR`` (the mean over `SUBSETS`
        subsets), ``low`` and ``high`` (between which 90 % of them lie).
    """
    rows = []
    for name, kind in types.items():
        relevance = shares(kind.relevance[method], lengths)
        for size in sizes:
            subsets = [rng.choice(len(relevance), size, replace=False) for _ in range(SUBSETS)]
            for estimate in ("plug-in", "unbiased"):
                by_text = [signal_noise(relevance[subset], lengths, estimate=estimate) for subset in subsets]
                snr = [over_texts(subset).snr for subset in by_text]
                rows.append((name, estimate, size, np.mean(snr), *np.quantile(snr, [0.05, 0.95])))
    return pd.DataFrame(rows, columns=["type", "estimate", "seeds", "SNR", "low", "high"])


def cue_table(
    types: Mapping[str, ModelType], lengths: Sequence[int], method: str, roles: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Return how well relevance finds the texts' cues, by its mean over the seeds and by its stability.

    Parameters
    ----------
    types : mapping of str to ModelType
    lengths : sequence of int, (texts,)
        Words of each explained text.
    method : str
        Which relevance.
    roles : sequence of sequences of str, (texts,) of (words,)
        See `lib.word_tables.role_agreement`.
    """

    def precision(score: ArrayLike) -> Floats:
        by_text = [text[0] for text in stability.split_texts(np.asarray(score)[None], lengths)]
        return role_agreement(by_text, roles, {"cue"})["average_precision"].to_numpy()

    def precision_of_stable(mean: Floats, mean_square: Floats) -> Floats:
        return precision(stability.mean_over_deviation(mean, mean_square))

    rows = {}
    for name, kind in types.items():
        relevance = shares(kind.relevance[method], lengths)
        by_text = stability.split_texts(relevance, lengths)
        by_chance = role_agreement([text[0] for text in by_text], roles, {"cue"})["share"].mean()
        rows[name] = {
            "most relevant": str(mean_relevance_statistic(precision, relevance).interval()),
            "most stable": str(
                mean_relevance_statistic(precision_of_stable, relevance, relevance**2).interval()
            ),
            "by chance": f"{by_chance:.3g}",
        }
    return pd.DataFrame(rows).T


def _family(kind: ModelType) -> str:
    """Name what a type has in common with its neighbours on the curve."""
    if kind.training in TRAININGS:
        return kind.training
    if kind.training.endswith(" texts"):
        return "fewer texts"
    return {ABOVE: "upper layers", LORA: "LoRA"}.get(kind.training.split(":")[0], kind.training)
