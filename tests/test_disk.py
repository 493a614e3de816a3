from __future__ import annotations

import contextlib
import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertie import disk
from bertie.errors import OutputError


def names(folder: Path) -> list[str]:
    """All names in a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the operating system refuse larger files, as a quota does."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary())
def test_the_hash_is_that_of_the_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert disk.sha256(path) == hashlib.sha256(content).hexdigest()


def test_a_text_file_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    disk.write_text(path, "où\r\n\0")
    assert path.read_bytes() == "où\r\n\0".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert names(tmp_path) == ["a", "a/b", "a/b/file.txt"]


def test_a_text_file_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    disk.write_text(path, "a long old text")
    disk.write_text(path, "new")
    assert path.read_text() == "new"


def test_a_text_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    disk.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        disk.write_text(path, "half \ud83d")
    with files_of_at_most(1000), pytest.raises(OutputError, match=r"file\.txt: File too large"):
        disk.write_text(path, "x" * 2000)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_text_file_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Not a directory|File exists"):
        disk.write_text(tmp_path / "file" / "below.txt", "text")


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
def test_a_folder_appears_when_its_block_ends(tmp_path: Path, before: str) -> None:
    path = tmp_path / "runs" / "run"
    if before == "an empty folder":
        path.mkdir(parents=True)
    with disk.folder(path) as stage:
        (stage / "deep").mkdir()
        (stage / "deep" / "file.txt").write_text("new")
        assert not path.exists() or names(path) == []
    assert names(tmp_path) == ["runs", "runs/run", "runs/run/deep", "runs/run/deep/file.txt"]
    assert path.stat().st_mode & 0o777 == 0o755


def write_half(path: Path, error: BaseException) -> None:
    with disk.folder(path, replace=True) as stage:
        (stage / "half.txt").write_text("half")
        raise error


def test_a_block_that_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "run", KeyboardInterrupt())
    assert names(tmp_path) == []


def filled(path: Path) -> Path:
    path.mkdir()
    (path / "old.txt").write_text("old")
    return path


def test_an_old_folder_stays_whole_when_the_new_one_fails(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    with pytest.raises(ValueError, match="halfway"):
        write_half(path, ValueError("halfway"))
    assert names(tmp_path) == ["run", "run/old.txt"]


def test_an_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    with pytest.raises(FileNotFoundError):
        disk._swap(tmp_path / "gone", path)
    assert names(tmp_path) == ["run", "run/old.txt"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    with disk.folder(path, replace=True) as stage:
        (stage / "new.txt").write_text("new")
        assert names(path) == ["old.txt"]
    assert names(tmp_path) == ["run", "run/new.txt"]


def test_a_link_is_replaced_and_what_it_points_to_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.symlink_to(filled(tmp_path / "elsewhere"))
    with disk.folder(path, replace=True) as stage:
        (stage / "new.txt").write_text("new")
    assert names(tmp_path) == ["elsewhere", "elsewhere/old.txt", "run", "run/new.txt"]
    assert not path.is_symlink()


def test_a_filled_folder_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    with pytest.raises(OutputError, match=r"run exists already and is not empty(.|\n)*--overwrite"), disk.folder(path):
        pytest.fail("the block must not begin")
    assert names(tmp_path) == ["run", "run/old.txt"]


def test_a_folder_that_was_filled_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(OutputError, match="exists already"), disk.folder(path):
        filled(path)
    assert names(tmp_path) == ["run", "run/old.txt"]


def test_a_place_is_free_where_nothing_or_an_empty_folder_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    disk.refuse_filled(tmp_path / "empty")
    disk.refuse_filled(tmp_path / "nothing")


def test_files_and_devices_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "pipe"):
        with pytest.raises(OutputError, match=f"{name} exists already"):
            disk.refuse_filled(tmp_path / name)


def test_a_folder_below_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"), disk.folder(tmp_path / "file" / "run"):
        pytest.fail("the block must not begin")


def test_a_file_that_grows_too_large_is_an_output_error_and_leaves_the_old_folder(tmp_path: Path) -> None:
    path = filled(tmp_path / "run")
    with (
        files_of_at_most(1000),
        pytest.raises(OutputError, match="run: File too large"),
        disk.folder(path, replace=True) as stage,
    ):
        (stage / "large").write_bytes(bytes(2000))
    assert names(tmp_path) == ["run", "run/old.txt"]


def test_a_full_disk_is_an_output_error_and_leaves_the_old_folder(small_disk: Path) -> None:
    path = filled(small_disk / "run")
    with (
        pytest.raises(OutputError, match=r"run: No space left(.|\n)*hint: free some disk space"),
        disk.folder(path, replace=True) as stage,
    ):
        (stage / "large").write_bytes(bytes(1024 * 1024))
    assert names(small_disk) == ["run", "run/old.txt"]


def test_a_text_on_a_full_disk_is_an_output_error(small_disk: Path) -> None:
    with pytest.raises(OutputError, match=r"file\.txt: No space left(.|\n)*hint: free some disk space"):
        disk.write_text(small_disk / "file.txt", "x" * 1024 * 1024)
    assert names(small_disk) == []
    disk.write_text(small_disk / "file.txt", "x")


def test_a_missing_file_inside_the_block_is_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, disk.folder(tmp_path / "run") as stage:
        (stage / "none" / "file.txt").write_text("text")
    assert caught.value.hint == ""
    assert names(tmp_path) == []


def test_lines_are_written_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.txt"
    disk.write_lines(path, (f"{number}\n" for number in range(3)))
    assert path.read_bytes() == b"0\n1\n2\n"


def test_lines_that_end_in_an_error_leave_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    disk.write_text(path, "old")
    with pytest.raises(ZeroDivisionError):
        disk.write_lines(path, (f"{1 // number}\n" for number in (1, 0)))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_private_folder_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    with disk.folder(tmp_path / "run", private=True) as stage:
        (stage / "deep").mkdir()
        (stage / "deep" / "file.txt").write_text("x")
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("run", "run/deep", "run/deep/file.txt")]
    assert modes == [0o700, 0o700, 0o600]
