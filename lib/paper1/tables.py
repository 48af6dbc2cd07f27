"""Where the notebook of paper 1 departs from the authors' recipe."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lib.settings import FinetunedVsFrozen

TIME = "time"
MADE_HERE = "pre-trained here in two minutes"
HIGHER_RATE = "a smaller encoder needs a higher one"
HEAD_RATE = "lower, so that heads do not overfit on few texts"


def departures(
    settings: FinetunedVsFrozen,
    authors: Mapping[str, Any],
    train_texts: Mapping[str, int],
    test_texts: Mapping[str, int],
    longer: str,
) -> pd.DataFrame:
    """Return where a profile departs from the authors' code: parameter, their value, ours, and why.

    Parameters
    ----------
    settings : FinetunedVsFrozen
        The notebook's parameters.
    authors : mapping
        ``recipe`` of the published values.
    train_texts, test_texts : mapping of str to int
        Number of texts of each task.
    longer : str
        Which share of the texts is longer than what is read: from `lib.texts.longer_texts`.
    """
    encoder = MADE_HERE if settings.model == "tiny-camembert" else TIME
    rows: list[tuple[str, Any, Any, str]] = [
        ("encoder", authors["encoder"], settings.model, encoder),
        ("learning rate of fine-tuning", authors["learning_rate"], settings.learning_rate, HIGHER_RATE),
        ("batch size of fine-tuning", authors["batch_size"], settings.batch_size, TIME),
        ("epochs of fine-tuning", authors["epochs"], settings.epochs, TIME),
        ("epochs of a head", authors["head_epochs"], settings.head_epochs, TIME),
        ("longest text, in pieces", authors["max_length"], settings.max_length, f"time; {longer}"),
        ("appearances of a listed word", authors["min_appearances"], settings.min_appearances, "fewer texts"),
        ("products of fine-tuning", authors["precision"], settings.training_precision, TIME),
        ("validation texts of each task", "all", settings.validation_texts or "all", TIME),
        ("explained test texts of each task", "all", settings.explained_texts or "all", TIME),
        ("models of each kind", authors["seeds"], settings.seeds, "one model has no spread"),
    ]
    for name, task in zip(("allocine", "infopinion"), settings.tasks, strict=True):
        head = settings.heads[task]
        rows += [
            (f"training texts, {task}", authors["train_texts"][name], train_texts[task], TIME),
            (f"test texts, {task}", authors["test_texts"][name], test_texts[task], TIME),
            (
                f"learning rate of a head, {task}",
                authors["head_learning_rate"][name],
                head.learning_rate,
                HEAD_RATE,
            ),
            (f"batch size of a head, {task}", authors["head_batch_size"][name], head.batch_size, TIME),
        ]
    rows = [row for row in rows if str(row[1]) not in (str(row[2]), str(row[2]).rpartition("/")[2])]
    rows += [
        (
            "padding",
            "every text to 512 pieces",
            "to the longest text of its batch",
            "time; padding is masked, and only the fork's relevances depend on it (section 3)",
        ),
        (
            "where LRP starts",
            "at every position",
            "at the first token",
            "Chefer et al.'s rule; section 3 compares both",
        ),
        ("listed words", "all", "those with a letter, without placeholders", "punctuation is no word"),
    ]
    if settings.language == "English":
        rows.append(("cleaning", "for French", "for English", "the texts' language"))
    table = pd.DataFrame(rows, columns=["parameter", "authors", "here", "why"])
    return table.assign(authors=table["authors"].map(_text), here=table["here"].map(_text))


def _text(value: Any) -> str:
    """Write a number for reading; texts are returned unchanged."""
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
