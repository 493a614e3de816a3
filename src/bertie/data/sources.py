"""A file or folder becomes records, one after the other: CSV, TSV, JSON Lines, Parquet, plain lines, each also gzipped;
folders.

Nothing is decided here about columns, texts or labels. Every record knows its line; a row that does not parse comes
out as a `BadRow`, so that the caller can name all of them at once.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, cast

from bertie.config import DataSettings
from bertie.data import folders
from bertie.data.records import BadRow, Record, Source
from bertie.errors import DataNotFound, DataUnreadable, nearest, need

DELIMITERS = ",;\t|"
LARGEST_FIELD = 16 * 1024 * 1024


def open_source(path: Path, settings: DataSettings) -> Source:
    """Open a file by its ending, or a folder: with one sub-folder a label, or with files of one format.

    Raises DataNotFound or DataUnreadable; reading the rows raises DataUnreadable for broken bytes.
    """
    try:
        return _opened(path, settings)
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        raise _unreadable(path, settings, error) from error


def _opened(path: Path, settings: DataSettings) -> Source:
    if path.is_dir():
        return _folder(path, settings)
    if not path.exists():
        raise DataNotFound(f"there is no file {path}.", hint=_neighbour(path))
    suffix = folders.ending(path)
    opener = OPENERS.get(suffix)
    if opener is None:
        raise DataUnreadable(
            f"{path}: cannot tell the format from the ending {suffix!r}.",
            expected=f"one of {', '.join(OPENERS)}, each also with .gz, or a folder with one sub-folder a label",
        )
    return opener(path, settings)


def _gzipped(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _neighbour(path: Path) -> str:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return nearest(path.name, names) or "check the path"


def _csv(path: Path, settings: DataSettings) -> Source:
    first = _first_line(path, settings)
    delimiter = settings.delimiter or _delimiter(path, first)
    plain = _plain_quotes(path, settings, delimiter)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_FIELD))
    try:
        with _text(path, settings) as file:
            start = _first_row(csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True))
    except csv.Error as error:
        raise DataUnreadable(
            f"{path}: the first line does not parse: {error}.",
            hint="correct the file, or add --quoting none if quotes are plain characters of the texts",
        ) from error
    columns = [name.strip() for name in start] if settings.header else [str(i) for i in range(len(start))]

    def rows() -> Iterator[Record | BadRow]:
        with _text(path, settings) as file:
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
            if settings.header:
                _first_row(reader)
            yield from _csv_rows(reader, columns)

    return Source(columns, _guarded(rows(), path, settings))


def _first_row(reader: Any) -> list[str]:
    """Return the first row that is not an empty line, or no columns at all."""
    return next((values for values in reader if values), [])


def _csv_rows(reader: Any, columns: list[str]) -> Iterator[Record | BadRow]:
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(line, str(error))
            continue
        if not values:
            continue
        if len(values) != len(columns):
            yield BadRow(line, f"{len(values)} columns instead of {len(columns)}")
        else:
            yield Record(line, dict(zip(columns, values, strict=True)))


def _first_line(path: Path, settings: DataSettings) -> str:
    with _text(path, settings) as file:
        return next((line for line in file if line.strip("\r\n")), "")


def _delimiter(path: Path, first: str) -> str:
    if folders.ending(path) in {".tsv", ".tab"}:
        return "\t"
    return max(DELIMITERS, key=first.count)


def _plain_quotes(path: Path, settings: DataSettings, delimiter: str) -> bool:
    """Tell whether quotes are plain characters of the text.

    CSV files follow RFC 4180. TSV files often know no quoting (CoLA as published is one): there a quote counts as
    quoting only if every field that has one is enclosed in quotes, with those inside doubled.
    """
    if settings.quoting != "auto":
        return settings.quoting == "none"
    if delimiter != "\t":
        return False
    with _text(path, settings) as file:
        return not all(
            _enclosed(field)
            for line in file
            if '"' in line
            for field in line.rstrip("\r\n").split("\t")
            if '"' in field
        )


def _enclosed(field: str) -> bool:
    inner = field[1:-1].replace('""', "")
    return len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner


def _jsonl(path: Path, settings: DataSettings) -> Source:
    columns: list[str] = []
    for record in _json_rows(path, settings):
        if isinstance(record, Record):
            columns = list(record.fields)
            break
    return Source(columns, _guarded(_json_rows(path, settings), path, settings))


def _json_rows(path: Path, settings: DataSettings) -> Iterator[Record | BadRow]:
    with _text(path, settings) as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                value = json.loads(text.rstrip())
            except json.JSONDecodeError as error:
                yield BadRow(line, f"not JSON: {error.msg} (column {error.colno})")
                continue
            except (ValueError, RecursionError) as error:
                yield BadRow(line, f"not JSON: {error}")
                continue
            yield Record(line, value) if isinstance(value, dict) else BadRow(line, "not a JSON object")


def _parquet(path: Path, settings: DataSettings) -> Source:
    try:
        import pyarrow as arrow  # noqa: PLC0415 - an extra, needed for this format alone
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise need("parquet", error) from error
    try:
        file = parquet.ParquetFile(io.BytesIO(gzip.decompress(path.read_bytes())) if _gzipped(path) else path)
    except arrow.ArrowException as error:
        raise DataUnreadable(f"{path} is not a Parquet file: {str(error).splitlines()[0]}") from error

    def rows() -> Iterator[Record | BadRow]:
        line = 0
        try:
            for batch in file.iter_batches(batch_size=8192):
                for fields in batch.to_pylist():
                    line += 1
                    yield Record(line, fields)
        except (arrow.ArrowException, UnicodeError) as error:
            why = str(error).splitlines()[0]
            raise DataUnreadable(f"{path}: damaged after row {line}: {why}", hint="fetch it again") from error

    return Source(list(file.schema_arrow.names), _guarded(rows(), path, settings))


def _lines(path: Path, settings: DataSettings) -> Source:
    def rows() -> Iterator[Record | BadRow]:
        with _text(path, settings) as file:
            for number, line in enumerate(file, start=1):
                yield Record(number, {"text": line.rstrip("\r\n")})

    return Source(["text"], _guarded(rows(), path, settings))


def _folder(path: Path, settings: DataSettings) -> Source:
    if labelled := folders.texts(path):
        return folders.labelled(path, labelled, _encoding(settings))
    files = folders.parts(path, {*OPENERS})
    if len({OPENERS[folders.ending(file)] for file in files}) > 1:
        endings = sorted({folders.ending(file) for file in files})
        raise DataUnreadable(f"the folder {path} holds files of several formats: {', '.join(endings)}.")
    return folders.one_after_the_other(path, {file: open_source(file, settings) for file in files})


OPENERS: dict[str, Callable[[Path, DataSettings], Source]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".tab": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
    ".txt": _lines,
}


def _text(path: Path, settings: DataSettings) -> io.TextIOWrapper:
    encoding = _encoding(settings)
    binary = gzip.open(path, "rb") if _gzipped(path) else path.open("rb")  # noqa: SIM115
    return io.TextIOWrapper(cast("IO[bytes]", binary), encoding=encoding, newline="")


def _encoding(settings: DataSettings) -> str:
    """UTF-8 with or without a byte order mark, unless the user names another."""
    try:
        "".encode(settings.encoding)
    except (LookupError, ValueError) as error:
        what = f"there is no encoding {settings.encoding!r}."
        raise DataUnreadable(what, hint="for example utf-8, cp1252") from error
    return "utf-8-sig" if settings.encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else settings.encoding


def _guarded(rows: Iterator[Record | BadRow], path: Path, settings: DataSettings) -> Iterator[Record | BadRow]:
    try:
        yield from rows
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        raise _unreadable(path, settings, error) from error


def _unreadable(path: Path, settings: DataSettings, error: Exception) -> DataUnreadable:
    if isinstance(error, UnicodeError):
        return DataUnreadable(
            f"{path}{_broken_line(path, settings)}: not {settings.encoding} text.",
            hint="name the file's encoding, for example --encoding cp1252, or convert it to UTF-8",
        )
    if isinstance(error, (EOFError, zlib.error, gzip.BadGzipFile)):
        return DataUnreadable(f"{path}: the gzip file is damaged or cut off ({error}).", hint="fetch it again")
    return DataUnreadable(f"cannot read {path}: {getattr(error, 'strerror', None) or error}.")


def _broken_line(path: Path, settings: DataSettings) -> str:
    """Find the first line that does not decode; the decoder itself knows only a place in its buffer."""
    if "\n".encode(settings.encoding).removeprefix(codecs.BOM_UTF8) != b"\n":
        return ""  # UTF-16 and its like: the bytes cannot be cut into lines before they are decoded
    opener = gzip.open if _gzipped(path) else open
    with opener(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode(settings.encoding)
            except UnicodeError as error:
                byte = line[error.start : error.start + 1].hex() if isinstance(error, UnicodeDecodeError) else "?"
                return f", line {number}, byte 0x{byte}"
    return ""
