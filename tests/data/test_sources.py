from __future__ import annotations

import csv
import gzip
import io
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bertie.config import DataSettings
from bertie.data import sources
from bertie.data.records import BadRow, Record
from bertie.data.sources import open_source
from bertie.errors import DataNotFound, DataUnreadable

SLOW_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
TWO = "text,label\nwhere is it,delivery\nthanks,praise\n"

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows(path: Path, **settings: Any) -> list[Record | BadRow]:
    return list(open_source(path, DataSettings(**settings)).rows)


def values(path: Path, **settings: Any) -> list[list[Any]]:
    """The values of all rows, none of which may be bad."""
    found = rows(path, **settings)
    assert [row for row in found if isinstance(row, BadRow)] == []
    return [list(row.fields.values()) for row in found if isinstance(row, Record)]


def complaint(path: Path, **settings: Any) -> str:
    with pytest.raises(DataUnreadable) as caught:
        rows(path, **settings)
    return str(caught.value)


# CSV and TSV


def test_csv_rows_know_their_line_and_columns(put: Put) -> None:
    source = open_source(put("a.csv", TWO), DataSettings())
    assert source.columns == ["text", "label"]
    assert list(source.rows) == [
        Record(2, {"text": "where is it", "label": "delivery"}),
        Record(3, {"text": "thanks", "label": "praise"}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_from_the_first_line(put: Put, delimiter: str) -> None:
    others = "".join(set(",;\t|") - {delimiter}) * 3
    assert values(put("a.csv", f"text{delimiter}label\n{others}{delimiter}b\n")) == [[others, "b"]]


@pytest.mark.parametrize("name", ["a.tsv", "a.TSV", "a.tab", "a.tsv.gz"])
def test_a_tsv_file_is_cut_at_tabs_however_many_commas_it_has(put: Put, name: str) -> None:
    content = b"a, b, c\tx\nd, e\ty\n"
    path = put(name, gzip.compress(content) if name.endswith("gz") else content)
    assert values(path, header=False) == [["a, b, c", "x"], ["d, e", "y"]]


def test_a_delimiter_that_is_named_wins(put: Put) -> None:
    assert values(put("a.tsv", "t~l\na,\tb~c\n"), delimiter="~") == [["a,\tb", "c"]]


def test_without_a_header_columns_are_numbered_and_the_first_line_counts(put: Put) -> None:
    source = open_source(put("a.csv", "a,b\nc,d\n"), DataSettings(header=False))
    assert source.columns == ["0", "1"]
    assert list(source.rows) == [Record(1, {"0": "a", "1": "b"}), Record(2, {"0": "c", "1": "d"})]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_as_on_any_system(put: Put, end: str) -> None:
    found = rows(put("a.csv", TWO.replace("\n", end)))
    assert [(row.line, list(row.fields.values())) for row in found if isinstance(row, Record)] == [
        (2, ["where is it", "delivery"]),
        (3, ["thanks", "praise"]),
    ]


def test_the_last_line_needs_no_end(put: Put) -> None:
    assert values(put("a.csv", TWO.rstrip())) == values(put("b.csv", TWO))


def test_a_byte_order_mark_is_no_part_of_the_first_name(put: Put) -> None:
    assert open_source(put("a.csv", "\ufeff" + TWO), DataSettings()).columns == ["text", "label"]


def test_names_of_columns_lose_the_spaces_around_them(put: Put) -> None:
    assert open_source(put("a.csv", " text , label\na,b"), DataSettings()).columns == ["text", "label"]


def test_a_line_end_inside_quotes_belongs_to_the_text(put: Put) -> None:
    found = rows(put("a.csv", 'text,label\r\n"one\r\ntwo",x\r\nthree,y\r\n'))
    assert found == [Record(2, {"text": "one\r\ntwo", "label": "x"}), Record(4, {"text": "three", "label": "y"})]


def test_empty_lines_are_passed_over_and_counted(put: Put) -> None:
    found = rows(put("a.csv", "\n\r\ntext,label\n\na,b\n\n\nc,d\n\n"))
    assert found == [Record(5, {"text": "a", "label": "b"}), Record(8, {"text": "c", "label": "d"})]


def test_a_nul_byte_is_a_character_of_the_text(put: Put) -> None:
    assert values(put("a.csv", "text,label\na\0b,c\n")) == [["a\0b", "c"]]


@pytest.mark.parametrize(
    ("content", "bad"),
    [
        ("text,label\na,b,c\nd,e\n", BadRow(2, "3 columns instead of 2")),
        ("text,label\na\nd,e\n", BadRow(2, "1 columns instead of 2")),
        ('text,label\n"a"b,c\nd,e\n', BadRow(2, "',' expected after '\"'")),
    ],
)
def test_a_row_that_does_not_parse_is_told_and_the_next_ones_are_read(put: Put, content: str, bad: BadRow) -> None:
    assert rows(put("a.csv", content)) == [bad, Record(3, {"text": "d", "label": "e"})]


def test_a_quote_that_never_ends_is_told_with_the_line_it_begins_in(put: Put) -> None:
    found = rows(put("a.csv", 'text,label\na,b\n"c,d\ne,f\n'))
    assert found == [Record(2, {"text": "a", "label": "b"}), BadRow(3, "unexpected end of data")]


def test_a_huge_field_is_read_and_one_over_the_limit_is_told(put: Put) -> None:
    huge = "x" * sources.LARGEST_FIELD
    assert values(put("a.csv", f"text,label\n{huge},y\n")) == [[huge, "y"]]
    (bad,) = rows(put("b.csv", f"text,label\n{huge}x,y\n"))
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.why) == (2, f"field larger than field limit ({sources.LARGEST_FIELD})")


@pytest.mark.parametrize("header", ['"te"xt,label', '"text,label', "x" * (sources.LARGEST_FIELD + 1) + ",label"])
def test_a_header_that_does_not_parse_is_told(put: Put, header: str) -> None:
    path = put("a.csv", f"{header}\na,b\n")
    assert complaint(path).startswith(f"{path}: the first line does not parse: ")


def test_a_csv_file_follows_the_standard_for_quotes(put: Put) -> None:
    assert values(put("a.csv", 'text,label\n"she said ""no"", twice",x\n')) == [['she said "no", twice', "x"]]


def test_quotes_of_a_tsv_file_are_plain_where_any_stands_alone(put: Put) -> None:
    path = put("a.tsv", 'text\tlabel\n"quoted"\tx\n"no, he said\ty\nhe said "no"\tz\n')
    assert [row[0] for row in values(path)] == ['"quoted"', '"no, he said', 'he said "no"']


def test_quotes_of_a_tsv_file_enclose_where_all_of_them_do(put: Put) -> None:
    path = put("a.tsv", 'text\tlabel\n"he said ""no"""\tx\nplain\t"y"\n""\tz\n')
    assert values(path) == [['he said "no"', "x"], ["plain", "y"], ["", "z"]]


def test_quoting_that_is_named_wins(put: Put) -> None:
    plain = put("a.csv", 'text,label\n"a",b\n')
    assert values(plain, quoting="none") == [['"a"', "b"]]
    standard = put("a.tsv", 'text\tlabel\n"a\nb"\tc\n')
    assert values(standard, quoting="standard") == [["a\nb", "c"]]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_an_empty_file_has_no_columns_and_no_rows(put: Put, name: str) -> None:
    source = open_source(put(name, ""), DataSettings())
    assert (source.columns, list(source.rows)) == ([], [])


def test_a_header_alone_gives_columns_and_no_rows(put: Put) -> None:
    source = open_source(put("a.csv", "text,label\n"), DataSettings())
    assert (source.columns, list(source.rows)) == (["text", "label"], [])


FIELD = st.text(st.characters(codec="utf-8"), max_size=12)


@SLOW_FIXTURE
@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6), st.sampled_from(",;|\t"))
def test_whatever_the_csv_library_writes_is_read_back(
    tmp_path: Path, table: list[tuple[str, str]], delimiter: str
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerows([("text", "label"), *table])
    path = tmp_path / "a.csv"
    path.write_bytes(buffer.getvalue().encode())
    assert values(path, quoting="standard") == [list(row) for row in table]


# JSON Lines


def test_json_lines_know_their_line_and_keep_their_types(put: Put) -> None:
    path = put("a.jsonl", '\n{"text": "a", "label": 1}\r\n   \n{"text": null, "label": ["x", true]}\n')
    source = open_source(path, DataSettings())
    assert source.columns == ["text", "label"]
    assert list(source.rows) == [
        Record(2, {"text": "a", "label": 1}),
        Record(4, {"text": None, "label": ["x", True]}),
    ]


@pytest.mark.parametrize("text", ["null", "[]", '"text"', "3", '[{"text": "a"}]'])
def test_json_of_another_shape_is_a_bad_row(put: Put, text: str) -> None:
    assert rows(put("a.jsonl", f'{text}\n{{"text": "a"}}\n')) == [
        BadRow(1, "not a JSON object"),
        Record(2, {"text": "a"}),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"text": "a"', "not JSON: Expecting ',' delimiter (column 13)"),
        ("{'text': 'a'}", "not JSON: Expecting property name enclosed in double quotes (column 2)"),
        ('{"text": "\0"}', "not JSON: Invalid control character at (column 11)"),
        ('{"n": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit (4300 digits)"),
        ("[" * 100_000, "not JSON: maximum recursion depth exceeded"),
    ],
)
def test_a_line_that_is_not_json_is_a_bad_row(put: Put, text: str, why: str) -> None:
    bad, good = rows(put("a.jsonl", f'{text}\n{{"text": "a"}}\n'))
    assert isinstance(bad, BadRow)
    assert bad.line == 1
    assert bad.why.startswith(why)
    assert good == Record(2, {"text": "a"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | FIELD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELD, inner, max_size=3),
    max_leaves=6,
)


@SLOW_FIXTURE
@given(st.lists(st.dictionaries(FIELD, JSON, max_size=3), max_size=4), st.booleans())
def test_whatever_the_json_library_writes_is_read_back(
    tmp_path: Path, records: list[dict[str, Any]], ascii_only: bool
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes("".join(json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records).encode())
    assert rows(path) == [Record(line, record) for line, record in enumerate(records, start=1)]


# Parquet


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.gz"])
def test_parquet_rows_are_counted_from_one_and_keep_their_types(tmp_path: Path, name: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": ["a", None], "label": [1, 2], "more": [["x"], []]})
    if name.endswith("gz"):
        path = path.rename(tmp_path / "plain")
        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    source = open_source(tmp_path / name, DataSettings())
    assert source.columns == ["text", "label", "more"]
    assert list(source.rows) == [
        Record(1, {"text": "a", "label": 1, "more": ["x"]}),
        Record(2, {"text": None, "label": 2, "more": []}),
    ]


def test_parquet_without_rows_has_columns(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"text": pyarrow.array([], pyarrow.string())})
    source = open_source(path, DataSettings())
    assert (source.columns, list(source.rows)) == (["text"], [])


@pytest.mark.parametrize("content", [b"", b"text,label\na,b\n", b"PAR1" + b"x" * 40 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_told(put: Put, content: bytes) -> None:
    path = put("a.parquet", content)
    assert complaint(path).startswith(f"{path} is not a Parquet file: ")


def test_parquet_that_is_damaged_inside_is_told(tmp_path: Path) -> None:
    texts = [f"text number {number}" for number in range(5000)]
    path = write_parquet(tmp_path / "a.parquet", {"text": texts}, compression="zstd", use_dictionary=False)
    assert len(rows(path)) == 5000
    content = bytearray(path.read_bytes())
    content[100:4000] = bytes(3900)
    path.write_bytes(content)
    assert str(path) in complaint(path)


def test_parquet_with_broken_text_is_told_without_a_line_number(tmp_path: Path) -> None:
    broken = pyarrow.array([b"fine", b"\xff\xfe"], pyarrow.binary()).view(pyarrow.string())
    path = write_parquet(tmp_path / "a.parquet", {"text": broken})
    message = complaint(path)
    assert message.startswith(f"{path}: damaged after row 0: ")
    assert "--encoding" not in message


# Folders


def test_a_folder_gives_a_row_for_each_text_with_its_folder_as_label(tmp_path: Path) -> None:
    for name, text in (("praise/1.txt", "thanks\n"), ("delivery/2.txt", "where"), ("delivery/1.txt", "\ufefflate")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "delivery" / "notes.md").write_text("no text of the data")
    (tmp_path / "readme.txt").write_text("no text of the data")
    source = open_source(tmp_path, DataSettings())
    assert source.columns == ["text", "label"]
    assert list(source.rows) == [
        Record(1, {"text": "late", "label": "delivery"}),
        Record(2, {"text": "where", "label": "delivery"}),
        Record(3, {"text": "thanks\n", "label": "praise"}),
    ]


def test_a_text_of_a_folder_that_does_not_decode_is_a_bad_row_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_bytes(b"caf\xe9")
    (bad,) = rows(tmp_path)
    assert isinstance(bad, BadRow)
    assert bad.why.startswith("a/1.txt: ")
    assert values(tmp_path, encoding="latin-1") == [["café", "a"]]


def test_files_of_one_format_are_read_one_after_the_other_with_lines_counted_through(put: Put, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    put("parts/part-1.csv", "text,label\nthird,praise\nbroken\n")
    put("parts/part-0.csv", TWO)
    put("parts/_SUCCESS", "")
    put("parts/.part-0.csv.crc", "x")
    assert rows(tmp_path / "parts") == [
        Record(2, {"text": "where is it", "label": "delivery"}),
        Record(3, {"text": "thanks", "label": "praise"}),
        Record(5, {"text": "third", "label": "praise"}),
        BadRow(6, "1 columns instead of 2"),
    ]
    (tmp_path / "parts" / "part-0.csv").write_bytes(gzip.compress(TWO.encode()))
    (tmp_path / "parts" / "part-0.csv").rename(tmp_path / "parts" / "part-0.csv.gz")
    assert len(rows(tmp_path / "parts")) == 4, "each file has its own compression"


def test_files_that_do_not_belong_together_are_refused(put: Put, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    put("parts/a.csv", TWO)
    put("parts/b.csv", "label,text\npraise,thanks\n")
    assert "b.csv has other columns" in complaint(tmp_path / "parts")
    put("parts/b.csv", TWO)
    put("parts/c.jsonl", '{"text": "a", "label": "b"}\n')
    assert "several formats: .csv, .jsonl" in complaint(tmp_path / "parts")


def test_texts_in_folders_go_before_a_file_beside_them(tmp_path: Path) -> None:
    (tmp_path / "praise").mkdir()
    (tmp_path / "praise" / "1.txt").write_text("thanks")
    (tmp_path / "README.txt").write_text("what this is")
    assert values(tmp_path) == [["thanks", "praise"]]


def test_a_folder_without_texts_is_not_data(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataNotFound, match="has no texts"):
        open_source(tmp_path, DataSettings())


# What all formats share


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.GZ", "A.CSV.gz"])
def test_a_gzipped_file_is_read_as_the_plain_one(put: Put, name: str) -> None:
    assert values(put(name, gzip.compress(TWO.encode()))) == values(put("plain.csv", TWO))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.parquet.gz"])
def test_a_gzip_file_that_is_cut_off_is_told(put: Put, name: str) -> None:
    content = "".join(f'{{"text": "{number * 7919 % 10007}"}}\n' for number in range(5000))
    path = put(name, gzip.compress(content.encode())[:-20])
    assert f"{path}: the gzip file is damaged or cut off" in complaint(path)


def test_a_gzip_file_with_a_wrong_sum_is_told(put: Put) -> None:
    content = bytearray(gzip.compress(TWO.encode()))
    content[-6] ^= 1
    assert "damaged or cut off (CRC check failed" in complaint(put("a.csv.gz", bytes(content)))


def test_a_file_that_only_says_it_is_gzipped_is_told(put: Put) -> None:
    assert "damaged or cut off (Not a gzipped file" in complaint(put("a.csv.gz", TWO))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz"])
@pytest.mark.parametrize("early", [True, False])
def test_bytes_that_do_not_decode_are_told_with_line_and_value(put: Put, name: str, early: bool) -> None:
    row = b'{"text": "x"}' if "json" in name else b"text,label"
    lines = [row] * (2 if early else 20_000) + [row + b"\xe9"] + [row] * 3
    content = b"\n".join(lines)
    path = put(name, gzip.compress(content) if name.endswith("gz") else content)
    message = complaint(path)
    assert message.startswith(f"{path}, line {len(lines) - 3}, byte 0xe9: not utf-8 text.")
    assert "--encoding cp1252" in message


def test_a_character_cut_off_at_the_end_is_told(put: Put) -> None:
    assert "line 2, byte 0xc3: not utf-8 text" in complaint(put("a.csv", b"text,label\na,b\xc3"))


def test_utf16_is_read_and_a_broken_one_is_told_without_a_wrong_line(put: Put) -> None:
    content = "text,label\nĊ,b\n".encode("utf-16-le")  # U+010A holds the byte of a line end
    assert values(put("a.csv", content), encoding="utf-16-le") == [["Ċ", "b"]]
    path = put("a.csv", content + b"\x00\xd8a\x00")
    assert complaint(path, encoding="utf-16-le").startswith(f"{path}: not utf-16-le text.")


def test_an_encoding_that_is_named_is_used(put: Put) -> None:
    path = put("a.csv", "text,label\ncafé €,x\n".encode("cp1252"))
    assert values(path, encoding="cp1252") == [["café €", "x"]]


@pytest.mark.parametrize("encoding", ["utf-9", "rot13", "", "a\0b"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "folder"])
def test_an_encoding_that_does_not_exist_is_told(put: Put, tmp_path: Path, encoding: str, name: str) -> None:
    if name == "folder":
        (tmp_path / "label").mkdir()
        put("label/1.txt", "text")
        path = tmp_path
    else:
        path = put(name, TWO)
    assert complaint(path, encoding=encoding).startswith(f"there is no encoding {encoding!r}.")


@pytest.mark.parametrize("name", ["a.xlsx", "a.csv.bak", "a", ".csv", "a.gz"])
def test_an_ending_that_tells_no_format_is_told(put: Put, name: str) -> None:
    path = put(name, TWO)
    message = complaint(path)
    assert f"{path}: cannot tell the format" in message
    assert ".csv, .tsv, .tab, .jsonl, .ndjson, .parquet" in message


def test_a_file_that_is_not_there_is_told_with_the_nearest_name(put: Put) -> None:
    path = put("messages.csv", TWO)
    with pytest.raises(DataNotFound, match=r"no file .*mesages\.csv(.|\n)*did you mean 'messages\.csv'"):
        open_source(path.with_name("mesages.csv"), DataSettings())
    with pytest.raises(DataNotFound, match="check the path"):
        open_source(path.parent / "none" / "a.csv", DataSettings())


def test_a_path_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    assert "File name too long" in complaint(tmp_path / ("x" * 300 + ".csv"))


@SLOW_FIXTURE
@given(st.binary(max_size=200) | st.text(string.printable, max_size=200).map(str.encode))
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz", "a.parquet"])
def test_any_bytes_give_rows_or_a_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found, message = None, ""
    try:
        found = rows(path)
    except DataUnreadable as error:
        message = str(error)
    assert str(path) in message if found is None else all(row.line >= 1 for row in found)
