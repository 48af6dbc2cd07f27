"""Sentences from frames: a small generative grammar of French whose lexicon and frames are data (YAML).

A frame is a sentence with slots, for example ::

    {le:aspect} {aspect} ne {be:aspect} {pas} {very?} {adj-:aspect} {end}

`{aspect}` draws an entry of that category; `{be:aspect}` draws one and makes it agree with the one in slot
`aspect` (a noun is drawn among those of its gender and number); `?` leaves the slot out half of the time;
`{aspect2}` is a second `aspect`; `tellement|irony` gives a written-out word a role for this frame only. A
signed slot takes its entry from the side of the text's class (`{adj+}`) or from the other side (`{adj-}`), so
one frame serves both classes; `{adj.opinion}` names the side. An entry of `phrases` is itself a frame; it
agrees with its first noun.
"""

import random
import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib import resources
from itertools import accumulate
from typing import Any, NamedTuple

import yaml

from lib.texts.generated.french import inflect_adjective, inflect_verb, join_neighbours


class Role(StrEnum):
    """What a word does in its text, as far as the class is concerned."""

    CUE = "cue"  # speaks for a class by itself, though its context may turn it round
    INTENSIFIER = "intensifier"  # strengthens or weakens a cue
    NEGATION = "negation"  # turns a cue round
    CONCESSION = "concession"  # says which of two opposite cues counts
    IRONY = "irony"  # announces that a cue is not meant
    ATTRIBUTION = "attribution"  # gives a cue to somebody other than the writer
    TOPIC = "topic"  # what the text is about: as frequent in one class as in the other
    FILLER = "filler"  # grammar
    PUNCTUATION = "punctuation"
    ARTIFACT = "artifact"  # planted: goes with a class and means nothing


class Word(NamedTuple):
    """A word, its role, and the class it speaks for (+1: class 1, -1: class 0, 0: none)."""

    text: str
    role: Role
    sign: int = 0


Words = tuple[Word, ...]
_INFLECTIONS = {
    "adjectives": inflect_adjective,
    "verbs": inflect_verb,
    "invariable": lambda word: (word,) * 4,
}
_SLOT = re.compile(
    r"\{(?P<name>(?P<category>\w+?)(?P<sign>[+-]|\.[a-z]+)?\d*)(?P<optional>\??)(?::(?P<controller>[\w.+-]+))?\}"
)


@dataclass(frozen=True)
class Slot:
    """A place in a frame; `categories` are those it draws from in a text of class 0 and of class 1."""

    name: str
    categories: tuple[str, str]
    optional: bool
    controller: str | None


@dataclass(frozen=True)
class Frame:
    """A sequence of words and slots; as an entry it agrees with its first noun."""

    parts: tuple[Word | Slot, ...]
    source: str


@dataclass(frozen=True)
class Entry:
    """A lexical entry in its four forms (m. sg., f. sg., m. pl., f. pl.), and the form it asks of others."""

    forms: tuple[Words, Words, Words, Words]
    agreement: int = 0


@dataclass(frozen=True)
class Category:
    """Entries and their cumulative weights."""

    entries: tuple[Entry | Frame, ...]
    cumulative: tuple[float, ...]

    @classmethod
    def zipfian(cls, entries: Sequence[Entry | Frame], ranks: Sequence[int], exponent: float) -> "Category":
        """Entries of weight 1 / (rank + 2) ** exponent: a few are frequent, most are rare, as words are."""
        return cls(tuple(entries), tuple(accumulate((rank + 2) ** -exponent for rank in ranks)))

    def draw(self, rng: random.Random) -> Entry | Frame:
        """Draw one, by `random()` alone: Python keeps its sequence for a seed, but not that of `choices`."""
        return self.entries[bisect(self.cumulative, rng.random() * self.cumulative[-1])]


class Memory:
    """What a text has said so far: entries not to repeat, and those to keep (its director, its place ...)."""

    def __init__(self) -> None:
        self.kept: dict[str, Entry] = {}
        self._used: set[int] = set()

    def draw(self, category: Category, rng: random.Random) -> Entry | Frame:
        """Draw an entry not used in this text, unless four draws find none."""
        entry = category.draw(rng)
        if len(category.entries) == 1:
            return entry
        for _ in range(3):
            if id(entry) in self._used:
                entry = category.draw(rng)
        self._used.add(id(entry))
        return entry


class Grammar:
    """A genre: its classes, its categories of words and its frames.

    Parameters
    ----------
    source : mapping
        The genre's YAML file: `labels`, `artifact`, `shares` (of the kinds of sentence), `kept` (categories
        drawn once a text), `function_words` (fillers in any entry), `roles` (of categories; nouns are topics
        otherwise), `markers` (roles of words written out in frames), the lexicon in `nouns`, `adjectives`,
        `verbs`, `invariable` and `phrases`, and `frames`: by kind of sentence, those of `both` classes or of
        one.

    Raises
    ------
    ValueError
        If a frame names a category, or a word to agree with, that does not exist.
    """

    def __init__(self, source: Mapping[str, Any]) -> None:
        self.labels: tuple[str, str] = tuple(source["labels"])
        self.artifact: str = source["artifact"]
        self.shares: dict[str, float] = source["shares"]
        self._kept = set(source["kept"])
        self._roles = dict.fromkeys(source["nouns"], Role.TOPIC) | {
            name: Role(role) for role, names in source["roles"].items() for name in names.split()
        }
        self._function_words = set(source["function_words"].split())
        self._markers = {
            word: Role(role) for role, words in source["markers"].items() for word in words.split()
        }
        self._categories = dict(self._lexicon(source))
        self.frames: dict[str, tuple[Category, Category]] = {
            kind: tuple(
                self._frames(by_class.get("both", []) + by_class.get(label, [])) for label in self.labels
            )
            for kind, by_class in source["frames"].items()
        }
        self._check()

    def sentence(self, kind: str, label: int, memory: Memory, rng: random.Random) -> list[Word]:
        """One sentence of a kind ("plain", "negated" ...) that speaks for class `label`."""
        frame = memory.draw(self.frames[kind][label], rng)
        words = join(self._expand(frame, label, memory, rng)[0])
        start = next(i for i, word in enumerate(words) if word.role is not Role.PUNCTUATION)
        for i, word in enumerate(words):
            if i == start or (i and words[i - 1].text in "?!"):
                words[i] = word._replace(text=word.text[0].upper() + word.text[1:])
        return words

    def _expand(self, frame: Frame, label: int, memory: Memory, rng: random.Random) -> tuple[list[Word], int]:
        slots = [part for part in frame.parts if isinstance(part, Slot)]
        filled: dict[str, Entry] = {}
        # What others agree with comes first: a determiner stands before its noun.
        for slot in sorted(slots, key=lambda slot: slot.controller is not None):
            if slot.name in filled:
                continue
            if slot.optional and rng.random() < 0.5:
                filled[slot.name] = Entry(((),) * 4)
            else:
                agreement = filled[slot.controller].agreement if slot.controller else None
                filled[slot.name] = self._fill(slot, agreement, label, memory, rng)
        words: list[Word] = []
        for part in frame.parts:
            if isinstance(part, Word):
                words.append(part)
            else:
                words.extend(
                    filled[part.name].forms[filled[part.controller].agreement if part.controller else 0]
                )
        head = next((filled[slot.name] for slot in slots if slot.controller is None), None)
        return words, head.agreement if head else 0

    def _fill(
        self, slot: Slot, agreement: int | None, label: int, memory: Memory, rng: random.Random
    ) -> Entry:
        name = slot.categories[label]
        if slot.name in memory.kept:
            return memory.kept[slot.name]
        entry = memory.draw(self._categories.get(f"{name}.{agreement}", self._categories[name]), rng)
        if isinstance(entry, Frame):
            words, agreement = self._expand(entry, label, memory, rng)
            entry = Entry((tuple(words),) * 4, agreement)
        if name in self._kept:
            memory.kept[slot.name] = entry
        return entry

    def _lexicon(self, source: Mapping[str, Any]) -> Iterator[tuple[str, Category]]:
        for name, given in source["nouns"].items():
            for side, groups in self._sides(given):
                everything: list[Entry] = []
                ranks: list[int] = []
                for index, agreement in enumerate(("ms", "fs", "mp", "fp")):
                    listed = _listed(groups.get(agreement, []))
                    entries = [Entry((self._words(word, name, side),) * 4, index) for word in listed]
                    rarer = 2 * (index // 2)  # plurals
                    everything += entries
                    ranks += range(rarer, rarer + len(entries))
                    if entries:
                        yield f"{name}{side}.{index}", self._category(name, side, entries)
                yield name + side, self._category(name, side, everything, ranks)
        for section, inflect in _INFLECTIONS.items():
            for name, given in source[section].items():
                for side, words in self._sides(given):
                    inflected = map(inflect, _listed(words))
                    entries = [self._entry(forms, name, side) for forms in inflected]
                    yield name + side, self._category(name, side, entries)
        for name, given in source["phrases"].items():
            for side, texts in self._sides(given):
                yield name + side, self._frames(texts)

    def _category(
        self, name: str, side: str, entries: list[Entry], ranks: Sequence[int] | None = None
    ) -> Category:
        # Zipf's law for topics; steeper for the rest, so that a small model meets most cues often enough.
        exponent = 1 if not side and self._roles.get(name) is Role.TOPIC else 2
        return Category.zipfian(entries, range(len(entries)) if ranks is None else ranks, exponent)

    def _entry(self, forms: Sequence[str], name: str, side: str) -> Entry:
        return Entry(tuple(self._words(form, name, side) for form in forms))

    def _sides(self, given: Any) -> list[tuple[str, Any]]:
        if isinstance(given, dict) and set(given) <= set(self.labels):
            return [("-+"[self.labels.index(label)], words) for label, words in given.items()]
        return [("", given)]

    def _words(self, text: str, category: str, side: str) -> Words:
        tokens = text.split()
        sign = {"": 0, "+": 1, "-": -1}[side]
        role = Role.CUE if sign else self._roles.get(category, Role.FILLER)
        starred = "*" in text  # only the words with a star bear the role: "j' ai *dormi"
        return tuple(
            Word(token.lstrip("*"), role, sign)
            if token.startswith("*") or not (starred or token in self._function_words or not _is_word(token))
            else self._literal(token)
            for token in tokens
        )

    def _literal(self, token: str) -> Word:
        if not _is_word(token):
            return Word(token, Role.PUNCTUATION)
        text, _, role = token.partition("|")
        return Word(text, Role(role) if role else self._markers.get(text.lower(), Role.FILLER))

    def _frames(self, texts: list[str]) -> Category:
        # As steep as for cues: negation, concession and irony are learned from constructions met often.
        return Category.zipfian([self._frame(text) for text in texts], range(len(texts)), 2)

    def _frame(self, source: str) -> Frame:
        return Frame(tuple(self._part(token, source) for token in source.split()), source)

    def _part(self, token: str, source: str) -> Word | Slot:
        match = _SLOT.fullmatch(token)
        if match is None:
            if "{" in token or "}" in token:
                raise ValueError(f"frame {source!r}: {token!r} is not a slot such as {{adj+2?:noun}}")
            return self._literal(token)
        base, sign = match["category"], match["sign"]
        sides = {None: ("", ""), "+": ("-", "+"), "-": ("+", "-")}
        sides |= {"." + label: (side, side) for label, side in zip(self.labels, "-+", strict=True)}
        if sign not in sides:
            raise ValueError(f"frame {source!r}: {sign!r} is not one of {', '.join(filter(None, sides))}")
        low, high = sides[sign]
        return Slot(match["name"], (base + low, base + high), bool(match["optional"]), match["controller"])

    def _check(self) -> None:
        """Refuse a slot without a category and an agreement with nothing, before the first draw."""
        phrases = [(entry, (0, 1)) for category in self._categories.values() for entry in category.entries]
        frames = [
            (frame, (label,))
            for pair in self.frames.values()
            for label, category in enumerate(pair)
            for frame in category.entries
        ]
        for frame, labels in frames + [
            (entry, labels) for entry, labels in phrases if isinstance(entry, Frame)
        ]:
            slots = [part for part in frame.parts if isinstance(part, Slot)]
            names = {slot.name for slot in slots if slot.controller is None}
            for slot in slots:
                missing = {slot.categories[label] for label in labels} - set(self._categories)
                if missing:
                    raise ValueError(f"frame {frame.source!r}: no category {min(missing)!r} in the lexicon")
                if slot.controller is not None and slot.controller not in names:
                    raise ValueError(
                        f"frame {frame.source!r}: nothing is called {slot.controller!r} to agree with"
                    )


def join(words: list[Word]) -> list[Word]:
    """Elide and contract neighbours (le arbre -> l' arbre, de le -> du); roles stay with their words."""
    joined: list[Word] = []  # from the last word to the first: what a word becomes depends on what follows it
    for word in reversed(words):
        if joined:
            text, swallows = join_neighbours(word.text, joined[-1].text)
            if swallows:
                joined.pop()
            if text is not word.text:
                word = word._replace(text=text)
        joined.append(word)
    return joined[::-1]


@lru_cache
def load_grammar(name: str) -> Grammar:
    """Grammar of a genre: `lexicons/<name>.yaml` on top of `lexicons/common.yaml`."""
    common, genre = (_read(file) for file in ("common", name))
    sections = ("nouns", "adjectives", "verbs", "invariable", "phrases")
    return Grammar({**common, **genre, **{section: common[section] | genre[section] for section in sections}})


def _read(name: str) -> dict[str, Any]:
    text = (resources.files("lib.texts.generated") / "lexicons" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def _listed(words: str | list[str]) -> list[str]:
    return [word.strip() for word in words.split(",")] if isinstance(words, str) else words


def _is_word(token: str) -> bool:
    return any(character.isalnum() for character in token)
