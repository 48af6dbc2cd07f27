"""How much models rely on a planted artifact, from the records of their runs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lib.claims import Region, decisive
from lib.intervals import Interval
from lib.paper1.compared import FINE_TUNED, FROZEN, require_a_run
from lib.paper1.joint import HALVES, Floats, Indices, on_halves, over_halves
from lib.paper1.runs import FineTunedOnArtifact, FrozenOnArtifact
from lib.runs import Record


class Group(NamedTuple):
    """Models of one kind, trained with one schedule; frozen heads have ``""`` for it."""

    kind: str
    schedule: str


class Outcome(NamedTuple):
    """What one model makes of the test texts.

    Attributes
    ----------
    clean, planted : ndarray, (test texts,)
        The classes predicted without and with the artifact.
    accuracy : float
        Without it.
    relevance : float
        The artifact's mean share of a planted text's relevance.
    """

    clean: NDArray[np.uint8]
    planted: NDArray[np.uint8]
    accuracy: float
    relevance: float


Outcomes = dict[float, dict[int, Outcome]]  # by rate and seed


def outcomes(records: Sequence[Record]) -> dict[Group, Outcomes]:
    """Collect what models make of the planted artifact.

    Parameters
    ----------
    records : sequence of Record
        Of `lib.paper1.runs.FineTunedOnArtifact` and `FrozenOnArtifact`; failed ones are left out.

    Returns
    -------
    dict of Group to dict of float to dict of int to Outcome
        By kind and schedule, rate and seed.

    Raises
    ------
    RuntimeError
        If all runs of a kind and schedule failed; with the commonest reason.
    """
    found: dict[Group, Outcomes] = {}
    records_of: dict[Group, list[Record]] = {}
    for record in records:
        run = record.run
        if isinstance(run, FrozenOnArtifact):
            group, seeds = Group(FROZEN, ""), run.seeds
        elif isinstance(run, FineTunedOnArtifact):
            group, seeds = Group(FINE_TUNED, run.training.schedule), (run.seed,)
        else:
            continue
        by_rate = found.setdefault(group, {})
        records_of.setdefault(group, []).append(record)
        if record.status == "failed":
            continue
        by_seed = by_rate.setdefault(run.rate, {})
        for index, seed in enumerate(seeds):
            by_seed[seed] = Outcome(
                record["clean"][index],
                record["planted"][index],
                float(record["accuracy"][index]),
                float(record["relevance"][index].mean()),
            )
    for group, by_rate in found.items():
        trained = f", schedule {group.schedule!r}" if group.schedule else ""
        require_a_run(by_rate, f"{group.kind} models on texts with the artifact{trained}", records_of[group])
    return found


def reliance(outcome: Outcome, texts: Indices | slice = slice(None)) -> float:
    """Return the share of the texts predicted as class 0 that the planted artifact turns to class 1.

    NaN if none of the texts is predicted as class 0.
    """
    turned = outcome.planted[texts][outcome.clean[texts] == 0]
    return float(turned.mean()) if len(turned) else float("nan")


def reliance_table(found: Mapping[Group, Outcomes]) -> pd.DataFrame:
    """Return how much each model relies on the artifact: one row per group, rate and seed.

    Parameters
    ----------
    found : mapping
        From `outcomes`.

    Returns
    -------
    DataFrame
        Columns ``model`` (the kind), ``schedule``, ``rate``, ``seed``, ``reliance``, ``relevance`` and
        ``accuracy``; see `reliance` and `Outcome`.

    Raises
    ------
    RuntimeError
        If there is no model.
    """
    rows = []
    for group, by_rate in found.items():
        for rate, by_seed in by_rate.items():
            for seed, outcome in by_seed.items():
                values = {"reliance": reliance(outcome), "relevance": outcome.relevance}
                where = {"model": group.kind, "schedule": group.schedule, "rate": rate, "seed": seed}
                rows.append(where | values | {"accuracy": outcome.accuracy})
    require_a_run(rows, "models on texts with the artifact")
    return pd.DataFrame(rows).sort_values(["model", "schedule", "rate", "seed"], ignore_index=True)


def correct_without_artifact(found: Outcomes, labels: Sequence[int]) -> NDArray[np.bool_]:
    """Return whether each model classifies each clean text correctly if nothing was planted: (seeds, texts).

    Parameters
    ----------
    found : Outcomes
        Of a group from `outcomes`; rate 0 is used.
    labels : sequence of int, (test texts,)
        The true classes.

    Raises
    ------
    RuntimeError
        If no model at rate 0 is there.
    """
    require_a_run(found.get(0.0, {}), "models at rate 0")
    predicted = np.stack([outcome.clean for outcome in found[0.0].values()])
    return predicted == np.array(labels)


def gap_on_halves(tuned: Outcomes, frozen: Outcomes, rate: float) -> Floats:
    """Return how much more fine-tuned models rely on the artifact than frozen ones, as `on_halves` does.

    Parameters
    ----------
    tuned, frozen : Outcomes
        Of two groups from `outcomes`.
    rate : float
        Above 0: of either group's reliance, that of the model with the same seed at rate 0 is subtracted (the
        word may change a prediction without having been planted).

    Returns
    -------
    array, (seeds, 1 + halves)
        From `lib.paper1.joint.on_halves`, for the seeds that both groups have at both rates; none if the runs
        of a rate failed. A seed with a model that predicts class 1 throughout is left out.
    """
    groups = [outcome.get(level, {}) for outcome in (tuned, frozen) for level in (rate, 0.0)]  # by seed, each
    seeds = [seed for seed in groups[0] if all(seed in by_seed for by_seed in groups)]
    if not seeds:
        return np.empty((0, 1 + HALVES))

    def gaps(texts: Indices) -> Floats:
        values = [[reliance(by_seed[seed], texts) for seed in seeds] for by_seed in groups]
        planted, before, frozen_planted, frozen_before = np.array(values)  # (seeds,) each
        return (planted - before) - (frozen_planted - frozen_before)

    table = on_halves(gaps, len(groups[0][seeds[0]].clean))
    return table[np.isfinite(table).all(axis=1)]


def deciding_gap(gaps: Mapping[float, Floats], region: Region, confidence: float) -> Interval | None:
    """Return the gap at the rate of planting that decides whether it lies in a region at every rate.

    Parameters
    ----------
    gaps : mapping of float to array, (seeds, 1 + halves)
        By rate, from `gap_on_halves`; at least one.
    region : Region
        Where the gap must lie.
    confidence : float
        Coverage.

    Returns
    -------
    Interval or None
        Over seeds and texts, from `lib.claims.decisive`. None if fewer than two seeds are left at some rate.
    """
    if min(len(table) for table in gaps.values()) < 2:
        return None

    def gap(rate: float, coverage: float) -> Interval:
        return over_halves(gaps[rate]).interval(coverage)

    return decisive(gap, list(gaps), region, confidence)
