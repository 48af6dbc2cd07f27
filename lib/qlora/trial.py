"""One QLoRA trial: train low-rank adapters on a 4-bit base, then evaluate the model on held-out texts.

Each source of randomness has its own seed, set before whatever it determines is built, so one can be varied
while the others are held fixed. Sources: paper 3, section VII; Dettmers et al. 2023 for the method.
"""

import gc
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from lib.errors import InputError
from lib.models import model_fingerprint, name_of
from lib.qlora.adapters import data_order, known_warnings, load_base, new_adapter, save_adapter
from lib.qlora.causal_models import load_config, load_four_bit, load_tokenizer
from lib.qlora.memory import trials_that_fit
from lib.qlora.recipes import DTYPES, Recipe, Sources, Task
from lib.qlora.scores import choose, complete, continuation_losses, perplexity_of, text_losses, token_ids
from lib.qlora.side_by_side import Learner, train_side_by_side
from lib.runs.run import Run
from lib.seeding import derive, fingerprint

# The same in every trial: the same sample of two trials differs only because the models do, and different
# samples differ because of the sampling too.
SAMPLING_SEED = 0


@dataclass(frozen=True)
class Material:
    """What all trials are handed: models, tasks, and where to compute and to save.

    Attributes
    ----------
    models : mapping of str to str
        Folder of each model, by name.
    tasks : mapping of str to Task
        By name.
    adapter_dir : Path
        Each adapter is saved here as safetensors, in a folder named by its fingerprint.
    device : str
        ``cpu`` or ``cuda``.
    """

    models: Mapping[str, str]
    tasks: Mapping[str, Task]
    adapter_dir: Path
    device: str

    @property
    def fingerprints(self) -> dict[str, str]:
        """What identifies the material in a run's key; the kind of device is in the key anyway."""
        models = {f"model/{name}": model_fingerprint(model) for name, model in self.models.items()}
        return models | {f"task/{name}": fingerprint(asdict(task)) for name, task in self.tasks.items()}


@dataclass(frozen=True, kw_only=True)
class OneOfMaterial(Run):
    """A run that reads one model and one task of the `Material`.

    Attributes
    ----------
    model, task : str
        Their names there.
    """

    model: str
    task: str

    def depends_on(self, part: str) -> bool:
        """Whether a part of the sweep's inputs is this run's model or task."""
        return part in (f"material/model/{self.model}", f"material/task/{self.task}")


@dataclass(frozen=True, kw_only=True)
class Trial(OneOfMaterial):
    """Fine-tune once, save the adapter, load it again, and evaluate it beside its base and merged into it.

    Attributes
    ----------
    seed : int
        A label: the trial's number. ``sources`` determines the result.
    model, task : str
        Names in the `Material`.
    recipe : Recipe
        How to train.
    sources : Sources
        The seed of each source of randomness.
    repetition : int
        A label that distinguishes otherwise identical runs.
    """

    recipe: Recipe
    sources: Sources
    repetition: int = 0

    @property
    def shared(self) -> dict[str, Any]:
        """The fields that trials side by side must share: the base, its types, and the shapes of a step."""
        recipe = self.recipe
        names = ("rank", "batch_size", "compute", "adapter", "attention")
        return {"model": self.model} | {name: getattr(recipe, name) for name in names}

    def carry_out(self, *, material: Material) -> dict[str, Any]:
        """Train and evaluate.

        Returns
        -------
        dict
            ``perplexity`` of the merged model, which is the one the paper tests, and ``perplexity_unmerged``;
            infinite if a loss is not finite. ``text_losses`` (texts,) in nats, of the unmerged model, and
            ``merged_losses`` (texts,), over ``text_tokens`` (texts,). ``losses`` (steps,) in nats per token,
            and ``diverged_step``: the first step whose loss is NaN or above that of a uniform guess, or None.
            Fingerprints of the adapter before and after training and of the order; the optimizer's states;
            ``completions`` (prompts, samples), ``cold_completions`` and ``cold_completions_again``
            (prompts,); ``answers`` (questions,); seconds and bytes (``adapter_bytes``, ``state_bytes``,
            ``model_bytes``); ``vocabulary``, the number of its tokens. ``company``: the fields of the trials
            beside it, and ``at_a_time``, how many were at most in one step at the end.

        Raises
        ------
        ValueError
            If an 8-bit optimizer does not keep all states in 8 bits.
        InputError
            As `check_lengths`.
        """
        return self.carry_out_together([self], material=material)[0]

    @classmethod
    @known_warnings()
    def carry_out_together(cls, runs: Sequence[Self], *, material: Material) -> list[dict[str, Any]]:
        """Train trials side by side on one base, then evaluate them one by one; see `carry_out`.

        Parameters
        ----------
        runs : sequence of Trial
            With the same `shared` fields; everything else may differ.
        material : Material
            What all trials are handed.

        Raises
        ------
        ValueError
            As `carry_out`, for any of them.
        """
        tokenizer = load_tokenizer(material.models[runs[0].model])
        results = _trained(runs, tokenizer, material)
        if material.device == "cuda":
            gc.collect()  # the base is loaded again below: never hold two of them
        return [
            result | run._evaluated(result["adapter"], tokenizer, material)
            for run, result in zip(runs, results, strict=True)
        ]

    def _learner(
        self, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task
    ) -> tuple[Learner, dict[str, Any]]:
        """Return the trial before its first step, and what is known of it then."""
        recipe = self.recipe
        encoded = tokenizer(
            task.train, add_special_tokens=task.special_tokens, truncation=True, max_length=recipe.max_length
        )["input_ids"]
        order = data_order(len(encoded), recipe.epochs, self.sources.order)
        adapter = new_adapter(base, recipe, derive(self.sources.initialisation, "initialisation"))
        given = _given_tokens(encoded, task, tokenizer)
        learner = Learner(adapter, recipe, encoded, given, order, derive(self.sources.dropout, "dropout"))
        return learner, {
            "initial_adapter": fingerprint(adapter),
            "order": fingerprint(order),
            "trained_parameters": sum(matrix.numel() for matrix in adapter.values()),
            "adapter_bytes": sum(matrix.numel() * matrix.element_size() for matrix in adapter.values()),
            "vocabulary": len(tokenizer),
        }

    def _evaluated(
        self, adapter: str, tokenizer: PreTrainedTokenizerBase, material: Material
    ) -> dict[str, Any]:
        folder, device = material.adapter_dir / adapter, torch.device(material.device)
        task, model = material.tasks[self.task], material.models[self.model]
        return _evaluate(model, folder, tokenizer, task, self.recipe, device)


def _trained(
    trials: Sequence[Trial], tokenizer: PreTrainedTokenizerBase, material: Material
) -> list[dict[str, Any]]:
    """Train trials side by side and save their adapters; return what is known of each before evaluation."""
    first, device = trials[0], torch.device(material.device)
    model = material.models[first.model]
    config = load_config(model)
    for task in sorted({trial.task for trial in trials}):
        check_lengths(material.tasks[task], model)  # here too, for trials that no plan has checked
    base = load_base(model, first.recipe, device)
    learners, known = zip(
        *(trial._learner(base, tokenizer, material.tasks[trial.task]) for trial in trials), strict=True
    )
    at_a_time = train_side_by_side(base, learners, at_a_time=trials_that_fit(config, learners, device))
    results = []
    for trial, learner, result in zip(trials, learners, known, strict=True):
        adapter, trained = learner.adapter(), learner.result()
        final = fingerprint(adapter)
        save_adapter(base, trial.recipe, adapter, material.adapter_dir / final)
        diverged = _diverged_step(trained["losses"], bound=math.log(result["vocabulary"]))
        company = [other.settings for other in trials if other is not trial]
        beside = {"company": company, "at_a_time": at_a_time}
        results.append(result | trained | {"adapter": final, "diverged_step": diverged} | beside)
    return results


@dataclass(frozen=True, kw_only=True)
class Pretrained(OneOfMaterial):
    """Measure the perplexity of a 4-bit model before any fine-tuning; ``seed`` must not affect it.

    Attributes
    ----------
    model, task : str
        Names in the `Material`.
    compute : str
        Type in which 4-bit weights are multiplied.
    max_length : int
        Test texts are truncated to this many tokens.

    Raises
    ------
    ValueError
        For an unknown type, or a length below 2.
    """

    compute: str
    max_length: int

    def __post_init__(self) -> None:
        _check_compute(self.compute)
        if self.max_length < 2:
            raise ValueError(f"max_length = {self.max_length}: at least 2 tokens are required")

    @property
    def shared(self) -> dict[str, Any]:
        """All fields, the seed too: each measurement loads the model anew."""
        return self.settings

    @known_warnings()
    def carry_out(self, *, material: Material) -> dict[str, Any]:
        """Return ``perplexity``, ``text_losses`` and ``text_tokens`` (texts,), and ``completions``."""
        set_seed(self.seed)
        model, task = material.models[self.model], material.tasks[self.task]
        tokenizer = load_tokenizer(model)
        base = load_four_bit(model, device=torch.device(material.device), dtype=getattr(torch, self.compute))
        losses, counts = text_losses(
            base, task.test, tokenizer, special_tokens=task.special_tokens, max_length=self.max_length
        )
        return {
            "perplexity": perplexity_of(losses, counts),
            "text_losses": losses,
            "text_tokens": counts,
            "completions": _warm(base, tokenizer, task),
        }


@dataclass(frozen=True, kw_only=True)
class Reading(OneOfMaterial):
    """Score texts with a 4-bit model before any fine-tuning: how surprising it finds them.

    Attributes
    ----------
    seed : int
        Does not affect the result.
    model, task : str
        Names in the `Material`.
    compute : str
        Type in which 4-bit weights are multiplied.
    prompts, continuations : tuple of str, (texts,)
        Only the continuations are scored, each after its prompt.

    Raises
    ------
    ValueError
        For an unknown type, or if the numbers of prompts and continuations differ.
    """

    compute: str
    prompts: tuple[str, ...]
    continuations: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_compute(self.compute)
        if len(self.prompts) != len(self.continuations):
            raise ValueError(
                f"prompts = {len(self.prompts)}: there are {len(self.continuations)} continuations"
            )

    @known_warnings()
    def carry_out(self, *, material: Material) -> dict[str, Any]:
        """Return ``losses`` and ``tokens`` of the continuations: (texts,), 0 and 0 for an empty one."""
        model, task = material.models[self.model], material.tasks[self.task]
        base = load_four_bit(model, device=torch.device(material.device), dtype=getattr(torch, self.compute))
        losses, counts = continuation_losses(
            base,
            self.prompts,
            self.continuations,
            load_tokenizer(model),
            special_tokens=task.special_tokens,
        )
        return {"losses": losses, "tokens": counts}


def _check_compute(compute: str) -> None:
    if compute not in DTYPES:
        raise ValueError(f"compute = {compute!r}: allowed: {', '.join(DTYPES)}")


def _diverged_step(losses: np.ndarray, *, bound: float) -> int | None:
    """Return the first step, from 1, whose loss is NaN or above the bound: (steps,) -> step."""
    diverged = np.flatnonzero(~(losses <= bound))
    return int(diverged[0]) + 1 if len(diverged) else None


def check_lengths(task: Task, model: str | Path) -> None:
    """Refuse texts that are too short to learn from, and prompts and questions that are too long to answer.

    Parameters
    ----------
    task : Task
        What the model is to learn and to be asked.
    model : str or Path
        The folder of the model; its configuration and its tokenizer are enough.

    Raises
    ------
    InputError
        If a training or test text has a single token, after which nothing is left to be predicted, or if a
        prompt or question leaves no room in the model's context for its completion or answer.
    """
    tokenizer, context = load_tokenizer(model), load_config(model).max_position_embeddings
    for name, texts in (("training", task.train), ("test", task.test)):
        for number, ids in enumerate(token_ids(tokenizer, texts, special_tokens=task.special_tokens)):
            if len(ids) < 2:
                raise InputError(
                    f"model {name_of(model)!r}: {name} text {number} has {len(ids)} tokens, "
                    f"allowed: 2 or more: {texts[number]!r}"
                )
    for texts, added in ((task.prompts, task.new_tokens), (task.questions, task.answer_tokens)):
        encoded = token_ids(tokenizer, texts, special_tokens=task.special_tokens)
        longest = max(map(len, encoded), default=0)
        if longest + added > context:
            raise InputError(
                f"model {name_of(model)!r}: a prompt of {longest} tokens, to be continued by {added}, "
                f"exceeds its context of {context} tokens"
            )


def _given_tokens(
    encoded: Sequence[Sequence[int]], task: Task, tokenizer: PreTrainedTokenizerBase
) -> list[int]:
    """Return how many tokens of each training text only repeat what is given: (texts,)."""
    if not task.given:
        return [0] * len(encoded)
    given = token_ids(tokenizer, task.given, special_tokens=task.special_tokens)
    # The last tokens of what is given may be merged with what follows, so only the common ones count.
    return [
        sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(ids, beginning, strict=False)))
        for ids, beginning in zip(encoded, given, strict=True)
    ]


def _evaluate(
    model: str,
    adapter: Path,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    recipe: Recipe,
    device: torch.device,
) -> dict[str, Any]:
    """Reload base and adapter, and evaluate them side by side, then merged into one 4-bit model."""
    dtype = getattr(torch, recipe.compute)
    base = load_four_bit(model, device=device, dtype=dtype, attention=recipe.attention)
    adapted = PeftModel.from_pretrained(base, adapter).eval()
    score: dict[str, Any] = {"special_tokens": task.special_tokens, "max_length": recipe.max_length}
    losses, counts = text_losses(adapted, task.test, tokenizer, **score)
    merged = adapted.merge_and_unload()
    start = time.perf_counter()
    merged_losses, _ = text_losses(merged, task.test, tokenizer, **score)
    test_seconds = time.perf_counter() - start
    merged_perplexity = perplexity_of(merged_losses, counts)
    return {
        **_texts(merged, tokenizer, task, finite=math.isfinite(merged_perplexity)),
        "perplexity": merged_perplexity,
        "perplexity_unmerged": perplexity_of(losses, counts),
        "merged_losses": merged_losses,
        "text_losses": losses,
        "text_tokens": counts,
        "test_seconds": test_seconds,
        "model_bytes": merged.get_memory_footprint(),
    }


def _texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, *, finite: bool
) -> dict[str, Any]:
    """Return completions and answers; empty ones from a model whose outputs are not finite."""
    if not finite:
        return {
            "completions": [[""] * task.samples for _ in task.prompts],
            "cold_completions": [""] * len(task.prompts),
            "cold_completions_again": [""] * len(task.prompts),
            "answers": [""] * len(task.questions),
        }
    sample = partial(complete, model, tokenizer=tokenizer, special_tokens=task.special_tokens)
    cold = partial(sample, task.prompts, new_tokens=task.new_tokens, temperature=0.1, top_p=0.1)
    if task.options:
        chosen = choose(model, task.questions, task.options, tokenizer, special_tokens=task.special_tokens)
        answers = [task.options[option] for option in chosen]
    else:  # so small a top-p leaves only the likeliest token
        answered = sample(task.questions, new_tokens=task.answer_tokens, seed=SAMPLING_SEED, top_p=1e-6)
        answers = [text for (text,) in answered]
    return {
        "completions": _warm(model, tokenizer, task),
        "cold_completions": [text for (text,) in cold(seed=SAMPLING_SEED)],
        "cold_completions_again": [text for (text,) in cold(seed=SAMPLING_SEED + 1)],
        "answers": answers,
    }


def _warm(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task) -> list[list[str]]:
    """Complete the task's prompts at temperature 1 and top-p 1: (prompts, samples)."""
    return complete(
        model,
        task.prompts,
        tokenizer,
        new_tokens=task.new_tokens,
        seed=SAMPLING_SEED,
        samples=task.samples,
        special_tokens=task.special_tokens,
    )
