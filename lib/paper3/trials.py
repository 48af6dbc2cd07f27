"""Paper 3's tasks and trials: what each model learns and is asked, under which recipes and seeds.

What a model is asked must fit into its context, and each piece of what it reads must have an embedding. A
task for a chat model is refused when it is made, since a plan may be carried out in several sweeps, and the
last may begin hours after the first. A task for any other model is refused when its sweep begins.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from lib.errors import InputError
from lib.models import name_of
from lib.paper3.chats import Chat
from lib.qlora.causal_models import load_config, load_tokenizer
from lib.qlora.recipes import Recipe, Sources, Task
from lib.qlora.scores import token_ids
from lib.qlora.trial import Material, Pretrained, Trial, check_lengths
from lib.runs import Record
from lib.study import Study


def quote_task(quotes: DatasetDict, prompts: Sequence[str], *, new_tokens: int, samples: int) -> Task:
    """Learn quotes, and complete prompts (paper 3, Tables 1 and 4 to 7).

    Parameters
    ----------
    quotes : DatasetDict
        Splits train and test, column ``quote``.
    prompts : sequence of str
        Completed by sampling.
    new_tokens : int
        Maximum length of a completion.
    samples : int
        Completions of each prompt at temperature 1.
    """
    train, test = (list(quotes[split]["quote"]) for split in ("train", "test"))
    return Task(train, test, prompts=list(prompts), samples=samples, new_tokens=new_tokens)


def beginnings(quotes: DatasetDict, count: int) -> list[str]:
    """Return the first three words of test quotes, each once: at most ``count`` texts.

    Parameters
    ----------
    quotes : DatasetDict
        Splits train and test, column ``quote``.
    count : int
        How many at most; fewer if the quotes begin alike.
    """
    begun = dict.fromkeys(" ".join(quote.split()[:3]) for quote in quotes["test"]["quote"])
    return list(begun)[:count]


def instruction_task(
    chat: Chat, rows: DatasetDict, instructions: Sequence[str], *, answered: int, new_tokens: int
) -> Task:
    """Learn instructions with their answers, and follow instructions (paper 3, Tables 2, 8 and 9).

    Parameters
    ----------
    chat : Chat
        How the model is asked.
    rows : DatasetDict
        Splits train and test, columns ``instruction`` and ``output``.
    instructions : sequence of str
        Followed by sampling.
    answered : int
        The first this many test instructions are answered greedily.
    new_tokens : int
        Maximum length of an answer.

    Raises
    ------
    InputError
        As `check_readable`.
    """
    train, test = (
        [chat.answered(row["instruction"], row["output"]) for row in rows[split]]
        for split in ("train", "test")
    )
    questions = [chat.asked(row["instruction"]) for row in rows["test"]][:answered]
    task = Task(
        train,
        test,
        prompts=[chat.asked(instruction) for instruction in instructions],
        questions=questions,
        new_tokens=new_tokens,
        answer_tokens=new_tokens,
        special_tokens=False,
    )
    check_readable(task, chat.model)
    return task


def label_task(chat: Chat, corpus: DatasetDict) -> tuple[Task, list[str]]:
    """Learn to name a text's class; return the task and the test texts' true class names.

    Only the names are learned, not the texts: a text has dozens of tokens, its name one or two.

    Parameters
    ----------
    chat : Chat
        How the model is asked.
    corpus : DatasetDict
        Splits train and test, columns ``text`` and ``label``, the latter with class names.

    Raises
    ------
    InputError
        As `check_readable`.
    """
    names = corpus["train"].features["label"].names

    given, questions = (
        [f"{text}\nIs this {' or '.join(names)}?" for text in corpus[split]["text"]]
        for split in ("train", "test")
    )
    true = {split: [names[label] for label in corpus[split]["label"]] for split in ("train", "test")}
    task = Task(
        list(map(chat.answered, given, true["train"])),
        list(map(chat.answered, questions, true["test"])),
        given=list(map(chat.asked, given)),
        questions=list(map(chat.asked, questions)),
        options=names,
        special_tokens=False,
    )
    check_readable(task, chat.model)
    return task, true["test"]


def summary_task(chat: Chat, documents: DatasetDict, *, new_tokens: int) -> tuple[Task, list[str]]:
    """Learn to summarise; return the task and the test documents' summaries.

    Only the summaries are learned, not the documents.

    Parameters
    ----------
    chat : Chat
        How the model is asked.
    documents : DatasetDict
        Splits train and test, columns ``document`` and ``summary``.
    new_tokens : int
        Maximum length of a summary.

    Raises
    ------
    InputError
        As `check_readable`.
    """
    given, questions = (
        [f"Summarise: {text}" for text in documents[split]["document"]] for split in ("train", "test")
    )
    summaries = list(documents["test"]["summary"])
    task = Task(
        list(map(chat.answered, given, documents["train"]["summary"])),
        list(map(chat.answered, questions, summaries)),
        given=list(map(chat.asked, given)),
        questions=list(map(chat.asked, questions)),
        answer_tokens=new_tokens,
        special_tokens=False,
    )
    check_readable(task, chat.model)
    return task, summaries


def trials_of(
    model: str, task: str, recipes: Iterable[Recipe], seeds: Sequence[int], *, repetition: int = 0
) -> list[Trial]:
    """Train one model under each recipe and each seed, every source of randomness having the same seed."""
    return [
        Trial(seed, model=model, task=task, recipe=recipe, sources=Sources.same(seed), repetition=repetition)
        for recipe in recipes
        for seed in seeds
    ]


def with_both_optimizers(
    recipes: Mapping[str, Recipe], seeds: Sequence[int], *, repetitions: int = 0
) -> list[Trial]:
    """Train each model on the task of its own name with the 8-bit and with the 32-bit optimizer.

    Parameters
    ----------
    recipes : mapping of str to Recipe
        By model.
    seeds : sequence of int
        One trial per seed, model and optimizer.
    repetitions : int
        How many times each trial is repeated with identical seeds; 0: carried out once, which is not a
        repetition. These are numbered from 1, so that a record of a trial that was trained in company never
        stands for one that is to be compared to the bit.
    """
    numbers = range(1, repetitions + 1) if repetitions else [0]
    trials = []
    for model, recipe in recipes.items():
        eight_bit = replace(recipe, optimizer="paged_adamw_8bit")
        thirty_two_bit = replace(recipe, optimizer="paged_adamw_32bit")
        for repetition in numbers:
            trials += trials_of(model, model, [eight_bit, thirty_two_bit], seeds, repetition=repetition)
    return trials


def factorial(model: str, task: str, recipe: Recipe, *, levels: int, first_seed: int) -> list[Trial]:
    """Cross the seeds of initialisation, order and dropout: a full design.

    A kernel is no factor and no replicate: two kernels agree to about 1e-6 nats, so runs that differ in the
    kernel alone would count as the same observation twice.

    Parameters
    ----------
    model, task : str
        What is trained, and on what.
    recipe : Recipe
        How.
    levels : int
        Seeds of each source: ``first_seed``, ``first_seed + 1``, ...
    first_seed : int
        Also the label of every trial.

    Returns
    -------
    list of Trial, (levels ** 3,)
        Every combination once.
    """
    seeds = range(first_seed, first_seed + levels)
    return [
        Trial(first_seed, model=model, task=task, recipe=recipe, sources=Sources(*combination))
        for combination in product(seeds, repeat=3)
    ]


def explosion_candidates(recipe: Recipe) -> dict[str, Recipe]:
    """Return variants of a recipe, by name, each changed in what might make a training explode.

    First one change at a time, then the combinations suggested by 16-bit arithmetic: in float16, Adam's
    epsilon of 1e-8 is 0, which matters only to an optimizer that computes in float16.
    """
    eight_bit, torch_adam = {"optimizer": "paged_adamw_8bit"}, {"optimizer": "adamw_torch"}
    half = {"adapter": "float16"}
    tenfold = {"learning_rate": min(10 * recipe.learning_rate, 1.0)}
    hundredfold = {"learning_rate": min(100 * recipe.learning_rate, 1.0)}
    changes: dict[str, dict[str, Any]] = {
        "none": {},
        "8-bit states": eight_bit,
        "PyTorch's AdamW": torch_adam,
        "adapters bfloat16": {"adapter": "bfloat16"},
        "adapters float16": half,
        "epsilon 0": {"epsilon": 0.0},
        "epsilon 1e-4": {"epsilon": 1e-4},
        "loss scale 1024": {"loss_scale": 1024.0},
        "learning rate x 0.1": {"learning_rate": 0.1 * recipe.learning_rate},
        "learning rate x 10": tenfold,
        "learning rate x 100": hundredfold,
        "8-bit states, epsilon 0": eight_bit | {"epsilon": 0.0},
        "8-bit states, adapters float16": eight_bit | half,
        "8-bit states, learning rate x 10": eight_bit | tenfold,
        "8-bit states, learning rate x 100": eight_bit | hundredfold,
        "PyTorch's AdamW, adapters float16": torch_adam | half,
        "PyTorch's AdamW, adapters float16, epsilon 1e-4": torch_adam | half | {"epsilon": 1e-4},
        "PyTorch's AdamW, adapters float16, loss scale 1024": torch_adam | half | {"loss_scale": 1024.0},
    }
    return {name: replace(recipe, **change) for name, change in changes.items()}


def sweep_parts(
    study: Study,
    plan: Mapping[str, Sequence[Trial | Pretrained]],
    *,
    material: Material,
    together: int = 1,
) -> dict[str, list[Record]]:
    """Carry out a plan in one sweep, which keeps all workers busy, and return the records of each part.

    ``together``, the number of trials that are trained side by side, is as for `lib.study.Study.sweep`.

    Raises
    ------
    InputError
        As `check_readable` and `check_answers_fit`, for any model and its task, before the first run.
    """
    runs = [run for part in plan.values() for run in part]
    for model, task in dict.fromkeys((run.model, run.task) for run in runs):
        check_readable(material.tasks[task], material.models[model])
    trials = [run for run in runs if isinstance(run, Trial)]
    lengths = dict.fromkeys((trial.model, trial.task, trial.recipe.max_length) for trial in trials)
    for model, task, max_length in lengths:
        check_answers_fit(material.tasks[task], material.models[model], max_length)
    records: Iterator[Record] = iter(study.sweep(runs, material=material, together=together))
    return {name: [next(records) for _ in part] for name, part in plan.items()}


def check_readable(task: Task, model: str | Path) -> None:
    """Refuse texts that a model cannot read: of a wrong length, or with a piece that has no embedding.

    A tokenizer may know further pieces that no text has: one of Llama 2 has a ``<pad>`` without an embedding.

    Parameters
    ----------
    task : Task
        What the model is to learn and to be asked.
    model : str or Path
        The folder of the model; its configuration and its tokenizer are enough.

    Raises
    ------
    InputError
        As `lib.qlora.trial.check_lengths`, and for the first text with a piece without an embedding.
    """
    check_lengths(task, model)
    tokenizer, embeddings = load_tokenizer(model), load_config(model).vocab_size
    texts = [*task.train, *task.test, *task.prompts, *task.questions, *task.options]
    encoded = token_ids(tokenizer, texts, special_tokens=task.special_tokens)
    is_completed = task.prompts or (task.questions and not task.options)
    if is_completed and tokenizer.pad_token_id is not None:
        # A completion that ends before the others of its batch is padded, and the padding is read.
        texts, encoded = [*texts, tokenizer.pad_token], [*encoded, [tokenizer.pad_token_id]]
    for text, ids in zip(texts, encoded, strict=True):
        largest = max(ids, default=0)
        if largest >= embeddings:
            raise InputError(
                f"model {name_of(model)!r}: its tokenizer numbers a piece of {text[:60]!r} {largest}; "
                f"allowed: below vocab_size = {embeddings}, the number of its embeddings"
            )


def check_answers_fit(task: Task, model: str | Path, max_length: int) -> None:
    """Refuse training texts whose answer, which stands at the end and alone is learned, would be cut.

    Parameters
    ----------
    task : Task
        Tasks of which the whole text is learned pass.
    model : str or Path
        The folder of the model; its tokenizer is enough.
    max_length : int
        Tokens to which a training text is truncated.

    Raises
    ------
    InputError
        For the first text that is longer.
    """
    if not task.given:
        return
    encoded = token_ids(load_tokenizer(model), task.train, special_tokens=task.special_tokens)
    for number, ids in enumerate(encoded):
        if len(ids) > max_length:
            raise InputError(
                f"training text {number} has {len(ids)} tokens, allowed is max_length = {max_length}: "
                f"else its answer is cut: {task.train[number][:60]!r}"
            )
