"""Texts for the two tasks that paper 3 leaves to future work: classification and summarisation.

Without a network both are generated from the words of the small talk that the tiny chat models are trained
on. Runs never import this module: they are handed tasks (`lib.paper3.trials`).
"""

import random

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from lib.seeding import derive
from lib.texts import CorpusError, load_classification, tables
from lib.texts.generated.lexicon import lexicon
from lib.texts.generated.mini_platypus import article
from lib.texts.generated.mini_quotes import check_count

MINI_KINDS = "mini-kinds"
MINI_GISTS = "mini-gists"
TEST_SHARE = 1 / 3
MOST_LABELLED = 50_000  # of the 97,600 sentences that mini-kinds can make, so few draws are repeats
MOST_GISTS = 5_000  # of 10,080
LONGEST = 250  # words of a document: truncation would cut the summary, which stands at the end
_KINDS = ("animal", "fruit", "tool")
# What happens to a thing, where, and how a summary puts it.
_EVENTS = (
    ("finds", "in the garden", "found"),
    ("buys", "at the market", "bought"),
    ("gives", "to {friend}", "given"),
)


def load_labelled(dataset: str, *, seed: int, count: int) -> DatasetDict:
    """Load texts of two classes, to learn and name the class of.

    Parameters
    ----------
    dataset : str
        ``mini-kinds`` (sentences about an animal or a fruit), or any data set of
        `lib.texts.load_classification`. A file or a Hub data set is cleaned as English, as the other texts
        of this notebook are; the French data sets that are known by name, as French.
    seed : int
        Determines texts and splits.
    count : int
        Texts in all, of which a third is held out. Mini-kinds has at most 50,000; a file without splits
        needs somewhat more than ``count`` texts, since its own splits have other shares.

    Returns
    -------
    DatasetDict
        Splits train and test, columns ``text`` and ``label`` (with class names). In mini-kinds, the test
        split has equally many texts of both classes, or one more of the first.

    Raises
    ------
    CorpusError
        As `lib.texts.load_classification`, or for a count that is out of range.
    """
    held_out = max(2, round(TEST_SHARE * count))
    if dataset != MINI_KINDS:
        try:  # two validation texts, one of each class: none are used, but 0 would ask for all of them
            return load_classification(
                dataset,
                seed=seed,
                train_texts=count - held_out,
                validation_texts=2,
                test_texts=held_out,
                language="English",
            )
        except CorpusError as error:
            raise CorpusError(f"label_texts = {count}: {error}") from None
    check_count(dataset, count, MOST_LABELLED)
    names = list(_KINDS[:2])
    draw = random.Random(derive(seed, MINI_KINDS))  # noqa: S311 - texts, not secrets
    labels: dict[str, int] = {}
    while len(labels) < count:
        label = len(labels) % 2
        labels.setdefault(_labelled_sentence(draw, names[label]), label)
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    texts = Dataset.from_dict({"text": list(labels), "label": list(labels.values())}, features=features)
    train = texts.select(range(held_out, count)).shuffle(seed=derive(seed, "splits"))
    return DatasetDict({"train": train, "test": texts.select(range(held_out))})


def load_summaries(dataset: str, *, seed: int, count: int) -> DatasetDict:
    """Load documents with summaries.

    Parameters
    ----------
    dataset : str
        ``mini-gists`` (a sentence, and in four words what happens in it to which kind of thing), a Hub id,
        or a local file or folder, with a column ``document``, ``dialogue``, ``article`` or ``text``, and a
        column ``summary``.
    seed : int
        Determines texts and splits.
    count : int
        Documents in all, of which a third is held out. Mini-gists has at most 5,000.

    Returns
    -------
    DatasetDict
        Splits train and test, columns ``document`` and ``summary``; no document occurs twice or has more than
        250 words.

    Raises
    ------
    CorpusError
        In one line, for a source that is unavailable or unusable, or a count that is out of range.
    """
    rows = _gists(seed, count) if dataset == MINI_GISTS else _read_summaries(dataset)
    if len(rows) < 10:
        raise CorpusError(f"{dataset!r}: {len(rows)} documents of at most {LONGEST} words; 10 are required")
    texts = Dataset.from_dict({"document": list(rows), "summary": list(rows.values())})
    taken = texts.shuffle(seed=derive(seed, "summaries")).select(range(min(count, len(texts))))
    return taken.train_test_split(test_size=TEST_SHARE, seed=derive(seed, "splits"))


def _labelled_sentence(draw: random.Random, kind: str) -> str:
    """Draw a sentence in which somebody has something of a kind."""
    words = lexicon("instructions")
    name, friend = draw.sample(words["names"], 2)
    thing = article(draw.choice(words["categories"][kind]))
    counted = f"{draw.randint(2, 20)} {draw.choice(words['things'])}"
    return draw.choice(
        [
            f"{name} finds {thing} in the garden.",
            f"{name} has {counted} and {thing}.",
            f"{name} gives {thing} to {friend}.",
        ]
    )


def _gists(seed: int, count: int) -> dict[str, str]:
    """Generate distinct sentences with their summaries."""
    check_count(MINI_GISTS, count, MOST_GISTS)
    draw = random.Random(derive(seed, MINI_GISTS))  # noqa: S311 - texts, not secrets
    words = lexicon("instructions")
    rows: dict[str, str] = {}
    while len(rows) < count:
        name, friend = draw.sample(words["names"], 2)
        kind = draw.choice(_KINDS)
        verb, where, summarised = draw.choice(_EVENTS)
        thing = article(draw.choice(words["categories"][kind]))
        document = f"{name} {verb} {thing} {where.format(friend=friend)}."
        rows.setdefault(document, f"{article(kind).capitalize()} is {summarised}.")
    return rows


def _read_summaries(dataset: str) -> dict[str, str]:
    """Read documents that are short enough, with their summaries; the first of equal documents counts."""
    table = tables.read(dataset)
    document = tables.find_column(table, ["document", "dialogue", "article", "text"], "document")
    summary = tables.find_column(table, ["summary"], "summary")
    if not tables.is_local(dataset):
        for column in (document, summary):
            table = tables.drop_empty(table, column)
    rows: dict[str, str] = {}
    for text, gist in zip(tables.texts_of(table, document), tables.texts_of(table, summary), strict=True):
        if len(text.split()) <= LONGEST:
            rows.setdefault(text, gist)
    return rows
