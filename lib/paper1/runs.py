"""Runs of paper 1: fine-tuned and frozen models under given seeds, tested, explained and put to another task.

A run is a function of its settings, for `lib.runs.sweep`. Tasks are told by name; `corpora` holds their texts.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.explanations import Corpus, flat_words, relevance, word_relevance
from lib.faithfulness import curves
from lib.finetuning import Encoded, Training, encode, fine_tune
from lib.frozen import Heads, train_heads
from lib.models import load_classifier, load_tokenizer
from lib.projection import components_needed, explained_variance

Result = dict[str, Any]


class HeadTraining(NamedTuple):
    """How the head of a frozen encoder is trained; the paper does so differently for each task."""

    epochs: int
    learning_rate: float
    batch_size: int


def run(*, kind: str, **settings: Any) -> Result:
    """Carry out `finetuned_run` or `frozen_run`, so that one sweep holds runs of both kinds.

    Parameters
    ----------
    kind : str
        ``fine-tuned`` or ``frozen``.
    **settings
        Those of that run.
    """
    return {"fine-tuned": finetuned_run, "frozen": frozen_run}[kind](**settings)


def finetuned_run(
    *,
    seed: int,
    task: str,
    other: str,
    training: Mapping[str, Any],
    heads: Mapping[str, Sequence[Any]],
    methods: Mapping[str, int],
    hidden_texts: int,
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
        ``epochs``, ``learning_rate``, ``batch_size`` and so on of `lib.finetuning.fine_tune`.
    heads : mapping of str to (epochs, learning rate, batch size)
        How a task's frozen head is trained.
    methods : mapping of str to int
        Explanations of `lib.attribution.METHODS`, and how many of the explained texts each explains.
    hidden_texts : int
        On how many of these texts words are hidden in the order of each method; see
        `lib.paper1.compared.curves_of`.
    keep_weights : bool
        Whether the record holds the weights; see `lib.paper1.compared.rebuild`.
    corpora : mapping of str to Corpus
        The tasks' texts.

    Returns
    -------
    dict
        ``train_accuracy``, ``predicted`` (test texts,), ``embeddings`` (test texts, dim), for each method
        ``relevance/<method>`` (words of the explained texts,), and for the other task
        ``cross_train_accuracy``, ``cross_predicted`` and ``cross_embeddings``.
    """
    corpus, tokenizer = corpora[task], load_tokenizer(corpora[task].model)
    model, done = tuned(corpus, tokenizer, seed=seed, training=training)
    seen, test = _encode(model, tokenizer, corpus)
    crossed = train_on_frozen(model, tokenizer, corpora[other], [seed], HeadTraining(*heads[other]))
    return {
        "train_accuracy": float(np.mean(seen.predicted == corpus.train_labels)),
        "predicted": test.predicted.astype(np.uint8),
        "embeddings": test.embeddings,
        **_explain(model, tokenizer, corpus, test.predicted, methods, hidden_texts, seed),
        "cross_train_accuracy": crossed.train_accuracy[0],
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
    methods: Sequence[Mapping[str, int]],
    hidden_texts: int,
    corpora: Mapping[str, Corpus],
) -> Result:
    """Embed a task's texts once, train the heads of all seeds on them, test and explain each.

    Parameters
    ----------
    seed : int
        The first of ``seeds``.
    seeds : sequence of int
        Of the heads.
    methods : sequence of mappings of str to int
        For each seed as in `finetuned_run`; a later seed has no method that an earlier one lacks.
    task, heads, hidden_texts, corpora
        As in `finetuned_run`; words are hidden for the first seed alone.

    Returns
    -------
    dict
        ``train_accuracy`` (seeds,), ``predicted`` (seeds, test texts), ``embeddings`` (test texts, dim), for
        each method ``relevance/<method>`` (seeds that have it, words of the explained texts), and the first
        seed's weights and curves.
    """
    corpus, tokenizer = corpora[task], load_tokenizer(corpora[task].model)
    model = load_classifier(corpus.model, seed=seed, device=corpus.device)
    trained = train_on_frozen(model, tokenizer, corpus, seeds, HeadTraining(*heads[task]))
    explained = []
    for row, chosen in enumerate(methods):
        trained.heads.install(row, model)
        hidden = hidden_texts if row == 0 else 0
        explained.append(
            _explain(model, tokenizer, corpus, trained.predicted[row], chosen, hidden, seeds[row])
        )
    names = [f"relevance/{method}" for method in methods[0]]
    trained.heads.install(0, model)
    return {
        "train_accuracy": trained.train_accuracy,
        "predicted": trained.predicted,
        "embeddings": trained.embeddings,
        **explained[0],
        **{name: np.stack([one[name] for one in explained if name in one]) for name in names},
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
    result = {f"{what}/{name}": [] for what in ("accuracy", "components") for name in measured}
    for number, task in enumerate([None, *tasks]):
        if task is not None:
            model, _ = tuned(corpora[task], tokenizer, seed=seed, training=training, start=model)
            result[f"relevance/{number}"] = _explain_predicted(model, tokenizer, corpora[task])
        for name in measured:
            trained = train_on_frozen(model, tokenizer, corpora[name], [seed], HeadTraining(*heads[name]))
            right = np.mean(trained.predicted[0] == corpora[name].test_labels)
            result[f"accuracy/{name}"].append(right)
            result[f"components/{name}"].append(components_needed(explained_variance(trained.embeddings)))
    return {name: np.array(values) for name, values in result.items()}


def tuned(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    training: Mapping[str, Any],
    start: PreTrainedModel | None = None,
) -> tuple[PreTrainedModel, Training]:
    """Fine-tune a classifier with a new head on a corpus.

    Parameters
    ----------
    corpus, tokenizer, seed, training
        As in `finetuned_run`.
    start : PreTrainedModel, optional
        Whose encoder to start from, instead of the pre-trained one; left as it is.
    """
    model = load_classifier(corpus.model, seed=seed, device=corpus.device)
    if start is not None:
        model.base_model.load_state_dict(start.base_model.state_dict())
    texts, labels = corpus.train_texts, corpus.train_labels
    done = fine_tune(model, tokenizer, texts, labels, seed=seed, max_length=corpus.max_length, **training)
    return model, done


def fingerprints(corpora: Mapping[str, Corpus]) -> dict[str, str]:
    """Tell these corpora from others, for the keys of the runs that are handed them."""
    return {
        f"{task}/{name}": value
        for task, corpus in corpora.items()
        for name, value in corpus.fingerprints.items()
    }


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
    seen = heads.predicted(train.embeddings)  # (seeds, training texts)
    right = np.mean(seen == np.array(corpus.train_labels), axis=1)  # (seeds,)
    return Trained(heads, right, heads.predicted(test.embeddings), test.embeddings)


def _encode(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus
) -> tuple[Encoded, Encoded]:
    """Encode the training and the test texts."""
    train = encode(model, tokenizer, corpus.train_texts, max_length=corpus.max_length)
    return train, encode(model, tokenizer, corpus.test_texts, max_length=corpus.max_length)


def _explain_predicted(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus
) -> NDArray[np.float32]:
    """Explain by LRP what the model predicts for the explained texts: (words of these texts,)."""
    texts = [corpus.test_texts[index] for index in corpus.explained]
    predicted = encode(model, tokenizer, texts, max_length=corpus.max_length).predicted
    return word_relevance(model, corpus.tokens(tokenizer), predicted)


def _explain(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    predicted: NDArray[np.integer],
    methods: Mapping[str, int],
    hidden_texts: int,
    seed: int,
) -> Result:
    """Explain the predicted classes, and hide words in the order of each explanation.

    Returns
    -------
    dict
        For each method ``relevance/<method>`` (words of the method's texts,), and where words are hidden
        what `lib.paper1.compared.curves_of` reads.
    """
    tokens, targets = corpus.tokens(tokenizer), predicted[corpus.explained]
    found = {name: relevance(model, tokens[:count], targets[:count], name) for name, count in methods.items()}
    result = {f"relevance/{name}": flat_words(tokens[: len(rows)], rows) for name, rows in found.items()}
    if hidden_texts:
        ids = [text.input_ids for text in tokens[:hidden_texts]]
        orders = {name: rows[:hidden_texts] for name, rows in found.items()}
        for name, curve in curves(model, tokenizer, ids, orders, seed=seed).items():
            result |= {f"{name}/{what}": values for what, values in vars(curve).items()}
    return result


def _weights(model: PreTrainedModel) -> dict[str, NDArray]:
    return {f"weights/{name}": value.detach().cpu().numpy() for name, value in model.state_dict().items()}
