"""Corpora generated here, with known rationales or answers: French reviews and articles, English texts."""

from lib.texts.generated.grammar import load_grammar
from lib.texts.generated.mini_corpora import CORPORA, mini_corpus, unlabelled
from lib.texts.generated.mini_platypus import answer

__all__ = ["CORPORA", "answer", "load_grammar", "mini_corpus", "unlabelled"]
