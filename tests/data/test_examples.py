from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bertie.config import DataSettings
from bertie.data.examples import Examples, from_lists, read
from bertie.data.records import BadRow
from bertie.errors import ColumnMissing, DataError, DataUnreadable

SLOW_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

Put = Callable[..., Examples]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Return a function that writes a file and reads it."""

    def write_and_read(name: str, content: str, **settings: Any) -> Examples:
        path = tmp_path / name
        path.write_bytes(content.encode())
        return read(path, DataSettings(**settings))

    return write_and_read


def one_label(put: Put, value: object) -> tuple[str, ...]:
    """The labels that a JSON value becomes."""
    examples = put("a.jsonl", json.dumps({"text": "a", "label": value}) + "\n")
    assert examples.bad == []
    return examples.labels[0]


# Columns


@pytest.mark.parametrize("text", ["text", "sentence", "Message", "CONTENT", "inputs"])
@pytest.mark.parametrize("label", ["label", "labels", "Class", "category", "target"])
def test_usual_names_of_columns_are_found(put: Put, text: str, label: str) -> None:
    examples = put("a.csv", f"number,{label},{text}\n1,x,hello\n")
    assert (examples.texts, examples.labels) == (["hello"], [("x",)])
    assert examples.columns == {"text": text, "label": label}


def test_the_most_usual_name_is_taken_first(put: Put) -> None:
    assert put("a.csv", "sentence,text,label\na,b,x\n").texts == ["b"]


def test_columns_are_named_or_counted_from_zero(put: Put) -> None:
    content = "a,b,c\none,two,three\n"
    assert put("a.csv", content, text_column="c", label_column="0").texts == ["three"]
    assert put("a.csv", content, text_column="2", label_column="a").labels == [("one",)]


def test_a_column_whose_name_is_a_number_goes_before_a_position(put: Put) -> None:
    assert put("a.csv", "1,0,label\nfirst,second,x\n", text_column="0").texts == ["second"]


def test_without_a_header_columns_are_told_by_position(put: Put) -> None:
    examples = put("a.csv", "x,hello\n", header=False, text_column="1", label_column="0")
    assert (examples.texts, examples.labels, examples.lines) == (["hello"], [("x",)], [1])


def test_without_a_header_columns_must_be_told(put: Put) -> None:
    with pytest.raises(ColumnMissing, match=r"which column holds the text(.|\n)*has 0, 1(.|\n)*--text-column"):
        put("a.csv", "x,hello\n", header=False)


@pytest.mark.parametrize("wanted", ["3", "-1", "²", "txet", "", "9" * 5000])
def test_a_column_that_is_not_there_is_told(put: Put, wanted: str) -> None:
    with pytest.raises(ColumnMissing) as caught:
        put("a.csv", "text,label,more\na,x,y\n", text_column=wanted)
    assert caught.value.what.endswith(f"a.csv: there is no text column {wanted!r}.")
    assert caught.value.expected == "one of text, label, more"


def test_a_column_that_is_not_there_is_told_with_the_nearest(put: Put) -> None:
    with pytest.raises(ColumnMissing, match="no label column 'lable'") as caught:
        put("a.csv", "text,label\na,x\n", label_column="lable")
    assert caught.value.hint == "did you mean 'label'?"


def test_a_label_column_that_cannot_be_told_is_an_error(put: Put) -> None:
    with pytest.raises(ColumnMissing, match=r"a\.csv: cannot tell which column holds the label(.|\n)*has text, mood"):
        put("a.csv", "text,mood\na,x\n")


@pytest.mark.parametrize(
    "given_settings", [{}, {"text_column": "1"}, {"text_column": "0", "label_column": "1"}, {"pair_column": "text"}]
)
def test_two_columns_of_one_name_cannot_be_told_apart(put: Put, given_settings: dict[str, str]) -> None:
    with pytest.raises(DataUnreadable, match=r"a\.csv: 2 columns are named 'text'"):
        put("a.csv", "label,text,text\nx,one,two\n", **given_settings)


def test_two_columns_of_one_name_do_no_harm_where_they_are_not_used(put: Put) -> None:
    assert put("a.csv", "text,,,label\none,,,x\n").texts == ["one"]


@pytest.mark.parametrize("name", ["text_pair", "Sentence2"])
def test_a_second_text_is_found_by_its_usual_name(put: Put, name: str) -> None:
    examples = put("a.csv", f"sentence,{name},label\none,two,x\n")
    assert examples.texts == [("one", "two")]
    assert examples.pairs
    assert examples.columns["pair"] == name


def test_a_second_text_is_named_or_counted(put: Put) -> None:
    assert put("a.csv", "text,answer,label\none,two,x\n", pair_column="answer").texts == [("one", "two")]
    assert put("a.csv", "text,answer,label\none,two,x\n", pair_column="1").texts == [("one", "two")]
    with pytest.raises(ColumnMissing, match="no pair column 'anwser'"):
        put("a.csv", "text,answer,label\none,two,x\n", pair_column="anwser")


# Texts


def test_texts_are_kept_as_they_are(put: Put) -> None:
    texts = ['  spaces "quotes" \t', "lines\r\nof text", "nul \0", "👩‍🚀 naïve ﷽", "\u2028"]
    content = "".join(json.dumps({"text": text, "label": "x"}) + "\n" for text in texts)
    assert put("a.jsonl", content).texts == texts


@pytest.mark.parametrize("row", ['{"text": null, "label": "x"}', '{"label": "x"}'])
def test_a_text_that_is_missing_is_empty(put: Put, row: str) -> None:
    assert put("a.jsonl", '{"text": "a", "label": "x"}\n' + row).texts == ["a", ""]


@pytest.mark.parametrize(("value", "kind"), [("3", "int"), ("true", "bool"), ('["a"]', "list"), ('{"a": 1}', "dict")])
def test_a_text_that_is_no_string_is_a_bad_row(put: Put, value: str, kind: str) -> None:
    examples = put("a.jsonl", f'{{"text": {value}, "label": "x"}}\n')
    assert examples.bad == [BadRow(1, f"the text in column 'text' is {kind}, not a string")]
    assert len(examples) == 0


@pytest.mark.parametrize("row", ['{"text": "ab\\ud83d", "label": "x"}', '{"text": "a", "label": ["ab\\ud83d"]}'])
def test_half_a_character_is_a_bad_row(put: Put, row: str) -> None:
    examples = put("a.jsonl", '{"text": "\\ud83d\\ude00", "label": "x"}\n' + row)
    assert examples.texts == ["😀"]
    assert examples.bad == [BadRow(2, "character 2 of 'ab\\ud83d' is half a character (a lone surrogate)")]


# Labels


@pytest.mark.parametrize(
    ("value", "name"),
    [("two words", "two words"), (" x ", "x"), ("ärger", "ärger"), (1, "1"), (-1, "-1"), (2.0, "2"), (True, "True")],
)
def test_labels_of_any_simple_type_become_names(put: Put, value: object, name: str) -> None:
    assert one_label(put, value) == (name,)


def test_no_label_is_an_empty_name(put: Put) -> None:
    assert one_label(put, None) == ("",)
    assert put("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"}\n').labels == [("x",), ("",)]


def test_a_list_is_several_labels_each_once(put: Put) -> None:
    assert one_label(put, ["b", "a", "b", 1]) == ("b", "a", "1")
    assert one_label(put, []) == ()


def test_one_list_makes_the_task_multi_label(put: Put) -> None:
    rows = '{"text": "a", "label": "x"}\n{"text": "b", "label": ["x"]}\n{"text": "c", "label": "y"}\n'
    assert put("a.jsonl", rows).kind == "multi-label"
    assert put("b.jsonl", rows.replace('["x"]', '"x"')).kind == "single-label"


@pytest.mark.parametrize("value", [1.5, float("nan"), float("inf"), {"a": 1}, [["x"]], [{"a": 1}], [0.5]])
def test_a_value_that_is_no_name_is_a_bad_row(put: Put, value: object) -> None:
    examples = put("a.jsonl", json.dumps({"text": "a", "label": value}) + "\n")
    (bad,) = examples.bad
    inner = value[0] if isinstance(value, list) else value
    assert bad == BadRow(1, f"the label {inner!r} is no name or whole number")


def test_bytes_of_parquet_are_no_label(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a"], "label": pyarrow.array([b"x"])}), path)
    assert read(path, DataSettings()).bad == [BadRow(1, "the label b'x' is no name or whole number")]


def test_a_separator_cuts_a_label_into_several(put: Put) -> None:
    examples = put("a.csv", "text,label\na,x; y ;x;\nb,;\nc,z\n", label_separator=";", delimiter=",")
    assert examples.labels == [("x", "y"), (), ("z",)]
    assert examples.kind == "multi-label"


def test_numbers_are_in_their_order_and_names_after_them(put: Put) -> None:
    rows = "".join(f"t,{name}\n" for name in ("b", "10", "9", "a", "-1", "①", "²", "٣", "01", "1", "9" * 5000))
    names = put("a.csv", "text,label\n" + rows).label_names()
    assert names[:4] == ("01", "1", "9", "10")
    assert set(names[4:]) == {"-1", "9" * 5000, "a", "b", "²", "٣", "①"}
    assert list(names[4:]) == sorted(names[4:])


@given(st.lists(st.text(), max_size=12))
def test_the_order_of_labels_does_not_depend_on_the_order_of_rows(labels: list[str]) -> None:
    forward = Examples("a", [""] * len(labels), [(label,) for label in labels])
    backward = Examples("a", [""] * len(labels), [(label,) for label in reversed(labels)])
    assert forward.label_names() == backward.label_names()
    assert set(forward.label_names()) == set(labels)


def test_targets_are_one_where_a_label_is_right() -> None:
    examples = from_lists(["a", "b", "c"], [["x", "y"], [], ["z"]])
    assert examples.targets(("z", "y", "x")).tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]


def test_a_label_that_a_model_does_not_know_is_told_with_file_line_and_nearest(put: Put) -> None:
    examples = put("a.csv", "text,label\na,praise\nb,prais\n")
    with pytest.raises(DataError, match=r"a\.csv, line 3: the model does not know the label 'prais'") as caught:
        examples.targets(("delivery", "praise"))
    assert caught.value.hint == "did you mean 'praise'?"
    assert examples.targets(("prais", "praise")).tolist() == [[0, 1], [1, 0]]


# Whole files


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.csv", "", "it is empty"),
        ("a.csv", "\n\n", "it is empty"),
        ("a.jsonl", "", "it is empty"),
        ("a.jsonl", '\nnot json\n{"text": ', "line 2: not JSON"),
        ("a.jsonl", "[]", "line 1: not a JSON object"),
    ],
)
def test_a_file_without_rows_is_told_with_the_reason(put: Put, name: str, content: str, why: str) -> None:
    with pytest.raises(DataError, match=f"{name} has no rows: {why}"):
        put(name, content)


def test_a_header_alone_gives_no_examples(put: Put) -> None:
    examples = put("a.csv", "text,label\n")
    assert (len(examples), examples.bad, examples.pairs, examples.label_names()) == (0, [], False, ())


def test_bad_rows_are_collected_and_the_others_keep_their_lines(put: Put) -> None:
    examples = put("a.csv", "text,label\na,x\nb\nc,y\nd,z,z\n")
    assert examples.lines == [2, 4]
    assert [row.line for row in examples.bad] == [3, 5]


def test_some_examples_keep_labels_lines_kind_and_columns(put: Put) -> None:
    part = put("a.csv", "text,label\na,x\nb,y\nc,z\n", label_separator=";").take(np.array([2, 0]))
    assert (part.texts, part.labels, part.lines) == (["c", "a"], [("z",), ("x",)], [4, 2])
    assert (part.kind, part.columns) == ("multi-label", {"text": "text", "label": "label"})


TEXT = st.text()
NAME = st.text().map(str.strip)
SINGLE = st.tuples(TEXT, NAME)
PAIR = st.tuples(st.tuples(TEXT, TEXT), NAME)
MULTI = st.tuples(TEXT, st.lists(NAME, unique=True))


@SLOW_FIXTURE
@given(st.one_of(*(st.lists(row, min_size=1, max_size=5) for row in (SINGLE, PAIR, MULTI))))
def test_what_is_written_is_read_back(tmp_path: Path, rows: list[tuple[Any, Any]]) -> None:
    examples = from_lists([text for text, _ in rows], [label for _, label in rows])
    examples.write(tmp_path / "a.jsonl")
    again = read(tmp_path / "a.jsonl", DataSettings(text_column="text", label_column="label"))
    assert (again.texts, again.labels, again.kind) == (examples.texts, examples.labels, examples.kind)
    assert again.bad == []


# Python sequences


def test_sequences_become_examples_with_labels_of_any_type() -> None:
    examples = from_lists(["a", "b", "c", "d"], ["x", np.int64(2), True, 3.0])
    assert examples.labels == [("x",), ("2",), ("True",), ("3",)]
    assert (examples.kind, examples.lines) == ("single-label", [0, 1, 2, 3])


@pytest.mark.parametrize("several", [["x", "x"], ("x",), {"x"}, frozenset({"x"})])
def test_a_sequence_of_lists_is_multi_label_and_a_name_among_them_stays_whole(several: object) -> None:
    examples = from_lists(["a", "b"], [several, "spam"])
    assert examples.labels == [("x",), ("spam",)]
    assert examples.kind == "multi-label"


@pytest.mark.parametrize("value", [0.5, float("nan"), {"a": 1}, [["x"]]])
def test_a_value_in_a_sequence_that_is_no_name_is_told_with_its_row(value: object) -> None:
    with pytest.raises(DataError, match=r"the data, row 1: the label .* is no name or whole number"):
        from_lists(["a", "b"], ["x", value])


def test_no_examples_are_no_error() -> None:
    assert len(from_lists([], [])) == 0
