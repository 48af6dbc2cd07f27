"""Records of runs on disk: one file per run, written whole or not at all, checked whenever it is read."""

import hashlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from filelock import BaseFileLock, FileLock, Timeout

from lib.runs.run import Run
from lib.whole_folder import make_private

LAYOUT = 2
"""Version of the file format. A file of another layout is set aside and its run is done again."""

SUFFIX = ".safetensors"
SET_ASIDE = "set_aside"
LOCKS = "locks"
LEFT_OVER_SECONDS = 3_600.0  # no record takes that long to write
NAN = "NaN"  # begins the reason of a run that diverged

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Record:
    """What is known of one run.

    Attributes
    ----------
    settings : mapping
        The fields of the run as JSON values, its seed included.
    status : {"done", "failed"}
    reason : str or None
        Why it failed, in one line.
    result : mapping
        What the run returned: JSON values and numpy arrays by name. Empty if it failed, unless it failed
        because one of these values is NaN.
    provenance : mapping
        What else decided the result: class and code of the run, fingerprints of the inputs, threads, kind of
        device, determinism; for runs carried out together, their seeds (``beside``).
    device : str
        The name of the device it ran on.
    versions : mapping
        Versions of the packages that can change a number.
    seconds : float
        Wall time; of runs carried out together, an equal share.
    peak_memory : int
        Bytes: on CUDA the most that torch held allocated, otherwise the largest resident set of the process
        during the run, which includes what earlier runs of the process left behind.
    attempts : int
        How often it was tried, up to this record.
    traceback : str or None
        Where it failed.
    run : Run or None
        The run itself, in records that a sweep returns; files do not hold it.
    """

    settings: Mapping[str, Any]
    status: str
    reason: str | None
    result: Mapping[str, Any]
    provenance: Mapping[str, Any]
    device: str
    versions: Mapping[str, str]
    seconds: float
    peak_memory: int
    attempts: int
    traceback: str | None = field(default=None, repr=False)
    run: Run | None = None

    def __getitem__(self, name: str) -> Any:
        if name in self.result:
            return self.result[name]
        why = f" (it failed: {self.reason})" if self.reason else ""
        raise KeyError(f"the record of {dict(self.settings)} has {sorted(self.result)}, no {name!r}{why}")


class DamagedRecordError(ValueError):
    """A file that is not what was written, or has another layout."""


class RecordNotKeptError(OSError):
    """A finished run's record could not be written: a full disk, a quota, a read-only folder."""


def checked_result(result: Any) -> dict[str, Any]:
    """Return a run's result with numpy scalars converted to Python's.

    Raises
    ------
    TypeError
        If it is not a flat mapping of JSON values and numpy arrays of numbers.
    """
    if not isinstance(result, Mapping):
        raise TypeError(
            f"result is {type(result).__name__}; allowed: mapping of JSON values and numpy arrays"
        )
    plain = {str(n): value.item() if isinstance(value, np.generic) else value for n, value in result.items()}
    for name, value in plain.items():
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "biuf":
                raise TypeError(f"result {name!r} has dtype {value.dtype}; allowed: bool, integers, floats")
            continue
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            kind = type(value).__name__
            raise TypeError(f"result {name!r} is {kind}; allowed: JSON values and numpy arrays") from None
    return plain


def nan_reason(result: Mapping[str, Any]) -> str | None:
    """Say which numbers of a result are NaN, if any; in lists and arrays NaN may mark a gap."""
    names = [name for name, value in result.items() if isinstance(value, float) and math.isnan(value)]
    return f"{NAN}: {', '.join(names)}" if names else None


def encode(key: str, record: Record) -> bytes:
    """Write a record as a safetensors file: arrays, the rest as JSON metadata, a checksum of every byte.

    The SHA-256 is that of the file with zeros in its place. No text of the record can be mistaken for that
    place, since JSON escapes quotes inside strings.
    """
    # C order: safetensors writes the memory of a transposed array as it is, silently
    arrays = {n: np.asarray(v, order="C") for n, v in record.result.items() if isinstance(v, np.ndarray)}
    header = {f.name: getattr(record, f.name) for f in fields(Record) if f.name != "run"}
    header["result"] = {name: value for name, value in record.result.items() if name not in arrays}
    header["order"] = list(record.result)
    metadata = {"layout": str(LAYOUT), "key": key, "record": json.dumps(header), "sha256": "0" * 64}
    blank = safetensors.numpy.save(arrays, metadata)
    return blank.replace(_stamp("0" * 64), _stamp(hashlib.sha256(blank).hexdigest()), 1)


def decode(key: str, data: bytes) -> Record:
    """Read what `encode` wrote.

    Raises
    ------
    DamagedRecordError
        If a byte has changed, the file is cut short, of another layout, or the record of another run.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        layout, checksum = metadata["layout"], metadata["sha256"]
    except (ValueError, KeyError, TypeError):
        raise DamagedRecordError("its header cannot be read") from None
    if layout != str(LAYOUT):
        raise DamagedRecordError(f"its layout is {layout!r}, this version writes {LAYOUT}")
    blank = data.replace(_stamp(checksum), _stamp("0" * 64), 1)
    if hashlib.sha256(blank).hexdigest() != checksum:
        raise DamagedRecordError("its checksum does not match")
    if metadata["key"] != key:
        raise DamagedRecordError("it is the record of another run")
    header = json.loads(metadata["record"])
    values = header["result"] | safetensors.numpy.load(data)
    header["result"] = {name: values[name] for name in header.pop("order")}
    return Record(**header)


def _stamp(checksum: Any) -> bytes:
    return f'"sha256":"{checksum}"'.encode()


class Store:
    """The records of one sweep, ``folder/<key>.safetensors``, readable by their owner only.

    Files stay whole because each is written under a temporary name and renamed, whoever writes it. Locks only
    avoid doing a run twice. So on a network file system without locks, two processes may do the same run, and
    the later record replaces the earlier. Iteration gives the keys of the records.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_private(folder)

    def file(self, key: str) -> Path:
        """Return where a record is kept."""
        return self.folder / f"{key}{SUFFIX}"

    def __iter__(self) -> Iterator[str]:
        return (file.name.removesuffix(SUFFIX) for file in sorted(self.folder.glob(f"*{SUFFIX}")))

    def read(self, key: str) -> Record | None:
        """Return a kept record; None if there is none, or if it is damaged and was set aside."""
        try:
            return decode(key, self.file(key).read_bytes())
        except FileNotFoundError:
            return None
        except DamagedRecordError as damage:
            aside = self._set_aside(key)
            logger.warning("record %s: %s; set aside as %s, to be run again", self.file(key), damage, aside)
            return None

    def keep(self, key: str, data: bytes) -> None:
        """Write a record such that, after any fault, it exists whole or not at all.

        Raises
        ------
        RecordNotKeptError
            If it cannot be written. What was kept before stays as it was.
        """
        self._remove_left_over(key)
        temporary = None
        try:
            handle, temporary = tempfile.mkstemp(prefix=f"{key}.", suffix=".tmp", dir=self.folder)
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.file(key))
            _flush_folder(self.folder)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise RecordNotKeptError(
                f"a finished run cannot be kept in {self.folder}: {error.strerror}; the {len(list(self))} "
                "records kept there are whole: make room and repeat the call, which continues from them"
            ) from error

    def lock(self, key: str) -> BaseFileLock | None:
        """Lock a run; return None if another process (or sweep) has locked it.

        The system frees a lock when its process ends. The empty file stays.
        """
        make_private(self.folder / LOCKS)
        lock = FileLock(self.folder / LOCKS / f"{key}.lock", mode=0o600)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return lock

    def _remove_left_over(self, key: str) -> None:
        """Remove the temporary files of processes that were killed while writing.

        A younger one may be another process's that is writing the same record now.
        """
        for temporary in self.folder.glob(f"{key}.*.tmp"):
            with suppress(FileNotFoundError):  # another process was faster
                if time.time() - temporary.stat().st_mtime > LEFT_OVER_SECONDS:
                    temporary.unlink()

    def _set_aside(self, key: str) -> Path:
        """Move a record out of the way, to a name that is not in use."""
        folder = self.folder / SET_ASIDE
        make_private(folder)
        names = (folder / f"{key}-{number}{SUFFIX}" for number in count())
        aside = next(name for name in names if not name.exists())
        with suppress(FileNotFoundError):  # another process was faster
            self.file(key).rename(aside)
        return aside


def _flush_folder(folder: Path) -> None:
    """Make a renaming survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
