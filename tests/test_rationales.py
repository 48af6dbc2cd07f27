import numpy as np
import pytest

from lib import words as rationales


def test_majority_roles_by_hand() -> None:
    words = [["Plat", "du", "jour"], ["plat", "et", "plat"], ["du", "pain"]]
    roles = [["topic", "filler", "topic", "cut"], ["cue", "filler", "cue"], ["filler", "topic"]]
    found = rationales.majority_roles(words, roles)
    assert found.to_dict() == {
        "plat": "cue",
        "du": "filler",
        "jour": "topic",
        "et": "filler",
        "pain": "topic",
    }
    top = found[["plat", "pain", "jour"]].value_counts()
    assert top.to_dict() == {"topic": 2, "cue": 1}


def test_majority_roles_of_a_tie_do_not_depend_on_the_order_of_the_texts() -> None:
    words, roles = [["plat"], ["plat"]], [["topic"], ["cue"]]
    assert rationales.majority_roles(words, roles)["plat"] == "cue"
    assert rationales.majority_roles(words, roles[::-1])["plat"] == "cue"


def test_role_agreement_by_hand() -> None:
    # Ranked: cue, filler, cue, filler. Precision at the two cues: 1/1 and 2/3.
    # Pairs (cue, filler) in the right order: 3 of 4.
    scores = rationales.role_agreement(
        [np.array([0.9, 0.1, 0.5, 0.7])], [["cue", "filler", "cue", "filler"]], {"cue"}
    ).iloc[0]
    assert scores["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["roc_auc"] == 0.75
    assert scores["share"] == 0.5


def test_role_agreement_leaves_out_texts_with_nothing_to_find_and_roles_cut_off() -> None:
    relevance = [np.array([1.0, 0.0]), np.array([1.0, 2.0]), np.array([1.0]), np.zeros(0)]
    roles = [["cue", "filler", "cue"], ["filler", "filler"], ["cue"], []]
    table = rationales.role_agreement(relevance, roles, {"cue"})
    assert table["roc_auc"].isna().tolist() == [False, True, True, True]
    assert table.mean()["roc_auc"] == 1


def test_random_relevance_agrees_as_chance_says() -> None:
    rng = np.random.default_rng(0)
    roles = [["cue"] * 5 + ["artifact"] * 5 + ["filler"] * 190] * 60
    table = rationales.role_agreement([rng.random(200) for _ in roles], roles, {"cue", "artifact"})
    means = table.mean()
    assert means["roc_auc"] == pytest.approx(0.5, abs=0.03)
    assert means["share"] == pytest.approx(0.05)
    assert means["average_precision"] == pytest.approx(0.05, abs=0.03)


def test_cue_auc_is_one_score_a_model() -> None:
    relevance = [np.array([[0.9, 0.1, 0.5, 0.7], [0.9, 0.1, 0.8, 0.7]]), np.array([[1.0, 0.0], [0.0, 1.0]])]
    roles = [["cue", "filler", "cue", "filler"], ["cue", "filler"], ["cue", "topic"]]
    np.testing.assert_allclose(rationales.cue_auc(relevance, roles), [(0.75 + 1) / 2, (1 + 0) / 2])
