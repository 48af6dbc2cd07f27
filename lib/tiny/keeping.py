"""Keep a model that was pre-trained here, with its report, complete or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.models import quiet_libraries
from lib.whole_folder import make_private, whole_folder

REPORT = "pretraining.json"


def keep(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    report: Mapping[str, float],
) -> None:
    """Save a model, its tokenizer and its report in one step: an interrupted run leaves nothing incomplete.

    If another process has finished the same model meanwhile, that one stays.

    Parameters
    ----------
    folder : Path
        Where to save them; missing parent folders are created readable by their owner only.
    model, tokenizer
        What to save.
    report : mapping of str to number
        What pre-training measured.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """
    make_private(folder.parent)
    with whole_folder(folder) as unfinished, quiet_libraries():
        unfinished.chmod(0o700)  # the parent may have been there before, open to others
        model.cpu().save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        (unfinished / REPORT).write_text(json.dumps(report, indent=1), encoding="utf-8")


def is_kept(folder: Path) -> bool:
    """Whether ``folder`` holds a model that was pre-trained here."""
    return (folder / REPORT).is_file()


def read_report(folder: Path | str) -> dict[str, float] | None:
    """Read what pre-training reported about the model in ``folder``; None if it was pre-trained elsewhere.

    `lib.tiny.encoder.pretrain_tiny_camembert` and `lib.tiny.causal.pretrain_tiny` list what is reported.
    """
    if not is_kept(Path(folder)):
        return None
    return json.loads((Path(folder) / REPORT).read_text(encoding="utf-8"))
