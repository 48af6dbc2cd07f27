"""Texts to classify and to summarise, generated and from files."""

import pandas as pd
import pytest

from lib.paper3.corpora import load_labelled, load_summaries
from lib.texts import CorpusError


def test_generated_labels_are_balanced_and_no_text_is_in_both_splits():
    splits = load_labelled("mini-kinds", seed=0, count=96)
    assert [len(splits[name]) for name in ("train", "test")] == [64, 32]
    assert splits["train"].features["label"].names == ["animal", "fruit"]
    assert sum(splits["test"]["label"]) == 16
    assert not set(splits["train"]["text"]) & set(splits["test"]["text"])
    assert len(set(splits["train"]["text"])) == 64


def test_the_same_seed_gives_the_same_texts():
    first, second, other = (load_summaries("mini-gists", seed=seed, count=30) for seed in (0, 0, 1))
    assert first["test"].to_dict() == second["test"].to_dict() != other["test"].to_dict()


def test_a_generated_summary_says_what_happens_to_which_kind_of_thing():
    splits = load_summaries("mini-gists", seed=0, count=96)
    assert [len(splits[name]) for name in ("train", "test")] == [64, 32]
    fruits = [row for row in splits["train"] if "peach" in row["document"]]
    endings = {"finds": "found", "buys": "bought", "gives": "given"}
    assert fruits
    for row in fruits:
        assert row["summary"] == f"A fruit is {endings[row['document'].split()[1]]}."
    assert {summary.split()[-1] for summary in splits["train"]["summary"]} == {"found.", "bought.", "given."}


@pytest.mark.parametrize(
    ("load", "name", "most"), [(load_labelled, "mini-kinds", 50_000), (load_summaries, "mini-gists", 5_000)]
)
def test_more_generated_texts_than_the_grammar_can_make_are_refused(load, name, most):
    with pytest.raises(CorpusError, match=rf"^{name}: count = {most + 1}; allowed: 1 to {most}$"):
        load(name, seed=0, count=most + 1)
    assert sum(map(len, load(name, seed=0, count=most).values())) == most


def test_another_data_set_is_loaded_as_in_the_other_notebooks():
    splits = load_labelled("mini-allocine", seed=0, count=60)
    assert [len(splits[name]) for name in ("train", "test")] == [40, 20]


def test_the_labelled_texts_of_a_file_are_cleaned_as_english(tmp_path):
    texts = [f"I don't like {first}{second} in 2012." for first in "abcdef" for second in "klmnopqrst"]
    pd.DataFrame({"text": texts, "label": ["a", "b"] * 30}).to_csv(tmp_path / "own.csv", index=False)
    splits = load_labelled(str(tmp_path / "own.csv"), seed=0, count=12)
    assert all(text.startswith("I don't like ") for text in splits["train"]["text"])
    assert all(text.endswith(" in 2012 .") for text in splits["train"]["text"])


def test_too_few_texts_for_the_labels_name_the_parameter(tmp_path):
    texts = [f"{first}{second} text" for first in "abcdef" for second in "klmnopqrst"]
    table = pd.DataFrame({"text": texts, "label": ["a", "b"] * 30})
    table.to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(CorpusError, match=r"^label_texts = 96: .*requested"):
        load_labelled(str(tmp_path / "own.csv"), seed=0, count=96)


def test_labels_of_which_a_sample_would_lack_one_are_refused(tmp_path):
    texts = [
        f"{first}{second}{third} text" for first in "abcdef" for second in "klmnopqrst" for third in "xyz"
    ]
    table = pd.DataFrame({"text": texts, "label": ["rare" if n % 30 == 0 else "usual" for n in range(180)]})
    table.to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(CorpusError, match=r"^label_texts = 12: .*own.csv', train split: 8 .*class 'rare';"):
        load_labelled(str(tmp_path / "own.csv"), seed=0, count=12)


def test_documents_of_a_file_are_short_and_distinct(tmp_path):
    rows = [{"dialogue": f"text {number}", "summary": str(number)} for number in range(12)]
    rows += [{"dialogue": "text 0", "summary": "again"}, {"dialogue": "long " * 251, "summary": "too long"}]
    pd.DataFrame(rows).to_csv(tmp_path / "own.csv", index=False)
    splits = load_summaries(str(tmp_path / "own.csv"), seed=0, count=50)
    pairs = {row["document"]: row["summary"] for name in splits for row in splits[name]}
    assert pairs == {f"text {number}": str(number) for number in range(12)}


def test_a_file_without_summaries_or_with_too_few_documents_is_an_error(tmp_path):
    table = pd.DataFrame({"document": ["a", "b"], "summary": ["x", "y"]})
    table.to_csv(tmp_path / "few.csv", index=False)
    table.drop(columns="summary").to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(CorpusError, match="2 documents of at most 250 words; 10 are required"):
        load_summaries(str(tmp_path / "few.csv"), seed=0, count=10)
    with pytest.raises(CorpusError, match="no summary column"):
        load_summaries(str(tmp_path / "none.csv"), seed=0, count=10)
