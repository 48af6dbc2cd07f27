"""How well relevance finds the true cues of generated texts, without punishing methods with signed scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lib.paper1.joint import on_halves

Signs = Sequence[Sequence[int]]
Floats = NDArray[np.floating]


def supporting_cue_auc(
    relevance: Sequence[Floats], signs: Signs, predicted: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return how well each model's relevance finds the cues for the class it predicts: (seeds, texts).

    Per text the ROC-AUC of relevance for those cues, against the words that are no cue: the share of such
    pairs in which the cue is the more relevant one, and half of the equal ones; chance is 0.5. Cues for the
    other class are left out, neither found nor missed: a method with signed scores rightly gives them
    negative ones, and if such a cue is negated, a method that counts it for the prediction is right too.

    Parameters
    ----------
    relevance : sequence of arrays, (texts,) of (seeds, words)
        Relevance to the predicted class, as the method returns it.
    signs : sequence of sequences of int, (texts,) of (words,)
        The class that each word by itself is evidence for, +1 for class 1 and -1 for class 0; 0 for no cue
        (column ``signs`` of a generated corpus). A truncated text has more signs than words; texts beyond the
        explained ones are ignored.
    predicted : array of int, (seeds, texts)
        The explained classes.

    Returns
    -------
    array, (seeds, texts)
        NaN for a text without a cue for the predicted class, or with nothing else.
    """
    scores = np.full((len(relevance[0]), len(relevance)), np.nan)
    for text, values in enumerate(relevance):
        evidence = np.array(signs[text][: values.shape[1]])  # (words,)
        for seed, row in enumerate(values):
            cues = row[evidence == (1 if predicted[seed, text] == 1 else -1)]
            others = row[evidence == 0]
            if len(cues) and len(others):  # not by roc_auc_score, many times slower
                above = np.sign(cues[:, None] - others)  # (cues, others): 1, 0 if equal, -1 if below
                scores[seed, text] = (above.mean(dtype=float) + 1) / 2
    return scores


def cue_auc_on_halves(relevance: Sequence[Floats], signs: Signs, predicted: NDArray[np.integer]) -> Floats:
    """Return each model's mean `supporting_cue_auc`, as `lib.paper1.joint.on_halves`: (seeds, 1 + halves)."""
    scores = supporting_cue_auc(relevance, signs, predicted)
    return on_halves(lambda chosen: mean_over_texts(scores, chosen), scores.shape[1])


def mean_over_texts(scores: Floats, texts: NDArray[np.intp] | slice = slice(None)) -> Floats:
    """Return each model's mean over those of some texts that have a score: (seeds,), NaN if none has."""
    chosen = scores[:, texts]
    scored = (~np.isnan(chosen)).sum(axis=1)  # (seeds,)
    return np.divide(np.nansum(chosen, axis=1), scored, out=np.full(len(scored), np.nan), where=scored > 0)
