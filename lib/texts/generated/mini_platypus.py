"""mini-platypus: generated instructions with checkable answers, in the columns of Open-Platypus.

Three kinds, as in the original: word problems, multiple choice, and conclusions from stated premises (the
form of paper 3's first instruction). Every output ends with "The answer is ...", so answers can be scored
without a judge.
"""

import random
import re
from collections.abc import Callable

from datasets import Dataset

from lib.texts.generated.lexicon import lexicon
from lib.texts.generated.mini_quotes import distinct_rows

LETTERS = "ABCD"
NUMBERS = (2, 8)  # added and taken away
_ANSWER = re.compile(r"[Tt]he answer is (-?\d+|[A-D]|yes|no)\b")


def mini_platypus(seed: int, count: int) -> Dataset:
    """Generate ``count`` distinct instructions with outputs, the same for the same seed on every machine.

    Parameters
    ----------
    seed : int
        Determines every draw.
    count : int
        1 to 50,000.

    Returns
    -------
    datasets.Dataset
        Columns ``instruction``, ``output`` and ``data_source`` (arithmetic, choice or conclusion).

    Raises
    ------
    CorpusError
        If ``count`` is out of range.
    """
    return distinct_rows("mini-platypus", draw_instruction, "instruction", seed=seed, count=count)


def draw_instruction(draw: random.Random) -> dict[str, str]:
    """Draw one instruction: a row of `mini_platypus`."""
    source = draw.choice(list(_KINDS))
    instruction, output = _KINDS[source](draw)
    return {"instruction": instruction, "output": output, "data_source": source}


def answer(text: str) -> str | None:
    """Return the answer in a text: a number, a letter from A to D, "yes" or "no"; None if there is none."""
    found = _ANSWER.search(text)
    return found[1] if found else None


def article(noun: str) -> str:
    """Return the noun with its article: a pear, an owl."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def word_problem(draw: random.Random) -> tuple[str, str]:
    """Draw a question in which numbers from 2 to 8 are added or taken away, and its answer."""
    words = lexicon("instructions")
    name, friend = draw.sample(words["names"], 2)
    thing = draw.choice(words["things"])
    first, second = draw.randint(*NUMBERS), draw.randint(*NUMBERS)
    both = first + second
    forms = (
        (f"{name} has {first} {thing} and buys {second} more.", f"{first} + {second}", both),
        (f"{name} has {first} {thing} and finds {second} in the garden.", f"{first} + {second}", both),
        (f"{name} has {both} {thing} and gives {second} to {friend}.", f"{both} - {second}", first),
    )
    story, sum_, result = draw.choice(forms)
    question = f"{story} How many {thing} does {name} have now?"
    return question, f"{sum_} = {result}. The answer is {result}."


def _choice(draw: random.Random) -> tuple[str, str]:
    categories = lexicon("instructions")["categories"]
    names = draw.sample(list(categories), len(LETTERS))
    options = [draw.choice(categories[name]) for name in names]
    right = draw.randrange(len(LETTERS))
    question = f"Which one of the following is {article(names[right])}?"
    reason = f"{options[right][0].upper()}{options[right][1:]} is {article(names[right])}."
    return _with_options(question, options), f"{reason} The answer is {LETTERS[right]}."


def _conclusion(draw: random.Random) -> tuple[str, str]:
    return draw.choice((_chain, _nested))(draw)


def _chain(draw: random.Random) -> tuple[str, str]:
    """Without P no Q, and without Q no R: it follows that R requires P, but nothing follows from having P."""
    chain = draw.choice(lexicon("instructions")["chains"])
    name = draw.choice(lexicon("instructions")["names"])
    has, (first, last) = chain["have"], chain["do"]
    premises = (
        f"If {name} does not have {has}, {name} will not be able to {first}. "
        f"And if {name} is not able to {first}, {name} will not be able to {last}."
    )
    right = f"If {name} is able to {last}, {name} has {has}."
    wrong = [
        f"If {name} is not able to {last}, {name} does not have {has}.",
        f"If {name} is not able to {last}, {name} is not able to {first}.",
        f"If {name} has {has}, {name} is able to {last}.",
    ]
    options = draw.sample([right, *wrong], len(LETTERS))
    question = f"{premises} If the statements above are true, which one of the following must be true?"
    letter = LETTERS[options.index(right)]
    return _with_options(question, options), f"{right} The answer is {letter}."


def _nested(draw: random.Random) -> tuple[str, str]:
    """All A are B and all B are C: it follows that all A are C, but not that all C are A."""
    inner, middle, outer = draw.choice(lexicon("instructions")["kinds"])
    name = draw.choice(lexicon("instructions")["names"])
    premises = f"{name} says that all {inner} are {middle} and all {middle} are {outer}."
    if draw.random() < 0.5:
        return (
            f"{premises} Does it follow that all {inner} are {outer}?",
            f"All {inner} are {outer}. The answer is yes.",
        )
    return (
        f"{premises} Does it follow that all {outer} are {inner}?",
        f"Some {outer} may not be {inner}. The answer is no.",
    )


def _with_options(question: str, options: list[str]) -> str:
    lines = [f"{letter}: {option}" for letter, option in zip(LETTERS, options, strict=True)]
    return "\n".join([question, *lines])


_KINDS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "arithmetic": word_problem,
    "choice": _choice,
    "conclusion": _conclusion,
}
