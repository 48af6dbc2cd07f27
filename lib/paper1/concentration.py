"""How many dimensions hold the information of embeddings: components, as shares of the dimensions."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lib.components import SHARE, explained_variance
from lib.paper1.joint import Floats, half_samples


def component_share(cumulative: Floats, dimensions: int) -> float:
    """Return the components that hold 95 % of the variance, as a share of the dimensions.

    A share of the dimensions can be compared between encoders of different sizes.
    `lib.components.components_needed` counts whole components; here the last one counts by the part of its
    variance that is needed, so that a change of the texts changes the value.

    Parameters
    ----------
    cumulative : array, (components,)
        From `lib.components.explained_variance`.
    dimensions : int
        Of the embeddings.
    """
    edges = np.concatenate([[0.0], cumulative])
    last = int(np.searchsorted(edges, SHARE))  # the first number of components that is enough
    part = (SHARE - edges[last - 1]) / (edges[last] - edges[last - 1])
    return float(last - 1 + part) / dimensions


def first_share(cumulative: Floats, dimensions: int) -> float:
    """Return the first component's share of the variance; the number of dimensions does not matter."""
    return float(cumulative[0])


def participation_ratio(cumulative: Floats) -> float:
    """Return the effective number of dimensions: 1 / sum of the squared shares of the components.

    It is 1 if one component holds all variance, and the number of components if all hold the same. Unlike a
    number of components, it needs no threshold.
    """
    shares = np.diff(cumulative, prepend=0)
    return float(1 / np.sum(shares**2))


class Spectra:
    """The spectra of several encoders' embeddings of the same texts, and of halves of them.

    Parameters
    ----------
    embeddings : sequence of arrays, (encoders,) of (texts, dim)
        One per seed, or the one frozen encoder's.
    """

    def __init__(self, embeddings: Sequence[NDArray[np.floating]]) -> None:
        self.dimensions = embeddings[0].shape[1]
        self._cumulative = [
            [explained_variance(points[chosen]) for points in embeddings]
            for chosen in half_samples(len(embeddings[0]))
        ]  # (1 + halves,) of (encoders,) of (components,)

    @property
    def cumulative(self) -> list[NDArray[np.float64]]:
        """The cumulative shares of the variance on all texts: (encoders,) of (components,)."""
        return self._cumulative[0]

    def table(self, measure: Callable[[Floats, int], float]) -> Floats:
        """Return a measure of each encoder, as `lib.paper1.joint.on_halves`: (encoders, 1 + halves).

        Parameters
        ----------
        measure : callable
            `component_share`, `first_share` or another function of the cumulative shares and the number of
            dimensions.
        """
        columns = [[measure(curve, self.dimensions) for curve in curves] for curves in self._cumulative]
        return np.array(columns).T
