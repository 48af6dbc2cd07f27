"""The models that paper 1 compares, a row a seed, whatever records their runs left."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from transformers import PreTrainedModel

from lib.attribution import LRP, METHODS
from lib.explanations import Corpus
from lib.faithfulness import Curves
from lib.models import load_classifier
from lib.runs.records import Record
from lib.runs.sweep import finished
from lib.stability import split_texts
from lib.words import discriminant_words, normalise

Words = Sequence[Sequence[str]]
KINDS = ("fine-tuned", "frozen")


@dataclass(frozen=True)
class Models:
    """Models of one kind, trained on one task.

    Attributes
    ----------
    train_accuracy : ndarray, (seeds,)
    predicted : ndarray of int, (seeds, test texts)
    embeddings : list of ndarray, (encoders,) of (test texts, dim)
        Of test texts: fine-tuned encoders are as many as the seeds, the frozen one is the same for all.
    relevance : dict of ndarray
        For each method (seeds that it explained, words of the texts that it explained).
    first : Record
        Of the run that holds the first seed's weights and curves.
    """

    train_accuracy: NDArray[np.float64]
    predicted: NDArray[np.uint8]
    embeddings: list[NDArray[np.float32]]
    relevance: dict[str, NDArray[np.float32]]
    first: Record

    @classmethod
    def fine_tuned(cls, records: Sequence[Record]) -> "Models":
        """Collect the records of `lib.paper1.runs.finetuned_run`, one a seed."""
        return cls(
            train_accuracy=np.array([record["train_accuracy"] for record in records]),
            predicted=np.stack([record["predicted"] for record in records]),
            embeddings=[record["embeddings"] for record in records],
            relevance={
                method: np.stack([r[name] for r in records if name in r.result])
                for method, name in _methods(records[0])
            },
            first=records[0],
        )

    @classmethod
    def cross_task(cls, records: Sequence[Record]) -> "Models":
        """Collect, of the same records, what their encoders do on the other task."""
        return cls(
            train_accuracy=np.array([record["cross_train_accuracy"] for record in records]),
            predicted=np.stack([record["cross_predicted"] for record in records]),
            embeddings=[record["cross_embeddings"] for record in records],
            relevance={},
            first=records[0],
        )

    @classmethod
    def frozen(cls, record: Record) -> "Models":
        """Take apart the record of `lib.paper1.runs.frozen_run`, which holds all seeds."""
        return cls(
            train_accuracy=record["train_accuracy"],
            predicted=record["predicted"],
            embeddings=[record["embeddings"]],
            relevance={method: record[name] for method, name in _methods(record)},
            first=record,
        )

    def by_text(self, words: Words, method: str = LRP) -> list[NDArray[np.float64]]:
        """Return what a method gives the words, text by text: (texts,) of (seeds, words).

        Parameters
        ----------
        words : sequence of sequences of str, (texts,) of (words,)
            Of the explained texts, or of the first of them; the method may have explained still fewer.
        method : str
            Of `lib.attribution.METHODS`.
        """
        lengths = np.array([len(text) for text in words])
        explained = lengths[np.cumsum(lengths) <= self.relevance[method].shape[1]]
        return split_texts(self.relevance[method][:, : explained.sum()], explained)

    def signed(self, words: Words, method: str = LRP) -> list[NDArray[np.float64]]:
        """Return the same on the paper's scale, on which a text's words sum to +1 or -1."""
        texts = self.by_text(words, method)
        return [normalise(text, self.predicted[: len(text), place]) for place, text in enumerate(texts)]


def collect(records: Sequence[Record], tasks: Sequence[str]) -> dict[tuple[str, str], Models]:
    """Return the models of paper 1 by kind and task.

    Parameters
    ----------
    records : sequence of Record
        Of `lib.paper1.runs.run`; those that failed are left out.
    tasks : sequence of str

    Returns
    -------
    dict of (str, str) to Models
        Kinds ``fine-tuned``, ``frozen`` and ``cross-task``: fine-tuned on the other task.

    Raises
    ------
    RuntimeError
        If no run of a kind and task is done.
    """
    models = {}
    for task in tasks:
        of_task = [record for record in finished(records) if record.settings["task"] == task]
        tuned, frozen = ([r for r in of_task if r.settings["kind"] == kind] for kind in KINDS)
        crossed = [r for r in finished(records) if r.settings.get("other") == task]
        for kind, done in zip((*KINDS, "cross-task"), (tuned, frozen, crossed), strict=True):
            if not done:
                raise RuntimeError(f"{kind} models on {task!r}: no run is done, one at least is wanted")
        models["fine-tuned", task] = Models.fine_tuned(tuned)
        models["frozen", task] = Models.frozen(frozen[0])
        models["cross-task", task] = Models.cross_task(crossed)
    return models


def chain_table(records: Sequence[Record], tasks: Sequence[str]) -> pd.DataFrame:
    """Return what `lib.paper1.runs.chain_run` measured of each task: a row a seed, round (0: before) and task.

    Columns: ``seed``, ``round``, ``task``, ``accuracy`` and ``components``.
    """
    rows = [
        (record.settings["seed"], number, task, accuracy, components)
        for record in records
        for task in tasks
        for number, (accuracy, components) in enumerate(
            zip(record[f"accuracy/{task}"], record[f"components/{task}"], strict=True)
        )
    ]
    return pd.DataFrame(rows, columns=["seed", "round", "task", "accuracy", "components"])


def rank_words(
    words: Words,
    fine_tuned: Sequence[ArrayLike],
    frozen: Sequence[ArrayLike],
    min_count: int,
    roles: pd.Series | None = None,
) -> pd.DataFrame:
    """Rank the words by the mean over seeds of their relevance, as `discriminant_words` does.

    Parameters
    ----------
    words : sequence of sequences of str, (texts,) of (words,)
    fine_tuned, frozen : sequence of arrays, (texts,) of (seeds, words)
        As `Models.signed` gives them.
    min_count : int
        Appearances that a word must have.
    roles : Series, optional
        Of `lib.words.majority_roles`: adds a column ``role``.
    """
    means = ([np.mean(text, axis=0) for text in kind] for kind in (fine_tuned, frozen))
    ranked = discriminant_words(words, *means, min_count)
    return ranked if roles is None else ranked.assign(role=roles)


def cue_shares(
    words: Words,
    fine_tuned: Sequence[ArrayLike],
    frozen: Sequence[ArrayLike],
    roles: pd.Series,
    min_count: int,
    first: int = 10,
) -> pd.DataFrame:
    """Return the share of true cues among each model's ten words, for pairs of models of the same seed.

    Parameters
    ----------
    words, fine_tuned, frozen, min_count
        As in `rank_words`.
    roles : Series
        Of `lib.words.majority_roles`.
    first : int
        Words on either side of the ranking.

    Returns
    -------
    DataFrame, (seeds, 2)
        Columns ``fine-tuned`` and ``frozen``.
    """
    pairs = range(min(len(fine_tuned[0]), len(frozen[0])))
    ranked = [
        rank_words(words, *([t[[row]] for t in kind] for kind in (fine_tuned, frozen)), min_count)
        for row in pairs
    ]
    ends = ((table.index[:first], table.index[-first:]) for table in ranked)
    return pd.DataFrame(
        [[np.mean(roles[end] == "cue") for end in both] for both in ends], columns=list(KINDS)
    )


def curves_of(record: Record) -> dict[str, Curves]:
    """Return a record's deletion and insertion curves by method, texts in the corpus's order."""
    names = [name for name in METHODS if f"{name}/deletion" in record.result]
    parts = [field.name for field in fields(Curves)]
    return {name: Curves(*(record[f"{name}/{part}"] for part in parts)) for name in names}


def rebuild(record: Record, corpus: Corpus, seed: int) -> PreTrainedModel:
    """Return the model whose weights a record kept, in evaluation mode, on the CPU."""
    model = load_classifier(corpus.model, seed=seed)
    prefix = "weights/"
    kept = {name: value for name, value in record.result.items() if name.startswith(prefix)}
    weights = {name.removeprefix(prefix): torch.from_numpy(np.array(value)) for name, value in kept.items()}
    model.load_state_dict(weights)
    return model


def _methods(record: Record) -> list[tuple[str, str]]:
    """Return the methods that a record holds, each with the name under which it does."""
    prefix = "relevance/"
    return [(name.removeprefix(prefix), name) for name in record.result if name.startswith(prefix)]
