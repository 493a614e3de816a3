"""Bundles to serve."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def bundles(tiny_bundle: Path, tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(tiny_bundle, tmp_path / name)) for name in "abc"]
