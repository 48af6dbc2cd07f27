"""Read a file, a folder, a URL or a Hub id into one table whose index locates every row in its source."""

import io
import json
import logging
import os
import re
import reprlib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import constants, metadata_load

from lib import hub
from lib.errors import InputError, first_line
from lib.models import quiet_libraries

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
SEPARATORS = ",;|\t"
CARD = "README.md"
# The files of a Hub data set that are fetched: its card, which says what they are, and tables.
HUB_FILES = (CARD, "*.csv", "*.tsv", "*.jsonl", "*.json", "*.parquet")
SPLIT_COLUMN = "split"
SPLITS = {  # from the names that sources use
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


class CorpusError(InputError):
    """A data set cannot be used; one line names the file, the row if there is one, and what was expected."""


def is_web(source: str) -> bool:
    """Whether a source is a URL."""
    return source.startswith(("https://", "http://"))


def is_local(source: str) -> bool:
    """Whether a source is, or is meant as, a local file or folder."""
    if is_web(source):
        return False
    try:
        return Path(source).expanduser().exists() or Path(source).suffix.lower() in SUFFIXES
    except (OSError, ValueError, RuntimeError):  # too long for a path, contains a NUL, or begins with ~nobody
        return False


def locate(source: str) -> Path:
    """Return the file or folder of a data set; one from the web or the Hub is fetched first.

    Parameters
    ----------
    source : str
        As for `read`.

    Raises
    ------
    CorpusError
        In one line, for a source that does not exist or is unavailable.
    """
    try:
        if is_web(source):
            return hub.fetch(source)
        if is_local(source):
            return Path(source).expanduser()
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@.+)?", source, flags=re.ASCII):
            raise CorpusError(
                f"data set {source[:200]!r}: neither a known name, nor a local file or folder, "
                "nor a Hub id (owner/name)"
            )
        if hub.shelf(source).is_dir():
            return hub.shelf(source)
        return _snapshot(source)
    except hub.NoAnswer as error:
        name = source.partition("@")[0]
        raise CorpusError(
            f"{error}; or fetch its files from {constants.ENDPOINT}/datasets/{name}/tree/main and put them "
            f"as train*, validation* and test* in {str(hub.shelf(source))!r}, or give a local path"
        ) from error
    except hub.Unreachable as error:
        raise CorpusError(str(error)) from error


def read(source: str) -> pd.DataFrame:
    """Read every row of a data set.

    Parameters
    ----------
    source : str
        A csv, tsv, jsonl or parquet file; a folder of such files named after their splits (``train*``,
        ``validation*``, ``test*``); the URL of such a file; or a Hub id, ``owner/name`` or
        ``owner/name@revision``.

    Returns
    -------
    pandas.DataFrame, (rows, columns)
        Python objects, unchanged; class labels of a Hub data set are a categorical column of their names, in
        the data set's order. The index locates each row: "'texts.csv', row 7", counted as a spreadsheet
        or an editor does (a csv's header is row 1). For a folder or a Hub data set, the column ``split``
        names the split that the row comes from.

    Raises
    ------
    CorpusError
        If the source does not exist or cannot be read.
    """
    path = locate(source)
    if not path.is_dir():
        return _read_file(path, shown=source)
    if is_local(source) or path == hub.shelf(source):
        return _read_folder(path)
    return _read_snapshot(path, source)


def find_column(table: pd.DataFrame, names: Sequence[str], meaning: str) -> str:
    """Return the first of several names that is a column's, as the table spells it.

    Raises
    ------
    CorpusError
        If there is no such column; the message lists the existing ones.
    """
    by_lower_case = {str(column).lower(): column for column in reversed(table.columns)}
    for name in names:
        if name in table.columns:
            return name
        if name.lower() in by_lower_case:
            return by_lower_case[name.lower()]
    raise CorpusError(
        f"{_source(table)}: no {meaning} column {' or '.join(map(repr, names))}; "
        f"its columns are {', '.join(map(reprlib.repr, table.columns))}"
    )


def drop_empty(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Leave out rows without a text: for published data, which the reader cannot correct."""
    kept = table[[isinstance(text, str) and bool(text.strip()) for text in table[column]]]
    if len(kept) < len(table):
        logger.warning("%s: %d rows without a text left out", _source(table), len(table) - len(kept))
    return kept


def texts_of(table: pd.DataFrame, column: str) -> list[str]:
    """Return a column's texts, each checked.

    Raises
    ------
    CorpusError
        For the first row that holds no text, an empty text, or one that UTF-8 cannot encode.
    """
    texts = table[column].tolist()
    for where, text in zip(table.index, texts, strict=True):
        if not isinstance(text, str):
            raise CorpusError(f"{where}: column {column!r} holds {reprlib.repr(text)}; expected a text")
        if not text.strip():
            raise CorpusError(f"{where}: column {column!r} is empty; expected a text")
        if not text.isascii() and re.search("[\ud800-\udfff]", text):
            raise CorpusError(
                f"{where}: column {column!r} holds half a surrogate pair, which is not a character"
            )
    return texts


def _source(table: pd.DataFrame) -> str:
    """Return the name of the file that a table's first row comes from."""
    return str(table.index[0]).rpartition(", ")[0]


def _table(columns: dict[str, list], shown: str, rows: Sequence[int]) -> pd.DataFrame:
    """Build a table from columns; ``rows`` are the row numbers that a reader of the file sees."""
    if not rows:
        raise CorpusError(f"{shown!r}: no rows")
    return pd.DataFrame(columns, index=[f"{shown!r}, row {row}" for row in rows], dtype=object)


def _read_file(path: Path, shown: str) -> pd.DataFrame:
    """Read one file, in the format that its suffix names."""
    readers = {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CorpusError(f"{shown!r}: suffix {path.suffix!r}; expected one of {', '.join(SUFFIXES)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{shown!r}: cannot be read ({error.strerror})") from error
    if not data.strip():
        raise CorpusError(f"{shown!r}: the file is empty")
    return reader(data, shown)


def _read_folder(folder: Path) -> pd.DataFrame:
    """Read every file in and below a folder; the first word of a file's name is its split."""
    tables = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        split = SPLITS.get(re.split(r"[-_. ]", path.stem)[0].lower())
        if split is None:
            raise CorpusError(f"{str(path)!r}: a folder's files must be named train*, validation* or test*")
        tables.append(_read_file(path, shown=str(path)).assign(**{SPLIT_COLUMN: split}))
    if not tables:
        raise CorpusError(
            f"{str(folder)!r}: this folder has no file with one of the suffixes {', '.join(SUFFIXES)}"
        )
    return pd.concat(tables)


def _snapshot(source: str) -> Path:
    """Return the folder with a Hub data set's files, fetched if necessary."""
    repository = hub.find("dataset", source)
    if not repository.is_offline and repository.matching(HUB_FILES) in ([], [CARD]):
        raise CorpusError(f"data set {source!r}: no file of it matches {', '.join(HUB_FILES[1:])}")
    return repository.fetch(HUB_FILES)


def _read_snapshot(folder: Path, source: str) -> pd.DataFrame:
    """Read a Hub data set's splits from its files, as its card says; extra splits are left out.

    A card is a stranger's, and datasets would read whatever file or address it names.
    """
    try:
        for pattern in _patterns_of_card(folder):
            if "://" in pattern:  # refused before datasets looks for it, which asks the network
                raise _outside(pattern, source)
        with quiet_libraries():
            builder = datasets.load_dataset_builder(str(folder))
            for file in (file for files in builder.config.data_files.values() for file in files):
                # Not resolved: the files of a snapshot are links to where huggingface_hub keeps them.
                if not Path(os.path.normpath(file)).is_relative_to(folder.resolve()):
                    raise _outside(file, source)
            builder.download_and_prepare()
            splits = builder.as_dataset()
    except CorpusError:
        raise
    except Exception as error:  # a dozen types
        raise CorpusError(f"data set {source!r}: {first_line(error)}") from error
    tables = []
    for split, rows in splits.items():
        if split.lower() not in SPLITS:
            logger.warning("%s: split %r (%d rows) left out", source, split, len(rows))
            continue
        table = _table(rows.to_dict(), f"{source}, {split}", range(1, len(rows) + 1))
        for name, feature in rows.features.items():
            if isinstance(feature, datasets.ClassLabel):
                codes = [-1 if code is None else code for code in rows[name]]
                table[name] = pd.Categorical.from_codes(codes, categories=feature.names)
        tables.append(table.assign(**{SPLIT_COLUMN: split}))
    if not tables:
        found = ", ".join(map(repr, splits))
        raise CorpusError(f"data set {source!r}: its splits are {found}; expected train, validation or test")
    return pd.concat(tables)


def _patterns_of_card(folder: Path) -> Iterator[str]:
    """Yield the files and folders that a data set's card says it is made of, as they are written there."""
    card = folder / CARD
    waiting: list[Any] = []
    if card.is_file():
        configs = (metadata_load(card) or {}).get("configs") or []
        fields = ("data_files", "data_dir")
        waiting = [config.get(field) for config in configs if isinstance(config, dict) for field in fields]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict | list):
            waiting.extend(entry.values() if isinstance(entry, dict) else entry)


def _outside(file: str, source: str) -> CorpusError:
    return CorpusError(
        f"data set {source!r}: its {CARD} names {reprlib.repr(file)}; allowed: files of the data set itself"
    )


def _decode(data: bytes, shown: str) -> str:
    """Decode a text file as UTF-8, or report the first byte that is not."""
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{shown!r}, line {line}: byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8; "
            "save the file as UTF-8"
        ) from error


def _read_csv(data: bytes, shown: str) -> pd.DataFrame:
    """Read separated values; the separator is the most frequent candidate in the header."""
    text = _decode(data, shown)
    header = text.partition("\n")[0]
    return _read_separated(text, max(SEPARATORS, key=header.count), shown)


def _read_tsv(data: bytes, shown: str) -> pd.DataFrame:
    """Read values separated by tabs, whatever else the header holds."""
    return _read_separated(_decode(data, shown), "\t", shown)


def _read_separated(text: str, separator: str, shown: str) -> pd.DataFrame:
    """Read separated values; rows that hold nothing are left out."""
    how: dict[str, Any] = {
        "sep": separator,
        "dtype": str,
        "index_col": False,
        "keep_default_na": False,
        "skip_blank_lines": False,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(io.StringIO(text), **how)
            header = []
            if len(table.columns):  # the first line is not blank
                header = pd.read_csv(io.StringIO(text), header=None, nrows=1, **how).iloc[0].tolist()
    except (pd.errors.ParserError, pd.errors.ParserWarning, pd.errors.EmptyDataError) as error:
        raise CorpusError(f"{shown!r}{_csv_complaint(str(error), separator)}") from error
    table = table.astype(object)
    # pandas numbers names that occur twice; only those that the header leaves empty are its own.
    table.columns = [name.strip() or own.strip() for name, own in zip(header, table.columns, strict=True)]
    _refuse_equal_names(list(table.columns), shown)
    rows = [row for row, blank in enumerate((table == "").all(axis=1), start=2) if not blank]
    kept = table.iloc[[row - 2 for row in rows]]
    return _table({name: kept[name].tolist() for name in kept}, shown, rows)


def _refuse_equal_names(names: Sequence[str], shown: str) -> None:
    """Refuse columns that cannot be told apart."""
    name, count = max(Counter(names).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise CorpusError(
            f"{shown!r}: {count} columns are called {reprlib.repr(name)}; allowed: one of each name"
        )


def _csv_complaint(message: str, separator: str) -> str:
    """Translate pandas' complaint (pandas counts lines for fields, but rows from 0 for open quotes)."""
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message):
        expected, row, seen = found.groups()
        return f", row {row}: {seen} fields separated by {separator!r}; expected {expected}"
    if found := re.search(r"EOF inside string starting at row (\d+)", message):
        return f", row {int(found[1]) + 1}: a quotation mark is never closed"
    if "header" in message:
        return f", row 2: more fields separated by {separator!r} than the header has columns"
    return f": cannot be read as separated values ({message})"


def _read_jsonl(data: bytes, shown: str) -> pd.DataFrame:
    """Read one JSON object per line."""
    objects, rows = [], []
    for row, line in enumerate(_decode(data, shown).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{shown!r}, row {row}: broken JSON ({error})") from error
        if not isinstance(value, dict):
            raise CorpusError(f"{shown!r}, row {row}: {reprlib.repr(value)}; expected a JSON object")
        objects.append(value)
        rows.append(row)
    names = dict.fromkeys(name for value in objects for name in value)
    return _table({name: [value.get(name) for value in objects] for name in names}, shown, rows)


def _read_parquet(data: bytes, shown: str) -> pd.DataFrame:
    """Read a parquet file without unpickling anything in it."""
    try:
        names = pq.read_schema(pa.BufferReader(data)).names
        _refuse_equal_names(names, shown)  # which pyarrow does not read
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{shown!r}: not a readable parquet file ({first_line(error)})") from error
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
