"""A baseline that ignores word order, on texts whose words decide."""

import numpy as np
from datasets import Dataset, DatasetDict

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
