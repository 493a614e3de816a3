from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports_command as c; c()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_imports_point_down(tmp_path: Path) -> None:
    done = lint(copy(tmp_path))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("runtime/classifier.py", "import torch"),
        ("scores.py", "import bertie.runtime.classifier"),
        ("train/loop.py", "import bertie.export.export"),
    ],
)
def test_a_wrong_import_turns_it_red(tmp_path: Path, module: str, line: str) -> None:
    file = copy(tmp_path) / "src" / "bertie" / module
    source = file.read_text()
    file.write_text(
        source.replace("from __future__ import annotations\n", f"from __future__ import annotations\n{line}\n")
    )
    assert lint(tmp_path).returncode != 0


def test_help_needs_no_numpy_and_no_model() -> None:
    program = (
        "import sys; sys.argv = ['bertie', '--help']\n"
        "try:\n    from bertie.cli.main import run; run()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'onnxruntime', 'torch', 'fastapi', 'sklearn', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_the_base_install_is_small() -> None:
    """Nothing of training comes in unless an extra is asked for."""
    base = {re.split(r"[^\w-]", line)[0] for line in requires("bertie") or [] if "extra ==" not in line}
    assert base == {"ftfy", "numpy", "onnxruntime", "pydantic", "rich", "tokenizers", "tomlkit", "typer"}
