"""The texts of one task and the encoder that reads them: what a run of papers 1 and 2 is handed."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lib.models import model_fingerprint
from lib.seeding import fingerprint
from lib.words import Tokens, tokenize


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training and test texts of one task, and the encoder that reads them.

    Attributes
    ----------
    model : str
        The pre-trained encoder: a folder or a Hub id.
    train_texts, train_labels, test_texts, test_labels : list
        (texts,)
    explained : list of int
        The test texts that are explained, by their position.
    max_length : int
        In word pieces.
    device : str
        Where to compute.
    """

    model: str
    train_texts: list[str]
    train_labels: list[int]
    test_texts: list[str]
    test_labels: list[int]
    explained: list[int]
    max_length: int
    device: str

    @property
    def fingerprints(self) -> dict[str, str]:
        """What tells this corpus from another in a run's key; the device is in the key anyway."""
        texts = [self.train_texts, self.train_labels, self.test_texts, self.test_labels, self.explained]
        return {
            "texts": fingerprint(texts),
            "model": model_fingerprint(self.model),
            "max_length": str(self.max_length),
        }

    def tokens(self, tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
        """Return the explained texts as pieces and the words that fit."""
        texts = [self.test_texts[index] for index in self.explained]
        return tokenize(texts, tokenizer, self.max_length)
