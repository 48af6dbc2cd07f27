"""Texts: read from files or the Hub or generated, cleaned, split, and turned into what runs receive."""

from lib.texts.baselines import bag_of_words_accuracy, bag_of_words_correct
from lib.texts.corpora import fetch_dataset, load_classification, pretraining_texts
from lib.texts.language_corpora import load_instructions, load_quotes
from lib.texts.tables import CorpusError
from lib.texts.tasks import corpus_of, longer_texts, plant_artifact, smaller

__all__ = [
    "CorpusError",
    "bag_of_words_accuracy",
    "bag_of_words_correct",
    "corpus_of",
    "fetch_dataset",
    "load_classification",
    "load_instructions",
    "load_quotes",
    "longer_texts",
    "plant_artifact",
    "pretraining_texts",
    "smaller",
]
