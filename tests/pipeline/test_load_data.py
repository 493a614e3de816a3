from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertie.config import DataSettings, SplitSettings
from bertie.data.examples import from_lists
from bertie.errors import DataError, DataNotFound, UsageError
from bertie.pipeline.load_data import Splits, load_splits, read_files, same_kind, same_shape
from bertie.talk import Talk
from tests.conftest import make_rows, write_csv

ROWS = make_rows(40)
OTHERS = make_rows(60)[40:]


def load(data: Path, valid: Path | None = None, test: Path | None = None, **settings: Any) -> Splits:
    shares = SplitSettings(valid_share=0.2, test_share=0.1)
    return load_splits(data, valid, test, DataSettings(**settings), shares, Talk(quiet=True))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "data.csv", list(ROWS))


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "valid.csv", list(OTHERS[:10]))


@pytest.fixture
def test(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "test.csv", list(OTHERS[10:]))


def sizes(splits: Splits) -> tuple[int, int, int | None]:
    return len(splits.train), len(splits.valid), None if splits.test is None else len(splits.test)


def test_one_file_is_cut_into_three_parts(data: Path) -> None:
    splits = load(data)
    assert sizes(splits) == (28, 8, 4)
    assert splits.measured is splits.test
    assert splits.labels == ("delivery", "praise")


def test_a_validation_file_alone_leaves_the_training_rows_whole_and_measures(data: Path, valid: Path) -> None:
    splits = load(data, valid)
    assert sizes(splits) == (40, 10, None)
    assert splits.measured is splits.valid


def test_a_test_file_alone_leaves_validation_rows_to_be_cut(data: Path, test: Path) -> None:
    splits = load(data, None, test)
    assert sizes(splits) == (32, 8, 10)
    assert splits.measured.name == str(test)


def test_three_files_are_taken_as_they_are(data: Path, valid: Path, test: Path) -> None:
    splits = load(data, valid, test)
    assert sizes(splits) == (40, 10, 10)
    assert (splits.valid.name, splits.measured.name) == (str(valid), str(test))


def test_the_seed_chooses_the_rows(data: Path) -> None:
    def lines(seed: int) -> list[int]:
        return load_splits(data, None, None, DataSettings(), SplitSettings(seed=seed), Talk(quiet=True)).valid.lines

    assert lines(0) == lines(0) != lines(1)


def test_the_fingerprint_tells_texts_and_labels_apart_and_no_names(data: Path, valid: Path, tmp_path: Path) -> None:
    first = load(data, valid).fingerprint
    assert load(data.rename(tmp_path / "renamed.csv"), valid).fingerprint == first
    changed = [(f"{text}!", label) if place == 3 else (text, label) for place, (text, label) in enumerate(ROWS)]
    assert load(write_csv(data, list(changed)), valid).fingerprint != first
    relabelled = [(text, "praise") if place == 0 else (text, label) for place, (text, label) in enumerate(ROWS)]
    assert load(write_csv(data, list(relabelled)), valid).fingerprint != first


def test_errors_of_all_files_are_raised_together(data: Path, valid: Path) -> None:
    with data.open("a") as file:
        file.write(",praise\n")
    with valid.open("a") as file:
        file.write("no label,\n")
    with pytest.raises(DataError) as caught:
        load(data, valid)
    assert caught.value.what == f"{data}, line 42: 1 row without a text.\n{valid}, line 12: 1 row without a label."


def test_warnings_are_said_and_stop_nothing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(data, [*ROWS, ROWS[0]])
    load_splits(data, None, None, DataSettings(), SplitSettings(), Talk())
    assert capsys.readouterr().err == f"warning: {data}, line 42: 1 row repeat an earlier text.\n"


def test_good_data_is_read_without_a_word(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_splits(data, None, None, DataSettings(), SplitSettings(), Talk())
    assert capsys.readouterr().err == ""


def test_rows_left_out_are_counted_over_all_files_and_said(
    data: Path, valid: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (data, valid):
        with path.open("a") as file:
            file.write(",praise\na,b,c\n")
    settings = DataSettings(drop="empty-text,bad-row")
    splits = load_splits(data, valid, None, settings, SplitSettings(), Talk())
    assert splits.dropped == {"empty-text": 2, "bad-row": 2}
    assert sizes(splits) == (40, 10, None)
    assert capsys.readouterr().err == "left out 2 rows: empty-text\nleft out 2 rows: bad-row\n"


def test_a_label_with_one_row_is_left_out_of_the_training_rows_alone(data: Path, valid: Path, tmp_path: Path) -> None:
    write_csv(data, [*ROWS, ("a text", "once")])
    write_csv(valid, [("some text", "delivery"), ("other text", "praise"), ("third text", "praise")])
    (train, measured), dropped = read_files([data, valid], DataSettings(drop="label-once,empty-text"))
    assert (len(train), len(measured)) == (40, 3)
    assert dropped == {"label-once": 1, "empty-text": 0}


def test_a_label_that_training_never_sees_is_told_with_its_line(data: Path, valid: Path) -> None:
    write_csv(valid, [*OTHERS, ("a text", "prais")])
    with pytest.raises(DataError, match=r"valid\.csv, line 22: the model does not know the label 'prais'"):
        load(data, valid)


def test_a_label_of_the_test_file_alone_is_told_too(data: Path, test: Path) -> None:
    write_csv(test, [*OTHERS, ("a text", "other")])
    with pytest.raises(DataError, match=r"test\.csv, line 22: the model does not know the label 'other'"):
        load(data, None, test)


@pytest.mark.parametrize("role", ["valid", "test"])
def test_a_file_without_rows_is_told_by_its_name(data: Path, tmp_path: Path, role: str) -> None:
    empty = write_csv(tmp_path / "empty.csv", [])
    with pytest.raises(DataError, match=r"empty\.csv has no rows"):
        load(data, **{role: empty})


def test_too_few_rows_to_cut_are_told(data: Path) -> None:
    write_csv(data, [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")])
    with pytest.raises(DataError, match=r"data\.csv has too few rows(.|\n)*--valid"):
        load(data)
    write_csv(data, [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "y"), ("f", "y")])
    assert sizes(load(data)) == (2, 2, 2)


def test_pairs_and_single_texts_do_not_mix(data: Path, valid: Path) -> None:
    pairs = write_csv(valid, [("a", "b", "praise")], ("text", "text_pair", "label"))
    with pytest.raises(DataError, match=r"valid\.csv holds pairs of texts, but single texts are needed"):
        load(data, pairs)
    write_csv(data, [(text, "second", label) for text, label in ROWS], ("text", "text_pair", "label"))
    assert load(data, pairs).train.pairs
    write_csv(valid, [("a", "praise")])
    with pytest.raises(DataError, match="--pair-column"):
        load(data, valid)


def test_the_shape_of_rows_is_judged_by_what_is_needed() -> None:
    same_shape(from_lists([("a", "b")], ["x"]), pairs=True)
    same_shape(from_lists(["a"], ["x"]), pairs=False)
    with pytest.raises(DataError, match="rename or remove the second text column"):
        same_shape(from_lists([("a", "b")], ["x"]), pairs=False)


def test_lists_of_labels_are_refused_where_one_is_needed(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "valid.jsonl"
    rows: list[dict[str, Any]] = [{"text": "a", "label": ["praise"]}, {"text": "b", "label": ["praise", "delivery"]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"valid\.jsonl, line 2: the labels \['praise', 'delivery'\] are a list"):
        load(data, path)


def test_single_labels_may_measure_a_task_of_several() -> None:
    same_kind(from_lists(["a"], ["x"]), "multi-label")
    same_kind(from_lists(["a"], [["x", "y"]]), "multi-label")
    same_kind(from_lists(["a"], ["x"]), "single-label")
    with pytest.raises(DataError, match="one label for each text is needed"):
        same_kind(from_lists(["a"], [["x", "y"]]), "single-label")


def test_several_labels_are_read_with_a_separator(data: Path) -> None:
    write_csv(data, [(text, f"{label};all") for text, label in ROWS])
    splits = load(data, label_separator=";")
    assert splits.labels == ("all", "delivery", "praise")
    assert {part.kind for part in (splits.train, splits.valid, splits.measured)} == {"multi-label"}


def test_a_file_that_is_not_there_and_a_kind_that_is_none_are_told(data: Path) -> None:
    with pytest.raises(DataNotFound, match=r"no file .*none\.csv"):
        load(data, data.with_name("none.csv"))
    with pytest.raises(UsageError, match="rows cannot be dropped for 'all'"):
        load(data, drop="all")
