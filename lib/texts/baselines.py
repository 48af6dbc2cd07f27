"""A baseline that ignores word order: a linear model on the words that occur."""

import numpy as np
from datasets import DatasetDict
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def bag_of_words_accuracy(splits: DatasetDict) -> float:
    """Return the test accuracy of a logistic regression on word occurrences, trained on the training texts.

    Parameters
    ----------
    splits : DatasetDict
        Splits train and test, columns ``text`` and ``label``.
    """
    classifier = make_pipeline(
        CountVectorizer(tokenizer=str.split, token_pattern=None, binary=True),
        LogisticRegression(C=0.3, max_iter=1_000),
    )
    classifier.fit(list(splits["train"]["text"]), list(splits["train"]["label"]))
    return float(
        np.mean(classifier.predict(list(splits["test"]["text"])) == np.array(splits["test"]["label"]))
    )
