"""What differs from the authors' recipe is listed, and their schedule is worked out from their numbers."""

from dataclasses import replace

import papermill
import pytest

from lib.claims import published
from lib.paper1.tables import departures
from lib.recipes import TrainingRecipe
from lib.schedules import schedule_table
from lib.settings import PROJECT_ROOT, FinetunedVsFrozen, SettingsError

PARAMETERS = papermill.inspect_notebook(str(PROJECT_ROOT / "notebooks" / "1_finetuned_vs_frozen.ipynb"))
DEFAULTS = {name: eval(text["default"], {"__builtins__": {}}) for name, text in PARAMETERS.items()}  # noqa: S307
AUTHORS = published(1)["recipe"]
LONGER = "1 % of the texts are longer"


def settings(**changed):
    return FinetunedVsFrozen.from_namespace(DEFAULTS | changed)


def test_the_papers_schedules_end_after_half_an_epoch():
    recipe = TrainingRecipe(AUTHORS["epochs"], AUTHORS["learning_rate"], AUTHORS["batch_size"], "authors")
    described = replace(recipe, schedule="described")
    table = schedule_table({"Allociné": (recipe, 160_000), "described": (described, 8_000)})
    assert table.loc["Allociné"].tolist() == ["160,000", "40,000", "80,000", "20,000", "0.50"]
    assert table.loc["described"].tolist() == ["8,000", "2,000", "4,000", "4,000", "2.00"]


def test_only_what_differs_from_the_authors_is_a_departure():
    texts = {"mini-allocine": 5_000, "mini-infopinion": 2_000}
    here = departures(settings(), AUTHORS, texts, texts, LONGER).set_index("parameter")
    assert here.loc["learning rate of fine-tuning", ["authors", "here"]].tolist() == ["2e-05", "0.0002"]
    assert "batch size of fine-tuning" not in here.index
    assert here.loc["longest text, in pieces", "why"] == f"time; {LONGER}"
    assert here.loc["training texts, mini-allocine", "authors"] == "160,000"
    assert here["why"].all()
    other = departures(settings(model="minilm"), AUTHORS, texts, texts, LONGER).set_index("parameter")
    assert not other["why"].str.contains("pre-trained here|chosen on validation texts|as accurate").any()
    theirs = {
        "dataset": "allocine",
        "other_dataset": "infopinion",
        "model": "almanach/camembert-base",
        "learning_rate": 2e-5,
        "max_length": 512,
        "head_learning_rate": 1e-4,
        "head_batch_size": 32,
        "other_head_learning_rate": 1e-3,
        "other_head_batch_size": 4,
        "min_appearances": 100,
        "explained_texts": 0,
        "validation_texts": 0,
    }
    paper = departures(settings(**theirs), AUTHORS, AUTHORS["train_texts"], AUTHORS["test_texts"], LONGER)
    always = ["padding", "where LRP starts", "listed words"]
    assert paper["parameter"].tolist() == ["models of each kind", *always]
    english = departures(settings(language="English"), AUTHORS, texts, texts, LONGER).set_index("parameter")
    assert english.loc["cleaning", ["authors", "here"]].tolist() == ["for French", "for English"]
    assert "cleaning" not in here.index


def test_reviews_stay_in_the_data_sets_order_and_other_texts_are_shuffled():
    recipes = settings().fine_tuning
    assert list(recipes) == ["authors", "described"]
    for schedule, by_task in recipes.items():
        assert {task: recipe.shuffled for task, recipe in by_task.items()} == {
            "mini-allocine": False,
            "mini-infopinion": True,
        }
        assert {recipe.schedule for recipe in by_task.values()} == {schedule}
    heads = settings(dataset="reviews.csv").heads
    assert heads["reviews.csv"].shuffled
    assert {recipe.schedule for recipe in heads.values()} == {"described"}


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("artifact_rates", "0.3 1", "0, without the artifact, and at least one rate above 0"),
        ("artifact_rates", "0", "0, without the artifact, and at least one rate above 0"),
        ("described_seeds", 6, "described_seeds = 6: allowed is at most seeds = 5"),
    ],
)
def test_a_comparison_that_lacks_one_side_is_refused(name, value, hint):
    with pytest.raises(SettingsError, match=hint):
        settings(**{name: value})
