"""A baseline that ignores word order, on texts whose words decide."""

from itertools import product

import numpy as np
from datasets import Dataset, DatasetDict
from scipy.optimize import minimize

from lib.texts import bag_of_words_accuracy, bag_of_words_correct


def splits(test):
    train = {"text": ["film bon", "film mauvais"] * 20, "label": [1, 0] * 20}
    return DatasetDict({"train": Dataset.from_dict(train), "test": Dataset.from_dict(test)})


def test_correctness_is_told_for_each_test_text_in_its_order():
    texts = ["bon", "film mauvais", "mauvais film", "un bon film", "inconnu bon"]
    data = splits({"text": texts, "label": [1, 0, 1, 1, 0]})
    correct = bag_of_words_correct(data)
    assert correct.dtype == np.bool_
    assert correct.tolist() == [True, True, False, True, False]
    assert bag_of_words_accuracy(data) == 0.6


def test_the_order_of_words_makes_no_difference():
    data = splits({"text": ["film bon mauvais mauvais", "mauvais bon film bon"], "label": [0, 0]})
    assert len(set(bag_of_words_correct(data).tolist())) == 1


def test_single_characters_and_signs_are_words_too():
    train = {"text": ["film !", "film ?", "à film", "a film"] * 10, "label": [1, 0, 1, 0] * 10}
    test = {"text": ["!", "?", "à", "a"], "label": [1, 0, 1, 0]}
    data = DatasetDict({"train": Dataset.from_dict(train), "test": Dataset.from_dict(test)})
    assert bag_of_words_correct(data).tolist() == [True] * 4


def test_the_weights_minimise_the_loss_with_a_penalty_on_their_squares():
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(8)]
    occurs, labels = rng.random((30, 8)) < 0.5, rng.integers(0, 2, 30)
    every_text = np.array(list(product([False, True], repeat=8)))

    def loss(weights):
        margins = (2 * labels - 1) * (occurs @ weights[1:] + weights[0])
        return 0.3 * np.logaddexp(0, -margins).sum() + (weights[1:] ** 2).sum() / 2  # the intercept is free

    weights = minimize(loss, np.zeros(9), tol=1e-8).x
    positive = every_text @ weights[1:] + weights[0] > 0
    train, test = ([" ".join(np.array(words)[row]) for row in rows] for rows in (occurs, every_text))
    data = DatasetDict(
        {
            "train": Dataset.from_dict({"text": train, "label": labels}),
            "test": Dataset.from_dict({"text": test, "label": positive.astype(int)}),
        }
    )
    assert bag_of_words_correct(data).all()
