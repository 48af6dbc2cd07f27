"""Principal components of text embeddings: how many hold almost all variance."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA

FEWEST_TEXTS = 8  # with fewer, two of t-SNE's scales of neighbourhoods cannot be distinguished
SHARE = 0.95  # of the variance, as in paper 1


def explained_variance(embeddings: ArrayLike) -> NDArray[np.float64]:
    """Return the cumulative share of the variance in the first 1, 2, ... principal components.

    Parameters
    ----------
    embeddings : array, (texts, dim)
        One embedding per text.

    Returns
    -------
    array, (min(texts, dim),)
        Cumulative shares, the last being 1.

    Raises
    ------
    ValueError
        If there are too few texts, a value that is not finite, or no variance.

    Notes
    -----
    Paper 1, section 3.3. The components are fitted to the given texts (in the authors' code, the test texts).
    """
    points = checked_embeddings(embeddings)
    # From the eigenvalues of the covariance, whose size does not grow with the number of texts.
    return np.cumsum(PCA(svd_solver="covariance_eigh").fit(points).explained_variance_ratio_)


def components_needed(cumulative: ArrayLike) -> int:
    """Return the number of principal components at which the explained variance first reaches 95 %.

    Parameters
    ----------
    cumulative : array, (components,)
        From `explained_variance`.
    """
    return int(np.searchsorted(cumulative, SHARE)) + 1


def checked_embeddings(embeddings: ArrayLike) -> NDArray[np.float64]:
    """Return embeddings, (texts, dim), as float64, or refuse what has no components and no projection.

    Raises
    ------
    ValueError
        If there are fewer than 8 texts, a value is not finite, or all embeddings are equal.
    """
    points = np.asarray(embeddings, dtype=np.float64)
    if points.ndim != 2 or len(points) < FEWEST_TEXTS:
        raise ValueError(
            f"embeddings of shape {points.shape}: required is (texts, dim) with at least {FEWEST_TEXTS} texts"
        )
    if not np.isfinite(points).all():
        raise ValueError(f"{int((~np.isfinite(points)).sum())} values of the embeddings are not finite")
    if not np.ptp(points, axis=0).any():
        raise ValueError("all embeddings are equal: nothing to project")
    return points
