"""The models that paper 1 compares, collected from the records of their runs, and the words that matter."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from lib.attribution import LRP, METHODS
from lib.corpus import Corpus
from lib.faithfulness import Curves
from lib.models import load_classifier
from lib.paper1.runs import Chain, FineTuned, FineTunedOnArtifact, Frozen, FrozenOnArtifact
from lib.runs import Record, Run, finished
from lib.stability import split_texts
from lib.words import cue_auc, discriminant_words, normalise

Words = Sequence[Sequence[str]]
Floats = NDArray[np.floating]
R = TypeVar("R", bound=Run)

FINE_TUNED, FROZEN, CROSS_TASK = "fine-tuned", "frozen", "cross-task"
KINDS = (FINE_TUNED, FROZEN)
"""The kinds of models that the paper compares; cross-task models are fine-tuned on the other task."""


@dataclass(frozen=True)
class Models:
    """Models of one kind, trained on one task.

    Attributes
    ----------
    train_accuracy : ndarray, (seeds,)
        As fractions.
    predicted : ndarray of int, (seeds, test texts)
        Classes.
    embeddings : list of ndarray, (encoders,) of (test texts, dim)
        Of the test texts: one fine-tuned encoder per seed, or the one frozen encoder.
    relevance : dict of str to ndarray
        For each method (seeds that have it, words of its texts).
    first : Record
        The record with the first seed's weights and curves.
    """

    train_accuracy: NDArray[np.float64]
    predicted: NDArray[np.uint8]
    embeddings: list[NDArray[np.float32]]
    relevance: dict[str, NDArray[np.float32]]
    first: Record

    @classmethod
    def fine_tuned(cls, records: Sequence[Record]) -> Self:
        """Collect records of `lib.paper1.runs.FineTuned`, one per seed."""
        relevance = {}
        for method, name in _methods(records[0]):
            relevance[method] = np.stack([record[name] for record in records if name in record.result])
        return cls(
            train_accuracy=np.array([record["train_accuracy"] for record in records]),
            predicted=np.stack([record["predicted"] for record in records]),
            embeddings=[record["embeddings"] for record in records],
            relevance=relevance,
            first=records[0],
        )

    @classmethod
    def cross_task(cls, records: Sequence[Record]) -> Self:
        """Collect from the same records the results of their encoders on the other task."""
        return cls(
            train_accuracy=np.array([record["cross_train_accuracy"] for record in records]),
            predicted=np.stack([record["cross_predicted"] for record in records]),
            embeddings=[record["cross_embeddings"] for record in records],
            relevance={},
            first=records[0],
        )

    @classmethod
    def frozen(cls, record: Record) -> Self:
        """Unpack the record of `lib.paper1.runs.Frozen`, which describes all seeds."""
        return cls(
            train_accuracy=record["train_accuracy"],
            predicted=record["predicted"],
            embeddings=[record["embeddings"]],
            relevance={method: record[name] for method, name in _methods(record)},
            first=record,
        )

    def by_text(self, words: Words, method: str = LRP) -> list[NDArray[np.float64]]:
        """Return a method's relevance of words, text by text: (texts,) of (seeds, words).

        Parameters
        ----------
        words : sequence of sequences of str, (texts,) of (words,)
            Of the first explained texts. If the method explained fewer, only those are returned.
        method : str
            One of `lib.attribution.METHODS`.
        """
        lengths = np.array([len(text) for text in words])
        explained = lengths[np.cumsum(lengths) <= self.relevance[method].shape[1]]
        return split_texts(self.relevance[method][:, : explained.sum()], explained)

    def signed(self, words: Words, method: str = LRP) -> list[Floats]:
        """Return the same on the paper's scale, on which a text's relevances sum to +1 or -1."""
        texts = self.by_text(words, method)
        return [normalise(text, self.predicted[: len(text), index]) for index, text in enumerate(texts)]


def collect(records: Sequence[Record], tasks: Sequence[str]) -> dict[tuple[str, str], Models]:
    """Return the models of paper 1 by kind and task.

    Parameters
    ----------
    records : sequence of Record
        Of `lib.paper1.runs.FineTuned` and `Frozen`; failed ones are left out.
    tasks : sequence of str
        Both tasks.

    Returns
    -------
    dict of (str, str) to Models
        Kinds ``fine-tuned``, ``frozen`` and ``cross-task``, which is fine-tuned on the other task.

    Raises
    ------
    RuntimeError
        If no run of a kind and task is done.
    """
    fine_tuned, frozen = _done(records, FineTuned), _done(records, Frozen)
    models = {}
    for task in tasks:
        chosen = {
            FINE_TUNED: [record for record, run in fine_tuned if run.task == task],
            FROZEN: [record for record, run in frozen if run.task == task],
            CROSS_TASK: [record for record, run in fine_tuned if run.other_task == task],
        }
        for kind, done in chosen.items():
            if not done:
                raise RuntimeError(f"{kind} models on {task!r}: no run is done; at least one is required")
        models[FINE_TUNED, task] = Models.fine_tuned(chosen[FINE_TUNED])
        models[FROZEN, task] = Models.frozen(chosen[FROZEN][0])
        models[CROSS_TASK, task] = Models.cross_task(chosen[CROSS_TASK])
    return models


def rank_words(
    words: Words,
    fine_tuned: Sequence[Floats],
    frozen: Sequence[Floats],
    min_count: int,
    roles: pd.Series | None = None,
) -> pd.DataFrame:
    """Rank words by their mean relevance over seeds, as `lib.words.discriminant_words` does.

    Parameters
    ----------
    words : sequence of sequences of str, (texts,) of (words,)
        Of the explained texts.
    fine_tuned, frozen : sequence of arrays, (texts,) of (seeds, words)
        From `Models.signed`.
    min_count : int
        Words with fewer appearances are left out.
    roles : Series, optional
        From `lib.words.majority_roles`: adds a column ``role``.
    """
    tuned_means = [np.mean(text, axis=0) for text in fine_tuned]
    frozen_means = [np.mean(text, axis=0) for text in frozen]
    ranked = discriminant_words(words, tuned_means, frozen_means, min_count)
    return ranked if roles is None else ranked.assign(role=roles)


def cue_shares(
    words: Words,
    fine_tuned: Sequence[Floats],
    frozen: Sequence[Floats],
    roles: pd.Series,
    min_count: int,
    first: int = 10,
) -> pd.DataFrame:
    """Return the share of true cues among each model's ten words, for pairs of models with the same seed.

    Parameters
    ----------
    words, fine_tuned, frozen, min_count
        As in `rank_words`.
    roles : Series
        From `lib.words.majority_roles`.
    first : int
        Number of words at either end of the ranking.

    Returns
    -------
    DataFrame, (seeds, 2)
        Columns ``fine-tuned`` and ``frozen``.
    """
    rows = []
    for pair in range(min(len(fine_tuned[0]), len(frozen[0]))):
        ranked = rank_words(
            words, [text[[pair]] for text in fine_tuned], [text[[pair]] for text in frozen], min_count
        )
        top, bottom = ranked.index[:first], ranked.index[-first:]
        rows.append({FINE_TUNED: np.mean(roles[top] == "cue"), FROZEN: np.mean(roles[bottom] == "cue")})
    return pd.DataFrame(rows, columns=list(KINDS))


def curves_of(record: Record) -> dict[str, Curves]:
    """Return a record's deletion and insertion curves by method, with texts in the corpus's order."""
    names = [name for name in METHODS if f"{name}/deletion" in record.result]
    parts = [field.name for field in fields(Curves)]
    return {name: Curves(*(record[f"{name}/{part}"] for part in parts)) for name in names}


def rebuild(record: Record, corpus: Corpus) -> PreTrainedModel:
    """Return the model whose weights a record kept, in evaluation mode, on the CPU."""
    model = load_classifier(corpus.model, seed=record.settings["seed"])
    prefix = "weights/"
    weights = {
        name.removeprefix(prefix): torch.from_numpy(np.array(value))
        for name, value in record.result.items()
        if name.startswith(prefix)
    }
    model.load_state_dict(weights)
    return model


def chain_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return what chains measured: one row per seed, task and round, where round 0 is before the first.

    Parameters
    ----------
    records : sequence of Record
        Of `lib.paper1.runs.Chain`; failed ones are left out.

    Returns
    -------
    DataFrame
        Columns ``seed``, ``round``, ``task``, ``accuracy`` and ``components``.
    """
    rows = []
    for record, chain in _done(records, Chain):
        for task in dict.fromkeys(chain.tasks):
            measured = zip(record[f"accuracy/{task}"], record[f"components/{task}"], strict=True)
            for number, (accuracy, components) in enumerate(measured):
                rows.append((chain.seed, number, task, accuracy, components))
    return pd.DataFrame(rows, columns=["seed", "round", "task", "accuracy", "components"])


def chain_cues(
    records: Sequence[Record], words: dict[str, Words], roles: dict[str, Sequence[Sequence[str]]]
) -> pd.DataFrame:
    """Return how well each chain's model finds the true cues after each round, as ROC-AUC.

    Parameters
    ----------
    records : sequence of Record
        Of `lib.paper1.runs.Chain`; failed ones are left out.
    words, roles : dict of str to sequences, (texts,) of (words,)
        By task: the words of the texts that the chains explained, and their roles (`lib.words.cue_auc`).

    Returns
    -------
    DataFrame, (rounds, chains)
        Index: the round, from 1. Columns: the seeds.
    """
    scores: dict[int, dict[int, float]] = {}
    for record, chain in _done(records, Chain):
        scores[chain.seed] = {}
        for number, task in enumerate(chain.tasks, 1):
            lengths = [len(text) for text in words[task]]
            relevance = split_texts(record[f"relevance/{number}"][None], lengths)
            scores[chain.seed][number] = cue_auc(relevance, roles[task])[0]
    return pd.DataFrame(scores)


def reliance_table(records: Sequence[Record]) -> pd.DataFrame:
    """Return how much each model relies on the planted artifact: one row per rate, kind and seed.

    Parameters
    ----------
    records : sequence of Record
        Of `lib.paper1.runs.FineTunedOnArtifact` and `FrozenOnArtifact`; failed ones are left out.

    Returns
    -------
    DataFrame
        Columns ``rate``, ``seed``, ``model`` (the kind), ``reliance``, ``relevance`` (the artifact's mean
        share) and ``accuracy``. Reliance is the share of the clean texts predicted as class 0 that the
        planted artifact turns to class 1; NaN if no text is predicted as class 0.
    """
    rows = []
    for record in finished(records):
        run = record.run
        if isinstance(run, FrozenOnArtifact):
            kind, seeds = FROZEN, run.seeds
        elif isinstance(run, FineTunedOnArtifact):
            kind, seeds = FINE_TUNED, (run.seed,)
        else:
            continue
        for index, seed in enumerate(seeds):
            turned = record["planted"][index][record["clean"][index] == 0]
            rows.append(
                {
                    "rate": run.rate,
                    "seed": seed,
                    "model": kind,
                    "reliance": float(turned.mean()) if len(turned) else float("nan"),
                    "relevance": float(record["relevance"][index].mean()),
                    "accuracy": float(record["accuracy"][index]),
                }
            )
    return pd.DataFrame(rows)


def _done(records: Sequence[Record], run_class: type[R]) -> list[tuple[Record, R]]:
    """Return the finished records of one class of runs, each with its run."""
    return [(record, record.run) for record in finished(records) if isinstance(record.run, run_class)]


def _methods(record: Record) -> list[tuple[str, str]]:
    """Return the methods in a record, each with the name of its result."""
    prefix = "relevance/"
    return [(name.removeprefix(prefix), name) for name in record.result if name.startswith(prefix)]
