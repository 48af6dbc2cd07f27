"""List, check and delete what sweeps have kept: the commands of ``python -m lib.runs``, which print."""

import argparse
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.runs.records import SET_ASIDE, SUFFIX, DamagedRecordError, Store, decode

SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True)
class Kept:
    """A file that a sweep left: a record, a record set aside, or an unfinished temporary file.

    Attributes
    ----------
    sweep : str
        Its folder, below the cache folder.
    path : Path
    bytes : int
    written : float
        When, in seconds since 1970.
    status : {"done", "failed", "other"}
        "other" if it is not a whole record.
    trouble : str or None
        What is wrong with it.
    """

    sweep: str
    path: Path
    bytes: int
    written: float
    status: str
    trouble: str | None

    @property
    def days(self) -> float:
        """The days since it was written."""
        return (time.time() - self.written) / SECONDS_A_DAY

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders between the cache folder and ``records``; a profile's name is one of them."""
        return Path(self.sweep).parts[:-2]


def kept_files(cache_dir: Path) -> Iterator[Kept]:
    """Read all files that the sweeps below a folder left, sweep by sweep."""
    for folder in sorted(path for path in cache_dir.rglob("records/*") if path.is_dir()):
        for path in sorted((*folder.glob("*.*"), *folder.glob(f"{SET_ASIDE}/*"))):
            kept = _kept(str(folder.relative_to(cache_dir)), path)
            if kept is not None:
                yield kept


def _kept(sweep: str, path: Path) -> Kept | None:
    """Read one file of a sweep; None if it is not a sweep's, or was renamed or deleted meanwhile."""
    try:
        stat, status, trouble = path.stat(), "other", None
        if path.parent.name == SET_ASIDE:
            trouble = "set aside"
        elif path.suffix == SUFFIX:
            status = decode(path.stem, path.read_bytes()).status
        elif path.suffix == ".tmp":
            trouble = "unfinished"
        else:
            return None
    except DamagedRecordError as damage:
        trouble = str(damage)
    except FileNotFoundError:
        return None
    return Kept(sweep, path, stat.st_size, stat.st_mtime, status, trouble)


def list_kept(files: Sequence[Kept]) -> int:
    """Print one line per sweep."""
    print(f"{'done':>6} {'failed':>6} {'other':>6} {'MB':>9} {'days old':>11}  sweep")
    for sweep in dict.fromkeys(file.sweep for file in files):
        own = [file for file in files if file.sweep == sweep]
        status = [file.status for file in own]
        counts = " ".join(f"{status.count(kind):6d}" for kind in ("done", "failed", "other"))
        days = f"{min(file.days for file in own):.0f} to {max(file.days for file in own):.0f}"
        print(f"{counts} {sum(file.bytes for file in own) / 1e6:9.2f} {days:>11}  {sweep}")
    return 0


def verify(files: Sequence[Kept]) -> int:
    """Print the files that are not whole records; return 1 if there are any, else 0."""
    troubled = [file for file in files if file.trouble]
    for file in troubled:
        print(f"{file.path}: {file.trouble}")
    print(f"{len(files) - len(troubled)} of {len(files)} files are whole records")
    return int(bool(troubled))


def prune(files: Sequence[Kept], *, dry_run: bool) -> int:
    """Delete files, except those of runs in progress and those that have changed since they were read."""
    deleted = 0
    for file in files:
        folder = file.path.parent.parent if file.path.parent.name == SET_ASIDE else file.path.parent
        key = re.split(r"[-.]", file.path.name)[0]
        lock = Store(folder).lock(key)
        if lock is None:
            continue
        try:
            if _kept(file.sweep, file.path) != file:  # a failed run may have been carried out again meanwhile
                continue
            if not dry_run:
                file.path.unlink(missing_ok=True)
        finally:
            lock.release()
        deleted += file.bytes
        print(f"{'would delete' if dry_run else 'deleted'} {file.path}")
    print(f"{deleted / 1e6:.2f} MB")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m lib.runs", description=__doc__)
    parser.add_argument("--cache-dir", type=Path, default=Path(".cache"), help="default: %(default)s")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="one line per sweep: runs done and failed, size, age")
    commands.add_parser("verify", help="check the checksum of every record; exit status 1 if one is damaged")
    deletion = commands.add_parser("prune", help="delete what meets every given condition")
    deletion.add_argument("--older-than", type=float, metavar="DAYS")
    deletion.add_argument(
        "--profile", help="only sweeps below a folder of this name, which each profile's cache_dir has"
    )
    deletion.add_argument("--failed", action="store_true", help="only failed runs, which are then run again")
    deletion.add_argument(
        "--damaged", action="store_true", help="only files set aside, damaged or unfinished"
    )
    deletion.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    chosen = parser.parse_args(arguments)
    if not chosen.cache_dir.is_dir():
        parser.error(f"--cache-dir {chosen.cache_dir} is not a folder")
    files = list(kept_files(chosen.cache_dir))
    if chosen.command == "list":
        return list_kept(files)
    if chosen.command == "verify":
        return verify(files)
    if not (chosen.older_than is not None or chosen.profile or chosen.failed or chosen.damaged):
        deletion.error("a condition is needed: --older-than, --profile, --failed or --damaged")
    if chosen.older_than is not None and not chosen.older_than >= 0:  # not a number is neither
        deletion.error(f"--older-than {chosen.older_than:g}: allowed are 0 days or more")
    profiles = sorted({folder for file in files for folder in file.folders})
    if chosen.profile and chosen.profile not in profiles:
        deletion.error(
            f"--profile {chosen.profile!r}: nothing is kept for it; allowed: {', '.join(profiles)}"
        )
    return prune(
        [
            file
            for file in files
            if (chosen.older_than is None or file.days > chosen.older_than)
            and (not chosen.profile or chosen.profile in file.folders)
            and (not chosen.failed or file.status == "failed")
            and (not chosen.damaged or file.trouble is not None)
        ],
        dry_run=chosen.dry_run,
    )
