"""A small generative grammar of French; its lexicon and its frames are data (YAML).

A frame is a sentence with slots, for example ::

    {le:aspect} {aspect} ne {be:aspect} {pas} {very?} {adj-:aspect} {end}

`{aspect}` draws an entry of that category; `{be:aspect}` draws one that agrees with the entry in slot
`aspect` (a noun is drawn among those of the same gender and number); `?` leaves the slot out half of the
time; `{aspect2}` is a second `aspect`; `tellement|irony` gives a literal word a role in this frame only. A
signed slot draws from the entries for the text's class (`{adj+}`) or for the other class (`{adj-}`), so one
frame serves both classes; `{adj.opinion}` names the class. An entry of `phrases` is itself a frame; it agrees
with its first noun.
"""

import random
import re
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import accumulate
from typing import Any, Generic, NamedTuple, TypeVar

from lib.texts.generated.french import inflect_adjective, inflect_verb, join_neighbours
from lib.texts.generated.lexicon import lexicon


class Role(StrEnum):
    """What a word contributes to the class of its text."""

    CUE = "cue"  # evidence for a class when taken by itself; its context may reverse it
    INTENSIFIER = "intensifier"  # strengthens or weakens a cue
    NEGATION = "negation"  # reverses a cue
    CONCESSION = "concession"  # tells which of two opposite cues counts
    IRONY = "irony"  # signals that a cue is not meant literally
    ATTRIBUTION = "attribution"  # ascribes a cue to somebody other than the writer
    TOPIC = "topic"  # what the text is about; equally frequent in both classes
    FILLER = "filler"  # function words
    PUNCTUATION = "punctuation"
    ARTIFACT = "artifact"  # planted, and means nothing


class Word(NamedTuple):
    """A word, its role, and the class that it is evidence for (+1: class 1, -1: class 0, 0: neither)."""

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
    """A slot of a frame; ``categories`` are those it draws from in a text of class 0 and of class 1."""

    name: str
    categories: tuple[str, str]
    optional: bool
    controller: str | None


@dataclass(frozen=True)
class Frame:
    """A sequence of words and slots; as an entry, it agrees with its first noun."""

    parts: tuple[Word | Slot, ...]
    source: str


@dataclass(frozen=True)
class Entry:
    """A lexical entry: four forms (m. sg., f. sg., m. pl., f. pl.) and the form that agreeing words take."""

    forms: tuple[Words, ...]
    agreement: int = 0


Item = TypeVar("Item", Entry, Frame)


@dataclass(frozen=True)
class Category(Generic[Item]):
    """Entries or frames, and their cumulative weights."""

    entries: tuple[Item, ...]
    cumulative: tuple[float, ...]

    @classmethod
    def zipfian(cls, entries: Sequence[Item], ranks: Sequence[int], exponent: float) -> "Category[Item]":
        """Weight entries by 1 / (rank + 2) ** exponent (Zipf's law): a few are frequent, most are rare."""
        return cls(tuple(entries), tuple(accumulate((rank + 2) ** -exponent for rank in ranks)))

    def draw(self, rng: random.Random) -> Item:
        """Draw by ``random()`` alone, whose sequence, unlike that of ``choices``, Python guarantees."""
        return self.entries[bisect(self.cumulative, rng.random() * self.cumulative[-1])]


class Memory:
    """The state of a text: entries not to repeat, and entries to keep (its director, its place, ...)."""

    def __init__(self) -> None:
        self.kept: dict[str, Entry] = {}
        self._used: set[int] = set()

    def draw(self, category: Category[Item], rng: random.Random) -> Item:
        """Draw an entry that the text has not used yet, unless four draws find none."""
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
        drawn once per text), `function_words` (fillers in any entry), `roles` (of categories; nouns default
        to topics), `markers` (roles of literal words in frames), the lexicon in `nouns`, `adjectives`,
        `verbs`, `invariable` and `phrases`, and `frames`: by kind of sentence, for `both` classes or for one.

    Raises
    ------
    ValueError
        If a frame names a category, or a slot to agree with, that does not exist.
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
        self._categories: dict[str, Category[Any]] = dict(self._lexicon(source))
        self.frames: dict[str, tuple[Category[Frame], Category[Frame]]] = {}  # by kind: class 0, class 1
        for kind, by_class in source["frames"].items():
            low, high = (
                self._frames(by_class.get("both", []) + by_class.get(label, [])) for label in self.labels
            )
            self.frames[kind] = (low, high)
        self._check()

    def sentence(self, kind: str, label: int, memory: Memory, rng: random.Random) -> list[Word]:
        """Generate a sentence of a kind ("plain", "negated", ...) that is evidence for class ``label``."""
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
        # Controllers are filled first: a determiner precedes its noun but agrees with it.
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

    def _lexicon(self, source: Mapping[str, Any]) -> Iterator[tuple[str, Category[Entry] | Category[Frame]]]:
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
    ) -> Category[Entry]:
        # Zipf's law for topics; steeper for the rest, so a small model sees most cues often enough.
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
        starred = "*" in text  # only starred words have the role: "j' ai *dormi"
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

    def _frames(self, texts: list[str]) -> Category[Frame]:
        # As steep as for cues: negation, concession and irony are learned from frequent constructions.
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
        """Check, before the first draw, that every slot has a category and every agreement a controller."""
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
                    raise ValueError(f"frame {frame.source!r}: no slot {slot.controller!r} to agree with")


def join(words: list[Word]) -> list[Word]:
    """Elide and contract neighbours (le arbre -> l' arbre, de le -> du); words keep their roles."""
    joined: list[Word] = []  # from last to first: the form of a word depends on what follows it
    for word in reversed(words):
        if joined:
            text, absorbs = join_neighbours(word.text, joined[-1].text)
            if absorbs:
                joined.pop()
            if text is not word.text:
                word = word._replace(text=text)
        joined.append(word)
    return joined[::-1]


@lru_cache
def load_grammar(name: str) -> Grammar:
    """Load the grammar of a genre: ``lexicons/<name>.yaml`` on top of ``lexicons/common.yaml``."""
    common, genre = lexicon("common"), lexicon(name)
    sections = ("nouns", "adjectives", "verbs", "invariable", "phrases")
    return Grammar({**common, **genre, **{section: common[section] | genre[section] for section in sections}})


def _listed(words: str | list[str]) -> list[str]:
    return [word.strip() for word in words.split(",")] if isinstance(words, str) else words


def _is_word(token: str) -> bool:
    return any(character.isalnum() for character in token)
