"""Files of rows, whatever their form: JSON lines, a JSON array, CSV, TSV, Parquet, each also
compressed by gzip, and folders of these.

The form is recognised by what a file contains, not by its name alone; a form that is not read is
refused by its name. Knows nothing of problems.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from restmcts.errors import InputError

Row = dict[str, Any]
NumberedRow = tuple[int, Row | InputError]
"""A row's line or number in its file, from 1, and the row, or why it is none."""

FORMS = "JSON lines, a JSON array, CSV, TSV or Parquet, also compressed by gzip"
SUFFIXES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".tsv")
MAX_CELL_CHARACTERS = 10_000_000
MAX_ARRAY_BYTES = 2 * 1024**3
MAX_LINE_BYTES = 1024**3
_HEAD_BYTES = 512

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive or a workbook of Excel"),
    (b"ARROW1", "an Arrow file"),
    (b"\xff\xff\xff\xff", "an Arrow stream"),
    (b"SQLite format 3", "an SQLite database"),
    (b"%PDF", "a PDF document"),
    (b"\x89HDF", "an HDF5 file"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard"),
    (b"\x80\x04", "a pickle, which could run code"),
    (b"\x80\x05", "a pickle, which could run code"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself with `git lfs pull`"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document"),
)


def file_rows(path: Path) -> Iterator[NumberedRow]:
    """Yield the numbered rows of a file, or of all files of a folder in order of their names.

    Raises:
        InputError: if there is no such file, it cannot be read, or its form is not known.
    """
    if path.is_dir():
        yield from _folder_rows(path)
        return
    try:
        with _opened(path) as file:
            head = file.peek(_HEAD_BYTES)[:_HEAD_BYTES]
            yield from _rows_of(path, file, form_of(path, head))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a file of problems ({FORMS})") from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is cut off or damaged (gzip): {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def form_of(path: Path, head: bytes) -> str:
    """Return the form of a file by its first bytes, uncompressed, and its name: "JSON lines",
    "JSON", "CSV", "TSV" or "Parquet".

    Raises:
        InputError: if it is of a form that is not read; the form is named.
    """
    for magic, form in _FOREIGN:
        if head.startswith(magic):
            raise InputError(f"{path} is {form}; give {FORMS}")
    if head.startswith(_PARQUET):
        return "Parquet"
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in (".csv", ".tsv"):
        return suffix[1:].upper()
    if suffix == ".parquet":
        raise InputError(f"{path} is not a Parquet file, though its name says so; give {FORMS}")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"[") or (suffix == ".json" and text.startswith(b"{") and not _is_one_line(text)):
        return "JSON"
    return "JSON lines"


def _is_one_line(text: bytes) -> bool:
    """Return whether a text opens with a line that is a JSON value of its own, or a very long
    one.
    """
    line, newline, _ = text.partition(b"\n")
    if not newline:
        return len(text) >= _HEAD_BYTES
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def form_of_file(path: Path) -> str:
    """Return the form of a file or folder, for people.

    Raises:
        InputError: as `file_rows` does.
    """
    if path.is_dir():
        return f"folder of {len(files_of(path)):,} files"
    try:
        with _opened(path) as file:
            form = form_of(path, file.peek(_HEAD_BYTES)[:_HEAD_BYTES])
            return f"{form}, compressed by gzip" if isinstance(file.raw, gzip.GzipFile) else form
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give a file of problems ({FORMS})") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def _opened(path: Path) -> io.BufferedReader:
    """Open a file to read what it holds, uncompressed.

    Raises:
        InputError: if it can be read but once, or without end.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a pipe or a device, which cannot be read twice; write its rows into a file")
    file = path.open("rb")
    if file.peek(2)[:2] != _GZIP:
        return file
    file.close()
    return io.BufferedReader(gzip.open(path, "rb"))


def _rows_of(path: Path, file: io.BufferedReader, form: str) -> Iterator[NumberedRow]:
    if form == "Parquet":
        yield from _parquet_rows(path, file)
    elif form in ("CSV", "TSV"):
        yield from _table_rows(path, file, "," if form == "CSV" else "\t")
    elif form == "JSON":
        yield from _json_rows(path, file)
    else:
        yield from _line_rows(file)


def _line_rows(file: IO[bytes]) -> Iterator[NumberedRow]:
    for number, line in numbered_lines(file):
        yield number, json_row(line)


def read_lines(path: Path | str) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line) of every line of a file that is not blank.

    Raises:
        InputError: if there is no such file, or it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            yield from numbered_lines(file)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the path of a file of JSON lines") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give the path of a file of JSON lines") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def numbered_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, line) of every line that is not blank.

    Raises:
        InputError: if a line has no end for longer than any row is.
    """
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
        if len(line) > MAX_LINE_BYTES:
            raise InputError(f"line {number} has more than {MAX_LINE_BYTES:,} bytes: these are no JSON lines")
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            yield number, text


def json_row(line: bytes) -> Row | InputError:
    """Return the JSON object that a line holds, or what the line is instead."""
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        return InputError("not UTF-8 text")
    except (ValueError, RecursionError) as error:
        return InputError("a number of too many digits" if "digits" in str(error) else "not JSON")
    return row if isinstance(row, dict) else InputError("not a JSON object")


def _json_rows(path: Path, file: IO[bytes]) -> Iterator[NumberedRow]:
    """Yield the rows of a JSON file that is one object, a list of them, or a list in an object."""
    text = file.read(MAX_ARRAY_BYTES + 1)
    if len(text) > MAX_ARRAY_BYTES:
        raise InputError(f"{path} is a JSON array of more than 2 GB; make it JSON lines")
    try:
        found = json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        if b"\n" in text.strip() and not isinstance(error, RecursionError):
            yield from _line_rows(io.BytesIO(text))
            return
        raise InputError(f"{path} is not a JSON file: {error}") from None
    for number, row in enumerate(_listed(found), start=1):
        yield number, row if isinstance(row, dict) else InputError("not a JSON object")


def _listed(found: object) -> list[object]:
    if not isinstance(found, dict):
        return found if isinstance(found, list) else [found]
    lists = [value for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return lists[0] if len(found) <= 3 and len(lists) == 1 else [found]


def _table_rows(path: Path, file: IO[bytes], delimiter: str) -> Iterator[NumberedRow]:
    """Yield (line number, row) of a table with a header; empty cells are left out."""
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, delimiter=delimiter)
            for row in reader:
                yield reader.line_num, _filled_cells(row)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None
    except csv.Error as error:
        raise InputError(f"{path} is not a table: {error}") from None


def _filled_cells(row: Mapping[str | None, object]) -> Row:
    return {name: value for name, value in row.items() if name is not None and isinstance(value, str) and value.strip()}


def _parquet_rows(path: Path, file: IO[bytes]) -> Iterator[NumberedRow]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(f"{path} is a Parquet file, and the package pyarrow is not installed; install it") from None
    try:
        source = ParquetFile(io.BytesIO(file.read()) if path.suffix == ".gz" else path)
        rows = (row for batch in source.iter_batches() for row in batch.to_pylist())
        yield from enumerate(rows, start=1)
    except ArrowException as error:
        raise InputError(f"{path} is not a Parquet file: {str(error).splitlines()[0]}") from None


def _folder_rows(folder: Path) -> Iterator[NumberedRow]:
    number = 0
    for file in files_of(folder):
        try:
            for place, row in file_rows(file):
                number += 1
                name = f"{file.relative_to(folder)}, line {place}"
                yield number, InputError(f"({name}) {row}") if isinstance(row, InputError) else row
        except InputError as error:
            raise InputError(f"{folder} is a folder, and one of its files cannot be used: {error}") from None


def files_of(folder: Path) -> list[Path]:
    """Return the files of rows in a folder.

    Raises:
        InputError: if there are none, or they are parts of a benchmark that must not be mixed.
    """
    parts = [name for name in ("train", "test") if (folder / name).is_dir()]
    if len(parts) == 2:
        raise InputError(f"{folder} contains the parts train and test; give one of them, such as {folder / 'train'}")
    if any(folder.glob("*.arrow")):
        raise InputError(f"{folder} was saved by the package datasets as Arrow; save it with to_parquet or to_json")
    files = [
        file for file in sorted(folder.rglob("*")) if Path(file.name.removesuffix(".gz")).suffix.lower() in SUFFIXES
    ]
    if not files:
        raise InputError(f"{folder} contains no file of rows ({', '.join(SUFFIXES)})")
    return files
