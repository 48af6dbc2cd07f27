"""Keep a model that was trained here, whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.models import quiet_libraries
from lib.runs.records import make_private


def keep(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    notes: Mapping[str, Mapping[str, Any]],
) -> None:
    """Save a model that was trained here, all at once, so that a killed run leaves no half of one.

    Parameters
    ----------
    folder : Path
        Where it is to be; those above it that are missing are made readable by their owner only.
    model, tokenizer
        What is kept.
    notes : mapping
        What else is kept beside them: JSON by file name.
    """
    make_private(folder.parent)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    with quiet_libraries():
        model.to("cpu").save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
    for name, note in notes.items():
        (unfinished / name).write_text(json.dumps(note, indent=1), encoding="utf-8")
    try:
        os.rename(unfinished, folder)
    except OSError:  # another process finished the same model first
        shutil.rmtree(unfinished)
