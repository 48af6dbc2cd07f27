"""Runs of paper 2: train a part of a classifier under one seed, then quantise and explain it.

A run is a function of its settings, for `lib.sweep`.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from lib.ensembles import fine_tune_together
from lib.explanations import PLAIN, Corpus, explain
from lib.finetuning import Training, encode, fine_tune
from lib.frozen import Heads, head_parameter_names, train_heads
from lib.models import load_classifier, load_tokenizer
from lib.quantization import fine_tuning_surface, quantize
from lib.records import Record
from lib.seeding import set_deterministic


def choose_trained(model: PreTrainedModel, trained: str) -> PreTrainedModel:
    """Let a part of a classifier's weights ask for a gradient; its head always does.

    Parameters
    ----------
    model : PreTrainedModel
        Changed in place.
    trained : str
        ``all``; ``head``; ``above:k``, the layers above the lowest k (the embeddings are frozen as well);
        ``biases``; or ``lora:r``, low-rank adapters of rank r at the queries and values (peft).

    Returns
    -------
    PreTrainedModel
        The model; for adapters peft's wrapping of it.

    Raises
    ------
    ValueError
        For anything else, or more layers than there are.
    """
    kind, _, number = trained.partition(":")
    amount = int(number) if number.isdecimal() else -1
    layers = model.config.num_hidden_layers
    if kind == "lora" and amount > 0:
        head = ["classifier"] + ["pooler"] * (model.config.model_type == "bert")
        adapters = LoraConfig(
            r=amount,
            lora_alpha=2 * amount,  # the same scale for every rank
            target_modules=["query", "value"],
            modules_to_save=head,
        )
        with warnings.catch_warnings():
            # peft asks transformers for a property under its old name
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            return get_peft_model(model, adapters)
    names = [name for name, _ in model.named_parameters()]
    if trained == "all":
        chosen = set(names)
    elif trained == "head":
        chosen = set()
    elif trained == "biases":
        chosen = {name for name in names if name.endswith("bias")}
    elif kind == "above" and 0 <= amount <= layers:
        above = [f"encoder.layer.{layer}." for layer in range(amount, layers)]
        chosen = {name for name in names if any(layer in name for layer in above)}
    else:
        allowed = f"all, head, biases, above:0 to above:{layers}, lora:1 and higher"
        raise ValueError(f"trained = {trained!r}: allowed are {allowed}")
    chosen |= head_parameter_names(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return model


def curve_points(names: str, layers: int) -> list[str]:
    """Return the points of the curve that a parameter names, as `choose_trained` calls them.

    Parameters
    ----------
    names : str
        Set apart by blanks; ``layers`` stands for freezing the lowest k layers for every k.
    layers : int
        Of the encoder.
    """
    lowest = [f"above:{k}" for k in range(layers + 1)]
    return [point for name in names.split() for point in (lowest if name == "layers" else [name])]


def surface_bits(config: PretrainedConfig, trained: str = "all", quantization: str = PLAIN) -> int:
    """Return the fine-tuning surface of a classifier from its configuration alone, in bits.

    Parameters
    ----------
    config : PretrainedConfig
        Of the encoder; nothing of it is built but the shapes.
    trained : str
        See `choose_trained`.
    quantization : str
        ``plain``, or a format of `lib.quantization.quantize`, for ``all`` and ``head``.
    """
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
        if quantization != PLAIN:
            return fine_tuning_surface(quantize(model, quantization), trained)
        return fine_tuning_surface(choose_trained(model, trained), "trainable")


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
    methods: Sequence[str],
    corpus: Corpus,
    groups: Sequence[Sequence[int]] = (),
) -> dict[str, Any]:
    """Fine-tune one seed's classifier, or a part of it, and explain it.

    Parameters
    ----------
    seed : int
        Rules the head's (and adapters') initial weights, the order of the texts and dropout.
    trained : str
        See `choose_trained`.
    epochs, learning_rate, batch_size
        As in `lib.finetuning.fine_tune`.
    together : bool
        Train the seed's group side by side.
    deterministic : bool
        Only deterministic kernels.
    quantizations, methods : sequence of str
        See `explain`.
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
    methods: Sequence[str],
    corpus: Corpus,
    heads: Mapping[int, Mapping[str, NDArray]],
) -> dict[str, Any]:
    """Explain the frozen encoder under one seed's head.

    Parameters
    ----------
    seed : int
    epochs, learning_rate, batch_size
        Those that ``heads`` were trained with: they tell this run from others.
    quantizations, methods : sequence of str
        See `explain`.
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
    return {**explain(model, quantizations, methods, corpus), "loss": float(head.loss)}


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
