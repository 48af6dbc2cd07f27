"""QLoRA trials as tables: records, the published values in the same form, and texts side by side."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lib.runs.records import Record


def bits_of(record: Record) -> str:
    """Return "8-bit" or "32-bit": how the optimizer of a trial keeps its states."""
    return "8-bit" if "8bit" in record.settings["recipe"]["optimizer"] else "32-bit"


def frame(records: Sequence[Record], **labels: Sequence[Any]) -> pd.DataFrame:
    """Return records as a table, one row a run, failed ones included.

    Parameters
    ----------
    records : sequence of Record
        Of `lib.qlora.trial.trial`.
    **labels : sequence
        Further columns, in the records' order.

    Returns
    -------
    DataFrame
        Columns ``model``, ``bits`` ("8-bit" or "32-bit"), ``seed``, ``status``, ``seconds``, ``peak_memory``,
        every result that is a number, a text or a list, and the labels.
    """
    rows = [
        {
            "model": record.settings["model"],
            "bits": bits_of(record),
            "seed": record.settings["seed"],
            "status": record.status,
            "peak_memory": record.peak_memory,
            **record.result,
        }
        for record in records
    ]
    return pd.DataFrame(rows).assign(**labels)


def by_trial(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Spread a column of a table of trials: (trials, models x bits), the trials numbered from 1.

    Parameters
    ----------
    table : DataFrame
        Of `frame`.
    value : str
        Which column.
    """
    columns = pd.MultiIndex.from_frame(table[["model", "bits"]].drop_duplicates())
    wide = table.pivot(index="seed", columns=["model", "bits"], values=value)[columns]
    return wide.set_axis(range(1, len(wide) + 1)).rename_axis("trial")


def as_printed(
    values: Mapping[str, Mapping[str, Sequence[float]]], called: Mapping[str, str]
) -> pd.DataFrame:
    """Bring published values of trials into the form of `by_trial`.

    Parameters
    ----------
    values : mapping
        The trials' values by the paper's name of a model, then by bits.
    called : mapping
        The paper's name of each model by the name here.
    """
    columns = {(here, bits): column for here, name in called.items() for bits, column in values[name].items()}
    wide = pd.DataFrame(columns).rename_axis(columns=["model", "bits"])
    return wide.set_axis(range(1, len(wide) + 1)).rename_axis("trial")


def side_by_side(
    table: pd.DataFrame, model: str, number: int, printed: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Put each trial's completion of a prompt beside the published ones: (trials, 4).

    Parameters
    ----------
    table : DataFrame
        Of `frame`, with the column ``completions``.
    model : str
        Which model's.
    number : int
        Which prompt's.
    printed : mapping
        The published completions of the trials, by "8-bit" and "32-bit".

    Returns
    -------
    DataFrame
        Index: the trial, from 1. Columns: "here" or "paper", each "8-bit" and "32-bit"; NaN where one has
        fewer trials.
    """
    own = table[table["model"] == model].sort_values("seed")
    texts = {("here", bits): own.loc[own["bits"] == bits, "completions"].str[number] for bits in printed}
    texts |= {("paper", bits): pd.Series(column) for bits, column in printed.items()}
    shown = pd.DataFrame({name: column.reset_index(drop=True) for name, column in texts.items()})
    return shown.set_axis(range(1, len(shown) + 1)).rename_axis("trial")


def letter(text: str) -> str:
    """Return the letter from A to D that an answer gives, or a dash; the article "A" is no answer."""
    found = re.search(r"(?<=answer is )[A-D]\b|\b[A-D](?=[:.)]|$)", text)
    return found[0] if found else "—"
