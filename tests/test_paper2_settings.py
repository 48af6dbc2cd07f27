"""Notebook 2's parameters: the two schedules, fewer texts, and further encoders."""

import re

import nbformat
import papermill
import pytest

from lib.attribution import LRP, METHODS
from lib.claims import load_claims
from lib.settings import OTHER_METHODS, PROJECT_ROOT, FinetuningSurface, SettingsError

NOTEBOOK = PROJECT_ROOT / "notebooks" / "2_finetuning_surface_vs_snr.ipynb"
RIGHT = {
    name: eval(details["default"], {"__builtins__": {}})  # noqa: S307 - our own notebook
    for name, details in papermill.inspect_notebook(str(NOTEBOOK)).items()
}


def settings(**changed: object) -> FinetuningSurface:
    return FinetuningSurface.from_namespace(RIGHT | changed)


def test_the_other_schedule_differs_in_nothing_else() -> None:
    for chosen, other in (("authors", "described"), ("described", "authors")):
        recipe, compared = settings(schedule=chosen).fine_tuning, settings(schedule=chosen).other_schedule
        assert (recipe.schedule, compared.schedule) == (chosen, other)
        assert recipe.learning_rate == compared.learning_rate
    assert settings().head.schedule == "described"
    assert settings(curve_learning_rate=0.01).few_weights.learning_rate == 0.01


def test_only_allocine_keeps_the_order_of_its_texts() -> None:
    assert settings().fine_tuning.shuffled
    assert settings().head.shuffled
    assert not settings(dataset="mini-allocine").fine_tuning.shuffled


def test_other_methods_are_known_by_their_names() -> None:
    assert set(OTHER_METHODS) <= set(METHODS) - {LRP}
    assert settings(methods=" ".join(OTHER_METHODS)).methods.split() == list(OTHER_METHODS)
    with pytest.raises(SettingsError, match=f"allowed.*{', '.join(OTHER_METHODS)}"):
        settings(methods="saliency")


def test_numbers_of_texts_are_sorted_and_may_be_none() -> None:
    assert settings(matched_texts="300 75").numbers_of_texts == [75, 300]
    assert settings(matched_texts="").numbers_of_texts == []


def test_every_number_of_training_texts_suffices_for_a_step() -> None:
    for schedule in ("authors", "described"):  # the other one is trained on all texts, too
        with pytest.raises(SettingsError, match=r"^train_texts = 900: .*'authors'.* at least 993 texts"):
            settings(batch_size=32, schedule=schedule, train_texts=900)
    with pytest.raises(SettingsError, match=r"^matched_texts = '500 600': .* at least 993 texts"):
        settings(batch_size=32, train_texts=1000, matched_texts="500 600")
    assert settings(schedule="described", matched_texts="12 500").numbers_of_texts == [12, 500]
    assert settings(batch_size=32, train_texts=0, matched_texts="").train_texts == 0  # not known yet


def test_encoders_have_other_seeds_than_the_main_one() -> None:
    assert settings(data_seed=3, encoders=3).encoder_seeds == [4, 5, 6]
    assert settings(encoders=0).encoder_seeds == []


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("schedule", "linear", "'described' or 'authors'"),
        ("matched_texts", "75 75", "named twice"),
        ("matched_texts", "75 075", "'075' is unknown or named twice"),
        ("matched_texts", "75 100000", "allowed are numbers below train_texts = "),
        ("matched_texts", "many", "whole numbers above 1"),
        ("matched_texts", "12 500", "at least 13 texts are required"),  # batches of 4, the authors' schedule
        ("encoders", 2, "at least 3 are required"),
        ("other_schedule_seeds", 400, "at most"),
        ("random_label_seeds", 2, "greater than or equal to 3"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(name: str, value: object, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**{name: value})
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)
    assert hint in str(caught.value)


def test_every_claim_is_judged_and_every_condition_checked() -> None:
    code = "\n".join(
        cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"
    )
    claims = load_claims(2)
    for name, claim in claims.items():
        assert re.search(rf'(study\.judge|judge_all)\(\s*"{name}"', code), name
        for condition in claim.requires:
            assert re.search(rf'study\.require\(\s*"{condition}"', code), condition
