"""PCA and multi-scale t-SNE of text embeddings, with how far to trust the picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from openTSNE import TSNE, initialization
from openTSNE.affinity import Multiscale
from openTSNE.nearest_neighbors import PrecomputedNeighbors
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

FEWEST_TEXTS = 8  # below this, two scales of neighbourhoods cannot be told apart
BLOCK = 256  # rows of the distance matrix held at a time


def explained_variance(embeddings: ArrayLike) -> NDArray[np.float64]:
    """Return the share of the variance that the first 1, 2, ... principal components hold together.

    Parameters
    ----------
    embeddings : array, (texts, dim)
        One embedding a text.

    Returns
    -------
    array, (min(texts, dim),)
        Cumulative shares, from the first component's to 1.

    Raises
    ------
    ValueError
        If there are too few texts, a value that is not finite, or no variance.

    Notes
    -----
    Paper 1, section 3.3. The components are those of the texts given (the test texts in the paper).
    """
    points = _checked(embeddings)
    return np.cumsum(PCA(svd_solver="full").fit(points).explained_variance_ratio_)


def components_needed(cumulative: ArrayLike, share: float = 0.95) -> int:
    """Return the number of principal components at which the explained variance first reaches ``share``.

    Parameters
    ----------
    cumulative : array, (components,)
        As ``explained_variance`` gives it.
    share : float
        Above 0, below 1.

    Raises
    ------
    ValueError
        If ``share`` is out of range.
    """
    if not 0 < share < 1:
        raise ValueError(f"share = {share!r}: allowed are numbers above 0 and below 1")
    return int(np.searchsorted(cumulative, share)) + 1


def perplexities(texts: int) -> list[float]:
    """Return the scales of multi-scale t-SNE for so many texts: 2, 4, 8, ... up to about half of them.

    De Bodt et al. take 2 ** h for h from 1 to round(log2(texts / 2)). openTSNE allows at most a third of the
    other texts: one scale or two above it become that third.
    """
    scales = 2.0 ** np.arange(1, round(np.log2(texts / 2)) + 1)  # (scales,)
    return np.unique(np.minimum(scales, (texts - 1) / 3)).tolist()


def multiscale_tsne(embeddings: ArrayLike, *, seed: int = 0) -> NDArray[np.float64]:
    """Draw the embeddings in the plane by multi-scale t-SNE.

    Parameters
    ----------
    embeddings : array, (texts, dim)
        At least 8 texts. Time and memory grow with the square of their number (one core: 1 s for 400 texts,
        20 s for 2,000), so draw a sample of a large test set.
    seed : int
        Of the jitter that keeps equal embeddings apart; everything else is deterministic.

    Returns
    -------
    array, (texts, 2)
        The same to the bit on every call; distances have no unit.

    Raises
    ------
    ValueError
        If there are too few texts, a value that is not finite, or no variance.

    Notes
    -----
    Method: de Bodt et al., "Fast Multiscale Neighbor Embedding", IEEE TNNLS 2020, which paper 1
    uses (see ``affinities``). Two things differ from the authors' program: the largest scales (see
    ``perplexities``), and the optimiser, theirs being L-BFGS from the coarsest scale to the finest,
    openTSNE's gradient descent with early exaggeration. Both begin with the first two principal components.
    """
    points = _checked(embeddings)
    start = initialization.pca(points, svd_solver="full", random_state=seed)  # (texts, 2)
    # One thread and Barnes-Hut forces: no sum depends on the order in which threads finish.
    tsne = TSNE(n_jobs=1, negative_gradient_method="bh", random_state=seed)
    return np.asarray(tsne.fit(affinities=affinities(points), initialization=start))


def affinities(points: NDArray) -> Multiscale:
    """Return the multi-scale similarities of points; its ``P`` is (texts, texts), sparse, with sum 1.

    Notes
    -----
    De Bodt et al.'s similarity of j to i is the mean over the scales of Gaussian similarities,
    each normalised over j first, and is symmetrised afterwards. openTSNE's ``Multiscale`` averages normalised
    similarities in the same way, so it is the one used. ``MultiscaleMixture`` normalises the sum of the
    kernels instead, which weighs the scales unequally.

    openTSNE looks for a kernel's width without a safeguard against underflow. Where a text's nearest
    neighbour is hardly nearer than the others, as in many dimensions, it gives up: for 1,000 Gaussian points
    in 768-D and a perplexity of 2, it ends as far off as 358. A row's normalised similarities do not change
    when one number is taken from its squared distances, so each row's smallest is taken away first, and the
    search succeeds.
    """
    order, distances = _by_distance(points, slice(0, len(points)))
    neighbours = order[:, 1:]  # (texts, texts - 1), without the text itself
    squared = np.take_along_axis(distances, neighbours, axis=1) ** 2
    index = PrecomputedNeighbors(neighbours, np.sqrt(squared - squared[:, :1]))
    return Multiscale(knn_index=index, perplexities=perplexities(len(points)), n_jobs=1)


@dataclass(frozen=True)
class Trust:
    """How well a picture keeps the neighbourhoods of the embeddings it was drawn from.

    Attributes
    ----------
    trustworthiness : float
        1 if every text's neighbours in the picture are neighbours in the embedding too (Venna and Kaski
        2001).
    preservation : array, (texts - 2,)
        R_NX(K) for K = 1, 2, ...: by how much the K nearest neighbours are kept better than in a random
        picture; 1 is perfect, 0 is chance.
    auc : float
        Its mean over K with weights 1 / K, which stress near neighbours: 1 is perfect, 0 is chance.
    """

    trustworthiness: float
    preservation: NDArray[np.float64]
    auc: float


def trust(embeddings: ArrayLike, picture: ArrayLike, *, neighbours: int = 10) -> Trust:
    """Score a picture against the embeddings that it shows.

    Parameters
    ----------
    embeddings : array, (texts, dim)
        What was drawn.
    picture : array, (texts, 2)
        As ``multiscale_tsne`` gives it; any number of columns will do.
    neighbours : int
        For trustworthiness; below half the number of texts.

    Raises
    ------
    ValueError
        If the numbers of texts differ, ``neighbours`` is out of range, or a value is not finite.
    """
    high, low = _checked(embeddings), _checked(picture)
    if len(high) != len(low):
        raise ValueError(f"{len(high)} embeddings but {len(low)} points in the picture: one each is wanted")
    if not 1 <= neighbours < len(high) / 2:
        raise ValueError(
            f"neighbours = {neighbours}: allowed are 1 to {(len(high) - 1) // 2} (half the texts)"
        )
    preservation = neighbourhood_preservation(high, low)
    return Trust(
        trustworthiness=float(trustworthiness(high, low, n_neighbors=neighbours)),
        preservation=preservation,
        auc=preservation_auc(preservation),
    )


def neighbourhood_preservation(high: NDArray, low: NDArray) -> NDArray[np.float64]:
    """Return R_NX(K), how much better than chance K-ary neighbourhoods are kept: (texts - 2,).

    Parameters
    ----------
    high : array, (texts, dim)
        Before the projection.
    low : array, (texts, 2)
        After it.

    Notes
    -----
    Lee et al., "Multi-scale similarities in stochastic neighbour embedding", Neurocomputing 2015,
    section 5: Q_NX(K) is the mean share of common K nearest neighbours, R_NX(K) = ((N - 1) Q_NX(K) - K) / (N
    - 1 - K). A text j is among i's K nearest in both spaces from K = the larger of its two ranks on, so
    counting these larger ranks gives Q_NX for all K at once. Of two neighbours equally far the one with the
    lower index is the nearer, in both spaces.
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


def preservation_auc(preservation: ArrayLike) -> float:
    """Return the mean of R_NX(K) over K = 1, 2, ... with weights 1 / K (Lee et al. 2015, section 5)."""
    weights = 1 / np.arange(1, len(preservation) + 1)
    return float(np.average(preservation, weights=weights))


def _ranks(points: NDArray, rows: slice) -> NDArray[np.int64]:
    """Return each text's rank among the neighbours of each text of a block, the text itself being 0."""
    order, _ = _by_distance(points, rows)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(len(points))[None, :], axis=1)
    return ranks


def _by_distance(points: NDArray, rows: slice) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the texts in order of distance from each text of a block, itself first, and the distances."""
    distances = cdist(points[rows], points)  # (block, texts)
    own = np.arange(len(distances))
    distances[own, own + rows.start] = -1  # before a text with the same embedding
    return distances.argsort(axis=1, kind="stable"), distances


def _checked(embeddings: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(embeddings, dtype=np.float64)
    if points.ndim != 2 or len(points) < FEWEST_TEXTS:
        raise ValueError(
            f"embeddings of shape {points.shape}: (texts, dim) is wanted, with {FEWEST_TEXTS} texts or more"
        )
    if not np.isfinite(points).all():
        raise ValueError(f"{int((~np.isfinite(points)).sum())} values of the embeddings are not finite")
    if not np.ptp(points, axis=0).any():
        raise ValueError("all embeddings are equal: nothing to project")
    return points
