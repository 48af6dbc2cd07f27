"""Runs of paper 2: train a classifier, or part of it, under one seed, then quantise it and explain it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import PreTrainedModel

from lib.attribution import LRP
from lib.corpus import Corpus, WithoutFineTuning
from lib.ensembles import fine_tune_together
from lib.explanations import EXPLANATIONS, check_methods, explain
from lib.finetuning import Training, encode, fine_tune
from lib.frozen import Heads, train_heads
from lib.models import load_classifier, load_tokenizer
from lib.quantization import FORMATS, PLAIN, choose_trained
from lib.recipes import TrainingRecipe
from lib.runs import Record, Run, check_first_seed
from lib.seeding import derive, fingerprint
from lib.trained_parts import part_of

HEADS_PER_RUN = 50  # a sweep that is killed loses at most this many heads


@dataclass(frozen=True, kw_only=True)
class FineTune(Run):
    """Fine-tune one seed's classifier, or part of it, then test and explain it, plain and quantised.

    Attributes
    ----------
    seed : int
        Determines the initial weights of the head (and of adapters), the order of the texts and dropout.
    trained : str
        Which weights: see `lib.trained_parts`.
    training : TrainingRecipe
        How it is trained.
    together : bool
        Whether dropout is drawn as for seeds that train side by side (`lib.ensembles`), which gives other
        results. Which seeds these are affects rounding only.
    quantizations : tuple of str
        ``plain`` and formats of `lib.quantization.quantize`.
    methods : mapping of str to int
        Names of `lib.explanations.EXPLANATIONS`, LRP among them, and how many of the explained texts each
        explains.

    Raises
    ------
    ValueError
        If a field has a value that is not allowed.
    """

    trained: str
    training: TrainingRecipe
    together: bool
    quantizations: tuple[str, ...]
    methods: Mapping[str, int]

    def __post_init__(self) -> None:
        part_of(self.trained)  # refuses a name that is none
        _check_explanations(self.quantizations, self.methods)

    def carry_out(self, *, corpus: Corpus) -> dict[str, Any]:
        """Train and explain this seed's classifier.

        Parameters
        ----------
        corpus : Corpus
            Training and test texts.

        Returns
        -------
        dict
            The result of `lib.explanations.explain`; the mean ``loss`` of the last ten steps in nats; the
            fingerprints ``initial_weights``, ``data_order`` and ``final_weights``; ``precision``, and
            ``fallback``, why a seed was trained alone or beside fewer others (`lib.finetuning.Training`).
            Only a ``loss`` of NaN if training side by side diverged.

        Raises
        ------
        FloatingPointError
            If training alone diverged.
        """
        if self.together:
            return self.carry_out_together([self], corpus=corpus)[0]
        model = self._initial_model(corpus)
        training = fine_tune(
            model,
            load_tokenizer(corpus.model),
            corpus.train_texts,
            corpus.train_labels,
            seed=self.seed,
            max_length=corpus.max_length,
            precision=corpus.precision,
            **asdict(self.training),
        )
        return self._result(model, training, corpus)

    @classmethod
    def carry_out_together(cls, runs: Sequence[Self], *, corpus: Corpus) -> list[dict[str, Any]]:
        """Train the classifiers of several seeds side by side, and explain each.

        Parameters
        ----------
        runs : sequence of FineTune
            They differ only in their seeds.
        corpus : Corpus
            Training and test texts.

        Returns
        -------
        list of dict
            For each run what `carry_out` returns.
        """
        models = [run._initial_model(corpus) for run in runs]
        trainings = fine_tune_together(
            models,
            load_tokenizer(corpus.model),
            corpus.train_texts,
            corpus.train_labels,
            seeds=[run.seed for run in runs],
            max_length=corpus.max_length,
            precision=corpus.precision,
            **asdict(runs[0].training),
        )
        return [
            run._result(model, training, corpus)
            for run, model, training in zip(runs, models, trainings, strict=True)
        ]

    def _initial_model(self, corpus: Corpus) -> PreTrainedModel:
        # Loading sets the seed, which determines the head and, drawn right after it, the adapters.
        model = load_classifier(corpus.model, seed=self.seed, device=corpus.device)
        return choose_trained(model, self.trained)

    def _result(self, model: PreTrainedModel, training: Training, corpus: Corpus) -> dict[str, Any]:
        if not np.isfinite(training.losses).all():
            return {"loss": float("nan")}
        plain = model.merge_and_unload() if isinstance(model, PeftModel) else model
        return {
            **explain(plain, self.quantizations, self.methods, corpus),
            "loss": float(training.losses[-10:].mean()),
            "initial_weights": training.initial_weights,
            "data_order": training.data_order,
            "final_weights": training.final_weights,
            "precision": training.precision,
            "fallback": training.fallback,
        }


@dataclass(frozen=True, kw_only=True)
class FrozenHeads(WithoutFineTuning):
    """Embed the training texts once with the frozen encoder and train the heads of several seeds on them.

    Attributes
    ----------
    seed : int
        The first of ``seeds``.
    seeds : tuple of int
        Of the heads.
    head : TrainingRecipe
        How each head is trained.

    Raises
    ------
    ValueError
        If ``seed`` is not the first of ``seeds``.
    """

    seeds: tuple[int, ...]
    head: TrainingRecipe

    def __post_init__(self) -> None:
        check_first_seed(self.seed, self.seeds)

    @classmethod
    def in_groups(cls, seeds: Sequence[int], head: TrainingRecipe) -> list[Self]:
        """Return the runs that train the heads of all seeds, `HEADS_PER_RUN` at a time."""
        starts = range(0, len(seeds), HEADS_PER_RUN)
        groups = [tuple(seeds[start : start + HEADS_PER_RUN]) for start in starts]
        return [cls(group[0], seeds=group, head=head) for group in groups]

    def carry_out(self, *, corpus: Corpus) -> dict[str, Any]:
        """Train the heads.

        Returns
        -------
        dict
            The arrays of `lib.frozen.Heads`, each (seeds, ...).
        """
        model = load_classifier(corpus.model, seed=self.seed, device=corpus.device)
        heads = _train_heads(model, corpus, corpus.train_labels, self.seeds, self.head)
        return {name: value.numpy() for name, value in vars(heads).items()}


@dataclass(frozen=True, eq=False)
class HeadsBySeed:
    """Trained heads of the frozen encoder, as `ExplainFrozen` receives them.

    Attributes
    ----------
    training : mapping
        JSON values: the recipe, and everything else that decided the heads except their seeds.
    heads : mapping of int to mapping of str to ndarray
        For each seed the arrays of `lib.frozen.Heads`, without the dimension of the seeds.
    """

    training: Mapping[str, Any]
    heads: Mapping[int, Mapping[str, NDArray]]

    @classmethod
    def of(cls, records: Sequence[Record]) -> Self:
        """Collect the heads from the records of one sweep of `FrozenHeads`.

        Raises
        ------
        RuntimeError
            If a run failed: without its head no seed can be explained.
        """
        heads = {}
        for record in records:
            seeds = record.settings["seeds"]
            if record.status != "done":
                raise RuntimeError(f"the heads of seeds {seeds} were not trained: {record.reason}")
            for index, seed in enumerate(seeds):
                heads[seed] = {name: values[index] for name, values in record.result.items()}
        first = records[0]
        return cls({"recipe": first.settings["head"], **first.provenance}, heads)

    @property
    def fingerprints(self) -> dict[str, str]:
        """How the heads were trained, but not which seeds they have.

        A run uses only its own seed's head, which its seed and this training determine. If the other heads
        counted, adding a seed would invalidate the records of all others.
        """
        return {"training": fingerprint(self.training)}


@dataclass(frozen=True, kw_only=True)
class ExplainFrozen(WithoutFineTuning):
    """Test and explain the frozen encoder under one seed's head, plain and quantised.

    Attributes
    ----------
    seed : int
        Of the head.
    quantizations, methods
        As in `FineTune`.

    Raises
    ------
    ValueError
        If a field has a value that is not allowed.
    """

    quantizations: tuple[str, ...]
    methods: Mapping[str, int]

    def __post_init__(self) -> None:
        _check_explanations(self.quantizations, self.methods)

    def carry_out(self, *, corpus: Corpus, heads: HeadsBySeed) -> dict[str, Any]:
        """Explain the encoder under this seed's head.

        Parameters
        ----------
        corpus : Corpus
            Training and test texts.
        heads : HeadsBySeed
            The heads of this and any other seeds.

        Returns
        -------
        dict
            The result of `lib.explanations.explain`, and the head's ``loss`` in its last epoch.
        """
        model = load_classifier(corpus.model, seed=self.seed, device=corpus.device)
        arrays = heads.heads[self.seed]
        head = Heads(**{name: torch.as_tensor(value)[None] for name, value in arrays.items()})
        head.install(0, model)
        explained = explain(model, self.quantizations, self.methods, corpus, _embeddings(corpus))
        return {**explained, "loss": float(head.loss)}


@dataclass(frozen=True, kw_only=True)
class SingleHead(WithoutFineTuning):
    """Train one head on the frozen encoder, then test and explain it.

    The same as `FrozenHeads` and `ExplainFrozen` for a single seed, on the true or on random labels. Models
    that were taught random labels have learned nothing about the classes: whatever their explanations have in
    common is not due to the task. Models that were taught the same random labels have a target in common, as
    those that were taught the true ones have; models that were taught other ones do not.

    Attributes
    ----------
    seed : int
        Of the head.
    head : TrainingRecipe
        How the head is trained.
    labelling : int, optional
        None: the training labels as they are. A number: in the random order that has this number, whatever
        the seed.
    methods
        As in `FineTune`.

    Raises
    ------
    ValueError
        If a field has a value that is not allowed.
    """

    head: TrainingRecipe
    labelling: int | None
    methods: Mapping[str, int]

    def __post_init__(self) -> None:
        _check_explanations((PLAIN,), self.methods)

    def carry_out(self, *, corpus: Corpus) -> dict[str, Any]:
        """Train and explain this seed's head.

        Parameters
        ----------
        corpus : Corpus
            Training and test texts.

        Returns
        -------
        dict
            The result of `lib.explanations.explain`, and the head's ``loss`` in its last epoch.
        """
        model = load_classifier(corpus.model, seed=self.seed, device=corpus.device)
        head = _train_heads(model, corpus, self._labels(corpus), (self.seed,), self.head)
        head.install(0, model)
        return {**explain(model, (PLAIN,), self.methods, corpus), "loss": float(head.loss)}

    def _labels(self, corpus: Corpus) -> list[int]:
        if self.labelling is None:
            return corpus.train_labels
        order = np.random.default_rng(derive(self.labelling, "random labels"))
        return order.permutation(corpus.train_labels).tolist()


def _train_heads(
    model: PreTrainedModel,
    corpus: Corpus,
    labels: Sequence[int],
    seeds: Sequence[int],
    recipe: TrainingRecipe,
) -> Heads:
    """Embed the training texts with the encoder, and train the heads of several seeds on them."""
    tokenizer = load_tokenizer(corpus.model)
    embeddings = encode(model, tokenizer, corpus.train_texts, max_length=corpus.max_length).embeddings
    return train_heads(torch.from_numpy(embeddings), labels, seeds, device=corpus.device, **asdict(recipe))


@lru_cache(maxsize=1)
def _embeddings(corpus: Corpus) -> dict[str, NDArray[np.float32]]:
    """Return where `explain` keeps the frozen encoder's embeddings of the test texts, by quantisation.

    All runs that a process carries out on one corpus share them: their models differ only in the head.
    """
    return {}


def _check_explanations(quantizations: Sequence[str], methods: Mapping[str, int]) -> None:
    for name in quantizations:
        if name not in (PLAIN, *FORMATS):
            raise ValueError(f"quantizations = {name!r}: allowed are {', '.join((PLAIN, *FORMATS))}")
    if LRP not in methods:
        raise ValueError(f"methods = {dict(methods)}: {LRP} is required")
    check_methods(methods, EXPLANATIONS)
