"""Bad sources and bad values: each raises one line that names the file, the row and what was expected."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sources import csv_of, review, two_classes

from lib.texts import tables
from lib.texts.corpora import load_classification
from lib.texts.language_corpora import load_instructions, load_quotes
from lib.texts.tables import CorpusError

GOOD = csv_of(two_classes(40), "text,label")
JSON = '{"text": "a", "label": 0}\n'


def with_row(number: int, row: str) -> str:
    """The good file with one row replaced, numbered as a spreadsheet does."""
    lines = GOOD.splitlines()
    lines[number - 1] = row
    return "\n".join(lines) + "\n"


def of_class(*labels: Any) -> str:
    """A file of 20 texts with these labels in turn."""
    return csv_of([(review(number), labels[number % len(labels)]) for number in range(20)], "text,label")


def with_splits(*rows: str) -> str:
    """A file of 40 training texts followed by these rows, the first of which is row 42."""
    return csv_of([(*row, "train") for row in two_classes(40)], "text,label,split") + "\n".join(rows) + "\n"


def to_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def parquet_of(**columns: Any) -> bytes:
    return to_parquet(pa.table(columns))


LATIN_1_IN_PARQUET = parquet_of(text=pa.array([b"a", b"b", b"caf\xe9"]).view(pa.string()), label=[0, 1, 0])
NO_ROWS_IN_PARQUET = parquet_of(text=pa.array([], pa.string()), label=pa.array([], pa.int8()))
TWICE_IN_PARQUET = to_parquet(pa.table([["a"], ["b"], [0]], names=["text", "text", "label"]))

BROKEN = {
    "missing": ("a.csv", None, ": cannot be read (No such file or directory)"),
    "no bytes": ("a.csv", "", ": the file is empty"),
    "blank": ("a.jsonl", "\n \n", ": the file is empty"),
    "header only": ("a.csv", "text,label\n", ": no rows"),
    "no rows in parquet": ("a.parquet", NO_ROWS_IN_PARQUET, ": no rows"),
    "unknown suffix": ("a.xlsx", "x", ": suffix '.xlsx'; expected one of .csv, .tsv, .jsonl, .parquet"),
    "a pickle": ("a.pkl", "x", ": suffix '.pkl'; expected one of .csv, .tsv, .jsonl, .parquet"),
    "no text column": (
        "a.csv",
        "words,label\na,0\n",
        ": no text column 'text_clean' or 'text' or 'review' or 'texte' or 'content' or 'sentence'; "
        "its columns are 'words', 'label'",
    ),
    "no label column": (
        "a.jsonl",
        '{"text": "a", "stars": 3}\n',
        ": no label column 'label' or 'labels' or 'class' or 'classe' or 'target' or 'sentiment'; "
        "its columns are 'text', 'stars'",
    ),
    "two columns of one name": (
        "a.csv",
        "label,text,text \n0,a,b\n",
        ": 2 columns are called 'text'; allowed: one of each name",
    ),
    "the same name twice": (
        "a.csv",
        '"text",label,text\na,0,b\n',
        ": 2 columns are called 'text'; allowed: one of each name",
    ),
    "two columns of one name in parquet": (
        "a.parquet",
        TWICE_IN_PARQUET,
        ": 2 columns are called 'text'; allowed: one of each name",
    ),
    "empty text": ("a.csv", with_row(7, '"",1'), ", row 7: column 'text' is empty; expected a text"),
    "spaces": ("a.csv", with_row(8, '"  ",1'), ", row 8: column 'text' is empty; expected a text"),
    "nothing visible": (
        "a.csv",
        with_row(9, '"\u200e\x07",1'),
        ", row 9: the text is empty after cleaning; expected at least one word",
    ),
    "no label": ("a.csv", with_row(5, '"bon",'), ", row 5: no label; expected one of two classes"),
    "row cut off": ("a.csv", with_row(6, '"bon"'), ", row 6: no label; expected one of two classes"),
    "no label in parquet": (
        "a.parquet",
        parquet_of(text=["a", "b"], label=[1, None]),
        ", row 2: no label; expected one of two classes",
    ),
    "one class": ("a.csv", of_class(1), ", row 2: every label is '1'; expected two classes"),
    "one class of InfOpinion": (
        "a.csv",
        of_class("chron"),
        ", row 2: every label is 'chron'; expected two classes",
    ),
    "three classes": (
        "a.csv",
        of_class("bon", "nul", "moyen"),
        ", row 4: label 'moyen' is the third of 3 classes, after 'bon', 'nul'; expected two",
    ),
    "too many fields": (
        "a.csv",
        with_row(4, '"bon",1,2'),
        ", row 4: 3 fields separated by ','; expected 2",
    ),
    "too many fields everywhere": (
        "a.csv",
        "text,label\na,0,x\nb,1,x\n",
        ", row 2: more fields separated by ',' than the header has columns",
    ),
    "open quotation mark": (
        "a.csv",
        'text,label\n"a\nb",0\n"b,1\nc,0\n',
        ", row 3: a quotation mark is never closed",
    ),
    "Latin-1": (
        "a.csv",
        "text,label\na,0\ncafé,1\n".encode("latin-1"),
        ", line 3: byte 0xe9 at offset 18 is not UTF-8; save the file as UTF-8",
    ),
    "UTF-16": (
        "a.csv",
        GOOD.encode("utf-16"),
        ", line 1: byte 0xff at offset 0 is not UTF-8; save the file as UTF-8",
    ),
    "Latin-1 in jsonl": (
        "a.jsonl",
        JSON.encode() + b'{"text": "\xe9"}\n',
        ", line 2: byte 0xe9 at offset 36 is not UTF-8; save the file as UTF-8",
    ),
    "Latin-1 in parquet": (
        "a.parquet",
        LATIN_1_IN_PARQUET,
        ", row 3: column 'text' is not UTF-8 (byte 0xe9 at offset 3 of the text)",
    ),
    "half a surrogate pair": (
        "a.jsonl",
        JSON + '{"text": "\\ud800", "label": 1}\n',
        ", row 2: column 'text' holds half a surrogate pair, which is not a character",
    ),
    "broken JSON": (
        "a.jsonl",
        JSON + '\n{"text":\n',
        ", row 3: broken JSON (Expecting value: line 1 column 9 (char 8))",
    ),
    "JSON that is not an object": (
        "a.jsonl",
        JSON + '["b", 1]\n',
        ", row 2: ['b', 1]; expected a JSON object",
    ),
    "a number as text": (
        "a.jsonl",
        '{"text": 3, "label": 0}\n',
        ", row 1: column 'text' holds 3; expected a text",
    ),
    "no text": (
        "a.jsonl",
        JSON + '{"label": 1}\n',
        ", row 2: column 'text' holds None; expected a text",
    ),
    "unknown split": (
        "a.csv",
        with_splits('"bon",1,holdout'),
        ", row 42: split 'holdout'; expected train, validation or test",
    ),
    "no train split": (
        "a.csv",
        "text,label,split\na,0,test\nb,1,test\n",
        ", row 2: neither this row nor any other is in the train split",
    ),
    "one class in a split": (
        "a.csv",
        with_splits('"bon",1,test'),
        ": the test split lacks a class (number of texts: 1); expected texts of both classes in every split",
    ),
    "too few texts": (
        "a.csv",
        csv_of(two_classes(4), "text,label"),
        ": too few texts (4) to cut a validation split from; expected texts of both classes in every split",
    ),
}


@pytest.mark.parametrize(("name", "content", "line"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_file(tmp_path: Path, name: str, content: str | bytes | None, line: str):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorpusError) as raised:
        load_classification(path, seed=0)
    assert str(raised.value) == f"{str(path)!r}{line}"


@pytest.mark.parametrize(
    "copy", [review(3), "L’avis  d,“sobre”!"], ids=["identical", "identical after cleaning"]
)
def test_a_text_in_two_splits(tmp_path: Path, copy: str):
    path = tmp_path / "a.csv"
    path.write_text(with_splits('"bon",1,test', f'"{copy}",0,test'), encoding="utf-8")
    with pytest.raises(CorpusError) as raised:
        load_classification(path, seed=0)
    assert str(raised.value) == (
        f"{str(path)!r}, row 43: this text of the test split is also in the train split "
        f"({str(path)!r}, row 5); expected every text in one split"
    )


def test_invalid_parquet_and_endlessly_nested_json(tmp_path: Path):
    """The libraries' messages differ between versions; the error is still one line."""
    for name, content, line in (
        ("a.parquet", "text,label\n", r"a\.parquet': not a readable parquet file \(.+\)$"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl', row 1: broken JSON \(.+\)$"),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(CorpusError) as raised:
            load_classification(tmp_path / name, seed=0)
        assert re.search(line, str(raised.value))
        assert "\n" not in str(raised.value)


BAD_VALUES = {
    "no such name": (
        {"dataset": "alocine"},
        "data set 'alocine': neither a known name, nor a local file or folder, nor a Hub id (owner/name)",
    ),
    "no such folder": (
        {"dataset": "/no/such/folder"},
        "data set '/no/such/folder': neither a known name, nor a local file or folder, "
        "nor a Hub id (owner/name)",
    ),
    "not a path": (
        {"dataset": "a\0b"},
        "data set 'a\\x00b': neither a known name, nor a local file or folder, nor a Hub id (owner/name)",
    ),
    "too long for a path": (
        {"dataset": "x" * 5000},
        f"data set '{'x' * 200}': neither a known name, nor a local file or folder, "
        "nor a Hub id (owner/name)",
    ),
    "more texts than exist": (
        {"test_texts": 5},
        "{}, test split: 5 texts requested, but there are only 4; 0 takes all",
    ),
    "fewer texts than classes": (
        {"test_texts": 1},
        "{}, test split: 1 text requested; allowed: 2 or more, or 0 for all",
    ),
    "negative size": ({"train_texts": -1}, "train_texts = -1; allowed: a number of texts, or 0 for all"),
    "endless": (
        {"dataset": "mini-allocine"},
        "train_texts = 0: 'mini-allocine' is endless; give the number of texts to generate",
    ),
}


@pytest.mark.parametrize(("given", "line"), BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_value(tmp_path: Path, given: dict[str, Any], line: str):
    path = tmp_path / "a.csv"
    path.write_text(GOOD, encoding="utf-8")
    with pytest.raises(CorpusError) as raised:
        load_classification(**{"dataset": path, "seed": 0} | given)
    assert str(raised.value) == line.format(repr(str(path)))


def test_a_folder_that_is_not_a_data_set(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"': this folder has no file with one of the suffixes \.csv, "):
        load_classification(tmp_path, seed=0)
    (tmp_path / "reviews.csv").write_text(GOOD, encoding="utf-8")
    with pytest.raises(
        CorpusError, match=r"reviews\.csv': a folder's files must be named train\*, validation\* or"
    ):
        load_classification(tmp_path, seed=0)


LANGUAGE = {
    "no quote column": (
        load_quotes,
        '{"text": "a"}',
        {},
        "{}: no quote column 'quote'; its columns are 'text'",
    ),
    "no quote": (
        load_quotes,
        '{"quote": ""}',
        {},
        "{}, row 1: column 'quote' is empty; expected a text",
    ),
    "one quote": (load_quotes, '{"quote": "a"}', {}, "{}: too few texts (1) to hold out a share of 0.2"),
    "negative limit": (
        load_quotes,
        '{"quote": "a"}',
        {"limit": -5},
        "limit = -5; allowed: a number of texts, or 0 for all",
    ),
    "no output column": (
        load_instructions,
        '{"instruction": "a"}',
        {},
        "{}: no output column 'output'; its columns are 'instruction'",
    ),
    "no output": (
        load_instructions,
        '{"instruction": "a", "output": null}',
        {},
        "{}, row 1: column 'output' holds None; expected a text",
    ),
}


@pytest.mark.parametrize(("load", "content", "given", "line"), LANGUAGE.values(), ids=LANGUAGE.keys())
def test_bad_texts_for_language_models(
    tmp_path: Path, load: Any, content: str, given: dict[str, Any], line: str
):
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError) as raised:
        load(path, seed=0, **given)
    assert str(raised.value) == line.format(repr(str(path)))


def test_generated_texts_require_a_number():
    with pytest.raises(
        CorpusError, match="limit = 0: 'mini-quotes' is endless; give the number of texts to generate"
    ):
        load_quotes("mini-quotes", seed=0)


def test_rows_are_numbered_as_a_reader_counts_them(tmp_path: Path):
    """A csv's header is row 1, a text over two lines is one row, and blank lines always count."""
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"a\nb",0\n\nc,1\n', encoding="utf-8")
    assert list(tables.read(str(path)).index) == [f"{str(path)!r}, row 2", f"{str(path)!r}, row 4"]
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n', encoding="utf-8")
    assert list(tables.read(str(path)).index) == [f"{str(path)!r}, row 1", f"{str(path)!r}, row 3"]
