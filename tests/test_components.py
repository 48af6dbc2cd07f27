"""Principal components against eigenvalues and cases worked by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from lib.components import components_needed, explained_variance
from lib.projection import multiscale_tsne


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_explained_variance_by_hand() -> None:
    # Two orthogonal directions with variances 9 : 1, nothing in the third.
    points = np.array([[3, 0, 0], [-3, 0, 0], [0, 1, 0], [0, -1, 0]] * 2, dtype=float)
    cumulative = explained_variance(points)
    np.testing.assert_allclose(cumulative, [0.9, 1.0, 1.0], atol=1e-12)
    assert components_needed(cumulative) == 2


def test_components_needed_counts_the_component_that_reaches_the_share_exactly() -> None:
    assert components_needed([0.5, 0.95, 0.98, 1.0]) == 2
    assert components_needed([0.5, 0.75, 0.9375, 1.0]) == 4


def test_explained_variance_equals_the_eigenvalues_of_the_covariance(rng: np.random.Generator) -> None:
    points = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(points.T)))[::-1]
    np.testing.assert_allclose(explained_variance(points), np.cumsum(eigenvalues) / eigenvalues.sum())


def test_explained_variance_ignores_location_and_scale(
    rng: np.random.Generator,
) -> None:
    points = rng.normal(size=(30, 5)) * [5, 4, 3, 2, 1]
    np.testing.assert_allclose(explained_variance(points), explained_variance(100 + 7 * points))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((20, 3)), "all embeddings are equal"),
        (np.ones((3, 3)), r"shape \(3, 3\)"),
        (np.ones(20), r"shape \(20,\)"),
        (np.full((20, 3), np.nan), "60 values of the embeddings are not finite"),
    ],
)
@pytest.mark.parametrize("function", [explained_variance, multiscale_tsne])
def test_bad_embeddings_are_refused(function: Callable, points: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(points)


def test_texts_with_one_embedding_in_common_have_no_variance() -> None:
    with pytest.raises(ValueError, match="all embeddings are equal"):
        explained_variance(np.tile([1.0, 2.0, 3.0], (20, 1)))
    points = np.tile(np.arange(20.0)[:, None], (1, 3))  # of each text all values are equal, the texts are not
    assert components_needed(explained_variance(points)) == 1


def test_embeddings_in_single_precision_are_analysed_in_double() -> None:
    points = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    np.testing.assert_array_equal(explained_variance(points), explained_variance(points.astype(np.float64)))
