"""How well two classes are separated, among embeddings or in a picture of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import silhouette_score

from lib.paper1.joint import Floats, Indices, on_halves


def silhouettes(points: Sequence[Floats], labels: ArrayLike) -> Floats:
    """Return each encoder's mean silhouette of the classes, as `lib.paper1.joint.on_halves`.

    A text's silhouette depends on all other texts, so the silhouettes of texts are not independent, and
    their mean does not have the variance of a mean of independent values.

    Parameters
    ----------
    points : sequence of array, (encoders,) of (texts, dim)
        Embeddings, or places in a picture.
    labels : array_like of int, (texts,)
        The texts' classes.

    Returns
    -------
    array, (encoders, 1 + halves)
        From -1 to 1; NaN for a half with texts of one class only.

    Raises
    ------
    ValueError
        If all texts are of one class.
    """
    of_text = np.asarray(labels)
    if len(np.unique(of_text)) < 2:
        raise ValueError(f"all {len(of_text)} texts are of one class: texts of both classes are required")

    def separated(chosen: Indices) -> list[float]:
        if len(np.unique(of_text[chosen])) < 2:
            return [np.nan] * len(points)
        return [float(silhouette_score(encoded[chosen], of_text[chosen])) for encoded in points]

    return on_halves(separated, len(of_text))
