from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from bertie.errors import OutputError, UsageError
from bertie.train.checkpoints import FACTS, TENSORS, Checkpoint, Checkpoints


def checkpoint(update: int, size: int = 100) -> Checkpoint:
    tensors = {"weights": torch.arange(size) + update, "best": torch.ones(3, dtype=torch.bfloat16)}
    return Checkpoint(update, tensors, {"standing": {"update": update, "curve": [0.1 + update]}})


@pytest.fixture(params=["folder", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "checkpoints")
        return
    url = f"memory://{uuid4().hex}/checkpoints"
    yield url
    fsspec.filesystem("memory").store.clear()


def files(place: str) -> list[str]:
    system, root = fsspec.core.url_to_fs(place)
    return sorted(name.removeprefix(root).lstrip("/") for name in system.find(root))


def test_what_is_saved_is_read_back(place: str) -> None:
    checkpoints = Checkpoints.at(place, keep=2)
    assert checkpoints.latest() is None
    checkpoints.save(checkpoint(7))
    found = Checkpoints.at(place, keep=2).latest()
    assert found is not None
    assert (found.update, found.facts) == (7, checkpoint(7).facts)
    assert all(torch.equal(found.tensors[name], value) for name, value in checkpoint(7).tensors.items())


def test_the_last_few_are_kept_by_number(place: str) -> None:
    checkpoints = Checkpoints.at(place, keep=2)
    for update in (1, 9, 10, 100):
        checkpoints.save(checkpoint(update))
        checkpoints.prune()
    assert {name.split("/")[0] for name in files(place)} == {"step-00000010", "step-00000100"}
    checkpoints.clear()
    assert files(place) == []
    assert checkpoints.latest() is None


@pytest.mark.parametrize("damage", ["cut", "changed", "no facts", "no tensors", "facts cut", "newer format"])
def test_one_that_is_not_whole_is_passed_over(place: str, damage: str) -> None:
    checkpoints = Checkpoints.at(place, keep=3)
    checkpoints.save(checkpoint(1))
    checkpoints.save(checkpoint(2))
    system, root = fsspec.core.url_to_fs(place)
    tensors, facts = (f"{root}/step-00000002/{name}" for name in (TENSORS, FACTS))
    match damage:
        case "cut":
            system.pipe_file(tensors, system.cat_file(tensors)[:-1])
        case "changed":
            system.pipe_file(tensors, system.cat_file(tensors)[:-1] + b"x")
        case "no facts":
            system.rm_file(facts)
        case "no tensors":
            system.rm_file(tensors)
        case "facts cut":
            system.pipe_file(facts, system.cat_file(facts)[:-2])
        case "newer format":
            system.pipe_file(facts, json.dumps(json.loads(system.cat_file(facts)) | {"format": 99}).encode())
    found = checkpoints.latest()
    assert found is not None
    assert found.update == 1


def test_a_second_one_after_the_same_update_leaves_the_first_until_it_is_whole(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints.at(place, keep=1)
    checkpoints.save(checkpoint(7))
    with monkeypatch.context() as patch:
        # Cut off in the midst: the first file is there, the other is not.
        patch.setattr(MemoryFileSystem, "put_file", cut_off)
        patch.setattr("bertie.disk.write_text", cut_off)
        with pytest.raises(OutputError):
            checkpoints.save(checkpoint(7, size=50))
    found = checkpoints.latest()
    assert found is not None
    assert len(found.tensors["weights"]) == 100
    for _ in range(2):
        checkpoints.save(checkpoint(7, size=50))
        checkpoints.prune()
        found = checkpoints.latest()
        assert found is not None
        assert len(found.tensors["weights"]) == 50
        assert {name.split("/")[0] for name in files(place)} == {"step-00000007b"}
    checkpoints.save(checkpoint(8))
    checkpoints.prune()
    assert {name.split("/")[0] for name in files(place)} == {"step-00000008"}


def cut_off(*_: object, **__: object) -> None:
    raise OutputError("cut off.")


def test_whose_they_are(place: str) -> None:
    checkpoints = Checkpoints.at(place, keep=2)
    assert checkpoints.owner() is None
    one = checkpoint(1)
    checkpoints.save(Checkpoint(1, one.tensors, one.facts | {"job": "mine"}))
    assert checkpoints.owner() == "mine"
    system, root = fsspec.core.url_to_fs(place)
    system.pipe_file(f"{root}/step-00000001/{FACTS}", b"of a newer version")
    assert checkpoints.owner() == ""


def test_no_room_for_a_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checkpoints = Checkpoints.at(f"memory://{uuid4().hex}", keep=1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match="a temporary folder cannot be made") as raised:
        checkpoints.save(checkpoint(1))
    assert "TMPDIR" in raised.value.hint


def test_a_full_disk_costs_the_new_checkpoint_and_no_other(small_disk: Path) -> None:
    checkpoints = Checkpoints.at(str(small_disk / "checkpoints"), keep=3)
    checkpoints.save(checkpoint(1))
    with pytest.raises(OutputError, match="cannot write"):
        checkpoints.save(checkpoint(2, size=1_000_000))
    found = checkpoints.latest()
    assert found is not None
    assert found.update == 1
    assert [entry.name for entry in (small_disk / "checkpoints").iterdir()] == ["step-00000001"]


def test_what_a_killed_process_left_half_written_does_not_count_and_goes(tmp_path: Path) -> None:
    checkpoints = Checkpoints.at(str(tmp_path / "checkpoints"), keep=2)
    checkpoints.save(checkpoint(1))
    half = tmp_path / "checkpoints" / ".step-00000002.abc"
    half.mkdir()
    (half / TENSORS).write_bytes(b"half")
    found = checkpoints.latest()
    assert found is not None
    assert found.update == 1
    checkpoints.save(checkpoint(3))
    assert not half.exists()
    checkpoints.clear()
    assert not (tmp_path / "checkpoints").exists()


def test_a_url_that_nothing_serves_is_an_error_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="checkpoints cannot be kept at nothing://here"):
        Checkpoints.at("nothing://here", keep=1)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        Checkpoints.at(str(tmp_path / "file" / "checkpoints"), keep=1).save(checkpoint(1))


def test_it_travels_as_bytes() -> None:
    found = Checkpoint.from_bytes(checkpoint(3).to_bytes())
    assert (found.update, found.facts) == (3, checkpoint(3).facts)
    assert torch.equal(found.tensors["weights"], checkpoint(3).tensors["weights"])


def test_nobody_else_may_change_a_checkpoint(tmp_path: Path) -> None:
    Checkpoints.at(str(tmp_path / "checkpoints"), keep=1).save(checkpoint(1))
    assert (tmp_path / "checkpoints" / "step-00000001").stat().st_mode & 0o022 == 0
