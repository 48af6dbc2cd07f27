"""Runs of paper 1: fine-tuned and frozen models under given seeds, tested, explained and put to another task.

A run is a function of its settings, for `lib.sweep`. Tasks are told by name; `corpora` holds their texts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.attribution import explain
from lib.explanations import AUTHORS_LRP, LRP, METHODS, Corpus, word_relevance
from lib.faithfulness import Curves, curves
from lib.finetuning import Encoded, encode, fine_tune
from lib.frozen import Heads, train_heads
from lib.models import load_classifier, load_tokenizer
from lib.projection import components_needed, explained_variance
from lib.sweep import Record

Result = dict[str, Any]


class HeadTraining(NamedTuple):
    """How the head of a frozen encoder is trained; the paper does so differently for each task."""

    epochs: int
    learning_rate: float
    batch_size: int


def finetuned_run(
    *,
    seed: int,
    task: str,
    other: str,
    training: Mapping[str, Any],
    heads: Mapping[str, Sequence[Any]],
    methods: Mapping[str, int],
    keep_weights: bool,
    corpora: Mapping[str, Corpus],
) -> Result:
    """Fine-tune under one seed, test and explain, and use the embeddings for the other task.

    Parameters
    ----------
    seed : int
        Of the head's initial weights, the order of the texts and dropout.
    task, other : str
        What is fine-tuned on, and what its embeddings are then used for (paper 1, section 4).
    training : mapping
        ``epochs``, ``learning_rate`` and ``batch_size``.
    heads : mapping of str to (epochs, learning rate, batch size)
        How a task's frozen head is trained.
    methods : mapping of str to int
        Explanations of `lib.explanations.METHODS`, and how many of the explained texts each explains.
    keep_weights : bool
        Whether the record holds the weights, for `rebuild`, and where several methods are compared the curves
        of `curves_of`.
    corpora : mapping of str to Corpus
        The tasks' texts.

    Returns
    -------
    dict
        ``train_accuracy``, ``predicted`` (test texts,), ``embeddings`` (test texts, dim), for each method
        ``relevance/<method>`` (words of the explained texts,), and for the other task ``cross_predicted`` and
        ``cross_embeddings``.
    """
    corpus, tokenizer = corpora[task], load_tokenizer(corpora[task].model)
    model = load_classifier(corpus.model, seed=seed, device=corpus.device)
    done = fine_tune(
        model,
        tokenizer,
        corpus.train_texts,
        corpus.train_labels,
        seed=seed,
        max_length=corpus.max_length,
        **training,
    )
    seen, test = _encode(model, tokenizer, corpus)
    crossed = train_on_frozen(model, tokenizer, corpora[other], [seed], HeadTraining(*heads[other]))
    return {
        "train_accuracy": float(np.mean(seen.predicted == corpus.train_labels)),
        "predicted": test.predicted.astype(np.uint8),
        "embeddings": test.embeddings,
        **_explain(model, tokenizer, corpus, test.predicted, methods),
        **(
            _faithfulness(model, tokenizer, corpus, test.predicted, methods, seed)
            if keep_weights and len(methods) > 1
            else {}
        ),
        "cross_predicted": crossed.predicted[0],
        "cross_embeddings": crossed.embeddings,
        "losses": done.losses,
        "initial_weights": done.initial_weights,
        "data_order": done.data_order,
        "final_weights": done.final_weights,
        **(_weights(model) if keep_weights else {}),
    }


def frozen_run(
    *,
    seed: int,
    seeds: Sequence[int],
    task: str,
    heads: Mapping[str, Sequence[Any]],
    methods: Mapping[str, int],
    corpora: Mapping[str, Corpus],
) -> Result:
    """Embed a task's texts once, train the heads of all seeds on them, test and explain each.

    Parameters
    ----------
    seed : int
        The first of ``seeds``.
    seeds : sequence of int
        Of the heads.
    task, heads, methods, corpora
        As in `finetuned_run`.

    Returns
    -------
    dict
        ``train_accuracy`` (seeds,), ``predicted`` (seeds, test texts), ``embeddings`` (test texts, dim), for
        each method ``relevance/<method>`` (seeds, words of the explained texts), and the first seed's
        weights and curves.
    """
    corpus, tokenizer = corpora[task], load_tokenizer(corpora[task].model)
    model = load_classifier(corpus.model, seed=seed, device=corpus.device)
    trained = train_on_frozen(model, tokenizer, corpus, seeds, HeadTraining(*heads[task]))
    explained = []
    for index in reversed(range(len(seeds))):  # the first seed's head stays in the model
        trained.heads.install(index, model)
        explained.append(_explain(model, tokenizer, corpus, trained.predicted[index], methods))
    relevance = {name: np.stack([one[name] for one in reversed(explained)]) for name in explained[0]}
    return {
        "train_accuracy": trained.train_accuracy,
        "predicted": trained.predicted,
        "embeddings": trained.embeddings,
        **relevance,
        **(
            _faithfulness(model, tokenizer, corpus, trained.predicted[0], methods, seed)
            if len(methods) > 1
            else {}
        ),
        **_weights(model),
    }


def chain_run(
    *,
    seed: int,
    tasks: Sequence[str],
    training: Mapping[str, Any],
    heads: Mapping[str, Sequence[Any]],
    corpora: Mapping[str, Corpus],
) -> Result:
    """Fine-tune one encoder on several tasks in a row, and measure all of them before and after each.

    Each time with a new classification head; a task is measured by a frozen head on the embeddings. It
    answers the paper's closing question: do drops accumulate over several cross-trainings?

    Parameters
    ----------
    seed : int
        Of everything drawn.
    tasks : sequence of str, (rounds,)
        What is fine-tuned on, such as A, B, A, B.
    training, heads, corpora
        As in `finetuned_run`.

    Returns
    -------
    dict
        For each task t ``accuracy/<t>`` and ``components/<t>`` (rounds + 1,), before the first round and
        after each; for each round r ``relevance/<r>`` (words of the explained texts,) on that round's task.
    """
    measured = dict.fromkeys(tasks)  # each task once
    tokenizer = load_tokenizer(corpora[tasks[0]].model)
    model = load_classifier(corpora[tasks[0]].model, seed=seed, device=corpora[tasks[0]].device)
    accuracy, components, relevance = {t: [] for t in measured}, {t: [] for t in measured}, {}
    for number, task in enumerate([None, *tasks]):
        if task is not None:
            corpus = corpora[task]
            fresh = load_classifier(corpus.model, seed=seed, device=corpus.device)
            model.classifier.load_state_dict(fresh.classifier.state_dict())
            texts, labels = corpus.train_texts, corpus.train_labels
            fine_tune(model, tokenizer, texts, labels, seed=seed, max_length=corpus.max_length, **training)
            _, test = _encode(model, tokenizer, corpus, train=False)
            explained = _explain(model, tokenizer, corpus, test.predicted, {LRP: len(corpus.explained)})
            relevance[f"relevance/{number}"] = explained[f"relevance/{LRP}"]
        for name in measured:
            trained = train_on_frozen(model, tokenizer, corpora[name], [seed], HeadTraining(*heads[name]))
            accuracy[name].append(np.mean(trained.predicted[0] == corpora[name].test_labels))
            components[name].append(components_needed(explained_variance(trained.embeddings)))
    return {
        **{f"accuracy/{name}": np.array(values) for name, values in accuracy.items()},
        **{f"components/{name}": np.array(values) for name, values in components.items()},
        **relevance,
    }


def curves_of(record: Record) -> dict[str, Curves]:
    """Return a record's deletion and insertion curves by method, texts in the corpus's order."""
    names = [name.removesuffix("/deletion") for name in record.result if name.endswith("/deletion")]
    return {
        name: Curves(*(record[f"{name}/{what}"] for what in ("shares", "deletion", "insertion")))
        for name in names
    }


def fingerprints(corpora: Mapping[str, Corpus]) -> dict[str, str]:
    """Tell these corpora from others, for the keys of the runs that are handed them."""
    return {
        f"{task}/{name}": value
        for task, corpus in corpora.items()
        for name, value in corpus.fingerprints.items()
    }


def rebuild(record: Record, corpus: Corpus, seed: int) -> PreTrainedModel:
    """Return the model whose weights a record kept, in evaluation mode, on the CPU."""
    model = load_classifier(corpus.model, seed=seed)
    prefix = "weights/"
    kept = {name: value for name, value in record.result.items() if name.startswith(prefix)}
    weights = {name.removeprefix(prefix): torch.from_numpy(np.array(value)) for name, value in kept.items()}
    model.load_state_dict(weights)
    return model


class Trained(NamedTuple):
    """Frozen heads and what they predict; the shapes are those that `frozen_run` returns."""

    heads: Heads
    train_accuracy: NDArray[np.float64]
    predicted: NDArray[np.uint8]
    embeddings: NDArray[np.float32]


def train_on_frozen(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    seeds: Sequence[int],
    training: HeadTraining,
) -> Trained:
    """Train the heads of ``seeds`` on the embeddings that the model's encoder gives."""
    train, test = _encode(model, tokenizer, corpus)
    heads = train_heads(
        torch.from_numpy(train.embeddings),
        corpus.train_labels,
        seeds,
        **training._asdict(),
        device=corpus.device,
    )
    seen = heads.logits(torch.from_numpy(train.embeddings)).argmax(-1).numpy()  # (seeds, training texts)
    predicted = heads.logits(torch.from_numpy(test.embeddings)).argmax(-1).numpy()  # (seeds, test texts)
    right = np.mean(seen == np.array(corpus.train_labels), axis=1)  # (seeds,)
    return Trained(heads, right, predicted.astype(np.uint8), test.embeddings)


def _encode(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus, *, train: bool = True
) -> tuple[Encoded | None, Encoded]:
    """Encode the training texts, if asked to, and the test texts."""
    seen = encode(model, tokenizer, corpus.train_texts, max_length=corpus.max_length) if train else None
    return seen, encode(model, tokenizer, corpus.test_texts, max_length=corpus.max_length)


def _explain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    predicted: NDArray[np.integer],
    methods: Mapping[str, int],
) -> dict[str, NDArray[np.float32]]:
    """Explain the predicted classes: (words of the method's texts,) for each method."""
    tokens, targets = corpus.tokens(tokenizer), predicted[corpus.explained].astype(np.int64)
    return {
        f"relevance/{method}": word_relevance(model, tokens[:texts], targets[:texts], method)
        for method, texts in methods.items()
    }


def _faithfulness(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    predicted: NDArray[np.integer],
    methods: Mapping[str, int],
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Hide words in the order of each method on the texts that all of them explain; see `curves_of`."""
    texts = min(methods.values())
    ids = [text.input_ids for text in corpus.tokens(tokenizer)[:texts]]
    targets = predicted[corpus.explained][:texts].tolist()
    # The authors' variant depends on the padding, which hiding words would have to go along with.
    orders = {
        name: explain(METHODS[name], model, ids, targets=targets) for name in methods if name != AUTHORS_LRP
    }
    found = curves(model, tokenizer, ids, orders, seed=seed)
    return {
        f"{name}/{what}": getattr(curve, what)
        for name, curve in found.items()
        for what in ("shares", "deletion", "insertion")
    }


def _weights(model: PreTrainedModel) -> dict[str, NDArray]:
    return {f"weights/{name}": value.detach().cpu().numpy() for name, value in model.state_dict().items()}
