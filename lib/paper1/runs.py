"""Runs of paper 1: fine-tuned and frozen models, tested, explained, and transferred to the other task.

Beyond the paper: chains of fine-tunings, and models trained on texts with a planted artifact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.attribution import LRP, METHODS
from lib.components import components_needed, explained_variance
from lib.corpus import Corpus, Planted, WithoutFineTuning
from lib.explanations import check_methods, flat_words, relevance, word_relevance
from lib.finetuning import Encoded, Training, encode, fine_tune
from lib.frozen import Heads, train_heads
from lib.hiding import curves
from lib.models import load_classifier, load_tokenizer
from lib.recipes import TrainingRecipe
from lib.runs import Run, check_first_seed
from lib.words import normalise, texts_to_words, tokenize

Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class FineTuned(Run):
    """Fine-tune a classifier under one seed, test and explain it, and reuse its embeddings for another task.

    Attributes
    ----------
    seed : int
        Determines the head's initial weights, the order of the texts and dropout.
    task : str
        The task that is fine-tuned on.
    training : TrainingRecipe
        Of the fine-tuning.
    other_task : str or None
        The task that the fine-tuned embeddings are then used for, frozen (paper 1, section 4); None: for
        none.
    head : TrainingRecipe or None
        Of the other task's head; required with one.
    methods : mapping of str to int
        Explanations of `lib.attribution.METHODS`, and how many of the explained texts each explains. The
        other task's texts are explained by LRP if it is among them, in the same number.
    hidden_texts : int
        Number of these texts whose words are hidden in the order of each explanation; see
        `lib.paper1.compared.curves_of`.
    keep_weights : bool
        Whether the record keeps the weights; see `lib.paper1.compared.rebuild`.

    Raises
    ------
    ValueError
        If a field has a value that is not allowed.
    """

    task: str
    training: TrainingRecipe
    other_task: str | None = None
    head: TrainingRecipe | None = None
    methods: Mapping[str, int] = field(default_factory=dict)
    hidden_texts: int = 0
    keep_weights: bool = False

    def __post_init__(self) -> None:
        if self.task == self.other_task:
            raise ValueError(f"other_task = {self.other_task!r}: a task that differs from task is required")
        if (self.other_task is None) != (self.head is None):
            raise ValueError(f"other_task = {self.other_task!r} and head = {self.head}: both or neither")
        check_methods(self.methods, METHODS)
        _check_hidden_texts(self.hidden_texts)

    def carry_out(self, *, corpora: Mapping[str, Corpus], validation: Mapping[str, Corpus]) -> Result:
        """Train, test and explain the classifier, and train a head on its embeddings of the other task.

        Parameters
        ----------
        corpora : mapping of str to Corpus
            By task.
        validation : mapping of str to Corpus
            The same with the validation texts in place of the test texts.

        Returns
        -------
        dict
            ``train_predicted`` (training texts,); ``predicted`` (test texts,); ``validation_accuracy``
            (epochs,), after each; ``embeddings`` (test texts, dim); for each method ``relevance/<method>``
            (words of its texts,); for another task ``cross_train_predicted``, ``cross_predicted``,
            ``cross_embeddings`` and ``cross_relevance/LRP``; ``losses`` (steps,) in nats; the fingerprints
            ``initial_weights``, ``data_order`` and ``final_weights``; the training's ``precision``; and, if
            requested, the curves and ``weights/<parameter>``.

        Raises
        ------
        FloatingPointError
            If training diverged.
        """
        corpus = corpora[self.task]
        tokenizer = load_tokenizer(corpus.model)
        model, training, by_epoch = fine_tune_classifier(
            corpus, tokenizer, seed=self.seed, recipe=self.training, validation=validation[self.task]
        )
        train, test = _encode(model, tokenizer, corpus)
        result = {
            "train_predicted": train.predicted.astype(np.uint8),
            "predicted": test.predicted.astype(np.uint8),
            "validation_accuracy": by_epoch,
            "embeddings": test.embeddings,
            **_explain(model, tokenizer, corpus, test.predicted, self.methods, self.hidden_texts, self.seed),
            "losses": training.losses,
            "initial_weights": training.initial_weights,
            "data_order": training.data_order,
            "final_weights": training.final_weights,
            "precision": training.precision,
            **(_weights(model) if self.keep_weights else {}),
        }
        if self.other_task is not None and self.head is not None:
            result |= self._reuse(model, tokenizer, corpora[self.other_task], self.head)
        return result

    def _reuse(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        corpus: Corpus,
        recipe: TrainingRecipe,
    ) -> Result:
        """Train a head for the other task on the fine-tuned embeddings, test and explain it."""
        crossed = train_on_frozen(model, tokenizer, corpus, [self.seed], recipe)
        crossed.heads.install(0, model)
        result = {
            "cross_train_predicted": crossed.train_predicted[0],
            "cross_predicted": crossed.predicted[0],
            "cross_embeddings": crossed.embeddings,
        }
        if LRP in self.methods:
            explained = {LRP: self.methods[LRP]}
            relevances = _explain(model, tokenizer, corpus, crossed.predicted[0], explained, 0, self.seed)
            result |= {f"cross_{name}": values for name, values in relevances.items()}
        return result


@dataclass(frozen=True, kw_only=True)
class Frozen(WithoutFineTuning):
    """Embed a task's texts once with the frozen encoder, train the heads of all seeds, test and explain each.

    Attributes
    ----------
    seed : int
        The first of ``seeds``.
    seeds : tuple of int
        Of the heads.
    task : str
        The task that the heads are trained on.
    head : TrainingRecipe
        Of each head.
    methods : tuple of mappings of str to int, (seeds,)
        As in `FineTuned`, for each seed. A later seed has no method that an earlier one lacks.
    hidden_texts : int
        As in `FineTuned`; only for the first seed.

    Raises
    ------
    ValueError
        If a field has a value that is not allowed.
    """

    seeds: tuple[int, ...]
    task: str
    head: TrainingRecipe
    methods: tuple[Mapping[str, int], ...]
    hidden_texts: int = 0

    def __post_init__(self) -> None:
        check_first_seed(self.seed, self.seeds)
        if len(self.methods) != len(self.seeds):
            raise ValueError(f"methods of {len(self.methods)} seeds: {len(self.seeds)} are required")
        for methods in self.methods:
            check_methods(methods, METHODS)
        _check_hidden_texts(self.hidden_texts)
        for earlier, later in zip(self.methods, self.methods[1:], strict=False):
            if not set(later) <= set(earlier):
                raise ValueError(
                    f"methods = {list(later)} after {list(earlier)}: a later seed may have no further method"
                )

    def carry_out(self, *, corpora: Mapping[str, Corpus], validation: Mapping[str, Corpus]) -> Result:
        """Train, test and explain the heads.

        Parameters
        ----------
        corpora : mapping of str to Corpus
            By task.
        validation : mapping of str to Corpus
            The same with the validation texts in place of the test texts.

        Returns
        -------
        dict
            ``train_predicted`` (seeds, training texts); ``predicted`` (seeds, test texts);
            ``validation_accuracy`` (seeds,), after the last epoch; ``embeddings`` (test texts, dim); for each
            method ``relevance/<method>`` (seeds that have it, words of its texts); and the first seed's
            curves and ``weights/<parameter>``.
        """
        corpus = corpora[self.task]
        tokenizer = load_tokenizer(corpus.model)
        model = load_classifier(corpus.model, seed=self.seed, device=corpus.device)
        trained = train_on_frozen(model, tokenizer, corpus, self.seeds, self.head)
        held_out = validation[self.task]
        encoded = encode(model, tokenizer, held_out.test_texts, max_length=held_out.max_length)
        held_out_predicted = trained.heads.predicted(encoded.embeddings)  # (seeds, validation texts)
        explained = []  # (seeds,)
        for index, seed in enumerate(self.seeds):
            trained.heads.install(index, model)
            predicted, hidden_texts = trained.predicted[index], self.hidden_texts if index == 0 else 0
            explained.append(
                _explain(model, tokenizer, corpus, predicted, self.methods[index], hidden_texts, seed)
            )
        stacked = {}
        for name in (f"relevance/{method}" for method in self.methods[0]):
            stacked[name] = np.stack([result[name] for result in explained if name in result])
        trained.heads.install(0, model)
        return {
            "train_predicted": trained.train_predicted,
            "predicted": trained.predicted,
            "validation_accuracy": np.mean(held_out_predicted == np.array(held_out.test_labels), axis=1),
            "embeddings": trained.embeddings,
            **explained[0],
            **stacked,
            **_weights(model),
        }


@dataclass(frozen=True, kw_only=True)
class Chain(Run):
    """Fine-tune one encoder on several tasks in a row, and measure all tasks before and after each round.

    Each round starts with a new classification head; a task is measured by a frozen head on the embeddings.
    This answers the paper's closing question: do drops accumulate over several cross-trainings?

    Attributes
    ----------
    seed : int
        Determines everything drawn at random.
    tasks : tuple of str, (rounds,)
        The task of each round, such as A, B, A, B.
    training : mapping of str to TrainingRecipe
        Of the fine-tuning on each task.
    heads : mapping of str to TrainingRecipe
        Of each task's frozen head.

    Raises
    ------
    ValueError
        If there is no round, or a task has no recipe.
    """

    tasks: tuple[str, ...]
    training: Mapping[str, TrainingRecipe]
    heads: Mapping[str, TrainingRecipe]

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("tasks = (): at least one round is required")
        for name, recipes in (("training", self.training), ("heads", self.heads)):
            for task in self.tasks:
                if task not in recipes:
                    raise ValueError(f"{name} has no {task!r}: a recipe for each of the tasks is required")

    def carry_out(self, *, corpora: Mapping[str, Corpus]) -> Result:
        """Fine-tune and measure, round after round.

        Parameters
        ----------
        corpora : mapping of str to Corpus
            By task.

        Returns
        -------
        dict
            For each task t ``accuracy/<t>`` and ``components/<t>`` (rounds + 1,), before the first round and
            after each; for each round r, from 1, on that round's task ``predicted/<r>`` (explained texts,)
            and ``relevance/<r>`` (words of the explained texts,).

        Raises
        ------
        FloatingPointError
            If training diverged.
        """
        start = corpora[self.tasks[0]]
        tokenizer = load_tokenizer(start.model)
        model = load_classifier(start.model, seed=self.seed, device=start.device)
        measured = [self._measure(model, tokenizer, corpora)]  # (rounds + 1,)
        result: Result = {}
        for number, task in enumerate(self.tasks, 1):
            model, _, _ = fine_tune_classifier(
                corpora[task], tokenizer, seed=self.seed, recipe=self.training[task], start=model
            )
            predicted, relevances = _explain_predicted(model, tokenizer, corpora[task])
            result[f"predicted/{number}"], result[f"relevance/{number}"] = predicted, relevances
            measured.append(self._measure(model, tokenizer, corpora))
        for name in measured[0]:
            result[name] = np.array([values[name] for values in measured])
        return result

    def _measure(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpora: Mapping[str, Corpus]
    ) -> dict[str, float]:
        """Measure every task with a frozen head on the model's embeddings: accuracy and components."""
        values: dict[str, float] = {}
        for task in self.tasks:
            if f"accuracy/{task}" in values:
                continue
            trained = train_on_frozen(model, tokenizer, corpora[task], [self.seed], self.heads[task])
            values[f"accuracy/{task}"] = np.mean(trained.predicted[0] == corpora[task].test_labels)
            values[f"components/{task}"] = components_needed(explained_variance(trained.embeddings))
        return values


@dataclass(frozen=True, kw_only=True)
class FineTunedOnArtifact(Run):
    """Fine-tune on texts with a planted artifact, and measure how much the model relies on it.

    Attributes
    ----------
    seed : int
        Determines everything drawn at random.
    rate : float
        The rate at which the artifact was planted.
    training : TrainingRecipe
        Of the fine-tuning.
    """

    rate: float
    training: TrainingRecipe

    def carry_out(self, *, planted: Planted) -> Result:
        """Train the classifier, and test it with and without the artifact.

        Parameters
        ----------
        planted : Planted
            Texts with the artifact, at this rate among others.

        Returns
        -------
        dict
            ``clean`` and ``planted`` (1, test texts), the classes predicted without and with the artifact;
            ``accuracy`` (1,), without it; ``relevance`` (1, explained texts), the artifact's share of a
            planted text's relevance.

        Raises
        ------
        FloatingPointError
            If training diverged.
        """
        corpus = planted.corpora[self.rate]
        tokenizer = load_tokenizer(corpus.model)
        model, _, _ = fine_tune_classifier(corpus, tokenizer, seed=self.seed, recipe=self.training)
        clean = encode(model, tokenizer, corpus.test_texts, max_length=corpus.max_length).predicted
        with_word = encode(model, tokenizer, planted.test_texts, max_length=corpus.max_length).predicted
        share = _artifact_share(model, tokenizer, corpus, planted, with_word)
        return _artifact_result(corpus, clean[None], with_word[None], share[None])


@dataclass(frozen=True, kw_only=True)
class FrozenOnArtifact(WithoutFineTuning):
    """Train the frozen heads of all seeds on texts with a planted artifact; measure how each relies on it.

    Attributes
    ----------
    seed : int
        The first of ``seeds``.
    seeds : tuple of int
        Of the heads.
    rate : float
        The rate at which the artifact was planted.
    head : TrainingRecipe
        Of each head.

    Raises
    ------
    ValueError
        If ``seed`` is not the first of ``seeds``.
    """

    seeds: tuple[int, ...]
    rate: float
    head: TrainingRecipe

    def __post_init__(self) -> None:
        check_first_seed(self.seed, self.seeds)

    def carry_out(self, *, planted: Planted) -> Result:
        """Train the heads, and test each with and without the artifact.

        Parameters
        ----------
        planted : Planted
            Texts with the artifact, at this rate among others.

        Returns
        -------
        dict
            As `FineTunedOnArtifact.carry_out`, with one row per seed.
        """
        corpus = planted.corpora[self.rate]
        tokenizer = load_tokenizer(corpus.model)
        model = load_classifier(corpus.model, seed=self.seed, device=corpus.device)
        trained = train_on_frozen(model, tokenizer, corpus, self.seeds, self.head)
        embeddings = encode(model, tokenizer, planted.test_texts, max_length=corpus.max_length).embeddings
        with_word = trained.heads.predicted(embeddings)  # (seeds, test texts)
        shares = []
        for index, predicted in enumerate(with_word):
            trained.heads.install(index, model)
            shares.append(_artifact_share(model, tokenizer, corpus, planted, predicted))
        return _artifact_result(corpus, trained.predicted, with_word, np.stack(shares))


class TrainedHeads(NamedTuple):
    """Frozen heads and their predictions; shapes as `Frozen.carry_out` returns them."""

    heads: Heads
    train_predicted: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    embeddings: NDArray[np.float32]


def fine_tune_classifier(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    recipe: TrainingRecipe,
    validation: Corpus | None = None,
    start: PreTrainedModel | None = None,
) -> tuple[PreTrainedModel, Training, list[float]]:
    """Fine-tune a classifier with a new head on a corpus, and measure it after each epoch.

    Parameters
    ----------
    corpus : Corpus
        Training texts, and the pre-trained encoder.
    tokenizer : PreTrainedTokenizerBase
        The encoder's tokenizer.
    seed : int
        Determines the head's initial weights, the order of the texts and dropout.
    recipe : TrainingRecipe
        Rate, schedule, batches and order.
    validation : Corpus, optional
        Its test texts are the validation texts.
    start : PreTrainedModel, optional
        Its encoder is the starting point instead of the pre-trained one; it is left unchanged.

    Returns
    -------
    PreTrainedModel
        In evaluation mode.
    Training
    list of float, (epochs,)
        The accuracy on the validation texts after each epoch; empty without them. In the authors' schedule
        the rate is 0 before the first epoch ends, and the model does not change any more.

    Raises
    ------
    FloatingPointError
        If training diverged.
    """
    model = load_classifier(corpus.model, seed=seed, device=corpus.device)
    if start is not None:
        model.base_model.load_state_dict(start.base_model.state_dict())
    by_epoch: list[float] = []

    def measure() -> None:
        if validation is not None:
            model.eval()
            by_epoch.append(_accuracy(model, tokenizer, validation))

    training = fine_tune(
        model,
        tokenizer,
        corpus.train_texts,
        corpus.train_labels,
        seed=seed,
        max_length=corpus.max_length,
        after_epoch=measure,
        precision=corpus.precision,
        **asdict(recipe),
    )
    rest = recipe.epochs - len(by_epoch)  # epochs without a step
    if validation is not None and rest:
        by_epoch += rest * [_accuracy(model, tokenizer, validation)]
    return model, training, by_epoch


def train_on_frozen(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    seeds: Sequence[int],
    recipe: TrainingRecipe,
) -> TrainedHeads:
    """Train the heads of ``seeds`` on the model's embeddings of a corpus, and test them."""
    train, test = _encode(model, tokenizer, corpus)
    heads = train_heads(
        torch.from_numpy(train.embeddings),
        corpus.train_labels,
        seeds,
        device=corpus.device,
        **asdict(recipe),
    )
    return TrainedHeads(
        heads, heads.predicted(train.embeddings), heads.predicted(test.embeddings), test.embeddings
    )


def _encode(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus
) -> tuple[Encoded, Encoded]:
    """Encode the training texts and the test texts."""
    train = encode(model, tokenizer, corpus.train_texts, max_length=corpus.max_length)
    return train, encode(model, tokenizer, corpus.test_texts, max_length=corpus.max_length)


def _accuracy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus) -> float:
    """Return the accuracy on a corpus's test texts."""
    predicted = encode(model, tokenizer, corpus.test_texts, max_length=corpus.max_length).predicted
    return float(np.mean(predicted == corpus.test_labels))


def _explain_predicted(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, corpus: Corpus
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Explain by LRP the class predicted for each explained text: (texts,) classes, (words of all,)."""
    texts = [corpus.test_texts[index] for index in corpus.explained]
    predicted = encode(model, tokenizer, texts, max_length=corpus.max_length).predicted
    tokens, precision = corpus.tokens(tokenizer), corpus.relevance_precision
    return predicted.astype(np.uint8), word_relevance(model, tokens, predicted, precision=precision)


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
        For each method ``relevance/<method>`` (words of the method's texts,); with hidden texts also the
        curves that `lib.paper1.compared.curves_of` reads.
    """
    tokens, targets = corpus.tokens(tokenizer), predicted[corpus.explained]
    values = {
        method: relevance(model, tokens[:texts], targets[:texts], method, corpus.relevance_precision)
        for method, texts in methods.items()
    }  # (texts,) of (pieces,) each
    result: Result = {
        f"relevance/{method}": flat_words(tokens[: len(texts)], texts) for method, texts in values.items()
    }
    if hidden_texts:
        pieces = [text.input_ids for text in tokens[:hidden_texts]]
        orders = {method: texts[:hidden_texts] for method, texts in values.items()}
        for method, curve in curves(model, tokenizer, pieces, orders, seed=seed).items():
            result |= {f"{method}/{part}": points for part, points in vars(curve).items()}
    return result


def _weights(model: PreTrainedModel) -> dict[str, NDArray]:
    """Copy a model's weights: on a CPU, they would otherwise change with the model."""
    return {f"weights/{name}": value.cpu().numpy().copy() for name, value in model.state_dict().items()}


def _artifact_share(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    planted: Planted,
    predicted: NDArray[np.integer],
) -> NDArray[np.float32]:
    """Return the artifact's share in the relevance of each explained text with it: (explained,)."""
    texts = [planted.test_texts[index] for index in corpus.explained]
    tokens = tokenize(texts, tokenizer, corpus.max_length)
    targets, precision = predicted[corpus.explained], corpus.relevance_precision
    values = texts_to_words(tokens, relevance(model, tokens, targets, precision=precision))
    shares = [
        normalise(row, 0)[np.array(text.words) == planted.word].sum()
        for text, row in zip(tokens, values, strict=True)
    ]  # normalised, a text's relevances sum to 1
    return np.array(shares, np.float32)


def _artifact_result(
    corpus: Corpus,
    clean: NDArray[np.integer],
    planted: NDArray[np.integer],
    share: NDArray[np.float32],
) -> Result:
    """Name the results: (seeds, test texts) twice, then (seeds, explained texts)."""
    return {
        "clean": clean.astype(np.uint8),
        "planted": planted.astype(np.uint8),
        "accuracy": np.mean(clean == np.array(corpus.test_labels), axis=1),
        "relevance": share,
    }


def _check_hidden_texts(count: int) -> None:
    if count < 0:
        raise ValueError(f"hidden_texts = {count}: 0 or more are required")
