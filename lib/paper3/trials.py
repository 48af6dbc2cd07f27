"""Sets of QLoRA trials: what each model learns and is asked, designs over seeds, one sweep for them all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from datasets import DatasetDict

from lib.qlora.causal_models import dialogue, prompt
from lib.qlora.recipes import SOURCES, Recipe, Task
from lib.runs.records import Record

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
