"""The models that paper 1 compares, collected from the records of their runs."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Sized
from dataclasses import dataclass, fields, replace
from typing import Self, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from lib.attribution import LRP, METHODS
from lib.corpus import Corpus
from lib.hiding import Curves
from lib.models import load_classifier
from lib.paper1.cues import Signs, mean_over_texts, supporting_cue_auc
from lib.paper1.runs import Chain, FineTuned, Frozen
from lib.runs import Record, Run, finished
from lib.stability import split_texts
from lib.words import normalise

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
    seeds : tuple of int, (seeds,)
        In the order of the rows of everything else.
    train_predicted, predicted : ndarray of int
        Classes of the training texts (seeds, training texts) and of the test texts (seeds, test texts).
    validation_accuracy : ndarray, (seeds, epochs)
        After each epoch; of heads, after the last one only. No column for cross-task models.
    embeddings : list of ndarray, (encoders,) of (test texts, dim)
        Of the test texts: one fine-tuned encoder per seed, or the one frozen encoder.
    relevance : dict of str to ndarray
        For each method (seeds that have it, words of its texts).
    first : Record
        The record with the first seed's weights and curves.
    """

    seeds: tuple[int, ...]
    train_predicted: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    validation_accuracy: NDArray[np.float64]
    embeddings: list[NDArray[np.float32]]
    relevance: dict[str, NDArray[np.float32]]
    first: Record

    @classmethod
    def fine_tuned(cls, records: Sequence[Record]) -> Self:
        """Collect records of `lib.paper1.runs.FineTuned`, one per seed."""
        return cls(
            seeds=_seeds(records),
            train_predicted=np.stack([record["train_predicted"] for record in records]),
            predicted=np.stack([record["predicted"] for record in records]),
            validation_accuracy=np.stack([record["validation_accuracy"] for record in records]),
            embeddings=[record["embeddings"] for record in records],
            relevance=relevance_by_method(records),
            first=records[0],
        )

    @classmethod
    def cross_task(cls, records: Sequence[Record]) -> Self:
        """Collect from the same records the results of their encoders on the other task."""
        return cls(
            seeds=_seeds(records),
            train_predicted=np.stack([record["cross_train_predicted"] for record in records]),
            predicted=np.stack([record["cross_predicted"] for record in records]),
            validation_accuracy=np.empty((len(records), 0)),
            embeddings=[record["cross_embeddings"] for record in records],
            relevance={LRP: np.stack([record[f"cross_relevance/{LRP}"] for record in records])},
            first=records[0],
        )

    @classmethod
    def frozen(cls, record: Record) -> Self:
        """Unpack the record of `lib.paper1.runs.Frozen`, which describes all seeds."""
        return cls(
            seeds=tuple(record.settings["seeds"]),
            train_predicted=record["train_predicted"],
            predicted=record["predicted"],
            validation_accuracy=record["validation_accuracy"][:, None],
            embeddings=[record["embeddings"]],
            relevance={method: record[name] for method, name in _methods(record)},
            first=record,
        )

    def of_seeds(self, seeds: Collection[int]) -> Self:
        """Return only the models of these seeds, in their order here."""
        rows = np.flatnonzero(np.isin(self.seeds, list(seeds)))
        one_encoder = len(self.embeddings) < len(self.seeds)  # the frozen one
        return replace(
            self,
            seeds=tuple(self.seeds[row] for row in rows),
            train_predicted=self.train_predicted[rows],
            predicted=self.predicted[rows],
            validation_accuracy=self.validation_accuracy[rows],
            embeddings=self.embeddings if one_encoder else [self.embeddings[row] for row in rows],
            # the seeds that have a method are the first ones
            relevance={name: values[rows[rows < len(values)]] for name, values in self.relevance.items()},
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
        return split_explained(self.relevance[method], [len(text) for text in words])

    def signed(self, words: Words, method: str = LRP) -> list[Floats]:
        """Return the same on the paper's scale, on which a text's relevances sum to +1 or -1."""
        texts = self.by_text(words, method)
        return [normalise(text, self.predicted[: len(text), index]) for index, text in enumerate(texts)]


def collect(records: Sequence[Record], tasks: Sequence[str]) -> dict[tuple[str, str], Models]:
    """Return the models of paper 1 by kind and task, all of the same seeds, so that rows are pairs.

    Parameters
    ----------
    records : sequence of Record
        Of `lib.paper1.runs.FineTuned`, each used for the other task too, and `Frozen`. A seed of which a run
        failed is left out throughout.
    tasks : sequence of str
        Both tasks.

    Returns
    -------
    dict of (str, str) to Models
        Kinds ``fine-tuned``, ``frozen`` and ``cross-task``, which is fine-tuned on the other task.

    Raises
    ------
    RuntimeError
        If no run of a kind and task is done, or no seed is done throughout.
    """
    fine_tuned, frozen = done_runs(records, FineTuned), done_runs(records, Frozen)
    models = {}
    for task in tasks:
        chosen = {
            FINE_TUNED: [record for record, run in fine_tuned if run.task == task],
            FROZEN: [record for record, run in frozen if run.task == task],
            CROSS_TASK: [record for record, run in fine_tuned if run.other_task == task],
        }
        for kind, done in chosen.items():
            require_a_run(done, f"{kind} models on {task!r}", records)
        models[FINE_TUNED, task] = Models.fine_tuned(chosen[FINE_TUNED])
        models[FROZEN, task] = Models.frozen(chosen[FROZEN][0])
        models[CROSS_TASK, task] = Models.cross_task(chosen[CROSS_TASK])
    shared = set.intersection(*(set(group.seeds) for group in models.values()))
    require_a_run(shared, "models of every kind and task with one seed", records)
    return {key: group.of_seeds(shared) for key, group in models.items()}


def fine_tuned_models(records: Sequence[Record], task: str) -> Models:
    """Return the models that were fine-tuned on one task, from records of `lib.paper1.runs.FineTuned`.

    Raises
    ------
    RuntimeError
        If no run of that task is done.
    """
    done = [record for record, run in done_runs(records, FineTuned) if run.task == task]
    require_a_run(done, f"{FINE_TUNED} models on {task!r}", records)
    return Models.fine_tuned(done)


def texts_learned_from(records: Sequence[Record], task: str) -> NDArray[np.bool_]:
    """Return which training texts each model has learned from, (seeds, training texts).

    Parameters
    ----------
    records : sequence of Record
        Of `lib.paper1.runs.FineTuned`; failed ones and those of other tasks are left out.
    task : str
        The task trained on.

    Raises
    ------
    RuntimeError
        If no run of that task is done.
    """
    learned = []
    for record, run in done_runs(records, FineTuned):
        if run.task == task:
            texts = len(record["train_predicted"])
            seen = run.training.order(texts, run.seed)[: run.training.texts_seen(texts)]
            learned.append(np.isin(np.arange(texts), seen))
    require_a_run(learned, f"{FINE_TUNED} models on {task!r}", records)
    return np.stack(learned)


def curves_of(record: Record) -> dict[str, Curves]:
    """Return a record's deletion and insertion curves by method, with texts in the corpus's order.

    Raises
    ------
    RuntimeError
        If the record has none.
    """
    names = [name for name in METHODS if f"{name}/deletion" in record.result]
    if not names:
        raise _not_kept(record, "curves")
    parts = [field.name for field in fields(Curves)]
    return {name: Curves(*(record[f"{name}/{part}"] for part in parts)) for name in names}


def rebuild(record: Record, corpus: Corpus) -> PreTrainedModel:
    """Return the model whose weights a record kept, in evaluation mode, on the CPU.

    Raises
    ------
    RuntimeError
        If the record has none.
    """
    prefix = "weights/"
    weights = {
        name.removeprefix(prefix): torch.from_numpy(np.array(value))
        for name, value in record.result.items()
        if name.startswith(prefix)
    }
    if not weights:
        raise _not_kept(record, "weights")
    model = load_classifier(corpus.model, seed=record.settings["seed"])
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
    for record, chain in done_runs(records, Chain):
        for task in dict.fromkeys(chain.tasks):
            measured = zip(record[f"accuracy/{task}"], record[f"components/{task}"], strict=True)
            for number, (accuracy, components) in enumerate(measured):
                rows.append((chain.seed, number, task, accuracy, components))
    return pd.DataFrame(rows, columns=["seed", "round", "task", "accuracy", "components"])


def chain_cues(
    records: Sequence[Record], words: Mapping[str, Words], signs: Mapping[str, Signs]
) -> pd.DataFrame:
    """Return how well each chain's model finds the true cues after each round, as ROC-AUC.

    Parameters
    ----------
    records : sequence of Record
        Of `lib.paper1.runs.Chain`; failed ones are left out.
    words, signs : mapping of str to sequences, (texts,) of (words,)
        By task: the words of the texts that the chains explained, and the classes that they are evidence for
        (`lib.paper1.cues.supporting_cue_auc`).

    Returns
    -------
    DataFrame, (rounds, chains)
        Index: the round, from 1. Columns: the seeds.
    """
    scores: dict[int, dict[int, float]] = {}
    for record, chain in done_runs(records, Chain):
        scores[chain.seed] = {}
        for number, task in enumerate(chain.tasks, 1):
            lengths = [len(text) for text in words[task]]
            relevance = split_texts(record[f"relevance/{number}"][None], lengths)
            found = supporting_cue_auc(relevance, signs[task], record[f"predicted/{number}"][None])
            scores[chain.seed][number] = mean_over_texts(found)[0]
    return pd.DataFrame(scores)


def done_runs(records: Sequence[Record], run_class: type[R]) -> list[tuple[Record, R]]:
    """Return the finished records of one class of runs, each with its run."""
    return [(record, record.run) for record in finished(records) if isinstance(record.run, run_class)]


def require_a_run(done: Sized, what: str, records: Sequence[Record] = ()) -> None:
    """Check that there is a finished record.

    Parameters
    ----------
    done : sized
        Finished ones, or what was read from them.
    what : str
        What they are the records of.
    records : sequence of Record
        All records that they were chosen from, if they are at hand: those of failed runs say why.

    Raises
    ------
    RuntimeError
        If there is none; with the commonest reason of the failed runs.
    """
    if not done:
        reasons = Counter(record.reason for record in records if record.status == "failed")
        why = "".join(
            f" ({count} of {reasons.total()} failed runs: {reason})"
            for reason, count in reasons.most_common(1)
        )
        raise RuntimeError(f"{what}: no run is done; at least one is required{why}")


def relevance_by_method(records: Sequence[Record]) -> dict[str, NDArray[np.float32]]:
    """Stack the relevance in the records of several seeds.

    Parameters
    ----------
    records : sequence of Record
        Finished, one per seed. The first one has all methods, the others may lack some.

    Returns
    -------
    dict of str to ndarray
        For each method (seeds that have it, words of its texts).
    """
    return {
        method: np.stack([record[name] for record in records if name in record.result])
        for method, name in _methods(records[0])
    }


def split_explained(relevance: NDArray[np.float32], lengths: Sequence[int]) -> list[NDArray[np.float64]]:
    """Split relevance by text, as far as whole texts were explained.

    Parameters
    ----------
    relevance : ndarray, (seeds, words of the explained texts)
    lengths : sequence of int, (texts,)
        Words of each text, in the order in which they were explained.

    Returns
    -------
    list of ndarray, (explained texts,) of (seeds, words)
    """
    ends = np.cumsum(lengths)
    explained = np.asarray(lengths)[ends <= relevance.shape[1]]
    return split_texts(relevance[:, : explained.sum()], explained)


def _seeds(records: Sequence[Record]) -> tuple[int, ...]:
    return tuple(record.settings["seed"] for record in records)


def _not_kept(record: Record, what: str) -> RuntimeError:
    seed = record.settings["seed"]
    return RuntimeError(
        f"the record of seed {seed} has no {what}: the run of the first seed, which keeps them, is not done"
    )


def _methods(record: Record) -> list[tuple[str, str]]:
    """Return the methods in a record, each with the name of its result."""
    prefix = "relevance/"
    return [(name.removeprefix(prefix), name) for name in record.result if name.startswith(prefix)]
