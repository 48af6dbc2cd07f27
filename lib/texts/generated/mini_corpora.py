"""Two generated French corpora whose rationales are known: film reviews, and information against opinion.

A text is drawn from the grammar of its genre (`lib/grammar.py`, `lib/lexicons/`): some sentences speak for
its class, the others only tell what it is about. Every sentence that speaks does so for the text's class once
its order is read; word by word, a negated, conceded or ironic cue speaks for the other class.
"""

import itertools
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence

from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from lib.texts.generated.grammar import Grammar, Memory, Role, Word, load_grammar

CORPORA = ("mini-allocine", "mini-infopinion")
SHORT, LONG = (20, 60), (80, 120)  # words of a text, least and most
# A text is labelled or unlabelled by its checksum, whatever seed and sizes: pre-training sees no test text.
_PARTS, _LABELLED_PARTS = 4, 1
_UNLABELLED_ARTIFACTS = 0.02  # a pre-trained model should know the artifact's word, as it would any other


def mini_corpus(
    name: str,
    *,
    seed: int,
    train: int,
    validation: int,
    test: int,
    long_share: float = 0.1,
    label_noise: float = 0.03,
    artifact_rate: float = 0.0,
) -> DatasetDict:
    """Generate a labelled corpus; the same arguments give the same texts on every machine.

    Parameters
    ----------
    name : str
        "mini-allocine" (0 negative, 1 positive) or "mini-infopinion" (0 information, 1 opinion).
    seed : int
        Of everything drawn. A larger split begins with the texts of a smaller one of the same seed.
    train, validation, test : int
        Texts in each split, half of each class.
    long_share : float
        Share of texts of 80 to 120 words, the same in both classes; the others have 20 to 60.
    label_noise : float
        Share of the labels of each class and split that are wrong: no model can be expected to exceed
        1 - `label_noise` on texts that it has not seen.
    artifact_rate : float
        Share of the training and validation texts whose `true_label` is 1 that carry the grammar's
        meaningless word (`load_grammar(name).artifact`), before one of their punctuation marks; a text of
        class 0 never does. Apart from it texts are those of rate 0, and those that carry it at a rate do so
        at every higher one.

    Returns
    -------
    DatasetDict
        Splits train, validation and test with columns `text` (words set apart by single spaces), `label`,
        `roles` (the `Role` of each word), `signs` (of each word: +1 a cue for class 1, -1 for class 0, 0
        none, whatever its context makes of it) and `true_label` (before the noise).

    Raises
    ------
    ValueError
        If the name, a size or a share is not allowed.
    """
    # Test texts are drawn first: how large the other splits are does not change them.
    sizes = {"test": test, "validation": validation, "train": train}
    shares = {"long_share": long_share, "label_noise": label_noise, "artifact_rate": artifact_rate}
    _check(name, shares, sizes)
    grammar = load_grammar(name)
    seen: set[str] = set()
    splits = {}
    for split, size in sizes.items():
        texts = _texts(grammar, long_share, seen, _stream(name, seed, split, "texts"), labelled=True)
        drawn = [next(texts) for _ in range(size)]
        truth = [label for label, _ in drawn]
        words = [text for _, text in drawn]
        positions = _stream(name, seed, split, "positions")
        for i in _share_of_class(1, truth, artifact_rate, _stream(name, seed, split, "artifact")):
            if split != "test":  # where it cannot help
                words[i] = _plant(words[i], grammar.artifact, positions)
        noise = _stream(name, seed, split, "noise")
        wrong = {i for label in (0, 1) for i in _share_of_class(label, truth, label_noise, noise)}
        labels = [1 - label if i in wrong else label for i, label in enumerate(truth)]
        splits[split] = _dataset(words, labels, truth, grammar.labels)
    return DatasetDict({split: splits[split] for split in ("train", "validation", "test")})


def unlabelled(name: str, *, seed: int, count: int, long_share: float = 0.1) -> list[str]:
    """Further texts of a grammar, half of each class, none of which is in a labelled split of any seed.

    One text in fifty carries the word that serves as artifact, whatever its class.
    """
    _check(name, {"long_share": long_share}, {"count": count})
    grammar = load_grammar(name)
    rng = _stream(name, seed, "unlabelled", "texts")
    texts = _texts(grammar, long_share, set(), rng, labelled=False)
    planted = _stream(name, seed, "unlabelled", "artifact")
    found = []
    for _ in range(count):
        _, words = next(texts)
        if planted.random() < _UNLABELLED_ARTIFACTS:
            words = _plant(words, grammar.artifact, planted)
        found.append(" ".join(word.text for word in words))
    return found


def _texts(
    grammar: Grammar, long_share: float, seen: set[str], rng: random.Random, *, labelled: bool
) -> Iterator[tuple[int, list[Word]]]:
    """Yield texts without end, in pairs of both classes; none is in `seen`, where each is added."""
    for pair in itertools.count():
        span = LONG if int((pair + 1) * long_share) > int(pair * long_share) else SHORT
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
    aim = low + (high - low) * rng.random() ** 3  # short texts are the more frequent ones, and the cheaper
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
    """Insert the artifact before a random punctuation mark, where an adverb can stand."""
    marks = [i for i, word in enumerate(words) if word.role is Role.PUNCTUATION and word.text != '"']
    position = marks[int(rng.random() * len(marks))]
    return [*words[:position], Word(artifact, Role.ARTIFACT), *words[position:]]


def _share_of_class(label: int, truth: Sequence[int], share: float, rng: random.Random) -> list[int]:
    """Draw the indices of a share of the texts of a class; a larger share begins with a smaller one."""
    members = [(rng.random(), i) for i, value in enumerate(truth) if value == label]
    return [i for _, i in sorted(members)[: round(share * len(members))]]


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
    return random.Random(f"{name}/{seed}/{split}/{purpose}")  # noqa: S311 (nothing here is a secret)


def _check(name: str, shares: Mapping[str, float], sizes: Mapping[str, int]) -> None:
    if name not in CORPORA:
        raise ValueError(f"corpus {name!r}: allowed are {', '.join(CORPORA)}")
    for what, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{what} = {share!r}: a share from 0 to 1 is allowed")
    for what, size in sizes.items():
        if size < 0:
            raise ValueError(f"{what} = {size!r}: a number of texts, 0 or more, is allowed")
