"""Folders as data: one sub-folder a label, or files of one format that are read one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bertie.data.records import BadRow, Record, Source
from bertie.errors import DataNotFound, DataUnreadable


def ending(path: Path) -> str:
    """Return the ending that tells the format, in lower case."""
    return next((suffix.lower() for suffix in reversed(path.suffixes) if suffix.lower() != ".gz"), "")


def texts(folder: Path) -> list[Path]:
    """Return the texts in sub-folders, sorted."""
    return sorted(file for file in folder.glob("*/*.txt") if file.is_file())


def parts(folder: Path, endings: set[str]) -> list[Path]:
    """Return the files with known endings, in the order of their names. Raises DataNotFound where there are none.

    Names that begin with a dot or an underscore are marks that other programs put there, such as _SUCCESS.
    """
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith((".", "_"))]
    found = [file for file in files if ending(file) in endings]
    if not found:
        raise DataNotFound(
            f"the folder {folder} has no texts.",
            expected="one sub-folder for each label, with files ending in .txt; or files of one format, which are "
            "read one after the other",
        )
    return found


def labelled(folder: Path, files: Sequence[Path], encoding: str) -> Source:
    """Read each file as one text, with its folder's name as its label."""

    def rows() -> Iterator[Record | BadRow]:
        for number, file in enumerate(files, start=1):
            try:
                text = file.read_text(encoding=encoding)
            except (OSError, UnicodeDecodeError) as error:
                yield BadRow(number, f"{file.relative_to(folder)}: {error}")
                continue
            yield Record(number, {"text": text, "label": file.parent.name})

    return Source(["text", "label"], rows())


def one_after_the_other(folder: Path, sources: Mapping[Path, Source]) -> Source:
    """Join opened files; lines are counted through all of them. Raises DataUnreadable if their columns differ.

    JSON objects may differ from each other anyway.
    """
    first = next(iter(sources.values())).columns
    for file, source in sources.items():
        if source.columns != first and ending(file) not in {".jsonl", ".ndjson"}:
            raise DataUnreadable(
                f"{file} has other columns than the first file in {folder}.",
                expected=f"in all of them: {', '.join(first)[:200]}",
            )

    def rows() -> Iterator[Record | BadRow]:
        before = line = 0
        for source in sources.values():
            for row in source.rows:
                line = before + row.line
                yield row._replace(line=line)
            before = line

    return Source(first, rows())
