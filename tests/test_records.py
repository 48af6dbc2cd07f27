"""Records: a file is read as it was written, or not at all."""

import errno
import math
import os
import stat

import numpy as np
import pytest

from lib.runs import records
from lib.runs.records import (
    DamagedRecordError,
    Record,
    RecordNotKeptError,
    Store,
    checked_result,
    decode,
    encode,
)

KEY = "0123456789abcdef"


def record(**changes):
    values = {
        "settings": {"seed": 3, "lr": 2e-5},
        "status": "done",
        "reason": None,
        "result": {"accuracy": 0.9375},
        "provenance": {"run": "m:R", "threads": 1},
        "device": "cpu",
        "versions": {"torch": "2"},
        "seconds": 0.1,
        "peak_memory": 7,
        "attempts": 1,
    }
    return Record(**(values | changes))


ARRAYS = {
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "every_second": np.arange(6)[::2],
    "no_axis": np.array(1.5, dtype=np.float16),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "flags": np.array([True, False]),
    "gaps": np.array([np.nan, -0.0, np.inf]),
}


def test_what_is_read_is_what_was_written():
    result = {"words": ["œuvre", "l'", "\n"], **ARRAYS, "third": 1 / 3, "diverged": math.inf, "nothing": None}
    written = record(result=result)
    read = decode(KEY, encode(KEY, written))
    assert list(read.result) == list(result)
    for name, value in result.items():
        if isinstance(value, np.ndarray):
            assert read[name].dtype == value.dtype
            assert read[name].shape == value.shape
            assert read[name].tobytes() == value.tobytes()
        else:
            assert read[name] == value
    for name in ("settings", "status", "reason", "provenance", "device", "versions", "seconds", "attempts"):
        assert getattr(read, name) == getattr(written, name)


@pytest.mark.parametrize("text", ["0" * 64, f'"sha256":"{"0" * 64}"'])
def test_text_that_looks_like_a_checksum_stays_text(text):
    assert decode(KEY, encode(KEY, record(result={"text": text})))["text"] == text


def test_a_change_of_any_byte_is_detected():
    data = encode(KEY, record(result={"a": np.arange(3.0)}))
    for position in range(len(data)):
        for flip in (0x01, 0x80):
            damaged = bytearray(data)
            damaged[position] ^= flip
            with pytest.raises(DamagedRecordError):
                decode(KEY, bytes(damaged))


def test_no_shorter_or_longer_file_is_read():
    data = encode(KEY, record())
    for length in range(len(data)):
        with pytest.raises(DamagedRecordError):
            decode(KEY, data[:length])
    with pytest.raises(DamagedRecordError):
        decode(KEY, data + b"\0")


def test_the_record_of_another_run_is_not_read():
    with pytest.raises(DamagedRecordError, match="another run"):
        decode("fedcba9876543210", encode(KEY, record()))


def test_an_older_layout_is_set_aside_with_a_warning(tmp_path, monkeypatch, caplog):
    store = Store(tmp_path)
    with monkeypatch.context() as older:
        older.setattr(records, "LAYOUT", 0)
        store.keep(KEY, encode(KEY, record()))
    assert store.read(KEY) is None
    assert "its layout is '0', this version writes 2" in caplog.text
    assert [path.name for path in (tmp_path / "set_aside").iterdir()] == [f"{KEY}-0.safetensors"]
    assert not list(store)


def test_only_the_owner_can_read(tmp_path):
    store = Store(tmp_path / "cache" / "records" / "s")
    store.keep(KEY, encode(KEY, record()))
    for folder in (tmp_path / "cache", tmp_path / "cache" / "records", store.folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.file(KEY).stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_is_one_error_and_keeps_what_was_kept(tmp_path, monkeypatch, step):
    store = Store(tmp_path)
    store.keep(KEY, encode(KEY, record()))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, step, full)
        for key in (KEY, "another"):
            with pytest.raises(RecordNotKeptError, match="No space left on device; the 1 records"):
                store.keep(key, encode(key, record(result={"accuracy": 0.0})))
    assert [path.name for path in tmp_path.iterdir()] == [store.file(KEY).name]
    assert store.read(KEY)["accuracy"] == 0.9375


def test_two_processes_may_write_the_same_record_at_a_time(tmp_path, monkeypatch):
    """As on a file system without locks."""
    first, second = Store(tmp_path), Store(tmp_path)
    flush = os.fsync

    def while_the_first_writes(handle):
        monkeypatch.setattr(os, "fsync", flush)
        second.keep(KEY, encode(KEY, record(result={"accuracy": 0.5})))
        flush(handle)

    monkeypatch.setattr(os, "fsync", while_the_first_writes)
    first.keep(KEY, encode(KEY, record()))
    assert [path.name for path in tmp_path.iterdir()] == [f"{KEY}.safetensors"]
    assert first.read(KEY)["accuracy"] == 0.9375


def test_what_a_killed_process_left_is_removed_later(tmp_path):
    store = Store(tmp_path)
    young, old = tmp_path / f"{KEY}.young.tmp", tmp_path / f"{KEY}.old.tmp"
    for file in (young, old):
        file.write_bytes(b"half a rec")
    os.utime(old, (0, 0))
    store.keep(KEY, encode(KEY, record()))
    assert set(tmp_path.iterdir()) == {store.file(KEY), young}


def test_a_lock_has_one_holder(tmp_path):
    store = Store(tmp_path)
    lock = store.lock(KEY)
    assert store.lock(KEY) is None
    assert store.lock("another") is not None
    lock.release()
    assert store.lock(KEY) is not None


def test_a_lock_file_that_stays_locks_nothing_and_is_no_record(tmp_path):
    store = Store(tmp_path)
    store.lock(KEY).release()
    file = tmp_path / "locks" / f"{KEY}.lock"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert store.lock(KEY) is not None
    assert not list(store)


def test_setting_a_record_aside_replaces_no_other(tmp_path):
    store = Store(tmp_path)

    def set_aside(content):
        store.keep(KEY, content)
        assert store.read(KEY) is None

    set_aside(b"first")
    set_aside(b"second")
    (tmp_path / "set_aside" / f"{KEY}-0.safetensors").unlink()
    set_aside(b"third")
    assert {path.read_bytes() for path in (tmp_path / "set_aside").iterdir()} == {b"second", b"third"}


def test_a_failed_record_says_why_a_value_is_missing():
    failed = record(status="failed", reason="out of memory: 3 GiB", result={})
    with pytest.raises(KeyError, match=r"no 'accuracy' \(it failed: out of memory: 3 GiB\)"):
        failed["accuracy"]


@pytest.mark.parametrize("result", [[1], {"a": object()}, {"a": np.array(["x"])}, {"a": {1, 2}}])
def test_results_that_cannot_be_kept_are_refused(result):
    with pytest.raises(TypeError, match="result"):
        checked_result(result)


def test_numpy_scalars_become_python_scalars():
    result = checked_result({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)})
    assert result == {"a": 0.5, "b": 3, "c": True}
    assert [type(value) for value in result.values()] == [float, int, bool]
