"""mini-quotes: generated English quotes with authors and themes, in the columns of the Hub's english_quotes.

A small grammar: an author favours three themes, a theme has its own nouns, verbs and images, and 55 frames
combine them. Frames and themes can be learned from a hundred quotes; which one comes next is unpredictable,
so perplexity stays above 1.
"""

import random
import re
from collections.abc import Callable
from typing import Any

from datasets import Dataset

from lib.texts.generated.lexicon import lexicon
from lib.texts.tables import CorpusError

MAX_COUNT = 50_000  # far below the millions that the grammar can make, so few draws are repeats
FAVOURITE_SHARE = 0.8  # of an author's quotes are about the author's themes
CONTINUED_SHARE = 0.6  # of the quotes have a second sentence


def mini_quotes(seed: int, count: int) -> Dataset:
    """Generate ``count`` distinct quotes, the same for the same seed on every machine.

    Parameters
    ----------
    seed : int
        Determines every draw.
    count : int
        1 to 50,000.

    Returns
    -------
    datasets.Dataset
        Columns ``quote`` (str), ``author`` (str) and ``tags`` (list of str: the theme, then the second theme
        if the quote has one).

    Raises
    ------
    CorpusError
        If ``count`` is out of range.
    """
    return distinct_rows("mini-quotes", draw_quote, "quote", seed=seed, count=count)


def draw_quote(draw: random.Random) -> dict[str, Any]:
    """Draw one quote: a row of `mini_quotes`."""
    author = draw.choice(lexicon("quotes")["authors"])
    own = draw.random() < FAVOURITE_SHARE
    theme = draw.choice(author["themes"] if own else themes())
    other = draw.choice([name for name in themes() if name != theme])
    words = _words(draw, theme, other)
    frames = [draw.choice(lexicon("quotes")["openings"])]
    if draw.random() < CONTINUED_SHARE:
        frames.append(draw.choice(lexicon("quotes")["continuations"]))
    tags = [theme, other] if any("{other" in frame.lower() for frame in frames) else [theme]
    return {"quote": fill(" ".join(frames), words), "author": author["name"], "tags": tags}


def themes() -> list[str]:
    """Return the names of the themes, in the order of the lexicon."""
    return list(lexicon("quotes")["themes"])


def theme_words(draw: random.Random) -> dict[str, str]:
    """Draw two themes and, from them, a word for every slot that a frame can have, by the slot's name."""
    return _words(draw, *draw.sample(themes(), 2))


def fill(frame: str, words: dict[str, str]) -> str:
    """Fill a frame's slots with words: ``{noun}`` as is, ``{Noun}`` capitalised."""

    def word(slot: re.Match[str]) -> str:
        text = words[slot[1].lower()]
        return text[0].upper() + text[1:] if slot[1][0].isupper() else text

    return re.sub(r"\{(\w+)\}", word, frame)


def distinct_rows(
    name: str, draw_row: Callable[[random.Random], dict[str, Any]], column: str, *, seed: int, count: int
) -> Dataset:
    """Draw ``count`` rows, no two alike in ``column``; raises what `check_count` raises."""
    check_count(name, count)
    draw = random.Random(seed)  # noqa: S311 - texts, not secrets
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < count:
        row = draw_row(draw)
        rows.setdefault(row[column], row)
    return Dataset.from_list(list(rows.values()))


def check_count(name: str, count: int, most: int = MAX_COUNT) -> None:
    """Check the number of texts to generate.

    Raises
    ------
    CorpusError
        If it is out of range.
    """
    if not 1 <= count <= most:
        raise CorpusError(f"{name}: count = {count}; allowed: 1 to {most}")


def _words(draw: random.Random, theme: str, other: str) -> dict[str, str]:
    words = lexicon("quotes")["themes"][theme]
    noun, noun2 = draw.sample(words["noun"], 2)
    verb, verb2 = draw.sample(words["verb"], 2)
    quality, quality2 = draw.sample(words["quality"], 2)
    second = lexicon("quotes")["themes"][other]
    return {
        "noun": noun,
        "noun2": noun2,
        "bare": draw.choice([word for word in words["noun"] if " " not in word]),
        "verb": verb,
        "verb2": verb2,
        "quality": quality,
        "quality2": quality2,
        "opposite": draw.choice(words["opposite"]),
        "image": draw.choice(words["image"]),
        "other": draw.choice(second["noun"]),
        "other_opposite": draw.choice(second["opposite"]),
        "subject": draw.choice(lexicon("quotes")["subjects"]),
    }
