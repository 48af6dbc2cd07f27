"""A baseline that ignores word order: a linear model on the words that occur."""

import numpy as np
from datasets import DatasetDict
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def bag_of_words_correct(splits: DatasetDict) -> NDArray[np.bool_]:
    """Return whether a logistic regression on word occurrences classifies each test text correctly.

    It is trained on the training texts. Its accuracy has an error, since the test texts are a sample. A model
    that is compared with it classifies the same texts, so the difference should be taken text by text.

    Parameters
    ----------
    splits : DatasetDict
        Splits train and test, columns ``text`` and ``label``.

    Returns
    -------
    ndarray of bool, (test texts,)
    """
    classifier = make_pipeline(
        CountVectorizer(tokenizer=str.split, token_pattern=None, binary=True),
        LogisticRegression(C=0.3, max_iter=1_000),
    )
    classifier.fit(list(splits["train"]["text"]), list(splits["train"]["label"]))
    return np.asarray(classifier.predict(list(splits["test"]["text"])) == np.array(splits["test"]["label"]))


def bag_of_words_accuracy(splits: DatasetDict) -> float:
    """Return the mean of `bag_of_words_correct` over the test texts."""
    return float(bag_of_words_correct(splits).mean())
