"""Multi-scale t-SNE of text embeddings, and how far to trust the projection."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from openTSNE import TSNE, initialization
from openTSNE.affinity import Multiscale
from openTSNE.nearest_neighbors import PrecomputedNeighbors
from scipy.spatial.distance import cdist
from sklearn.manifold import trustworthiness

from lib.components import checked_embeddings

NEIGHBOURS = 10  # of a text, for trustworthiness
BLOCK = 256  # rows of the distance matrix held in memory at a time


def perplexities(texts: int) -> list[float]:
    """Return the scales of multi-scale t-SNE for a number of texts: 2, 4, 8, ... up to a third of them.

    De Bodt et al. take 2 ** h for h from 1 to round(log2(texts / 2)). openTSNE allows at most a third of the
    other texts: the one or two scales above that are replaced by it.
    """
    scales = 2.0 ** np.arange(1, round(np.log2(texts / 2)) + 1)  # (scales,)
    return np.unique(np.minimum(scales, (texts - 1) / 3)).tolist()


def multiscale_tsne(embeddings: ArrayLike, *, seed: int = 0) -> NDArray[np.float64]:
    """Project embeddings to the plane by multi-scale t-SNE.

    Parameters
    ----------
    embeddings : array, (texts, dim)
        At least 8 texts. Time and memory grow with the square of their number (one core: 1 s for 400 texts,
        20 s for 2,000): use a sample of a large test set.
    seed : int
        Seed of the jitter that separates equal embeddings; everything else is deterministic.

    Returns
    -------
    array, (texts, 2)
        Identical to the bit on every call; distances have no unit.

    Raises
    ------
    ValueError
        If there are too few texts, a value that is not finite, or no variance.

    Notes
    -----
    The method is that of de Bodt et al., "Fast Multiscale Neighbor Embedding", IEEE TNNLS 2020, as in paper 1
    (see `affinities`). It differs from the authors' program in the largest scales (see `perplexities`) and in
    the optimiser: theirs is L-BFGS from the coarsest scale to the finest, openTSNE's is gradient descent with
    early exaggeration. Both start from the first two principal components.
    """
    points = checked_embeddings(embeddings)
    start = initialization.pca(points, svd_solver="full", random_state=seed)  # (texts, 2)
    # With one thread and Barnes-Hut forces, no sum depends on the order in which threads finish.
    tsne = TSNE(n_jobs=1, negative_gradient_method="bh", random_state=seed)
    return np.asarray(tsne.fit(affinities=affinities(points), initialization=start))


def affinities(points: NDArray) -> Multiscale:
    """Return the multi-scale similarities of points; ``P`` is sparse, (texts, texts), and sums to 1.

    Notes
    -----
    De Bodt et al.'s similarity of j to i is the mean over scales of Gaussian similarities, each first
    normalised over j; the result is symmetrised. openTSNE's ``Multiscale`` averages normalised similarities
    in the same way. (``MultiscaleMixture`` normalises the sum of the kernels instead, which weights the
    scales unequally.)

    openTSNE searches for a kernel's width without guarding against underflow. If a text's nearest neighbour
    is hardly nearer than the others, as in many dimensions, the search fails: for 1,000 Gaussian points in
    768-D and a perplexity of 2, it ends with perplexities of up to 358. Subtracting a constant from a row's
    squared distances leaves its normalised similarities unchanged, so each row's smallest is subtracted
    first, and the search succeeds.
    """
    order, distances = _by_distance(points, slice(0, len(points)))
    neighbours = order[:, 1:]  # (texts, texts - 1), without the text itself
    squared = np.take_along_axis(distances, neighbours, axis=1) ** 2
    index = PrecomputedNeighbors(neighbours, np.sqrt(squared - squared[:, :1]))
    return Multiscale(knn_index=index, perplexities=perplexities(len(points)), n_jobs=1)


@dataclass(frozen=True)
class Trust:
    """How well a projection preserves the neighbourhoods of the embeddings.

    Attributes
    ----------
    trustworthiness : float
        1 if all neighbours in the projection are also neighbours in the embedding space (Venna and Kaski
        2001).
    preservation : array, (texts - 2,)
        R_NX(K) for K = 1, 2, ...: how much better the K nearest neighbours are preserved than in a random
        projection; 1 is perfect, 0 is chance.
    auc : float
        Mean of ``preservation`` with weights 1 / K, which emphasise near neighbours.
    """

    trustworthiness: float
    preservation: NDArray[np.float64]
    auc: float


def trust(embeddings: ArrayLike, picture: ArrayLike) -> Trust:
    """Score a projection against its embeddings.

    Parameters
    ----------
    embeddings : array, (texts, dim)
        The embeddings before projection, of more than twice as many texts as `NEIGHBOURS`.
    picture : array, (texts, 2)
        The projection, from `multiscale_tsne`; any number of columns is allowed.

    Raises
    ------
    ValueError
        If the numbers of texts differ, there are too few, a value is not finite, or all points are equal.
    """
    high, low = checked_embeddings(embeddings), checked_embeddings(picture)
    if len(high) != len(low):
        raise ValueError(
            f"{len(high)} embeddings but {len(low)} points in the picture: the numbers must be equal"
        )
    if len(high) <= 2 * NEIGHBOURS:
        raise ValueError(f"{len(high)} texts: trustworthiness requires more than {2 * NEIGHBOURS}")
    preservation = neighbourhood_preservation(high, low)
    return Trust(
        trustworthiness=float(trustworthiness(high, low, n_neighbors=NEIGHBOURS)),
        preservation=preservation,
        auc=preservation_auc(preservation),
    )


def neighbourhood_preservation(high: NDArray, low: NDArray) -> NDArray[np.float64]:
    """Return R_NX(K), how much better than chance K-ary neighbourhoods are preserved: (texts - 2,).

    Parameters
    ----------
    high : array, (texts, dim)
        The points before projection.
    low : array, (texts, 2)
        The points after projection.

    Notes
    -----
    Lee et al., "Multi-scale similarities in stochastic neighbour embedding", Neurocomputing 2015,
    section 5: Q_NX(K) is the mean share of common K nearest neighbours, and
    R_NX(K) = ((N - 1) Q_NX(K) - K) / (N - 1 - K). Text j is among the K nearest of i in both spaces once K
    reaches the larger of its two ranks, so counting these larger ranks gives Q_NX for all K at once. Ties in
    distance go to the lower index, in both spaces.
    """
    n = len(high)
    larger_ranks = np.zeros(n, dtype=np.int64)  # [r]: pairs (i, j) whose larger rank is r
    for begin in range(0, n, BLOCK):
        rows = slice(begin, begin + BLOCK)
        larger = np.maximum(_ranks(high, rows), _ranks(low, rows))  # (block, texts)
        larger_ranks += np.bincount(larger.ravel(), minlength=n)
    k = np.arange(1, n - 1)
    q_nx = np.cumsum(larger_ranks[1:])[:-1] / (k * n)  # rank 0 is the text itself
    return ((n - 1) * q_nx - k) / (n - 1 - k)


def preservation_auc(preservation: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the mean of R_NX(K) over K = 1, 2, ... with weights 1 / K (Lee et al. 2015, section 5)."""
    weights = 1 / np.arange(1, len(preservation) + 1)
    return float(np.average(preservation, weights=weights))


def _ranks(points: NDArray, rows: slice) -> NDArray[np.int64]:
    """Return every text's rank among the neighbours of each text of a block; the text itself has rank 0."""
    order, _ = _by_distance(points, rows)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(points))[None, :], axis=1)
    return ranks


def _by_distance(points: NDArray, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return all texts by distance from each text of a block (itself first), and the distances."""
    distances = cdist(points[rows], points)  # (block, texts)
    own = np.arange(len(distances))
    distances[own, own + rows.start] = -1  # itself before texts with the same embedding
    return distances.argsort(axis=1, kind="stable"), distances
