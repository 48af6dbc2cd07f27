"""Runs on texts in which people marked the reasons: fine-tuned and frozen models explain their true class.

Their own module, not `lib.paper1.runs`: those runs explain what a model predicts, and people marked reasons
for the true class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.attribution import METHODS
from lib.corpus import Corpus
from lib.explanations import check_methods, word_relevance
from lib.finetuning import encode
from lib.models import load_classifier, load_tokenizer
from lib.paper1.runs import fine_tune_classifier, train_on_frozen
from lib.recipes import TrainingRecipe
from lib.runs import Run


@dataclass(frozen=True, kw_only=True)
class ExplainTrueClass(Run):
    """Train a classifier under one seed, whole or its head alone, and explain each text's true class.

    Attributes
    ----------
    seed : int
        Determines the head's initial weights, the order of the texts and dropout.
    frozen : bool
        Whether only a head is trained, on the frozen encoder's embeddings.
    training : TrainingRecipe
        Of the whole model, or of the head.
    methods : mapping of str to int
        Explanations of `lib.attribution.METHODS`, and how many of the explained texts each explains.

    Raises
    ------
    ValueError
        For an unknown method, or one for no text.
    """

    frozen: bool
    training: TrainingRecipe
    methods: Mapping[str, int]

    def __post_init__(self) -> None:
        check_methods(self.methods, METHODS)

    def carry_out(self, *, corpus: Corpus) -> dict[str, Any]:
        """Train, test and explain the classifier.

        Parameters
        ----------
        corpus : Corpus
            Training and test texts.

        Returns
        -------
        dict
            ``predicted`` (test texts,), and for each method ``relevance/<method>`` (words of its texts,), for
            the texts' true classes.

        Raises
        ------
        FloatingPointError
            If training diverged.
        """
        tokenizer = load_tokenizer(corpus.model)
        if self.frozen:
            model = load_classifier(corpus.model, seed=self.seed, device=corpus.device)
            trained = train_on_frozen(model, tokenizer, corpus, [self.seed], self.training)
            trained.heads.install(0, model)
            predicted = trained.predicted[0]
        else:
            model, _, _ = fine_tune_classifier(corpus, tokenizer, seed=self.seed, recipe=self.training)
            predicted = encode(model, tokenizer, corpus.test_texts, max_length=corpus.max_length).predicted
        tokens = corpus.tokens(tokenizer)
        targets = np.array(corpus.test_labels)[corpus.explained]
        result: dict[str, Any] = {"predicted": predicted.astype(np.uint8)}
        for method, texts in self.methods.items():
            result[f"relevance/{method}"] = word_relevance(
                model, tokens[:texts], targets[:texts], method, corpus.relevance_precision
            )
        return result
