import re

import pytest

from lib.texts.generated.lexicon import lexicon
from lib.texts.generated.mini_english import small_talk, stories
from lib.texts.generated.mini_platypus import LETTERS, answer, mini_platypus
from lib.texts.generated.mini_quotes import mini_quotes, themes


def test_quotes_are_determined_by_the_seed_and_distinct():
    quotes = mini_quotes(seed=3, count=500)
    assert quotes["quote"][:] == mini_quotes(seed=3, count=500)["quote"][:]
    assert quotes["quote"][:] != mini_quotes(seed=4, count=500)["quote"][:]
    assert len(set(quotes["quote"])) == 500


def test_a_quote_is_about_its_first_theme():
    for row in mini_quotes(seed=0, count=300):
        words = lexicon("quotes")["themes"][row["tags"][0]]
        own = [word for slot in words.values() for word in slot]
        assert any(word.lower() in row["quote"].lower() for word in own), row


def test_every_slot_is_filled_and_every_sentence_begins_with_a_capital():
    texts = [*mini_quotes(seed=1, count=500)["quote"], *stories(1, 200)]
    for text in texts:
        assert "{" not in text
        assert all(sentence[0].isupper() for sentence in re.split(r"(?<=[.!?]) ", text)), text


def test_the_lexicon_contains_the_papers_prompts():
    quotes = mini_quotes(seed=0, count=3_000)["quote"]
    assert any(quote.startswith("Your silence will") for quote in quotes)
    assert any(quote.startswith("Let the improvement of yourself keep you") for quote in quotes)


def test_every_theme_has_an_author():
    authors = lexicon("quotes")["authors"]
    assert {theme for author in authors for theme in author["themes"]} == set(themes())


def test_arithmetic_answers_are_correct():
    rows = [row for row in mini_platypus(seed=0, count=600) if row["data_source"] == "arithmetic"]
    assert len(rows) > 100
    for row in rows:
        sum_, result = row["output"].split(". The answer")[0].split(" = ")
        left, sign, right = sum_.split()
        numbers = {"+": int(left) + int(right), "-": int(left) - int(right)}
        assert str(numbers[sign]) == result == answer(row["output"])
        story = {int(number) for number in re.findall(r"\d+", row["instruction"])}
        assert {int(left), int(right)} == story


def test_exactly_one_option_is_of_the_requested_category():
    categories = lexicon("instructions")["categories"]
    rows = [row for row in mini_platypus(seed=0, count=600) if row["data_source"] == "choice"]
    for row in rows:
        question, *options = row["instruction"].split("\n")
        category = re.search(r"is an? (\w+)\?", question)[1]
        right = [option[0] for option in options if option[3:] in categories[category]]
        assert right == [answer(row["output"])]


def test_the_correct_option_is_the_only_one_that_follows_from_a_chain():
    """Premises: no P -> no Q, no Q -> no R; checked over all truth values of P, Q and R."""
    chains = {chain["have"]: chain["do"] for chain in lexicon("instructions")["chains"]}
    rows = [row for row in mini_platypus(seed=0, count=600) if "must be true" in row["instruction"]]
    assert len(rows) > 30
    for row in rows:
        name, have = re.match(r"If (\w+) does not have (.+?), ", row["instruction"]).groups()
        first, last = chains[have]
        facts = {f"{name} has {have}": 0, f"{name} is able to {first}": 1, f"{name} is able to {last}": 2}
        facts |= {f"{name} does not have {have}": ~0}
        facts |= {f"{name} is not able to {first}": ~1, f"{name} is not able to {last}": ~2}
        worlds = [(p, q, r) for p in (0, 1) for q in (0, 1) for r in (0, 1) if q <= p and r <= q]

        def holds(fact, world):
            return world[fact] if fact >= 0 else not world[~fact]

        must = []
        for line in row["instruction"].split("\n")[1:]:
            given, then = re.match(r"[A-D]: If (.+), (.+)\.$", line).groups()
            if all(holds(facts[then], world) for world in worlds if holds(facts[given], world)):
                must.append(line[0])
        assert must == [answer(row["output"])]


def test_answers_are_spread_over_the_letters():
    given = [answer(output) for output in mini_platypus(seed=0, count=1_000)["output"]]
    assert None not in given
    letters = [given.count(letter) for letter in LETTERS]
    assert min(letters) > 0.7 * max(letters)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("So the answer is 12.", "12"),
        ("The answer is B.", "B"),
        ("The answer is Bees.", None),
        ("The answer is no. The answer is yes.", "no"),
        ("I do not know.", None),
    ],
)
def test_the_first_answer_in_a_text_counts(text, found):
    assert answer(text) == found


@pytest.mark.parametrize("make", [mini_quotes, mini_platypus, stories, small_talk])
@pytest.mark.parametrize("count", [0, 50_001])
def test_a_count_out_of_range_raises_one_line(make, count):
    with pytest.raises(ValueError, match=f"count = {count}; allowed: 1 to 50000"):
        make(0, count)
