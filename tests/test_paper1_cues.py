"""Cues are found without punishing signed scores; lists of words on halves are the paper's lists."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from lib.paper1.compared import FINE_TUNED, FROZEN
from lib.paper1.cues import cue_auc_on_halves, mean_over_texts, supporting_cue_auc
from lib.paper1.joint import HALVES
from lib.paper1.word_lists import (
    WordMeans,
    _descending,
    cue_shares,
    is_word,
    published_words,
    rank_words,
    recurrence,
    recurrence_on_halves,
    strongest_cues_on_halves,
    strongest_words,
)
from lib.word_tables import mean_relevance

SIGNS = [[0, 1, -1, 0, 0]]  # a cue for class 1, one for class 0, no cues


def auc(scores, predicted, signs=SIGNS):
    return supporting_cue_auc([np.array([scores])], signs, np.array([[predicted]]))[0, 0]


def test_a_contradicting_cue_is_neither_found_nor_missed():
    found = [0.1, 0.9, -0.8, 0.2, 0.0]  # a signed method that is right about both cues
    assert auc(found, 1) == 1
    assert auc([*found[:2], 0.95, *found[3:]], 1) == 1  # one that counts a negated cue for the prediction
    assert auc([0.1, -0.9, 0.8, 0.2, 0.0], 0) == 1  # the same words, explained for class 0


def test_a_cue_below_half_of_the_other_words_scores_a_half():
    assert auc([0.1, 0.15, 0.0, 0.2, 0.15], 1) == pytest.approx(0.5)


def test_a_text_without_a_cue_for_the_prediction_has_no_score():
    assert np.isnan(auc([0.1, 0.2, 0.3], 1, [[0, -1, 0]]))
    assert np.isnan(auc([0.1, 0.2], 1, [[1, 1]]))
    relevance = [np.array([[0.1, 0.9], [0.9, 0.1]]), np.array([[0.5, 0.5], [0.5, 0.5]])]
    scores = supporting_cue_auc(relevance, [[0, 1], [0, -1, 0]], np.array([[1, 1], [1, 0]]))
    np.testing.assert_array_equal(scores, [[1, np.nan], [0, 0.5]])
    np.testing.assert_array_equal(mean_over_texts(scores), [1, 0.25])
    np.testing.assert_array_equal(mean_over_texts(scores, np.array([0])), [1, 0])
    np.testing.assert_array_equal(mean_over_texts(np.array([[np.nan, 0.5]]), np.array([0])), [np.nan])
    assert cue_auc_on_halves(relevance, [[0, 1], [0, 1]], np.array([[1, 1], [1, 1]])).shape == (2, 1 + HALVES)


def test_the_score_of_a_text_is_its_roc_auc():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 60)
    relevance = [rng.normal(size=(2, words)).round(1) for words in lengths]  # rounded, so some are equal
    signs = [rng.choice([0, 0, 1, -1], words) for words in lengths]
    predicted = rng.integers(0, 2, (2, len(lengths)))
    scores = supporting_cue_auc(relevance, signs, predicted)
    for text, evidence in enumerate(signs):
        for seed, row in enumerate(relevance[text]):
            of_other = evidence == (1 if predicted[seed, text] == 0 else -1)
            truth, values = evidence[~of_other] != 0, row[~of_other]
            if 0 < truth.sum() < len(truth):
                assert scores[seed, text] == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
            else:
                assert np.isnan(scores[seed, text])


@pytest.fixture
def relevances():
    """Words, relevances of two models of each kind, and the words' roles."""
    rng = np.random.default_rng(0)
    vocabulary = [f"mot{number}" for number in range(50)]
    words = [list(rng.choice(vocabulary, 20)) for _ in range(40)]
    words[0][0] = "MOT7"  # words are compared in lower case
    strength = {word: rng.random(2) for word in vocabulary}
    signed = {FINE_TUNED: [], FROZEN: []}
    for text in words:
        for values in signed.values():
            weight = np.array([strength[word.lower()] for word in text]).T
            values.append(rng.choice([-1, 1]) * weight * rng.random((2, len(text))) / 10)
    roles = pd.Series(["cue" if number % 3 == 0 else "filler" for number in range(50)], vocabulary)
    return words, signed[FINE_TUNED], signed[FROZEN], roles


def test_no_list_holds_punctuation_or_a_placeholder(relevances):
    words, tuned, frozen, roles = relevances
    marks = {"mot0": "!", "mot1": "NBR", "mot2": "<URL>", "mot3": "..."}
    marked = [[marks.get(word, word) for word in text] for text in words]
    listed = {name for name in roles.index if name not in marks}
    assert set(rank_words(marked, tuned, frozen, 1).index) == listed
    assert set(strongest_words(marked, tuned, 1).index) == listed
    means = WordMeans(marked, 1)
    of_one_model = means.magnitudes(tuned)[0][0]
    assert set(means.names[np.isfinite(of_one_model)]) == listed
    assert [text for text in ("n't", "l'", "--", "3.5") if is_word(text)] == ["n't", "l'"]


def test_the_first_column_is_the_papers_statistic_on_all_texts(relevances):
    words, tuned, frozen, roles = relevances
    shares = cue_shares(words, tuned, frozen, roles, 8)
    for table in shares.values():
        assert table.shape == (2, 1 + HALVES)
        assert table[:, 1:].std() > 0
    for pair in range(2):
        cold = [text[[pair]] for text in frozen]
        ranked = rank_words(words, [text[[pair]] for text in tuned], cold, 8, roles)["role"] == "cue"
        assert shares[FINE_TUNED][pair, 0] == pytest.approx(ranked[:10].mean())
        assert shares[FROZEN][pair, 0] == pytest.approx(ranked[-10:].mean())
    strongest = strongest_cues_on_halves(words, tuned, roles, 8)
    for model in range(2):
        ranked = strongest_words(words, [text[[model]] for text in tuned], 8, roles)
        assert strongest[model, 0] == pytest.approx(np.mean(ranked["role"][:10] == "cue"))


def test_the_means_of_words_are_those_of_the_paper_and_rare_words_have_none(relevances):
    words, tuned, _, _ = relevances
    means = WordMeans(words, 14)
    found = pd.Series(means.magnitudes(tuned)[1][0], means.names).dropna()
    expected = mean_relevance(words, [text[1] for text in tuned], 14)["relevance"].abs()
    pd.testing.assert_series_equal(found, expected, check_names=False, check_index_type=False)
    assert "mot7" in means.names
    assert "MOT7" not in means.names


def test_recurrence_is_the_share_of_pairs_in_order_and_half_of_the_equal_ones():
    rng = np.random.default_rng(0)
    for _ in range(50):
        differences = pd.Series(rng.normal(size=40).round(1), [f"w{number}" for number in range(40)])
        first, second = np.split(rng.permutation(differences.index), [rng.integers(1, 40)])
        above = np.sign(differences[first].to_numpy()[:, None] - differences[second].to_numpy())
        found = recurrence(differences, {"finetuned": first, "frozen": second})
        assert found == pytest.approx((1 + above.mean()) / 2, abs=1e-12)


def test_the_papers_words_recur_in_a_ranking_that_puts_its_first_list_above_its_second(relevances):
    words, tuned, frozen, _ = relevances
    ranked = rank_words(words, tuned, frozen, 1)
    order = list(ranked.index)
    apart = {"finetuned": order[:3], "frozen": order[-3:]}
    assert recurrence(ranked["difference"], apart) == 1
    assert recurrence(ranked["difference"], {"finetuned": order[-3:], "frozen": order[:3]}) == 0
    assert np.isnan(recurrence(ranked["difference"], {"finetuned": ["absent"], "frozen": order[:1]}))
    lists = {"finetuned": ["MOT1", "absent"], "frozen": ["mot2"]}
    table = recurrence_on_halves(words, tuned, frozen, 1, lists)
    for pair in range(2):
        alone = rank_words(words, [text[[pair]] for text in tuned], [text[[pair]] for text in frozen], 1)
        difference = alone["difference"]
        assert table[pair, 0] == float(difference["mot1"] > difference["mot2"])
    placed = published_words(ranked, {"finetuned": [order[2].upper()], "frozen": ["absent"]})
    assert placed.loc[order[2], ["list", "place", "of"]].tolist() == ["finetuned", 3, len(order)]
    assert np.isnan(placed.loc["absent", "place"])


def test_of_equal_words_the_first_comes_first():
    values = np.array([*[0.0] * 30, 1.0, np.nan, *[0.0] * 30])
    assert _descending(values).tolist() == [30, *range(30), *range(32, 62)]


def test_a_published_word_is_listed_with_its_difference():
    ranked = pd.DataFrame({"difference": [0.4, 0.1, -0.2]}, ["plat", "un", "film"])
    placed = published_words(ranked, {"finetuned": ["Plat"], "frozen": ["film", "absent"]})
    assert placed["difference"].to_list()[:2] == [0.4, -0.2]
    assert np.isnan(placed.loc["absent", "difference"])


def test_words_are_ranked_by_means_over_seeds():
    words = [["plat", "film"]]
    tuned = [np.array([[0.1, 0.0], [0.1, 0.0], [1.0, 0.3]])]  # means 0.4 and 0.1, medians 0.1 and 0
    cold = [np.array([[0.2, 0.0], [0.2, 0.0], [0.2, 0.0]])]
    assert rank_words(words, tuned, cold, 1)["difference"].to_dict() == pytest.approx(
        {"plat": 0.2, "film": 0.1}
    )


def test_half_as_many_appearances_are_enough_in_half_of_the_texts():
    words = [["plat"]] * 40  # 20 in every half
    means = WordMeans(words, 30).magnitudes([np.ones((1, 1))] * 40)
    assert np.isfinite(means[0]).all()
    assert np.isnan(WordMeans(words, 41).magnitudes([np.ones((1, 1))] * 40)[0]).all()
