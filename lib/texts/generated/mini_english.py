"""Generated plain English for pre-training the tiny causal models: stories, and small talk for chat models.

Stories use the words of mini-quotes and small talk those of mini-platypus, mostly in other sentences. One
story in ten is a quote and one small talk in fifty an instruction, since any large corpus holds some of
everything; the rest is left to learn, so fine-tuning can lower the perplexity. Half of the small talk is word
problems, though: a tiny model takes far more practice to copy two numbers and to add them than to answer a
greeting.
"""

import random

from lib.texts.generated.lexicon import lexicon
from lib.texts.generated.mini_platypus import article, draw_instruction, word_problem
from lib.texts.generated.mini_quotes import check_count, draw_quote, fill, theme_words

SENTENCES = (3, 6)  # per story
QUOTES = 0.1  # share of the stories
INSTRUCTIONS = 0.02  # share of the small talk, of which a chat model reads many times as much


def stories(seed: int, count: int) -> list[str]:
    """Generate ``count`` stories of three to six sentences, the same for the same seed on every machine.

    Raises
    ------
    CorpusError
        If ``count`` is out of range.
    """
    check_count("stories", count)
    draw = random.Random(seed)  # noqa: S311 - texts, not secrets
    return [draw_quote(draw)["quote"] if draw.random() < QUOTES else _story(draw) for _ in range(count)]


def small_talk(seed: int, count: int) -> list[tuple[str, str]]:
    """Generate ``count`` pairs of question and answer, the same for the same seed on every machine.

    Raises
    ------
    CorpusError
        If ``count`` is out of range.
    """
    check_count("small talk", count)
    draw = random.Random(seed)  # noqa: S311 - texts, not secrets
    talk = (_greeting, _opposite, _what_is, _is_it)
    kinds = (*talk, *[word_problem] * len(talk))
    return [
        _instruction(draw) if draw.random() < INSTRUCTIONS else draw.choice(kinds)(draw) for _ in range(count)
    ]


def _story(draw: random.Random) -> str:
    words = lexicon("stories")
    theme = theme_words(draw)
    person, person2 = draw.sample(words["people"], 2)
    sentences = []
    for frame in draw.sample(words["sentences"], draw.randint(*SENTENCES)):
        slots = {
            **theme,
            "person": person,
            "person2": person2,
            "place": draw.choice(words["places"]),
            "thing": draw.choice(words["things"]),
            "time": draw.choice(words["times"]),
            "action": draw.choice(words["actions"]),
            "take": draw.choice(words["takes"]),
            "count": str(draw.randint(2, 40)),
            "count2": str(draw.randint(2, 40)),
        }
        sentences.append(fill(frame, slots))
    return " ".join(sentences)


def _instruction(draw: random.Random) -> tuple[str, str]:
    row = draw_instruction(draw)
    return row["instruction"], row["output"]


def _greeting(draw: random.Random) -> tuple[str, str]:
    words = lexicon("instructions")
    return draw.choice(words["greetings"]), draw.choice(words["replies"])


def _opposite(draw: random.Random) -> tuple[str, str]:
    pair = draw.sample(draw.choice(lexicon("instructions")["opposites"]), 2)
    return f"What is the opposite of {pair[0]}?", f"The opposite of {pair[0]} is {pair[1]}."


def _what_is(draw: random.Random) -> tuple[str, str]:
    category, member = _member(draw)
    return f"Tell me what {member} is.", f"{member} is {article(category)}."


def _is_it(draw: random.Random) -> tuple[str, str]:
    category, member = _member(draw)
    asked = draw.choice([category, draw.choice(list(lexicon("instructions")["categories"]))])
    if asked == category:
        return f"Is {member} {article(asked)}?", f"Yes, {member} is {article(asked)}."
    return f"Is {member} {article(asked)}?", f"No, {member} is {article(category)}."


def _member(draw: random.Random) -> tuple[str, str]:
    categories = lexicon("instructions")["categories"]
    category = draw.choice(list(categories))
    return category, draw.choice(categories[category])
