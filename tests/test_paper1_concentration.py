"""Components as shares of the dimensions, and spectra of halves of the texts."""

import numpy as np
import pytest

from lib.components import components_needed, explained_variance
from lib.paper1.concentration import Spectra, component_share, first_share, participation_ratio
from lib.paper1.joint import HALVES, half_samples


def test_components_are_interpolated_and_a_share_of_the_dimensions():
    cumulative = np.array([0.5, 0.9, 1.0])
    assert component_share(cumulative, 3) == pytest.approx(2.5 / 3)
    assert component_share(cumulative, 6) == pytest.approx(2.5 / 6)
    assert component_share(np.array([1.0]), 3) == pytest.approx(0.95 / 3)
    assert component_share(np.array([0.5, 0.95, 1.0]), 3) == pytest.approx(2 / 3)


def test_the_participation_ratio_counts_equal_components():
    assert participation_ratio(np.array([1.0, 1.0, 1.0])) == pytest.approx(1)
    assert participation_ratio(np.array([0.25, 0.5, 0.75, 1.0])) == pytest.approx(4)
    assert participation_ratio(np.array([0.9, 1.0])) == pytest.approx(1 / 0.82)


@pytest.mark.parametrize("texts", [30, 90])  # fewer and more texts than dimensions
def test_the_spectrum_is_that_of_the_principal_components(texts):
    rng = np.random.default_rng(0)
    embeddings = [(rng.standard_normal((texts, 40)) * rng.random(40)).astype(np.float32) for _ in range(2)]
    spectra = Spectra(embeddings)
    for cumulative, points in zip(spectra.cumulative, embeddings, strict=True):
        expected = explained_variance(points)[: len(cumulative)]
        np.testing.assert_allclose(cumulative, expected, atol=1e-6)
    whole = np.array([components_needed(explained_variance(points)) for points in embeddings])
    table = spectra.table(component_share)
    assert table.shape == (2, 1 + HALVES)
    assert ((whole - 1 < 40 * table[:, 0]) & (40 * table[:, 0] <= whole)).all()
    half = half_samples(texts)[1]
    of_half = explained_variance(embeddings[1][half])
    assert spectra.table(first_share)[1, 1] == pytest.approx(of_half[0], abs=1e-6)
