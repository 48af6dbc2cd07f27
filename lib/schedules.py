"""What a training's schedule amounts to, worked out for reading."""

from collections.abc import Mapping

import pandas as pd

from lib.recipes import TrainingRecipe


def schedule_table(trainings: Mapping[str, tuple[TrainingRecipe, int]]) -> pd.DataFrame:
    """Return for how many steps a training has a learning rate above 0, and how many texts these see.

    Parameters
    ----------
    trainings : mapping of str to (TrainingRecipe, int)
        For each row the recipe and the number of training texts.
    """
    rows = {}
    for name, (recipe, texts) in trainings.items():
        steps = len(recipe.rates(texts))
        rows[name] = {
            "texts": f"{texts:,}",
            "batches per epoch": f"{steps // recipe.epochs:,}",
            "steps of all epochs": f"{steps:,}",
            "with a rate above 0": f"{recipe.steps(texts):,}",
            "times a text is seen": f"{recipe.texts_seen(texts) / texts:.2f}",
        }
    return pd.DataFrame(rows).T
