from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.config import DataSettings
from bertie.data.check import DROPPABLE, Problem, Report, check, describe, drop, key
from bertie.data.examples import Examples, from_lists, read
from bertie.errors import DataError, UsageError

GOOD = "text,label\nwhere is it,delivery\nstill late,delivery\nthank you,praise\nlove it,praise\n"

Put = Callable[..., Examples]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Return a function that writes a file, or adds rows to the good one, and reads it."""

    def write_and_read(more: str = "", *, name: str = "a.csv", start: str = GOOD, **settings: str) -> Examples:
        path = tmp_path / name
        path.write_bytes((start + more).encode())
        return read(path, DataSettings.model_validate(settings))

    return write_and_read


def only(report: Report) -> Problem:
    (problem,) = report.problems
    return problem


def told(examples: Examples) -> str:
    """The line for a person about the only problem there is, without the folder of the file."""
    return describe(only(check([examples]))).removeprefix(str(Path(examples.name).parent) + "/")


def test_good_data_has_no_problems(put: Put) -> None:
    report = check([put()])
    assert report.problems == []
    report.raise_errors()


def test_a_report_counts_rows_labels_and_words(put: Put) -> None:
    report = check([put("one two three four five six,praise\n")])
    assert (report.rows, report.kind, report.pairs) == (5, "single-label", False)
    assert report.labels == {"praise": 3, "delivery": 2}
    assert report.words == {"p5": 2, "median": 2, "p95": 5, "longest": 6}
    assert report.as_dict()["labels"] == {"praise": 3, "delivery": 2}


# Each kind of problem, with the good rows beside it


@pytest.mark.parametrize("text", ["", "   ", '"\t"'])
def test_a_row_without_a_text_is_an_error(put: Put, text: str) -> None:
    examples = put(f"{text},praise\n", delimiter=",")
    assert only(check([examples])).severity == "error"
    assert told(examples) == "a.csv, line 6: 1 row without a text."


def test_a_pair_needs_both_texts() -> None:
    pairs = [("a", "b"), ("c", "d"), ("e", ""), (" ", "f")]
    problem = only(check([from_lists(pairs, ["x", "y", "x", "y"])]))
    assert (problem.kind, problem.rows) == ("empty-text", [2, 3])


def test_a_row_without_a_label_is_an_error(put: Put) -> None:
    examples = put("no label,\nnor here, \n")
    assert only(check([examples])).severity == "error"
    assert told(examples) == "a.csv, lines 6, 7: 2 rows without a label."


def test_a_text_may_have_no_label_where_there_can_be_several(put: Put) -> None:
    assert check([put("no label,\n", label_separator=";")]).problems == []


def test_an_empty_name_among_several_labels_is_an_error() -> None:
    problem = only(check([from_lists(["a", "b", "c"], [["x"], ["x", ""], ["x", None]])]))
    assert (problem.kind, problem.rows) == ("empty-label", [1, 2])


def test_a_row_that_does_not_parse_is_an_error(put: Put) -> None:
    examples = put("a,b,c\nd\n")
    assert only(check([examples])).severity == "error"
    assert told(examples) == "a.csv, lines 6, 7: 2 rows do not parse; the first: 3 columns instead of 2."


@pytest.mark.parametrize("text", ["cafÃ© noir", "it\u2019s \ufffd broken", "â€œquotedâ€\x9d"])
def test_a_text_that_looks_wrongly_decoded_is_a_warning(put: Put, text: str) -> None:
    examples = put(f"{text},praise\n")
    assert only(check([examples])).severity == "warning"
    assert told(examples).startswith("a.csv, line 6: 1 row look wrongly decoded")


@pytest.mark.parametrize("text", ["café “noir” – naïve", "Привет", "你好，世界", "नमस्ते", "😀👩‍🚀", "ﷺ"])
def test_a_text_in_any_alphabet_is_not_called_wrongly_decoded(put: Put, text: str) -> None:
    assert check([put(f"{text},praise\n")]).problems == []


def test_a_repeated_text_is_a_warning(put: Put) -> None:
    examples = put("  THANK \t You,praise\nthank you,praise\n")
    assert only(check([examples])).severity == "warning"
    assert told(examples) == "a.csv, lines 6, 7: 2 rows repeat an earlier text."


def test_a_text_with_different_labels_is_a_conflict(put: Put) -> None:
    examples = put("Thank you,delivery\n")
    duplicate, conflict = check([examples]).problems
    assert (duplicate.kind, duplicate.rows) == ("duplicate", [6])
    assert (conflict.kind, conflict.severity, conflict.rows) == ("conflict", "warning", [4, 6])
    assert "1 texts stand there several times with different labels" in describe(conflict)


def test_several_labels_in_another_order_are_no_conflict() -> None:
    examples = from_lists(["a", "a", "b"], [["x", "y"], ["y", "x"], ["x", "y"]])
    assert [problem.kind for problem in check([examples]).problems] == ["duplicate"]


@pytest.mark.parametrize(("rows", "found"), [("", "there is none"), ("a,x\nb,x\n", "there is only 'x'")])
def test_fewer_than_two_labels_are_an_error(put: Put, rows: str, found: str) -> None:
    examples = put(rows, start="text,label\n")
    assert only(check([examples])).severity == "error"
    assert told(examples) == f"a.csv: a classifier needs two labels; {found}."


def test_one_label_is_enough_where_a_text_may_have_none() -> None:
    assert check([from_lists(["a", "b", "c"], [["x"], ["x"], []])]).problems == []
    problem = only(check([from_lists(["a", "b"], [[], []])]))
    assert (problem.kind, problem.message) == ("single-label", "a classifier needs a label; there is none.")


def test_a_label_that_occurs_once_is_an_error_with_the_one_it_may_mean(put: Put) -> None:
    examples = put("great,prais\n")
    assert only(check([examples])).severity == "error"
    assert told(examples) == (
        "a.csv, line 6: the label 'prais' (did you mean 'praise'?) occurs once, "
        "so it cannot be both learned and measured."
    )


def test_labels_that_occur_once_are_one_problem_with_all_their_rows(put: Put) -> None:
    problem = only(check([put("".join(f"text {letter},{letter * 3}\n" for letter in "fghijk"))]))
    assert (problem.kind, problem.count, problem.rows) == ("label-once", 6, [6, 7, 8, 9, 10, 11])
    assert problem.message.startswith("6 labels occur once, so they cannot be both learned and measured: 'fff', ")
    assert problem.message.endswith(", 'jjj' and 1 more.")


def test_a_wrong_column_with_a_label_for_each_row_is_told_at_once() -> None:
    count = 3000
    examples = from_lists([f"text {n}" for n in range(count)], [f"some long label {n * 7919}" for n in range(count)])
    start = time.monotonic()
    problem = only(check([examples]))
    assert time.monotonic() - start < 5  # comparing each with each took minutes
    assert (problem.kind, problem.count) == ("label-once", count)
    assert len(describe(problem)) < 500


def test_a_label_that_occurs_once_is_no_problem_in_a_file_that_only_measures(put: Put) -> None:
    other = put("a new text,praise\n", name="test.csv", start="text,label\n")
    assert check([put(), other]).problems == []


@pytest.mark.parametrize(("rare", "kinds"), [(2, ["imbalance"]), (3, [])])
def test_a_label_rarer_than_one_in_twenty_is_a_warning(rare: int, kinds: list[str]) -> None:
    labels = ["common"] * 60 + ["rare"] * rare
    report = check([from_lists([f"text {n}" for n in range(len(labels))], labels)])
    assert [problem.kind for problem in report.problems] == kinds
    assert not report.errors
    if kinds:
        assert only(report).message == "rare beside the commonest label (60 rows): 'rare' (2)."


@pytest.mark.parametrize(("one", "other"), [("Praise", "praise"), ("on time", "on_time"), ("late!", "late")])
def test_labels_spelled_alike_are_a_warning(one: str, other: str) -> None:
    problem = only(check([from_lists(["a", "b", "c", "d"], [one, other] * 2)]))
    assert (problem.kind, problem.severity) == ("label-spelling", "warning")
    assert problem.message == f"labels that may be one and the same: {one!r}, {other!r}."


@pytest.mark.parametrize(("one", "other"), [("+", "-"), ("1", "-1"), ("1.0", "10"), ("😀", "😢"), ("a", "b")])
def test_labels_told_apart_by_their_signs_are_not_alike(one: str, other: str) -> None:
    assert check([from_lists(["a", "b", "c", "d"], [one, other] * 2)]).problems == []


def test_a_text_in_two_files_is_a_warning(put: Put) -> None:
    train, valid = put(), put(name="valid.csv", start=GOOD.replace("love it", "new").replace("late", "there"))
    test = put(name="test.csv", start="text,label\nSTILL THERE,delivery\nfresh,praise\n")
    leaked, again = check([train, valid, test]).problems
    assert (leaked.kind, leaked.severity, leaked.rows) == ("leakage", "warning", [2, 4])
    assert describe(leaked) == f"{valid.name}, lines 2, 4: 2 rows stand in {train.name} too: {MEASURED}"
    assert describe(again) == f"{test.name}, line 2: 1 row stand in {valid.name} too: {MEASURED}"


MEASURED = "what is measured on them is too good to be true."


def test_files_without_a_common_text_leak_nothing(put: Put) -> None:
    other = "text,label\nfirst,delivery\nsecond,delivery\nthird,praise\nfourth,praise\n"
    assert check([put(), put(name="test.csv", start=other)]).problems == []


def test_empty_texts_are_no_repetition_and_no_leak(put: Put) -> None:
    files = [put(",praise\n,delivery\n"), put(name="test.csv", start="text,label\n,praise\n")]
    assert [problem.kind for problem in check(files).problems] == ["empty-text", "empty-text"]


# Reports


def test_many_rows_are_counted_and_the_first_are_named(put: Put) -> None:
    problem = only(check([put(",praise\n" * 30)]))
    assert (problem.kind, problem.count, problem.rows) == ("empty-text", 30, list(range(6, 26)))
    assert ", lines 6, 7, 8, 9, 10, ...: 30 rows" in describe(problem)


def test_all_errors_are_raised_together_and_no_warning(put: Put) -> None:
    report = check([put("a,b,c\n,praise\nno label,\nthank you,praise\n")])
    assert [problem.kind for problem in report.problems] == ["bad-row", "empty-text", "empty-label", "duplicate"]
    with pytest.raises(DataError) as caught:
        report.raise_errors()
    assert len(caught.value.what.splitlines()) == 3
    assert "repeat" not in caught.value.what
    assert caught.value.hint == "correct the file, or leave these rows out with --drop bad-row,empty-text,empty-label"


def test_nothing_can_be_dropped_to_get_a_second_label() -> None:
    with pytest.raises(DataError) as caught:
        check([from_lists(["a", "b"], ["x", "x"])]).raise_errors()
    assert caught.value.hint == "correct the file"


def test_warnings_stop_nothing() -> None:
    report = check([from_lists(["a", "A", "b", "c"], ["x", "x", "y", "y"])])
    assert only(report).severity == "warning"
    report.raise_errors()


def test_examples_without_rows_are_checked_too(put: Put) -> None:
    report = check([put(start="text,label\n")])
    assert (report.rows, report.labels, report.words) == (0, {}, {})
    assert only(report).kind == "single-label"


# Equal texts


@given(st.text(), st.sampled_from([" ", "\t", "\n", "  "]))
def test_texts_are_equal_but_for_white_space_around_and_within(text: str, space: str) -> None:
    assert key(text) == key(f"{space}{text}{space}") == key(space.join(text.split()))


@given(st.lists(st.text("ab ", max_size=4), max_size=6))
def test_texts_with_other_words_are_not_equal(texts: list[str]) -> None:
    assert len({key(text) for text in texts}) == len({" ".join(text.split()) for text in texts})


def test_texts_are_equal_but_for_case() -> None:
    assert key("STRASSE") == key("straße")
    assert key(("A", "B")) == key(("a", "b")) != key(("b", "a"))
    assert key(("a b", "c")) != key(("a", "b c"))
    assert key("a") == key(("a",))  # type: ignore[arg-type]  # a tuple of one, on purpose


# Rows left out


def test_nothing_is_left_out_unless_it_is_said(put: Put) -> None:
    examples = put("a,b,c\n,praise\n")
    again, counts = drop(examples, "")
    assert (len(again), len(again.bad), counts) == (5, 1, {})


@pytest.mark.parametrize(
    ("kind", "row"),
    [("bad-row", "a,b,c"), ("empty-text", ",praise"), ("empty-label", "text,"), ("label-once", "text,once")],
)
def test_rows_of_one_kind_are_left_out(put: Put, kind: str, row: str) -> None:
    assert [problem.kind for problem in check([put(f"{row}\n")]).errors] == [kind]
    examples, counts = drop(put(f"{row}\n"), kind)
    assert counts == {kind: 1}
    assert check([examples]).problems == []
    assert examples.lines == [2, 3, 4, 5]


def test_rows_of_all_kinds_are_left_out_in_any_order(put: Put) -> None:
    more = "a,b,c\n,praise\ntext,\ntext,once\n,pair\nlast of its label,pair\n"
    for kinds in (DROPPABLE, DROPPABLE[::-1]):
        examples, counts = drop(put(more), " , ".join(kinds) + ",")
        assert counts == {"bad-row": 1, "empty-text": 2, "empty-label": 1, "label-once": 2}
        assert check([examples]).problems == []


def test_a_kind_left_in_keeps_its_rows(put: Put) -> None:
    examples, counts = drop(put("a,b,c\n,praise\n"), "empty-text")
    assert counts == {"empty-text": 1}
    assert [row.line for row in examples.bad] == [6]


def test_labels_are_left_out_until_none_occurs_once() -> None:
    labels = [["once", "twice"], ["twice"], ["common"], ["common"]]
    examples, counts = drop(from_lists(["a", "b", "c", "d"], labels), "label-once")
    assert (examples.texts, counts) == (["c", "d"], {"label-once": 2})


def test_a_kind_that_cannot_be_left_out_is_told_with_the_nearest(put: Put) -> None:
    with pytest.raises(UsageError, match=r"for 'empty-txt'(.|\n)*did you mean 'empty-text'"):
        drop(put(), "empty-txt")
    with pytest.raises(UsageError, match=r"for 'leakage'(.|\n)*bad-row"):
        drop(put(), "bad-row,leakage")


def test_a_check_finds_the_same_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(GOOD + "Thank you,delivery\nx,prais\ny,Praise\nz,Praise\n", encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from bertie.config import DataSettings;"
        "from bertie.data.check import check; from bertie.data.examples import read;"
        "from bertie.data.split import split;"
        "e = read(Path(sys.argv[1]), DataSettings());"
        "print(check([e]), [part.lines for part in split(e, (0.2, 0.2), 0)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(path)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
