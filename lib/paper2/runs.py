"""Runs of paper 2: train a part of a classifier under one seed, then quantise and explain it.

A run is a function of its settings, for `lib.runs.sweep`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from lib.ensembles import fine_tune_together
from lib.explanations import Corpus, explain
from lib.finetuning import Training, encode, fine_tune
from lib.frozen import Heads, train_heads
from lib.models import load_classifier, load_tokenizer
from lib.quantization import choose_trained
from lib.runs.records import Record
from lib.seeding import set_deterministic


def side_by_side(seeds: Sequence[int], size: int) -> list[list[int]]:
    """Return seeds in groups of ``size`` that train together; the last may be smaller."""
    return [list(seeds[start : start + size]) for start in range(0, len(seeds), size)]


def fine_tuned(
    *,
    seed: int,
    trained: str,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    together: bool,
    deterministic: bool,
    quantizations: Sequence[str],
    methods: Mapping[str, int],
    corpus: Corpus,
    groups: Sequence[Sequence[int]] = (),
) -> dict[str, Any]:
    """Fine-tune one seed's classifier, or a part of it, and explain it.

    Parameters
    ----------
    seed : int
        Rules the head's (and adapters') initial weights, the order of the texts and dropout.
    trained : str
        See `lib.quantization.choose_trained`.
    epochs, learning_rate, batch_size
        As in `lib.finetuning.fine_tune`.
    together : bool
        Train the seed's group side by side.
    deterministic : bool
        Only deterministic kernels.
    quantizations, methods
        See `lib.explanations.explain`.
    corpus : Corpus
    groups : sequence of sequences of int
        Seeds that train side by side. Which they are does not decide a result, beyond rounding.

    Returns
    -------
    dict
        What `explain` returns; the mean ``loss`` of the last ten steps; and the fingerprints
        ``initial_weights``, ``data_order`` and ``final_weights``.

    Raises
    ------
    FloatingPointError
        If the loss stops being a number.
    """
    set_deterministic(deterministic)
    group = next(tuple(group) for group in groups if seed in group) if together else (seed,)
    training = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    model, record = _trained(seed, group, trained, training, corpus)
    if not np.isfinite(record.losses).all():
        raise FloatingPointError(f"seed {seed}: the training loss is not a number at some step")
    plain = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    return {
        **explain(plain, quantizations, methods, corpus),
        "loss": float(record.losses[-10:].mean()),
        "initial_weights": record.initial_weights,
        "data_order": record.data_order,
        "final_weights": record.final_weights,
    }


def frozen_heads(
    *,
    seed: int,
    seeds: Sequence[int],
    epochs: int,
    learning_rate: float,
    batch_size: int,
    corpus: Corpus,
) -> dict[str, Any]:
    """Embed the training texts once and train the heads of ``seeds`` together.

    Parameters
    ----------
    seed : int
        The first of ``seeds``; the run goes by its name.
    seeds : sequence of int
    epochs, learning_rate, batch_size
        As in `lib.frozen.train_heads`.
    corpus : Corpus

    Returns
    -------
    dict
        The arrays of `lib.frozen.Heads`, (seeds, ...).
    """
    model = load_classifier(corpus.model, seed=seed, device=corpus.device)
    tokenizer = load_tokenizer(corpus.model)
    embeddings = encode(model, tokenizer, corpus.train_texts, max_length=corpus.max_length).embeddings
    heads = train_heads(
        torch.from_numpy(embeddings),
        corpus.train_labels,
        seeds,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        device=corpus.device,
    )
    return {name: value.numpy() for name, value in vars(heads).items()}


def heads_by_seed(records: Sequence[Record]) -> dict[int, dict[str, NDArray]]:
    """Return each seed's head from the records of `frozen_heads`.

    Raises
    ------
    RuntimeError
        If a run failed: without heads nothing can be explained.
    """
    heads = {}
    for record in records:
        if record.status != "done":
            raise RuntimeError(f"heads of the seeds {record.settings['seeds']}: {record.reason}")
        for index, seed in enumerate(record.settings["seeds"]):
            heads[seed] = {name: values[index] for name, values in record.result.items()}
    return heads


def frozen(
    *,
    seed: int,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    quantizations: Sequence[str],
    methods: Mapping[str, int],
    corpus: Corpus,
    heads: Mapping[int, Mapping[str, NDArray]],
) -> dict[str, Any]:
    """Explain the frozen encoder under one seed's head.

    Parameters
    ----------
    seed : int
    epochs, learning_rate, batch_size
        Those that ``heads`` were trained with: they tell this run from others.
    quantizations, methods
        See `lib.explanations.explain`.
    corpus : Corpus
    heads : mapping
        A seed's head, of all that `frozen_heads` returned.

    Returns
    -------
    dict
        What `explain` returns, and the ``loss`` of the last epoch.
    """
    model = load_classifier(corpus.model, seed=seed, device=corpus.device)
    head = Heads(**{name: torch.as_tensor(value)[None] for name, value in heads[seed].items()})
    head.install(0, model)
    if _embedded.get("corpus") is not corpus:
        _embedded.update(corpus=corpus, embeddings={})
    explained = explain(model, quantizations, methods, corpus, _embedded["embeddings"])
    return {**explained, "loss": float(head.loss)}


# What the frozen encoder makes of the test texts, for the runs of all seeds that a process carries out.
_embedded: dict[str, Any] = {}
# The models of the group trained last, for the runs of its other seeds, each of which takes its own out.
_waiting: dict[str, Any] = {}


def _trained(
    seed: int, group: tuple[int, ...], trained: str, training: dict[str, Any], corpus: Corpus
) -> tuple[PreTrainedModel, Training]:
    """Return a seed's model, trained with its group unless it was trained with it just before."""
    settings = (group, trained, training)
    known = _waiting.get("settings") == settings and _waiting["corpus"] is corpus
    if not known or seed not in _waiting["models"]:
        _waiting.clear()  # frees the memory first
        models = _train_group(group, trained, training, corpus)
        _waiting.update(settings=settings, corpus=corpus, models=models)
    return _waiting["models"].pop(seed)


def _train_group(
    group: tuple[int, ...], trained: str, training: dict[str, Any], corpus: Corpus
) -> dict[int, tuple[PreTrainedModel, Training]]:
    tokenizer = load_tokenizer(corpus.model)
    # Loading sets the seed, which then rules the head and, straight after it, the adapters.
    models = [
        choose_trained(load_classifier(corpus.model, seed=seed, device=corpus.device), trained)
        for seed in group
    ]
    data = (tokenizer, corpus.train_texts, corpus.train_labels)
    training = {**training, "max_length": corpus.max_length}
    if len(group) == 1:
        trainings = [fine_tune(models[0], *data, seed=group[0], **training)]
    else:
        trainings = fine_tune_together(models, *data, seeds=group, **training)
    return dict(zip(group, zip(models, trainings, strict=True), strict=True))
