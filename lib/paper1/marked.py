"""Whether fine-tuned and frozen models find the words that people marked, from the records of their runs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lib.crossed import crossed_difference
from lib.paper1.compared import FINE_TUNED, FROZEN, KINDS
from lib.paper1.marked_runs import ExplainTrueClass
from lib.rationales.scores import MEASURES, Marks, Scores, agreement
from lib.runs import Record, finished
from lib.stability import split_texts


class MarkedModels(NamedTuple):
    """Models of one kind, trained on marked texts.

    Attributes
    ----------
    predicted : ndarray, (seeds, test texts)
        Classes.
    relevance : dict of str to ndarray
        For each method (seeds that have it, words of its texts), for the texts' true classes.
    """

    predicted: NDArray[np.uint8]
    relevance: dict[str, NDArray[np.float32]]

    def scores(self, marks: Marks) -> dict[str, Scores]:
        """Return each method's agreement with people's marks.

        Parameters
        ----------
        marks : sequence of sequences of bool, (texts,) of (words,)
            Of the explained texts.

        Returns
        -------
        dict of str to dict of str to array, (seeds, texts)
            By method and measure. A method that explains fewer texts is scored on these.
        """
        lengths = np.array([len(text) for text in marks])
        scores = {}
        for method, values in self.relevance.items():
            explained = lengths[np.cumsum(lengths) <= values.shape[1]]
            scores[method] = agreement(split_texts(values, explained), marks)
        return scores


def collect_marked(records: Sequence[Record]) -> dict[str, MarkedModels]:
    """Return fine-tuned and frozen models from records of `lib.paper1.marked_runs.ExplainTrueClass`.

    Raises
    ------
    RuntimeError
        If no run of a kind is done.
    """
    done = [(record, record.run) for record in finished(records)]
    models = {}
    for kind in KINDS:
        chosen = [
            record
            for record, run in done
            if isinstance(run, ExplainTrueClass) and run.frozen == (kind == FROZEN)
        ]
        if not chosen:
            raise RuntimeError(f"{kind} models on marked texts: no run is done; at least one is required")
        prefix = "relevance/"
        models[kind] = MarkedModels(
            np.stack([record["predicted"] for record in chosen]),
            {
                name.removeprefix(prefix): np.stack(
                    [record[name] for record in chosen if name in record.result]
                )
                for name in chosen[0].result
                if name.startswith(prefix)
            },
        )
    return models


def fine_tuning_gains(scores: Mapping[str, Mapping[str, Scores]], confidence: float) -> pd.DataFrame:
    """Return each method's agreement for fine-tuned minus that for frozen models, as text with its interval.

    Parameters
    ----------
    scores : mapping of str to mapping of str to Scores
        By kind and method, from `MarkedModels.scores`.
    confidence : float
        Coverage of the intervals, over seeds and texts.

    Returns
    -------
    DataFrame, (methods, measures)
    """
    rows = {}
    for method, tuned in scores[FINE_TUNED].items():
        frozen = scores[FROZEN][method]
        rows[method] = {
            measure: str(
                crossed_difference(tuned[measure], frozen[measure], paired=False).interval(confidence)
            )
            for measure in MEASURES
        }
    return pd.DataFrame(rows).T.rename_axis("fine-tuned minus frozen")
