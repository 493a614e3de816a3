from __future__ import annotations

from pathlib import Path

import pytest

from bertie.errors import UsageError
from bertie.serve.shares import Share, parse


def test_a_bundle_without_a_name_gets_the_servers() -> None:
    assert parse(["runs/first"], "model") == {"model": (Share(Path("runs/first")),)}


def test_names_and_shares() -> None:
    found = parse(["runs/first", "tone=b", "mail=old:90,new:10"], "model")
    assert list(found) == ["model", "tone", "mail"]
    assert found["mail"] == (Share(Path("old"), 90), Share(Path("new"), 10))


def test_a_folder_is_what_it_is_called(tmp_path: Path) -> None:
    for name in ("a=b", "a,b:3"):
        (tmp_path / name).mkdir()
    assert parse([str(tmp_path / "a=b")], "model")["model"] == (Share(tmp_path / "a=b"),)
    assert parse([f"x={tmp_path}/a,b:3"], "model")["x"] == (Share(tmp_path / "a,b:3"),)


@pytest.mark.parametrize(
    "models", [["a", "b"], ["x=a", "x=b"], ["x y=a"], ["x=a:0,b:1"], ["x="], ["x=a,"], ["x=p/a,q/a"]]
)
def test_what_cannot_be_told_apart_is_refused(models: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(models, "model")
