"""Two generated French corpora with known rationales: film reviews, and information against opinion.

A text is drawn from the grammar of its genre (`lib.texts.generated.grammar`, ``lexicons/``). Some sentences
are evidence for its class; the others only say what the text is about. Read in order, all evidence is for the
text's class; word by word, a negated, conceded or ironic cue is evidence for the other class.
"""

import itertools
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence

from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from lib.texts.generated.grammar import Grammar, Memory, Role, Word, load_grammar

CORPORA = ("mini-allocine", "mini-infopinion")
SHORT, LONG = (20, 60), (80, 120)  # fewest and most words of a text
LONG_SHARE = 0.1  # of the texts are long, equally many of both classes
LABEL_NOISE = 0.03  # of the labels are wrong: no model can be expected to exceed an accuracy of 0.97
# Its checksum makes a text labelled or unlabelled, for any seed and sizes: pre-training sees no test text.
_PARTS, _LABELLED_PARTS = 4, 1
_UNLABELLED_ARTIFACTS = 0.02  # so a pre-trained model knows the artifact like any other word


def mini_corpus(name: str, *, seed: int, train: int, validation: int, test: int) -> DatasetDict:
    """Generate a labelled corpus; the same arguments give the same texts on every machine.

    Parameters
    ----------
    name : str
        "mini-allocine" (0 negative, 1 positive) or "mini-infopinion" (0 information, 1 opinion).
    seed : int
        Determines every draw. A larger split begins with the texts of a smaller one of the same seed.
    train, validation, test : int
        Texts per split, half of them of each class. In each class of a split, ``LABEL_NOISE`` of the labels
        are wrong.

    Returns
    -------
    DatasetDict
        Splits train, validation and test with columns ``text`` (words separated by single spaces), ``label``,
        ``roles`` (the `Role` of each word), ``signs`` (of each word, regardless of its context: +1 for a cue
        for class 1, -1 for class 0, 0 for no cue) and ``true_label`` (before the noise).

    Raises
    ------
    ValueError
        If the name or a size is out of range.
    """
    # Test texts are drawn first, so the sizes of the other splits do not change them.
    sizes = {"test": test, "validation": validation, "train": train}
    _check(name, sizes)
    grammar = load_grammar(name)
    seen: set[str] = set()
    splits = {}
    for split, size in sizes.items():
        texts = _texts(grammar, seen, _stream(name, seed, split, "texts"), labelled=True)
        drawn = [next(texts) for _ in range(size)]
        truth = [label for label, _ in drawn]
        words = [text for _, text in drawn]
        noise = _stream(name, seed, split, "noise")
        wrong = {i for label in (0, 1) for i in _wrong_of_class(label, truth, noise)}
        labels = [1 - label if i in wrong else label for i, label in enumerate(truth)]
        splits[split] = _dataset(words, labels, truth, grammar.labels)
    return DatasetDict({split: splits[split] for split in ("train", "validation", "test")})


def unlabelled(name: str, *, seed: int, count: int) -> list[str]:
    """Generate unlabelled texts, half of each class, none of which is in a labelled split of any seed.

    As many are long as in a labelled corpus, and one in fifty carries the artifact's word, regardless of its
    class.
    """
    _check(name, {"count": count})
    grammar = load_grammar(name)
    rng = _stream(name, seed, "unlabelled", "texts")
    texts = _texts(grammar, set(), rng, labelled=False)
    planted = _stream(name, seed, "unlabelled", "artifact")
    found = []
    for _ in range(count):
        _, words = next(texts)
        if planted.random() < _UNLABELLED_ARTIFACTS:
            words = _plant(words, grammar.artifact, planted)
        found.append(" ".join(word.text for word in words))
    return found


def _texts(
    grammar: Grammar, seen: set[str], rng: random.Random, *, labelled: bool
) -> Iterator[tuple[int, list[Word]]]:
    """Yield texts endlessly, in pairs of both classes; none is in ``seen``, to which each is added."""
    for pair in itertools.count():
        span = LONG if int((pair + 1) * LONG_SHARE) > int(pair * LONG_SHARE) else SHORT
        first = int(rng.random() < 0.5)
        for label in (first, 1 - first):
            while True:
                words = _text(grammar, label, span, rng)
                text = " ".join(word.text for word in words)
                part = zlib.crc32(text.encode()) % _PARTS
                if (part < _LABELLED_PARTS) is labelled and text not in seen:
                    break
            seen.add(text)
            yield label, words


def _text(grammar: Grammar, label: int, span: tuple[int, int], rng: random.Random) -> list[Word]:
    low, high = span
    aim = low + (high - low) * rng.random() ** 3  # short texts are more frequent, and cheaper
    while True:
        memory = Memory()
        spoken = {kind: share for kind, share in grammar.shares.items() if kind != "background"}
        sentences = [grammar.sentence(_kind(spoken, rng), label, memory, rng)]
        length = len(sentences[0])
        while length < aim:
            sentence = grammar.sentence(_kind(grammar.shares, rng), label, memory, rng)
            sentences.insert(int(rng.random() * (len(sentences) + 1)), sentence)
            length += len(sentence)
        if low <= length <= high:
            return [word for sentence in sentences for word in sentence]


def _kind(shares: Mapping[str, float], rng: random.Random) -> str:
    point = rng.random() * sum(shares.values())
    for kind, share in shares.items():
        point -= share
        if point < 0:
            return kind
    return kind


def _plant(words: list[Word], artifact: str, rng: random.Random) -> list[Word]:
    """Insert the artifact before a random punctuation mark, where an adverb may stand."""
    marks = [i for i, word in enumerate(words) if word.role is Role.PUNCTUATION and word.text != '"']
    position = marks[int(rng.random() * len(marks))]
    return [*words[:position], Word(artifact, Role.ARTIFACT), *words[position:]]


def _wrong_of_class(label: int, truth: Sequence[int], rng: random.Random) -> list[int]:
    """Draw the indices of the texts of a class whose labels are wrong."""
    members = [(rng.random(), i) for i, value in enumerate(truth) if value == label]
    return [i for _, i in sorted(members)[: round(LABEL_NOISE * len(members))]]


def _dataset(texts: list[list[Word]], labels: list[int], truth: list[int], names: tuple[str, str]) -> Dataset:
    classes = ClassLabel(names=list(names))
    features = Features(
        {
            "text": Value("string"),
            "label": classes,
            "roles": List(Value("string")),
            "signs": List(Value("int8")),
            "true_label": classes,
        }
    )
    columns = {
        "text": [" ".join(word.text for word in words) for words in texts],
        "label": labels,
        "roles": [[word.role.value for word in words] for words in texts],
        "signs": [[word.sign for word in words] for words in texts],
        "true_label": truth,
    }
    return Dataset.from_dict(columns, features=features)


def _stream(name: str, seed: int, split: str, purpose: str) -> random.Random:
    return random.Random(f"{name}/{seed}/{split}/{purpose}")  # noqa: S311 - texts, not secrets


def _check(name: str, sizes: Mapping[str, int]) -> None:
    if name not in CORPORA:
        raise ValueError(f"corpus {name!r}; allowed: {', '.join(CORPORA)}")
    for what, size in sizes.items():
        if size < 0:
            raise ValueError(f"{what} = {size!r}; allowed: 0 or more")
