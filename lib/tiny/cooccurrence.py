"""Word vectors from co-occurrence counts: initial embeddings for a tiny language model, within seconds."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

WINDOW = 3  # pieces on either side that count as near
CONTEXT_SMOOTHING = 0.75  # exponent of context counts (Levy et al., TACL 2015, section 3.2)


def piece_vectors(
    texts: Sequence[Sequence[int]], vocabulary: int, dim: int, seed: int
) -> NDArray[np.float32]:
    """Return one vector per piece, from the pieces that occur near it and in the same texts.

    Positive pointwise mutual information, factorised (Levy and Goldberg, NIPS 2014): half of the dimensions
    are from near neighbours, which capture usage, and half from whole texts, which capture topic.

    Parameters
    ----------
    texts : sequence of sequences of int, (texts,) of (pieces,)
        Piece ids, without special pieces.
    vocabulary, dim : int
        Size of the vocabulary, and number of dimensions (even).
    seed : int
        For the randomised factorisation.

    Returns
    -------
    array, (vocabulary, dim)
        Each dimension has mean 0, all entries together standard deviation 1; a piece that never occurs is
        near 0.
    """
    near = sp.csr_array((vocabulary, vocabulary))
    for distance in range(1, WINDOW + 1):
        left = np.concatenate([np.asarray(text[:-distance], dtype=np.int64) for text in texts])  # (pairs,)
        right = np.concatenate([np.asarray(text[distance:], dtype=np.int64) for text in texts])  # (pairs,)
        pairs = sp.csr_array((np.ones(len(left)), (left, right)), shape=near.shape)
        near = near + pairs + pairs.T
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])  # (pieces of all texts,)
    occurs = sp.csr_array((np.ones(len(rows)), (rows, np.concatenate(texts))), shape=(len(texts), vocabulary))
    occurs.data[:] = 1  # presence, not frequency
    together = (occurs.T @ occurs).tocsr()
    vectors = np.hstack([_factorise(counts, dim // 2, seed) for counts in (near, together)])
    vectors -= vectors.mean(axis=0)
    return (vectors / vectors.std()).astype(np.float32)


def _factorise(counts: sp.csr_array, dim: int, seed: int) -> NDArray[np.float64]:
    """Return the square-root-weighted left singular vectors of the positive PMI: (vocabulary, dim)."""
    entries = counts.tocoo()
    words, contexts = counts.sum(axis=1), counts.sum(axis=0) ** CONTEXT_SMOOTHING  # (vocabulary,) each
    expected = words[entries.row] * contexts[entries.col] / contexts.sum()
    information = np.maximum(np.log(entries.data / expected), 0)
    positive = sp.csr_array((information, (entries.row, entries.col)), shape=counts.shape)
    svd = TruncatedSVD(dim, random_state=seed)
    return svd.fit_transform(positive) / np.sqrt(svd.singular_values_)
