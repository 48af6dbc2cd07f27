"""Folders of the cache: complete or absent, whatever interrupts their making, and private."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``target`` when the block succeeds.

    If another process has made ``target`` meanwhile, that one stays. After an error nothing is left.

    Parameters
    ----------
    target : Path
        Missing parent folders are created.

    Yields
    ------
    Path
        A folder beside ``target``, of the same name.

    Raises
    ------
    OSError
        If ``target`` cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as workshop:
        unfinished = Path(workshop) / target.name
        unfinished.mkdir()
        yield unfinished
        try:
            unfinished.replace(target)  # atomic
        except OSError:
            if not target.is_dir():
                raise


def make_private(folder: Path) -> None:
    """Create a folder and its missing parents, readable by their owner only."""
    for path in reversed((folder, *folder.parents)):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)
