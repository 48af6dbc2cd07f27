"""Whether fine-tuned and frozen models find the words that people marked, from the records of their runs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lib.crossed import crossed_difference
from lib.paper1.compared import (
    FINE_TUNED,
    FROZEN,
    KINDS,
    done_runs,
    relevance_by_method,
    require_a_run,
    split_explained,
)
from lib.paper1.marked_runs import ExplainTrueClass
from lib.rationales.scores import MEASURES, Marks, Scores, agreement
from lib.runs import Record


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
        lengths = [len(text) for text in marks]
        return {
            method: agreement(split_explained(values, lengths), marks)
            for method, values in self.relevance.items()
        }


def collect_marked(records: Sequence[Record]) -> dict[str, MarkedModels]:
    """Return fine-tuned and frozen models from records of `lib.paper1.marked_runs.ExplainTrueClass`.

    Raises
    ------
    RuntimeError
        If no run of a kind is done.
    """
    done = done_runs(records, ExplainTrueClass)
    models = {}
    for kind in KINDS:
        chosen = [record for record, run in done if run.frozen == (kind == FROZEN)]
        require_a_run(chosen, f"{kind} models on marked texts", records)
        predicted = np.stack([record["predicted"] for record in chosen])
        models[kind] = MarkedModels(predicted, relevance_by_method(chosen))
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
