"""The texts of one task, and the encoder that reads them: the data of a run of papers 1 and 2."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lib.models import model_fingerprint
from lib.precision import Precision, RelevancePrecision
from lib.runs import Run
from lib.seeding import fingerprint
from lib.words import Tokens, tokenize


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training and test texts of one task, the encoder that reads them, and where and how precisely.

    Attributes
    ----------
    model : str
        The folder of the pre-trained encoder.
    train_texts, train_labels, test_texts, test_labels : list
        (texts,)
    explained : list of int
        Positions of the test texts that are explained.
    max_length : int
        Length in word pieces at which texts are truncated.
    device : str
        Where to compute.
    precision : {"float32", "tf32", "bfloat16"}
        Of the products of fine-tuning.
    relevance_precision : {"float32", "tf32"}
        Of the products of relevance in LRP.
    """

    model: str
    train_texts: list[str]
    train_labels: list[int]
    test_texts: list[str]
    test_labels: list[int]
    explained: list[int]
    max_length: int
    device: str
    precision: Precision = "float32"
    relevance_precision: RelevancePrecision = "float32"

    @property
    def fingerprints(self) -> dict[str, str]:
        """The corpus's part of a run's key, by name; the device is in the key separately."""
        texts = [self.train_texts, self.train_labels, self.test_texts, self.test_labels, self.explained]
        return {
            "texts": fingerprint(texts),
            "model": model_fingerprint(self.model),
            "max_length": str(self.max_length),
            "precision": self.precision,
            "relevance_precision": self.relevance_precision,
        }

    def tokens(self, tokenizer: PreTrainedTokenizerBase) -> list[Tokens]:
        """Return the explained texts as word pieces, with the words that fit into ``max_length``."""
        texts = [self.test_texts[index] for index in self.explained]
        return tokenize(texts, tokenizer, self.max_length)


class WithoutFineTuning(Run):
    """A run on a corpus that fine-tunes no encoder: the precision of fine-tuning does not concern it."""

    def depends_on(self, part: str) -> bool:
        """Whether a part of the sweep's inputs can change the result."""
        return not part.endswith("/precision")


@dataclass(frozen=True, eq=False)
class Planted:
    """A corpus with an artifact planted into its training texts, at several rates.

    Attributes
    ----------
    word : str
        The artifact: it occurs in class 1 only and means nothing.
    corpora : dict of float to Corpus
        By rate; the test texts stay clean.
    test_texts : list of str, (test texts,)
        The test texts of both classes, each with the word planted.
    """

    word: str
    corpora: dict[float, Corpus]
    test_texts: list[str]

    @property
    def fingerprints(self) -> dict[str, str]:
        """The planted texts' part of a run's key, by name."""
        parts = {"word": fingerprint(self.word), "test_texts": fingerprint(self.test_texts)}
        for rate, corpus in self.corpora.items():
            parts |= {f"{rate}/{name}": value for name, value in corpus.fingerprints.items()}
        return parts
