"""Tables of words, each against numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from lib.word_tables import discriminant_words, majority_roles, mean_relevance, role_agreement


def test_discriminant_words_by_hand() -> None:
    texts = [["Navet", "le"], ["navet", "le", "rare"], ["bijou", "le"], ["bijou", "le"]]
    fine_tuned = [[0.9, 0.1], [0.7, 0.1, 0.2], [-1.0, 0.0], [-0.8, -0.2]]
    frozen = [[0.5, 0.5], [0.3, 0.3, 0.4], [-0.2, -0.8], [-0.6, -0.4]]
    table = discriminant_words(texts, fine_tuned, frozen, min_count=2)
    expected = pd.DataFrame(
        {
            "count": [2, 2, 4],
            "fine_tuned": [-0.9, 0.8, 0.0],
            "frozen": [-0.4, 0.4, -0.1],  # le: (0.5 + 0.3 - 0.8 - 0.4) / 4
            "difference": [0.5, 0.4, -0.1],
        },
        index=pd.Index(["bijou", "navet", "le"], name="word"),
    )
    pd.testing.assert_frame_equal(table, expected)
    assert "rare" in mean_relevance(texts, frozen, min_count=1).index
    assert discriminant_words([], [], []).empty


def test_role_agreement_by_hand() -> None:
    # Ranked: cue, filler, cue, filler. Precision at the two cues: 1/1 and 2/3.
    scores = role_agreement(
        [np.array([0.9, 0.1, 0.5, 0.7])], [["cue", "filler", "cue", "filler"]], {"cue"}
    ).iloc[0]
    assert scores["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["share"] == 0.5


def test_role_agreement_is_nan_without_contrast_and_ignores_roles_of_truncated_words() -> None:
    relevance = [np.array([1.0, 0.0]), np.array([1.0, 2.0]), np.array([1.0]), np.zeros(0)]
    roles = [["cue", "filler", "cue"], ["filler", "filler"], ["cue"], []]
    table = role_agreement(relevance, roles, {"cue"})
    assert table["average_precision"].isna().tolist() == [False, True, True, True]
    assert table.mean()["average_precision"] == 1


def test_random_relevance_scores_at_chance() -> None:
    rng = np.random.default_rng(0)
    roles = [["cue"] * 5 + ["artifact"] * 5 + ["filler"] * 190] * 60
    table = role_agreement([rng.random(200) for _ in roles], roles, {"cue", "artifact"})
    means = table.mean()
    assert means["share"] == pytest.approx(0.05)
    assert means["average_precision"] == pytest.approx(0.05, abs=0.03)


def test_majority_roles_by_hand() -> None:
    texts = [["Plat", "du", "jour"], ["plat", "et", "plat"], ["du", "pain"]]
    roles = [["topic", "filler", "topic", "cut"], ["cue", "filler", "cue"], ["filler", "topic"]]
    found = majority_roles(texts, roles)
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
    texts, roles = [["plat"], ["plat"]], [["topic"], ["cue"]]
    assert majority_roles(texts, roles)["plat"] == "cue"
    assert majority_roles(texts, roles[::-1])["plat"] == "cue"
