"""Rows in: a file, a folder, a URL or a Hub id becomes one table in which every row says where it stood."""

import io
import json
import logging
import re
import reprlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lib import hub
from lib.errors import InputError

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
SEPARATORS = ",;|\t"
SPLIT_COLUMN = "split"
SPLITS = {  # what splits are called, and what they are
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


class CorpusError(InputError):
    """A data set cannot be used, in one line: the file, the row where there is one, and what was expected."""


def is_web(source: str) -> bool:
    """Whether a source is a URL."""
    return source.startswith(("https://", "http://"))


def is_local(source: str) -> bool:
    """Whether a source is a file or folder here, or meant as one."""
    if is_web(source):
        return False
    try:
        return Path(source).exists() or Path(source).suffix.lower() in SUFFIXES
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        return False


def read(source: str) -> pd.DataFrame:
    """Read every row of a data set.

    Parameters
    ----------
    source : str
        A csv, tsv, jsonl or parquet file; a folder of such files named after their splits (``train*``,
        ``validation*``, ``test*``); a URL of such a file; or a Hub id, ``owner/name``.

    Returns
    -------
    pandas.DataFrame, (rows, columns)
        Python objects, as they stand in the data. The index says where each row stands: "'texts.csv', row 7",
        counted as a spreadsheet or an editor does (a csv's header is row 1). From a folder or the Hub, the
        column ``split`` says which file or split the row comes from.

    Raises
    ------
    CorpusError
        If there is no such thing, or it cannot be read.
    """
    if is_web(source):
        try:
            return _read_file(hub.fetch(source), shown=source)
        except hub.Unreachable as error:
            raise CorpusError(str(error)) from error
    if is_local(source):
        path = Path(source)
        return _read_folder(path) if path.is_dir() else _read_file(path, shown=source)
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source, flags=re.ASCII):
        return _read_hub(source)
    raise CorpusError(
        f"data set {source[:200]!r}: neither a known name, nor a file or folder here, "
        "nor a Hub id (owner/name)"
    )


def find_column(table: pd.DataFrame, wanted: str, guesses: Sequence[str], meaning: str) -> str:
    """Return the name of a table's column: the wanted one or, if that is "", the first guess that is there.

    Raises
    ------
    CorpusError
        If there is none; it lists those that are there.
    """
    candidates = [wanted] if wanted else guesses
    by_lower_case = {str(name).lower(): name for name in reversed(table.columns)}
    for candidate in candidates:
        if candidate in table.columns:
            return candidate
        if candidate.lower() in by_lower_case:
            return by_lower_case[candidate.lower()]
    raise CorpusError(
        f"{_source(table)}: no {meaning} column {' or '.join(map(repr, candidates))}; "
        f"its columns are {', '.join(map(reprlib.repr, table.columns))}"
    )


def drop_empty(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Leave out the rows without a text: for data that the reader cannot correct."""
    kept = table[[isinstance(text, str) and bool(text.strip()) for text in table[column]]]
    if len(kept) < len(table):
        logger.warning("%s: %d rows without a text left out", _source(table), len(table) - len(kept))
    return kept


def texts_of(table: pd.DataFrame, column: str) -> list[str]:
    """Return a column's texts, after making sure that each is one.

    Raises
    ------
    CorpusError
        For the first row that holds no text, an empty one, or one that UTF-8 cannot write.
    """
    texts = table[column].tolist()
    for where, text in zip(table.index, texts, strict=True):
        if not isinstance(text, str):
            raise CorpusError(
                f"{where}: column {column!r} holds {reprlib.repr(text)} where a text is expected"
            )
        if not text.strip():
            raise CorpusError(f"{where}: column {column!r} is empty where a text is expected")
        if not text.isascii() and re.search("[\ud800-\udfff]", text):
            raise CorpusError(
                f"{where}: column {column!r} holds half a surrogate pair, which is no character"
            )
    return texts


def _source(table: pd.DataFrame) -> str:
    """Return the name of the file that a table's first row stands in."""
    return str(table.index[0]).rpartition(", ")[0]


def _table(columns: dict[str, list], shown: str, rows: Sequence[int]) -> pd.DataFrame:
    """Make a table of columns; ``rows`` are the numbers that a reader of the file sees."""
    if not rows:
        raise CorpusError(f"{shown!r}: no rows")
    return pd.DataFrame(columns, index=[f"{shown!r}, row {row}" for row in rows], dtype=object)


def _read_file(path: Path, shown: str) -> pd.DataFrame:
    """Read one file by the kind that its name ends with."""
    readers = {".csv": _read_csv, ".tsv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CorpusError(f"{shown!r}: ends with {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{shown!r}: cannot be read ({error.strerror})") from error
    if not data.strip():
        raise CorpusError(f"{shown!r}: the file is empty")
    return reader(data, shown)


def _read_folder(folder: Path) -> pd.DataFrame:
    """Read every file in and below a folder; its name's first word is its split."""
    tables = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        split = SPLITS.get(re.split(r"[-_. ]", path.stem)[0].lower())
        if split is None:
            raise CorpusError(f"{str(path)!r}: a folder's files are named train*, validation* and test*")
        tables.append(_read_file(path, shown=str(path)).assign(**{SPLIT_COLUMN: split}))
    if not tables:
        raise CorpusError(f"{str(folder)!r}: no file in this folder ends with one of {', '.join(SUFFIXES)}")
    return pd.concat(tables)


def _read_hub(repository: str) -> pd.DataFrame:
    """Read a data set's splits from the Hub, or from the files that somebody has put where they belong."""
    if hub.shelf(repository).is_dir():
        return _read_folder(hub.shelf(repository))
    try:
        splits = hub.load(repository)
    except hub.Unreachable as error:
        raise CorpusError(str(error)) from error
    tables = [
        _table(rows.to_dict(), f"{repository}, {split}", range(1, len(rows) + 1)).assign(
            **{SPLIT_COLUMN: split}
        )
        for split, rows in splits.items()
    ]
    return pd.concat(tables)


def _decode(data: bytes, shown: str) -> str:
    """Decode a text file, or say where it is not what it should be."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{shown!r}, line {line}: byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8; "
            "save the file as UTF-8"
        ) from error


def _read_csv(data: bytes, shown: str) -> pd.DataFrame:
    """Read separated values; the separator is the one that the header has most of."""
    text = _decode(data, shown)
    header = text.partition("\n")[0]
    separator = max(SEPARATORS, key=header.count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                io.StringIO(text),
                sep=separator,
                dtype=str,
                index_col=False,
                keep_default_na=False,
                skip_blank_lines=False,
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise CorpusError(f"{shown!r}{_csv_complaint(str(error), separator)}") from error
    table = table.astype(object).rename(columns=str.strip)
    rows = [row for row, blank in enumerate((table == "").all(axis=1), start=2) if not blank]
    kept = table.iloc[[row - 2 for row in rows]]
    return _table({name: kept[name].tolist() for name in kept}, shown, rows)


def _csv_complaint(message: str, separator: str) -> str:
    """Put pandas' complaint into this module's terms (it counts fields by line, open quotes from 0)."""
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message):
        expected, row, seen = found.groups()
        return f", row {row}: {seen} fields, where {expected} separated by {separator!r} are expected"
    if found := re.search(r"EOF inside string starting at row (\d+)", message):
        return f", row {int(found[1]) + 1}: a quotation mark is opened and never closed"
    if "header" in message:
        return f", row 2: more fields separated by {separator!r} than the header has columns"
    return f": cannot be read as separated values ({message})"


def _read_jsonl(data: bytes, shown: str) -> pd.DataFrame:
    """Read one JSON object a line."""
    objects, rows = [], []
    for row, line in enumerate(_decode(data, shown).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{shown!r}, row {row}: broken JSON ({error})") from error
        if not isinstance(value, dict):
            raise CorpusError(f"{shown!r}, row {row}: {reprlib.repr(value)} where a JSON object is expected")
        objects.append(value)
        rows.append(row)
    names = dict.fromkeys(name for value in objects for name in value)
    return _table({name: [value.get(name) for value in objects] for name in names}, shown, rows)


def _read_parquet(data: bytes, shown: str) -> pd.DataFrame:
    """Read a parquet file; nothing in one is unpickled."""
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"{shown!r}: not a parquet file that can be read ({hub.first_line(error)})"
        ) from error
    columns: dict[str, list] = {}
    for name in table.column_names:
        values = columns[name] = []
        try:
            values.extend(value.as_py() for value in table[name])
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{shown!r}, row {len(values) + 1}: column {name!r} is not UTF-8 "
                f"(byte 0x{error.object[error.start]:02x} at offset {error.start} of the text)"
            ) from error
    return _table(columns, shown, range(1, table.num_rows + 1))
