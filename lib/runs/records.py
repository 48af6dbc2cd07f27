"""Records of runs, kept on disk: one file a run, whole or not there, and checked whenever it is read."""

import fcntl
import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

LAYOUT = 1
"""Version of what a file holds. A file of another layout is set aside and its run is done again."""

SUFFIX = ".safetensors"
SET_ASIDE = "set_aside"
NAN = "NaN"  # how the reason of a run begins whose numbers are none

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Record:
    """What is known of one run.

    Attributes
    ----------
    settings
        The run as it was asked for, its seed included.
    status
        "done" or "failed".
    reason
        Why it failed, in a line; None when it is done.
    result
        What the run returned: JSON values and numpy arrays by name. Empty when it failed, unless it failed
        because one of these values is NaN.
    provenance
        What else decided the result: function, code, fingerprints of the inputs, threads, kind of device.
    device
        The device it ran on, by name.
    versions
        Versions of the packages that decide numbers.
    seconds
        Wall time of the run.
    peak_memory
        Bytes: on CUDA the most that torch held allocated; else the process's largest resident set during the
        run (a process that ran others before still holds what these left behind).
    attempts
        How often it was tried, up to this record.
    traceback
        Where it failed; None when it is done.
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

    def __getitem__(self, name: str) -> Any:
        if name in self.result:
            return self.result[name]
        why = f" (it failed: {self.reason})" if self.reason else ""
        raise KeyError(f"the record of {dict(self.settings)} has {sorted(self.result)}, no {name!r}{why}")


class DamagedRecordError(ValueError):
    """A file that does not hold what was written into it, or holds it in another layout."""


class RecordNotKeptError(OSError):
    """A finished run's record could not be written: a full disk, a quota, a folder that is read-only."""


def checked_result(result: Any) -> dict[str, Any]:
    """Return a run's result with numpy's scalars as Python's.

    Raises
    ------
    TypeError
        When it is not a flat dict of JSON values and numpy arrays of numbers.
    """
    if not isinstance(result, Mapping):
        raise TypeError(f"result is {type(result).__name__}; allowed: dict of JSON values and numpy arrays")
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
    """Say which of a result's numbers are NaN, if any. In lists and arrays NaN may mark a gap."""
    names = [name for name, value in result.items() if isinstance(value, float) and math.isnan(value)]
    return f"{NAN}: {', '.join(names)}" if names else None


def encode(key: str, record: Record) -> bytes:
    """Write a record as a safetensors file: arrays, the rest as JSON metadata, a checksum of every byte.

    The SHA-256 is taken of the file with zeros where it will stand. No text in the record can look like that
    place: JSON escapes the quotes inside of a string.
    """
    # in C order: safetensors writes a transposed array's memory as it lies, without a word
    arrays = {n: np.asarray(v, order="C") for n, v in record.result.items() if isinstance(v, np.ndarray)}
    header = {f.name: getattr(record, f.name) for f in fields(Record)}
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
        When a byte of it has changed, it is cut short, of another layout, or the record of another run.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        layout, checksum = metadata["layout"], metadata["sha256"]
    except (ValueError, KeyError, TypeError):
        raise DamagedRecordError("its header can't be read") from None
    if layout != str(LAYOUT):
        raise DamagedRecordError(f"its layout is {layout!r}, this version writes {LAYOUT}")
    blank = data.replace(_stamp(checksum), _stamp("0" * 64), 1)
    if hashlib.sha256(blank).hexdigest() != checksum:
        raise DamagedRecordError("its checksum does not fit")
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

    What keeps the files whole is that each is written under another name and renamed, whoever writes it. The
    locks only save doing a run twice. So where a network file system does not lock, two processes may do the
    same run, and the later record replaces the earlier.

    Parameters
    ----------
    folder
        Made when it is not there. Iteration gives the keys of its records.
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
        """Return a kept record; None where there is none, or one that had to be set aside."""
        try:
            return decode(key, self.file(key).read_bytes())
        except FileNotFoundError:
            return None
        except DamagedRecordError as damage:
            aside = self._set_aside(key)
            logger.warning("record %s: %s; set aside as %s, to be run again", self.file(key), damage, aside)
            return None

    def keep(self, key: str, data: bytes) -> None:
        """Write a record so that after any fault it is there whole, or not there.

        Raises
        ------
        RecordNotKeptError
            When it can't be written. What was kept before is left as it was.
        """
        for left_over in self.folder.glob(f"{key}.*.tmp"):  # of a process killed while it wrote
            left_over.unlink(missing_ok=True)
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
                f"a finished run can't be kept in {self.folder}: {error.strerror}; the {len(list(self))} "
                "records kept there are whole: make room, and the same call goes on from them"
            ) from error

    def lock(self, key: str) -> "Lock | None":
        """Take the right to do a run; None where another has it."""
        return Lock.take(self.folder / f"{key}.lock")

    def _set_aside(self, key: str) -> Path:
        """Move a record out of the way, to a name that no other has."""
        folder = self.folder / SET_ASIDE
        make_private(folder)
        aside = folder / f"{key}-{sum(1 for _ in folder.glob(f'{key}-*'))}{SUFFIX}"
        with suppress(FileNotFoundError):  # another process was faster
            self.file(key).rename(aside)
        return aside


class Lock:
    """A file locked by one holder at a time, and freed by the system when its process is gone."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.handle = handle

    @classmethod
    def take(cls, path: Path) -> "Lock | None":
        """Take the lock, or return None where another holds it."""
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return cls(path, handle)
            except BlockingIOError:
                os.close(handle)
                return None
            except FileNotFoundError:
                pass
            # its last holder deleted the file between our opening and our locking it, so this locks nothing
            os.close(handle)

    def free(self) -> None:
        """Delete the file, then let go of it."""
        self.path.unlink(missing_ok=True)
        os.close(self.handle)


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, readable by their owner only."""
    for path in reversed((folder, *folder.parents)):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make a renaming outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
