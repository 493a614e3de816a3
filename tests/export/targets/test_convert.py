from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch

from bertie.errors import BundleNotFound, ExportError, OutputError, ParityError
from bertie.export.targets.convert import convert
from bertie.export.targets.target import Run, Target, Trained
from bertie.export.targets.targets import TARGETS
from tests.export.test_export import PLAN, valid


class Tampered:
    """A target that writes a model whose head has one damaged row, but is otherwise whole."""

    def __init__(self, target: Target) -> None:
        self.imports, self.usage, self._target = target.imports, target.usage, target

    def write(self, trained: Trained, stage: Path) -> None:
        head = trained.model.classifier.classifier.weight
        with torch.no_grad():
            head[0].mul_(-3)
            self._target.write(trained, stage)
            head[0].div_(-3)

    def load(self, trained: Trained, stage: Path) -> Run:
        return self._target.load(trained, stage)


class Broken(Tampered):
    """A target whose largest file is cut in the middle."""

    def write(self, trained: Trained, stage: Path) -> None:
        self._target.write(trained, stage)
        largest = max(stage.iterdir(), key=lambda file: file.stat().st_size)
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


@pytest.mark.parametrize("name", TARGETS)
def test_an_export_that_predicts_something_else_is_not_kept(tiny_run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ParityError, match="off by"):
        convert(tiny_run / "checkpoint", Tampered(TARGETS[name]), tmp_path / "out", PLAN, valid(tiny_run))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", TARGETS)
def test_an_export_that_cannot_be_loaded_is_not_kept(tiny_run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises((ExportError, ParityError)):
        convert(tiny_run / "checkpoint", Broken(TARGETS[name]), tmp_path / "out", PLAN, valid(tiny_run))
    assert list(tmp_path.iterdir()) == []


def test_one_that_loads_but_cannot_compute_is_not_kept(tiny_run: Path, tmp_path: Path) -> None:
    class Short(Tampered):
        def write(self, trained: Trained, stage: Path) -> None:
            self._target.write(trained, stage)

        def load(self, trained: Trained, stage: Path) -> Run:
            run = self._target.load(trained, stage)
            return lambda inputs: run({key: array[:2] for key, array in inputs.items()})

    with pytest.raises(ExportError, match=r"cannot compute \d+ texts of \d+ tokens"):
        convert(tiny_run / "checkpoint", Short(TARGETS["onnx"]), tmp_path / "out", PLAN, valid(tiny_run))
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        convert(tiny_run / "checkpoint", TARGETS["onnx"], tmp_path, PLAN, valid(tiny_run))
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]


def test_a_run_without_a_checkpoint_is_named(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="no checkpoint"):
        convert(tmp_path / "checkpoint", TARGETS["onnx"], tmp_path / "out", PLAN, valid(tiny_run))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_done(tiny_run: Path, small_disk: Path) -> None:
    fill(small_disk / "other")
    with pytest.raises(OutputError, match="are needed on the way"):
        convert(tiny_run / "checkpoint", TARGETS["onnx"], small_disk / "out", PLAN, valid(tiny_run))
    assert [entry.name for entry in small_disk.iterdir()] == ["other"]


@pytest.mark.parametrize("name", TARGETS)
def test_a_disk_that_fills_up_is_told_as_one(tiny_run: Path, small_disk: Path, name: str) -> None:
    class Full(Tampered):
        def write(self, trained: Trained, stage: Path) -> None:
            fill(small_disk / "other")
            self._target.write(trained, stage)

    with pytest.raises(OutputError, match="cannot write"):
        convert(tiny_run / "checkpoint", Full(TARGETS[name]), small_disk / "out", PLAN, valid(tiny_run))
    assert [entry.name for entry in small_disk.iterdir()] == ["other"]


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
