"""Texts with marked reasons: marks stay with their words, windows fit, scores are what they say they are."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from loopback_hub import Hub
from sklearn.metrics import average_precision_score
from small import bert_tokenizer, camembert_tokenizer, classifier, roberta_tokenizer

from lib.crossed import crossed_mean
from lib.models import load_tokenizer
from lib.rationales.figures import agreement_marks
from lib.rationales.scores import (
    AVERAGE_PRECISION,
    MEASURES,
    TOKEN_F1,
    agreement,
    by_chance,
    by_word,
    token_f1,
)
from lib.rationales.tables import measured_table, over_models, reading_table, reference_means
from lib.settings import PROJECT_ROOT
from lib.texts.cleaning import clean
from lib.texts.rationales import clean_marked, load_rationales, windows
from lib.texts.tables import CorpusError

MARKED = str(PROJECT_ROOT / "tests" / "data" / "marked_reviews.jsonl")
TOKENIZERS = {"bert": bert_tokenizer, "camembert": camembert_tokenizer, "roberta": roberta_tokenizer}


def rows_of(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def written(folder, rows):
    path = folder / "marked.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def save_encoder(kind, folder):
    tokenizer = TOKENIZERS[kind]()
    classifier(kind, vocab_size=len(tokenizer)).base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def reviews(count, evidence):
    return [
        {"text": f"this is review {'x' * number} . a fine film !", "label": number % 2, "evidence": evidence}
        for number in range(1, count + 1)
    ]


def marked_words(split):
    return {
        text: [word for word, mark in zip(text.split(), marks, strict=True) if mark]
        for text, marks in zip(split["text"], split["marks"], strict=True)
    }


def load(source, train=6, explained=4):
    return load_rationales(source, seed=0, train_texts=train, explained_texts=explained)


def test_every_word_keeps_its_mark_when_texts_are_cleaned():
    loaded = load(MARKED, 12, 12)
    assert sorted(map(len, loaded.values())) == [12, 12]
    found = marked_words(loaded["train"]) | marked_words(loaded["test"])
    rows = rows_of(MARKED)
    assert len(found) == len(rows) == 24
    for row in rows:
        text = clean(row["text"])
        assert found[text] == " ".join(map(clean, row["evidence"])).split()


def test_cleaning_splits_a_marked_word_into_marked_words_only():
    words = ["l'acteur", "(superbe)", "en", "2012", "d'un", "film..."]
    cleaned = clean_marked(words, [False, True, False, False, True, False])
    assert cleaned.words == clean(" ".join(words)).split()
    assert [word for word, mark in zip(*cleaned, strict=True) if mark] == ["(", "superbe", ")", "d'", "un"]


def test_spans_and_strings_mark_the_same_words(tmp_path):
    by_span = load(written(tmp_path, reviews(12, [[6, 8]])))
    by_string = load(written(tmp_path, reviews(12, ["fine film"])))
    for split in by_span:
        assert by_span[split].to_dict() == by_string[split].to_dict()
        assert set(map(tuple, marked_words(by_span[split]).values())) == {("fine", "film")}


def test_repeated_texts_are_left_out_and_counted(tmp_path, caplog):
    rows = reviews(14, [[6, 8]])
    again = [rows[0], {**rows[1], "label": 1 - rows[1]["label"]}]
    path = written(tmp_path, rows + again)
    loaded = load(path)
    line = "2 repeated texts left out of {}, 1 of them with another label than the first"
    assert line.format(path) in caplog.messages
    assert loaded["train"].to_dict() == load(written(tmp_path, rows))["train"].to_dict()


def test_a_string_marks_every_occurrence(tmp_path):
    loaded = load(written(tmp_path, reviews(12, ["."])))
    rows = [{**row, "text": row["text"] + " a fine film !"} for row in reviews(12, ["fine film !"])]
    assert [sum(marks) for marks in load(written(tmp_path, rows))["train"]["marks"]] == 6 * [6]
    assert [sum(marks) for marks in loaded["train"]["marks"]] == 6 * [1]


@pytest.mark.parametrize(
    ("evidence", "line"),
    [
        (
            [[6, 10]],
            r"'.*marked.jsonl', row 1: evidence \[6, 10\]; expected a string, or \[first, last\) within 9",
        ),
        ([[3, 3]], r"row 1: evidence \[3, 3\]"),
        ([[True, 3]], r"row 1: evidence \[True, 3\]"),
        (["dull"], r"row 1: evidence 'dull' does not occur in the text"),
        ("fine", r"row 1: evidence 'fine'; expected a list"),
        (None, r"row 1: evidence None; expected a list"),
    ],
)
def test_wrong_marks_are_one_line(tmp_path, evidence, line):
    with pytest.raises(CorpusError, match=line) as caught:
        load(written(tmp_path, reviews(8, evidence)))
    assert "\n" not in str(caught.value)


def test_too_few_texts_and_missing_marks_are_one_line(tmp_path):
    with pytest.raises(CorpusError, match=r"6 texts to train on and 4 to explain requested, but .* only 8"):
        load(written(tmp_path, reviews(8, [[0, 1]])))
    unmarked = [{"text": row["text"], "label": row["label"]} for row in reviews(12, [])]
    with pytest.raises(CorpusError, match=r"no evidence column 'evidence' or 'evidences'"):
        load(written(tmp_path, unmarked))


def test_the_hubs_form_keeps_its_test_split_and_leaves_out_what_is_not_found(
    small_hub: Hub, tmp_path, caplog
):
    files = {}
    for name, count in (("train", 8), ("validation", 4), ("test", 6)):
        rows = {
            "review": [f"{name} review {'x' * number} .\na fine film !\n" for number in range(count)],
            "label": [number % 2 for number in range(count)],
            "evidences": [[". a fine", "not there"] for _ in range(count)],
        }
        Dataset.from_dict(rows).to_parquet(tmp_path / f"{name}.parquet")
        files[f"data/{name}-00000-of-00001.parquet"] = (tmp_path / f"{name}.parquet").read_bytes()
    small_hub.add("dataset", "eraser-benchmark/movie_rationales", files)
    loaded = load("eraser-benchmark/movie_rationales")
    assert "18 strings of evidence left out" in caplog.text
    assert {text.split()[0] for text in loaded["train"]["text"]} == {"train"}
    assert {text.split()[0] for text in loaded["test"]["text"]} == {"test"}
    assert set(map(tuple, marked_words(loaded["test"]).values())) == {(".", "a", "fine")}


def is_part(text, marks, whole_text, whole_marks):
    """Whether a window begins where a sentence does, and has the words and marks of the text."""
    before = whole_text.partition(text)[0].split()
    first = len(before)
    begins = not before or before[-1] in {".", "!"}
    return text in whole_text and begins and marks == whole_marks[first : first + len(marks)]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_windows_are_whole_sentences_that_fit_and_hold_marks(tmp_path, kind):
    save_encoder(kind, tmp_path)
    loaded = load(MARKED, 12, 12)
    cut = windows(loaded, model=tmp_path, max_length=70)
    tokenizer = load_tokenizer(tmp_path)
    for split in cut:
        assert 2 <= len(cut[split]) <= len(loaded[split])
        whole = list(zip(loaded[split]["text"], loaded[split]["marks"], strict=True))
        for text, marks in zip(cut[split]["text"], cut[split]["marks"], strict=True):
            assert len(tokenizer(text)["input_ids"]) <= 70
            assert 0 < sum(marks) < len(marks) == len(text.split())
            assert text.split()[-1] in {".", "!"}
            assert any(is_part(text, marks, *source) for source in whole)
    assert any(len(text) < max(map(len, loaded["test"]["text"])) for text in cut["test"]["text"])
    with pytest.raises(
        CorpusError, match=r"train split: 0 of 12 texts have whole sentences .* max_length = 8"
    ):
        windows(loaded, model=tmp_path, max_length=8)


def test_a_window_is_the_one_with_the_most_marks(tmp_path):
    save_encoder("bert", tmp_path)
    text = "a b . c d . e f . g h ."
    rows = [
        {"text": f"{'i' * number} {text}", "label": number % 2, "evidence": [[1, 2], [8, 9], [10, 12]]}
        for number in range(1, 13)
    ]
    loaded = load(written(tmp_path, rows))
    pieces = len(load_tokenizer(tmp_path)("e f . g h .")["input_ids"])
    cut = windows(loaded, model=tmp_path, max_length=pieces)
    assert set(cut["train"]["text"]) == {"e f . g h ."}
    assert cut["train"]["marks"][0] == [False, True, False, True, True, False]


def test_a_closing_quotation_mark_belongs_to_the_sentence_that_it_ends(tmp_path):
    save_encoder("bert", tmp_path)
    rows = [
        {"text": f'" {"i" * number} b . " c d .', "label": number % 2, "evidence": [[5, 6]]}
        for number in range(1, 13)
    ]
    pieces = len(load_tokenizer(tmp_path)('" c d .')["input_ids"])
    cut = windows(load(written(tmp_path, rows)), model=tmp_path, max_length=pieces)
    assert set(cut["train"]["text"]) == {"c d ."}  # though the quotation mark would fit


def test_scores_are_perfect_for_the_marks_and_worst_for_their_opposite():
    marks = [[True, False, False, True], [False, True, False]]
    right = agreement([np.array([text], float) for text in marks], marks)
    wrong = agreement([-np.array([text], float) for text in marks], marks)
    for measure in MEASURES:
        assert right[measure].tolist() == [[1.0, 1.0]]
        assert (wrong[measure] < 0.6).all()
    assert wrong[TOKEN_F1].tolist() == [[0.0, 0.0]]


def test_scores_follow_the_order_of_models_and_texts():
    marks = [[True, False, False], [False, True, True, False]]
    relevance = [np.array([[3, 2, 1], [1, 2, 3]]), np.array([[4, 3, 2, 1], [1, 2, 4, 3]])]
    scores = agreement(relevance, marks)
    expected = [[1, average_precision_score(marks[1], [4, 3, 2, 1])], [1 / 3, (1 + 2 / 3) / 2]]
    assert scores[AVERAGE_PRECISION] == pytest.approx(np.array(expected))
    assert scores[TOKEN_F1] == pytest.approx(np.array([[1, 0.5], [0, 0.5]]))


def test_chance_is_the_mean_over_all_rankings():
    for text in ([True, False], [True, False, False, True, False], [False, True, True, True, False]):
        rankings = np.array(list(itertools.permutations(range(len(text)))))
        scores = agreement([rankings], [text])
        for measure in MEASURES:
            assert scores[measure].mean() == pytest.approx(by_chance([text])[measure][0, 0], abs=1e-12)


def test_equally_relevant_words_are_chosen_at_random():
    marks = np.array([True, False, True, False, False])
    assert token_f1(marks, np.zeros(5)) == pytest.approx(2 / 5)
    assert token_f1(marks, np.array([2.0, 1, 1, 1, 0])) == pytest.approx((1 + 1 / 3) / 2)


def test_words_alone_know_the_other_texts_but_not_their_own():
    words = [["good", "film", "the"], ["Good", "the", "film"], ["rare", "the", "film"]]
    marks = [[True, False, False], [True, False, False], [True, False, False]]
    scores = by_word(words, marks)
    assert scores[AVERAGE_PRECISION][0, :2].tolist() == [1.0, 1.0]
    assert scores[AVERAGE_PRECISION][0, 2] == 1.0  # unknown: the rate of all words, above words never marked
    alone = by_word(words[:1], marks[:1])
    assert alone[TOKEN_F1][0, 0] == pytest.approx(1 / 3)  # nothing is known: chance
    contrary = by_word(words[:1], marks[:1], [["good", "film"]], [[False, True]])
    assert contrary[TOKEN_F1][0, 0] == 0


@pytest.mark.parametrize("marks", [[True, True], [False, False]])
def test_a_text_without_a_contrast_is_refused(marks):
    with pytest.raises(ValueError, match="of 2 words are marked: some but not all"):
        agreement([np.ones((1, 2))], [marks])
    with pytest.raises(ValueError, match="for 3 words"):
        agreement([np.ones((1, 2))], [[True, False, False]])


def test_tables_and_the_figure_show_every_ranking():
    rng = np.random.default_rng(0)
    marks = [[*(rng.random(9) < 0.4).tolist(), True, False] for _ in range(12)]
    chance = by_chance(marks)
    found = {}
    for models in ("fine-tuned", "frozen"):
        right = [np.array(text) + 0.1 * rng.random((3, 11)) for text in marks]
        noise = [rng.random((3, 11)) for _ in marks[:8]]
        found |= over_models(models, "right", agreement(right, marks), chance)
        found |= over_models(models, "noise", agreement(noise, marks), chance)
    measured = measured_table(found, 0.95)
    assert len(measured) == 8
    noisy = measured[measured["ranking"] == "noise"]
    assert set(noisy["texts"]) == {8}
    assert (noisy["above_low"] < 0).all()
    assert (noisy["above_high"] > 0).all()
    right = measured[measured["ranking"] == "right"]
    assert right["estimate"].to_numpy() == pytest.approx(1)
    assert (right["above_low"] > 0.2).all()
    references = reference_means(chance=chance, words_alone=chance)
    table = reading_table(measured, references)
    assert list(table.index.get_level_values(0)) == [
        "right",
        "noise",
        "right",
        "noise",
        "chance",
        "words alone",
    ]
    panels = agreement_marks(measured, references).axes
    assert [axes.get_xlabel() for axes in panels] == list(MEASURES)
    drawn = [panels[0].containers[number].get_label() for number in range(2)]
    assert drawn == ["fine-tuned", "frozen"]


def test_english_words_keep_their_form_and_marks():
    words = ["I", "don't", "like", "it", ".", "it", "'s", "dull"]
    cleaned = clean_marked(words, [False, True, True, True, False, False, False, True], "English")
    assert cleaned.words == words
    assert cleaned.marks == [False, True, True, True, False, False, False, True]


def test_a_words_rate_counts_its_appearances_in_upper_case():
    others = [["FILM", "good"], ["Film", "good"], ["FILM", "x"], ["Film", "y"]]
    marks = [[True, False], [False, True], [False, False], [False, False]]
    # film is marked once in four, good once in two
    scores = by_word([["film", "good"]], [[False, True]], others, marks)
    assert scores[TOKEN_F1].tolist() == [[1.0]]


def test_agreement_and_what_is_above_chance_have_intervals_of_the_confidence_asked_for():
    rng = np.random.default_rng(0)
    marks = [[*(rng.random(9) < 0.4).tolist(), True, False] for _ in range(12)]
    scores, chance = agreement([rng.random((3, 11)) for _ in marks], marks), by_chance(marks)
    table = measured_table(over_models("m", "r", scores, chance), 0.9).set_index("measure")
    for measure in MEASURES:
        row, values = table.loc[measure], scores[measure]
        for prefix, found in (("", values), ("above_", values - chance[measure])):
            interval = crossed_mean(found).interval(0.9)
            ends = row[[f"{prefix}estimate", f"{prefix}low", f"{prefix}high"]].to_list()
            assert ends == pytest.approx([interval.estimate, interval.low, interval.high])
