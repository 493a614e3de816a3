from __future__ import annotations

import importlib
import re

import pytest

import bertie.errors
from bertie.errors import BertieError, DataError, DependencyMissing, nearest, need

ROW = re.compile(r"^ *(?P<branch>[ │]*[├└]─ )(?P<name>\w+) +(?P<exit>\d+) +(?P<http>\d+)   \S")


def drawn(drawing: str) -> dict[str, tuple[str, int, int]]:
    """Return parent, exit code and HTTP status of each class in the drawing of the tree."""
    above = {0: "BertieError"}
    tree: dict[str, tuple[str, int, int]] = {}
    for match in filter(None, map(ROW.match, drawing.splitlines())):
        start = match.start("name")
        parent = above[max(column for column in above if column < start)]
        above = {column: name for column, name in above.items() if column < start} | {start: match["name"]}
        tree[match["name"]] = (parent, int(match["exit"]), int(match["http"]))
    return tree


def classes() -> dict[str, tuple[str, int, int]]:
    found = [value for value in vars(bertie.errors).values() if isinstance(value, type)]
    return {
        kind.__name__: (kind.__mro__[1].__name__, kind.exit_code, kind.http_status)
        for kind in found
        if issubclass(kind, BertieError) and kind is not BertieError
    }


def test_the_drawing_is_the_tree_of_classes() -> None:
    assert drawn(bertie.errors.__doc__ or "") == classes()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("ParityError               5   500", "ParityError               5   501"),
        ("NotReady                      9", "NotReady                      8"),
        (" ├─ OutputError        ", " │   ├─ OutputError    "),
        ("RequestInvalid  ", "RequestInvalids "),
    ],
)
def test_a_wrong_drawing_is_seen(right: str, wrong: str) -> None:
    drawing = bertie.errors.__doc__ or ""
    assert right in drawing
    assert drawn(drawing.replace(right, wrong)) != classes()


def test_every_class_of_the_tree_says_what_it_is_for() -> None:
    assert all(getattr(bertie.errors, name).__doc__ for name in classes())


def test_a_message_has_what_it_is_what_was_expected_and_a_hint() -> None:
    assert str(DataError("it rains.", expected="sun", hint="an umbrella")) == "it rains.\n  sun\n\nhint: an umbrella"
    assert str(DataError("it rains.", hint="an umbrella")) == "it rains.\n\nhint: an umbrella"
    assert str(DataError("it rains.")) == "it rains."


def test_the_nearest_name_is_proposed() -> None:
    assert nearest("lable", ["text", "label", "labels"]) == "did you mean 'label'?"


@pytest.mark.parametrize("known", [[], ["text", "sentence"]])
def test_a_name_like_no_other_gets_no_proposal(known: list[str]) -> None:
    assert nearest("weight", known) == ""


def test_a_library_that_is_not_there_is_named_with_its_extra() -> None:
    with pytest.raises(ImportError) as caught:
        importlib.import_module("no_such_library")
    error = need("train", caught.value)
    assert isinstance(error, DependencyMissing)
    assert "'no_such_library' is not installed" in error.what
    assert error.hint == "pip install 'bertie[train]'"


def test_an_import_error_without_a_name_is_told_by_its_message() -> None:
    assert "'no GPU build'" in need("train", ImportError("no GPU build")).what
