"""Agreement with people's marks as tables: one for figures and files, one for reading."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from lib.crossed import Crossed, crossed_mean
from lib.intervals import Interval
from lib.rationales.scores import MEASURES, Scores


class Agreement(NamedTuple):
    """The agreement of one ranking with people's marks, by one measure.

    Attributes
    ----------
    value : Crossed
        Mean over texts (and seeds).
    above_chance : Crossed
        The same minus what a random ranking of the same texts has on average.
    texts : int
        How many texts it was measured on.
    """

    value: Crossed
    above_chance: Crossed
    texts: int


Key = tuple[str, str, str]  # the kind of models, the ranking, the measure


def over_models(models: str, ranking: str, scores: Scores, chance: Scores) -> dict[Key, Agreement]:
    """Return the mean agreement of rankings that each model gives.

    Parameters
    ----------
    models, ranking : str
        What the kind of models and the ranking are called.
    scores : dict of str to array, (models, texts)
        By measure, from `lib.rationales.scores.agreement`.
    chance : dict of str to array, (1, texts)
        From `lib.rationales.scores.by_chance`; further texts are ignored.
    """
    found = {}
    for measure in MEASURES:
        values = scores[measure]
        texts = values.shape[1]
        above = values - chance[measure][:, :texts]
        found[models, ranking, measure] = Agreement(crossed_mean(values), crossed_mean(above), texts)
    return found


def measured_table(found: Mapping[Key, Agreement], confidence: float) -> pd.DataFrame:
    """Return agreements in tidy form, one row per kind of models, ranking and measure.

    Returns
    -------
    DataFrame
        Columns ``models``, ``ranking``, ``measure``, ``texts``; ``estimate``, ``low``, ``high``; and the same
        above chance as ``above_estimate``, ``above_low``, ``above_high``.
    """
    rows = []
    for (models, ranking, measure), agreement in found.items():
        interval = agreement.value.interval(confidence)
        above = agreement.above_chance.interval(confidence)
        rows.append(
            {
                "models": models,
                "ranking": ranking,
                "measure": measure,
                "texts": agreement.texts,
                **{name: getattr(interval, name) for name in ("estimate", "low", "high")},
                **{f"above_{name}": getattr(above, name) for name in ("estimate", "low", "high")},
            }
        )
    return pd.DataFrame(rows)


def reading_table(measured: pd.DataFrame, references: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Return the rows of `measured_table` as text, references last.

    Parameters
    ----------
    measured : DataFrame
        From `measured_table`.
    references : mapping of str to mapping of str to float
        By name and measure, on all texts.
    """
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for row in measured.to_dict("records"):
        columns = rows.setdefault((row["ranking"], row["models"]), {"texts": str(row["texts"])})
        columns[row["measure"]] = str(Interval(row["estimate"], row["low"], row["high"]))
        columns[f"{row['measure']}, above chance"] = str(
            Interval(row["above_estimate"], row["above_low"], row["above_high"])
        )
    for name, values in references.items():
        rows[name, ""] = {measure: f"{values[measure]:.3f}" for measure in MEASURES}
    return pd.DataFrame(rows).T.fillna("").rename_axis(["ranking", "models"])


def reference_means(**references: Scores) -> dict[str, dict[str, float]]:
    """Return references as numbers, their means over all texts, by name and measure."""
    return {
        name.replace("_", " "): {measure: float(scores[measure].mean()) for measure in MEASURES}
        for name, scores in references.items()
    }
