from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertie.config import DataSettings, TrainSettings
from bertie.errors import DataNotFound
from bertie.pipeline.check_data import check_data
from bertie.talk import Talk
from tests.conftest import make_rows, write_csv

ROWS = make_rows(40)
LONG = "one " * 100


def checked(*paths: Path, base: Path | str, talk: Talk | None = None, **settings: Any) -> dict[str, Any]:
    train = TrainSettings(base=str(base), **{"overlap": 4} | settings)
    return check_data(paths, DataSettings(), train, talk or Talk(quiet=True))


def kinds(answer: dict[str, Any]) -> list[tuple[str, int, list[int]]]:
    return [(problem["kind"], problem["count"], problem["rows"]) for problem in answer["problems"]]


def test_good_data_is_counted_and_has_no_problems(tmp_path: Path, tiny_base: Path) -> None:
    answer = checked(write_csv(tmp_path / "a.csv", list(ROWS)), base=tiny_base)
    assert (answer["rows"], answer["labels"]) == (40, {"delivery": 20, "praise": 20})
    assert (answer["problems"], answer["dropped"]) == ([], {})
    assert answer["columns"] == {"text": "text", "label": "label"}
    assert json.loads(json.dumps(answer)) == answer


def test_tokens_are_counted_with_the_bases_tokenizer(tmp_path: Path, tiny_base: Path) -> None:
    rows = [("one", "a"), ("one two", "a"), ("one two three", "b"), ("one two three four", "b")]
    answer = checked(write_csv(tmp_path / "a.csv", list(rows)), base=tiny_base)
    assert answer["tokens"] == {"p5": 3, "median": 4, "p95": 5, "longest": 6}


@pytest.mark.parametrize("long", ["truncate", "windows"])
def test_long_texts_are_counted_whole(tmp_path: Path, tiny_base: Path, long: str) -> None:
    path = write_csv(tmp_path / "a.csv", [*ROWS, (LONG, "praise")])
    assert checked(path, base=tiny_base, long=long)["tokens"]["longest"] == 102


def test_texts_that_would_be_cut_are_a_warning_with_their_lines(tmp_path: Path, tiny_base: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [*ROWS, (LONG, "praise"), ("one " * 62, "praise"), (LONG + "two", "praise")])
    answer = checked(path, base=tiny_base)
    assert kinds(answer) == [("truncated", 2, [42, 44])]
    (problem,) = answer["problems"]
    assert (problem["severity"], problem["file"]) == ("warning", str(path))
    assert problem["message"].startswith("2 texts are longer than 64 tokens and would be cut")


def test_windows_cut_nothing(tmp_path: Path, tiny_base: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [*ROWS, (LONG, "praise")])
    assert checked(path, base=tiny_base, long="windows")["problems"] == []


def test_pairs_are_counted_together(tmp_path: Path, tiny_base: Path) -> None:
    rows = [("one two", f"three {n}", "ab"[n % 2]) for n in range(6)] + [(LONG, LONG, "a")]
    answer = checked(write_csv(tmp_path / "a.csv", list(rows), ("text", "text_pair", "label")), base=tiny_base)
    assert answer["pairs"]
    assert (answer["tokens"]["median"], answer["tokens"]["longest"]) == (7, 203)
    assert kinds(answer) == [("truncated", 1, [8])]


def test_problems_are_all_returned_and_none_is_raised(tmp_path: Path, tiny_base: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [*ROWS, ("", "praise"), ("a", "b", "c"), ("no label", ""), (LONG, "once")])
    answer = checked(path, base=tiny_base)
    assert [kind for kind, _, _ in kinds(answer)] == ["bad-row", "empty-text", "empty-label", "label-once", "truncated"]
    json.dumps(answer)


def test_several_files_are_the_splits_of_one_set(tmp_path: Path, tiny_base: Path) -> None:
    train = write_csv(tmp_path / "train.csv", list(ROWS))
    test = write_csv(tmp_path / "test.csv", [ROWS[3], ("a new text", "praise"), (LONG, "praise")])
    answer = checked(train, test, base=tiny_base)
    assert answer["rows"] == 43
    assert kinds(answer) == [("leakage", 1, [2]), ("truncated", 1, [4])]
    assert {problem["file"] for problem in answer["problems"]} == {str(test)}


def test_half_a_character_is_told_with_its_line(tmp_path: Path, tiny_base: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": text, "label": label}) for text, label in [*ROWS, ("half \ud83d", "praise")]]
    path.write_text("\n".join(rows))
    answer = checked(path, base=tiny_base)
    assert kinds(answer) == [("bad-row", 1, [41])]


def test_a_file_without_rows_is_checked_too(tmp_path: Path, tiny_base: Path) -> None:
    answer = checked(write_csv(tmp_path / "a.csv", []), base=tiny_base)
    assert (answer["rows"], answer["tokens"]) == (0, {})
    assert kinds(answer) == [("single-label", 0, [])]


def test_a_file_without_rows_beside_a_good_one_is_checked_too(tmp_path: Path, tiny_base: Path) -> None:
    good, empty = write_csv(tmp_path / "a.csv", list(ROWS)), write_csv(tmp_path / "b.csv", [])
    assert checked(good, empty, base=tiny_base)["tokens"] == checked(good, base=tiny_base)["tokens"]


def test_without_the_base_everything_but_tokens_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_csv(tmp_path / "a.csv", [*ROWS, ("", "praise")])
    answer = checked(path, base="minilmm", talk=Talk())
    assert answer["tokens"] == {}
    assert kinds(answer) == [("empty-text", 1, [42])]
    assert capsys.readouterr().err == "lengths in tokens are left out: there is no base model 'minilmm'.\n"


def test_rows_left_out_are_counted(tmp_path: Path, tiny_base: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [*ROWS, ("", "praise")])
    train = TrainSettings(base=str(tiny_base))
    answer = check_data([path], DataSettings(drop="empty-text"), train, Talk(quiet=True))
    assert (answer["rows"], answer["dropped"], answer["problems"]) == (40, {"empty-text": 1}, [])


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path, tiny_base: Path) -> None:
    with pytest.raises(DataNotFound):
        checked(tmp_path / "none.csv", base=tiny_base)
