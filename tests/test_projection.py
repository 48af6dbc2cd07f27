"""Multi-scale t-SNE and its scores against literal transcriptions and cases worked by hand."""

import numpy as np
import pytest
from openTSNE.affinity import Multiscale, MultiscaleMixture
from scipy.spatial.distance import cdist

from lib import projection


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def two_clusters(
    rng: np.random.Generator, texts: int = 60, dim: int = 10, gap: float = 6.0
) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(texts) % 2
    return rng.normal(size=(texts, dim)) + gap * labels[:, None] / np.sqrt(dim), labels


# Multi-scale t-SNE


def multiscale_similarities(points: np.ndarray, scales: list[float]) -> np.ndarray:
    """Literal transcription of de Bodt et al. 2020: normalised similarities, averaged and symmetrised."""
    n = len(points)
    squared = cdist(points, points, "sqeuclidean")
    mean = np.zeros((n, n))
    for scale in scales:
        for i in range(n):
            others = np.arange(n) != i
            low, high = 1e-12, 1e12
            for _ in range(200):  # bisect for the precision at which the entropy is log(scale)
                precision = np.sqrt(low * high)
                weight = np.exp(-precision * (squared[i, others] - squared[i, others].min()))
                weight /= weight.sum()
                entropy = -np.sum(weight[weight > 0] * np.log(weight[weight > 0]))
                low, high = (precision, high) if entropy > np.log(scale) else (low, precision)
            mean[i, others] += weight / len(scales)
    return (mean + mean.T) / (2 * n)


def test_affinities_follow_de_bodts_definition_and_the_mixture_does_not(rng: np.random.Generator) -> None:
    points, _ = two_clusters(rng)
    scales = projection.perplexities(len(points))
    definition = multiscale_similarities(points, scales)
    np.testing.assert_allclose(projection.affinities(points).P.toarray(), definition, atol=1e-7)
    mixture = MultiscaleMixture(points, perplexities=scales, method="exact").P.toarray()
    total_variation = np.abs(mixture - definition).sum() / 2
    assert total_variation > 0.05


def test_affinities_are_correct_in_many_dimensions_where_the_plain_search_fails(
    rng: np.random.Generator,
) -> None:
    points = rng.normal(size=(80, 768))  # all distances are nearly equal
    scales = projection.perplexities(len(points))
    definition = multiscale_similarities(points, scales)
    plain = Multiscale(points, perplexities=scales, method="exact").P.toarray()
    assert np.abs(projection.affinities(points).P.toarray() - definition).sum() / 2 < 1e-6
    assert np.abs(plain - definition).sum() / 2 > 0.05


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (61, [2, 4, 8, 16, 20]),  # de Bodt: 2, 4, 8, 16, 32
        (1000, [2, 4, 8, 16, 32, 64, 128, 256, 333]),  # de Bodt: up to 512
        (400, [2, 4, 8, 16, 32, 64, 128, 133]),  # de Bodt: up to 256
    ],
)
def test_perplexities_are_powers_of_two_up_to_a_third_of_the_neighbours(
    texts: int, expected: list[float]
) -> None:
    assert projection.perplexities(texts) == pytest.approx(expected)


def test_tsne_separates_two_clusters_and_is_deterministic(rng: np.random.Generator) -> None:
    points, labels = two_clusters(rng, texts=100, gap=12.0)
    picture = projection.multiscale_tsne(points, seed=3)
    assert picture.shape == (100, 2)
    np.testing.assert_array_equal(picture, projection.multiscale_tsne(points, seed=3))
    distances = cdist(picture, picture) + np.diag(np.full(100, np.inf))
    assert (labels[distances.argmin(axis=1)] == labels).all()
    score = projection.trust(points, picture)
    shuffled = projection.trust(points, rng.permutation(picture))
    assert score.auc > 0.2 > abs(shuffled.auc) + 0.1
    assert score.trustworthiness > shuffled.trustworthiness + 0.2


def test_tsne_accepts_equal_embeddings(rng: np.random.Generator) -> None:
    points, _ = two_clusters(rng, texts=30)
    points[10:20] = points[0]
    assert np.isfinite(projection.multiscale_tsne(points)).all()


# How far to trust a projection


def slow_preservation(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Literal transcription of Lee et al. 2015, with sets of neighbours."""
    n = len(high)

    def nearest(points: np.ndarray, i: int, k: int) -> set[int]:
        distances = np.sqrt(((points - points[i]) ** 2).sum(axis=1))
        return set(sorted((j for j in range(n) if j != i), key=lambda j: (distances[j], j))[:k])

    result = []
    for k in range(1, n - 1):
        common = sum(len(nearest(high, i, k) & nearest(low, i, k)) for i in range(n))
        q = common / (k * n)
        result.append(((n - 1) * q - k) / (n - 1 - k))
    return np.array(result)


def test_preservation_equals_its_definition(rng: np.random.Generator) -> None:
    high, low = rng.normal(size=(20, 5)), rng.normal(size=(20, 2))
    low[:, 0] += high[:, 0]
    high[5] = high[7]  # equally far from all other points: ties
    preservation = projection.neighbourhood_preservation(high, low)
    np.testing.assert_allclose(preservation, slow_preservation(high, low))
    by_hand = sum(r / k for k, r in enumerate(preservation, 1)) / sum(1 / k for k in range(1, 19))
    assert projection.preservation_auc(preservation) == pytest.approx(by_hand)


def test_preservation_by_hand() -> None:
    # Points 0, 1, 3, 7 on a line; in the picture the last two are swapped: 0, 1, 7, 3.
    # Nearest before: 1, 0, 1, 2; after: 1, 0, 3, 1. In common 2 of 4:
    # Q(1) = 2/4, R(1) = (3 * 2/4 - 1) / 2 = 1/4.
    # Two nearest before: {1,2} {0,2} {1,0} {2,1}; after: {1,3} {0,3} {3,1} {1,0}. In common 4 of 8:
    # Q(2) = 4/8, R(2) = (3 * 4/8 - 2) / 1 = -1/2.
    high, low = np.array([[0.0], [1], [3], [7]]), np.array([[0.0], [1], [7], [3]])
    np.testing.assert_allclose(projection.neighbourhood_preservation(high, low), [0.25, -0.5])
    assert projection.preservation_auc([0.25, -0.5]) == pytest.approx((0.25 - 0.5 / 2) / 1.5)


def test_an_identical_picture_scores_one_and_a_random_one_scores_at_chance(rng: np.random.Generator) -> None:
    points = rng.normal(size=(300, 4))
    same = projection.trust(points, 5 * points + 1)
    assert same.auc == pytest.approx(1)
    assert same.trustworthiness == pytest.approx(1)
    np.testing.assert_allclose(same.preservation, 1)
    random = projection.trust(points, rng.normal(size=(300, 2)))
    assert abs(random.auc) < 0.03
    assert random.trustworthiness == pytest.approx(0.5, abs=0.05)


def test_preservation_does_not_depend_on_the_block_size(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    high, low = rng.normal(size=(50, 5)), rng.normal(size=(50, 2))
    whole = projection.neighbourhood_preservation(high, low)
    monkeypatch.setattr(projection, "BLOCK", 7)
    np.testing.assert_array_equal(projection.neighbourhood_preservation(high, low), whole)


# Bad input


def test_pictures_of_other_or_too_few_texts_are_not_scored(rng: np.random.Generator) -> None:
    points = rng.normal(size=(20, 3))
    with pytest.raises(ValueError, match="20 embeddings but 19 points"):
        projection.trust(points, points[:19])
    with pytest.raises(ValueError, match="20 texts: trustworthiness requires more than 20"):
        projection.trust(points, points)
