"""Sets of QLoRA trials: what each model learns and is asked, designs over seeds, and records as a table."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd
from datasets import DatasetDict
from pandas.io.formats.style import Styler

from lib.causal_models import dialogue, prompt
from lib.recipes import SOURCES, Recipe, Task
from lib.records import Record

KERNELS = ("sdpa", "eager")


def quote_task(quotes: DatasetDict, prompts: Sequence[str], *, new_tokens: int) -> Task:
    """Learn quotes, and complete prompts (paper 3, Tables 1 and 4 to 7)."""
    train, test = (list(quotes[split]["quote"]) for split in ("train", "test"))
    return Task(train, test, prompts=list(prompts), new_tokens=new_tokens)


def instruction_task(
    family: str, rows: DatasetDict, instructions: Sequence[str], *, answered: int, new_tokens: int
) -> Task:
    """Learn instructions in a family's tags, and follow them (paper 3, Tables 2, 8 and 9).

    Parameters
    ----------
    family : str
        ``gpt_neox`` or ``llama``.
    rows : DatasetDict
        Splits train and test with the columns ``instruction`` and ``output``.
    instructions : sequence of str
        To be followed by sampling.
    answered : int
        How many of the test instructions are to be answered greedily.
    new_tokens : int
        Length of an answer.
    """
    train, test = (
        [dialogue(family, row["instruction"], row["output"]) for row in rows[split]]
        for split in ("train", "test")
    )
    questions = [prompt(family, row["instruction"]) for row in rows["test"]][:answered]
    return Task(
        train,
        test,
        prompts=[prompt(family, instruction) for instruction in instructions],
        questions=questions,
        new_tokens=new_tokens,
        answer_tokens=new_tokens,
        special_tokens=False,
    )


def label_task(family: str, corpus: DatasetDict) -> tuple[Task, list[str]]:
    """Learn to name a text's class in a family's tags; return the task and the test texts' true names.

    Parameters
    ----------
    family : str
        ``gpt_neox`` or ``llama``.
    corpus : DatasetDict
        Splits train and test with the columns ``text`` and ``label``, the latter with names.
    """
    names = corpus["train"].features["label"].names

    def asked(text: str) -> str:
        return f"{text}\nIs this {' or '.join(names)}?"

    train, test = (
        [dialogue(family, asked(row["text"]), names[row["label"]]) for row in corpus[split]]
        for split in ("train", "test")
    )
    questions = [prompt(family, asked(text)) for text in corpus["test"]["text"]]
    task = Task(train, test, questions=questions, options=names, special_tokens=False)
    return task, [names[label] for label in corpus["test"]["label"]]


def letter(text: str) -> str:
    """Return the letter from A to D that an answer gives, or a dash; the article "A" is no answer."""
    found = re.search(r"(?<=answer is )[A-D]\b|\b[A-D](?=[:.)]|$)", text)
    return found[0] if found else "—"


def factorial(levels: int, first_seed: int) -> list[tuple[dict[str, int], str]]:
    """Cross seeds of initialisation, order and dropout with two kernels: every combination once.

    Returns
    -------
    list of (dict of str to int, str)
        The seed of each source and the attention kernel; ``levels ** 3 * 2`` of them.
    """
    seeds = range(first_seed, first_seed + levels)
    return [
        (dict(zip(SOURCES, combination, strict=True)), kernel)
        for *combination, kernel in product(seeds, seeds, seeds, KERNELS)
    ]


def explosion_candidates(recipe: Recipe) -> dict[str, Recipe]:
    """Return variants of a recipe, each changed in what might make a training explode.

    First one change at a time, then the combinations that the arithmetic of 16-bit floats singles out: in
    float16, Adam's epsilon of 1e-8 is 0, which matters only to an optimizer that computes in float16.
    """
    eight, torch_adam = {"optimizer": "paged_adamw_8bit"}, {"optimizer": "adamw_torch"}
    half, rate = {"adapter": "float16"}, recipe.learning_rate
    changes: dict[str, dict[str, Any]] = {
        "none": {},
        "8-bit states": eight,
        "PyTorch's AdamW": torch_adam,
        "adapters bfloat16": {"adapter": "bfloat16"},
        "adapters float16": half,
        "epsilon 0": {"epsilon": 0.0},
        "epsilon 1e-4": {"epsilon": 1e-4},
        "loss scale 1024": {"loss_scale": 1024.0},
        "learning rate x 0.1": {"learning_rate": 0.1 * rate},
        "learning rate x 10": {"learning_rate": min(10 * rate, 1.0)},
        "learning rate x 100": {"learning_rate": min(100 * rate, 1.0)},
        "8-bit states, epsilon 0": eight | {"epsilon": 0.0},
        "8-bit states, adapters float16": eight | half,
        "8-bit states, learning rate x 10": eight | {"learning_rate": min(10 * rate, 1.0)},
        "8-bit states, learning rate x 100": eight | {"learning_rate": min(100 * rate, 1.0)},
        "PyTorch's AdamW, adapters float16": torch_adam | half,
        "PyTorch's AdamW, adapters float16, epsilon 1e-4": torch_adam | half | {"epsilon": 1e-4},
        "PyTorch's AdamW, adapters float16, loss scale 1024": torch_adam | half | {"loss_scale": 1024.0},
    }
    return {name: replace(recipe, **change) for name, change in changes.items()}


def in_parts(
    plan: Mapping[str, Sequence[dict[str, Any]]], sweep: Callable[[list[dict[str, Any]]], Sequence[Record]]
) -> dict[str, list[Record]]:
    """Do all runs of a plan in one sweep, and return each part's records under its name."""
    records = iter(sweep([run for part in plan.values() for run in part]))
    return {name: [next(records) for _ in part] for name, part in plan.items()}


def bits_of(record: Record) -> str:
    """Return "8-bit" or "32-bit": how the optimizer of a trial keeps its states."""
    return "8-bit" if "8bit" in record.settings["recipe"]["optimizer"] else "32-bit"


def frame(records: Sequence[Record], **labels: Sequence[Any]) -> pd.DataFrame:
    """Return records as a table, one row a run, failed ones included.

    Parameters
    ----------
    records : sequence of Record
        Of `lib.qlora.trial`.
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


def as_text(texts: pd.DataFrame) -> Styler:
    """Show a table of texts so that it can be read: wrapped, tags as they are, no text as a word."""
    # A text of nothing but quotation marks would widen the table beyond the page.
    css = {"text-align": "left", "white-space": "pre-wrap", "overflow-wrap": "anywhere", "font-size": "85%"}
    headings = {"selector": "th.col_heading", "props": "text-align: left"}
    style = texts.replace("", "(nothing)").style.format(escape="html", na_rep="")
    return style.set_properties(**css).set_table_styles([headings])
