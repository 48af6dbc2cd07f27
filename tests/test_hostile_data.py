"""Hostile data: read and cleaned as text, never executed, and shown in errors as one plain line."""

import json
import pickle
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources import csv_of, two_classes

from lib.texts.cleaning import clean
from lib.texts.corpora import load_classification
from lib.texts.language_corpora import load_quotes
from lib.texts.tables import CorpusError

HOSTILE_TEXTS = [
    "<script>alert('pwned')</script> bon film",
    "<img src=x onerror=alert(document.cookie)>",
    "</td></table><h1>titre",
    "'; DROP TABLE films; --",
    "$(touch pwned) `touch pwned` && rm -rf / | sh; > pwned",
    "=cmd|' /C calc'!A",
    "{text.__class__.__mro__} %s%n ${HOME} {{config}}",
    "!!python/object/apply:os.system ['touch pwned']",
    "cos\nsystem\n(S'touch pwned'\ntR.",
    "__import__('os').system('touch pwned')",
    "nul\x00caché\x00 fin",
    "\x1b[2J\x1b]titre\x07 terminal",
    "gauche \u202eetiord\u202c \u2066isolé\u2069 \u200eà\u200f droite",
    "mot\ufeffinvisible\u00adcoupé",
    "a" * 100_000,
    "\u0301" * 500 + "accents",
    "<URL> NBR <s> </s> <mask> <unk> <pad> [CLS] [SEP]",
    "../../../etc/passwd \\\\serveur\\partage",
]
FILE_NAMES = [
    "$(touch pwned).csv",
    "; touch pwned; #.csv",
    "`touch pwned`.csv",
    "<script>alert(pwned)<:script>.csv",
    "-rf.csv",
    "deux\nlignes.csv",
    "à l'envers \u202evsc.csv",
    "%s{0}.csv",
]
COLUMN_NAMES = ["<b>text</b>", "$(touch pwned)", "__class__", "index", "text'; --", "\u202etxet", "{0}", "0"]

_RUNS_SOMETHING = {
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile"),
    *("subprocess.Popen", "pickle.find_class", "socket.connect", "ctypes.dlopen"),
}
_seen: list[str] | None = None


def _watch(event: str, _: tuple) -> None:
    if _seen is not None and event in _RUNS_SOMETHING:
        _seen.append(event)


sys.addaudithook(_watch)  # hooks cannot be removed, hence the switch


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process is started, nothing is unpickled, no connection is made, and no file appears."""
    global _seen
    monkeypatch.chdir(tmp_path)
    _seen = []
    yield
    seen, _seen = _seen, None
    assert seen == []
    assert not list(tmp_path.rglob("pwned"))


def test_the_watch_notices_a_pickle():
    """A test of the tests: loading a pickle is noticed."""
    global _seen
    pickle.loads(pickle.dumps(Path))  # noqa: S301 - our own
    assert _seen
    _seen = []


def visible(text: str) -> list[str]:
    """The visible characters of a text, except quotation marks and dots."""
    kinds = ("L", "S", "P", "M")
    plain = unicodedata.normalize("NFKC", text)
    return [c for c in plain if unicodedata.category(c)[0] in kinds and c not in "'\"."]


def rows() -> list[tuple[str, int]]:
    return [(text, number % 2) for number, text in enumerate(HOSTILE_TEXTS)] + two_classes(40)


def write(path: Path, columns: tuple[str, str] = ("text", "label")) -> None:
    """Write the hostile texts in the format that the suffix names."""
    if path.suffix == ".parquet":
        texts, labels = zip(*rows(), strict=True)
        pq.write_table(pa.table(dict(zip(columns, (texts, labels), strict=True))), path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows()]
        path.write_text("".join(lines), encoding="utf-8")
    else:
        content = csv_of([(text.replace('"', '""'), label) for text, label in rows()], ",".join(columns))
        path.write_text(content, encoding="utf-8", newline="")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_hostile_texts_are_read_as_texts(tmp_path: Path, kind: str):
    write(tmp_path / f"a.{kind}")
    corpus = load_classification(tmp_path / f"a.{kind}", seed=0)
    loaded = {row["text"]: row["label"] for split in corpus.values() for row in split}
    assert loaded == {clean(text): label for text, label in rows()}


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=lambda text: ascii(text)[:30])
def test_cleaning_keeps_visible_characters_and_nothing_else(text: str):
    cleaned = clean(text)
    assert visible(cleaned) == visible(text)
    assert cleaned.isprintable()
    assert " ".join(cleaned.split()) == cleaned


@pytest.mark.parametrize("name", FILE_NAMES, ids=ascii)
def test_hostile_file_names(tmp_path: Path, name: str):
    write(tmp_path / name)
    assert len(load_classification(tmp_path / name, seed=0)["train"]) > 40
    assert len(load_classification(name, seed=0)["train"]) > 40  # also as a relative path
    with pytest.raises(CorpusError) as raised:
        load_classification(tmp_path / name, seed=0, test_texts=1_000)
    assert str(raised.value).isprintable()  # one line without terminal control characters
    with pytest.raises(CorpusError) as raised:
        load_classification(f"none/{name}", seed=0)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", COLUMN_NAMES, ids=ascii)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_hostile_column_names(tmp_path: Path, name: str, kind: str):
    write(tmp_path / f"a.{kind}", (name, "label"))
    with pytest.raises(CorpusError, match="no text column") as raised:
        load_classification(tmp_path / f"a.{kind}", seed=0)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("label", ["<script>\x07", "$(touch pwned)\n", "\u202enul", "x" * 10_000], ids=ascii)
def test_hostile_labels(tmp_path: Path, label: str):
    path = tmp_path / "a.csv"
    path.write_text(csv_of(two_classes(40, (label, "bon")), "text,label"), encoding="utf-8", newline="")
    assert set(load_classification(path, seed=0)["train"]["label"]) == {0, 1}
    path.write_text(csv_of(two_classes(40, (label, label)), "text,label"), encoding="utf-8", newline="")
    with pytest.raises(CorpusError) as raised:
        load_classification(path, seed=0)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


class _Bomb:
    """Starts a process when unpickled."""

    def __reduce__(self) -> tuple:
        import os

        return os.system, ("touch pwned",)


def test_a_parquet_file_with_a_pickle_in_its_schema_is_read_as_text(tmp_path: Path):
    """Old versions of pyarrow unpickled the type of such a column."""
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(_Bomb()),
    }
    schema = pa.schema([pa.field("text", pa.string(), metadata=metadata), pa.field("label", pa.int64())])
    texts, labels = zip(*rows(), strict=True)
    pq.write_table(pa.table([pa.array(texts), pa.array(labels)], schema=schema), tmp_path / "a.parquet")
    assert len(load_classification(tmp_path / "a.parquet", seed=0)["train"]) > 40


def test_scripts_and_pickles_beside_the_data_are_ignored(tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "train.csv")
    (folder / "data.py").write_text("import os; os.system('touch pwned')\n", encoding="utf-8")
    (folder / "test.pkl").write_bytes(pickle.dumps(_Bomb()))
    (folder / "README.md").write_text("---\nconfigs:\n- data_files: test.pkl\n---\n", encoding="utf-8")
    assert len(load_classification(folder, seed=0)["train"]) > 40


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/../b", "/etc/passwd", "file:///etc/passwd", "a b/c", "x/$(id)"]
)
def test_a_name_that_is_not_a_data_set_opens_nothing(name: str):
    """Neither the network nor a file that is not a table."""
    with pytest.raises(CorpusError, match=r"neither a known name|expected one of \.csv"):
        load_classification(name, seed=0)


def test_hostile_quotes_are_unchanged(tmp_path: Path):
    path = tmp_path / "quotes.jsonl"
    path.write_text("".join(json.dumps({"quote": text}) + "\n" for text in HOSTILE_TEXTS), encoding="utf-8")
    corpus = load_quotes(path, seed=0)
    assert sorted([*corpus["train"]["quote"], *corpus["test"]["quote"]]) == sorted(HOSTILE_TEXTS)
