from __future__ import annotations

import ast
import zipfile
from pathlib import Path

import pytest

from bertie.deploy.sagemaker.source_folder import write_source_folder
from bertie.errors import OutputError, UsageError
from bertie.version import __version__
from tests.conftest import Bertie, last_json

WHEEL = f"bertie-{__version__}-py3-none-any.whl"


def test_the_folder_has_a_program_its_requirements_and_the_wheel(tmp_path: Path) -> None:
    files = write_source_folder(tmp_path / "source")
    assert [file.name for file in files] == [WHEEL, "requirements.txt", "train.py"]
    assert files[1].read_text() == f"./{WHEEL}[train]\n"
    ast.parse(files[2].read_text())
    assert "bertie/deploy/container/train.py" in zipfile.ZipFile(files[0]).namelist()
    assert not (tmp_path / "source" / "setup.py").exists(), "AWS's toolkit would refuse it under torchrun"


def test_a_wheel_of_ones_own_or_none(tmp_path: Path) -> None:
    mine = tmp_path / "bertie-9-py3-none-any.whl"
    mine.write_bytes(b"")
    write_source_folder(tmp_path / "own", wheel=mine)
    assert (tmp_path / "own" / "requirements.txt").read_text() == f"./{mine.name}[train]\n"
    write_source_folder(tmp_path / "index", from_index=True)
    assert (tmp_path / "index" / "requirements.txt").read_text() == f"bertie[train]=={__version__}\n"
    assert not list((tmp_path / "index").glob("*.whl"))
    for wrong in (tmp_path / "none.whl", tmp_path):
        with pytest.raises(UsageError, match="cannot be taken"):
            write_source_folder(tmp_path / "wrong", wheel=wrong)
    with pytest.raises(UsageError, match="cannot be taken"):
        write_source_folder(tmp_path / "wrong", wheel=mine, from_index=True)
    assert not (tmp_path / "wrong").exists()


def test_a_filled_folder_is_left_alone(tmp_path: Path, bertie: Bertie) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(OutputError):
        write_source_folder(tmp_path)
    done = bertie("deploy", "sagemaker-source", tmp_path / "new", "--from-index", "--json")
    assert done.returncode == 0, done.stderr
    assert last_json(done.stdout)["entry"] == "train.py"
