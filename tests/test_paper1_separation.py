"""Silhouettes on halves of the texts: their variance is that of other samples of texts."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples, silhouette_score

from lib.paper1.joint import over_halves
from lib.paper1.separation import silhouettes


def sample(rng, texts, apart):
    """Two Gaussian classes in the plane, (texts, 2), and their labels."""
    labels = np.arange(texts) % 2
    return rng.normal(size=(texts, 2)) + apart * labels[:, None], labels


def test_the_first_column_is_scikit_learn_s_silhouette_of_all_texts():
    rng = np.random.default_rng(0)
    (near, labels), (far, _) = sample(rng, 60, 0.5), sample(rng, 60, 4.0)
    table = silhouettes([near, far], labels)
    assert table.shape == (2, 51)
    assert table[:, 0].tolist() == [silhouette_score(near, labels), silhouette_score(far, labels)]


def test_a_half_of_one_class_has_no_silhouette():
    labels = np.array([0, 0, 0, 0, 0, 0, 1])
    table = silhouettes([np.random.default_rng(0).normal(size=(7, 2))], labels)
    assert 0 < np.isnan(table).sum() < 51


def test_texts_of_one_class_are_refused():
    message = r"^all 7 texts are of one class: texts of both classes are required$"
    with pytest.raises(ValueError, match=message):
        silhouettes([np.random.default_rng(0).normal(size=(7, 2))], np.zeros(7, int))


def test_the_standard_error_is_the_deviation_between_samples_of_texts():
    rng = np.random.default_rng(0)
    gains, errors, as_if_independent = [], [], []
    for _ in range(80):
        (near, labels), (far, _) = sample(rng, 60, 0.5), sample(rng, 60, 2.0)
        gain = over_halves(silhouettes([far], labels) - silhouettes([near], labels))
        gains.append(gain.estimate)
        errors.append(gain.texts[0].variance ** 0.5)
        by_text = silhouette_samples(far, labels) - silhouette_samples(near, labels)
        as_if_independent.append(by_text.std(ddof=1) / len(labels) ** 0.5)
    deviation = np.std(gains, ddof=1)
    assert 0.8 < np.mean(errors) / deviation < 1.3
    assert np.mean(as_if_independent) / deviation < 0.8


def test_a_half_of_one_class_has_no_silhouette_for_any_encoder():
    labels = np.array([0, 0, 0, 0, 0, 0, 1])
    table = silhouettes(list(np.random.default_rng(0).normal(size=(3, 7, 2))), labels)
    missing = np.isnan(table)
    assert table.shape == (3, 51)
    assert missing.any()
    assert (missing.any(axis=0) == missing.all(axis=0)).all()
