"""Virtual environments of the real components that tests run against, each with its pinned requirements in NAME.txt.

Each paragraph of such a file is one call of pip, so that an option (--no-deps) holds for its paragraph alone; `torch`
is the build that the rest of the project has.

`python -m tests.environments [NAME ...]` makes them, all if none is named; CI does that before its tests. They lie in
the folder that BERTIE_TEST_ENVIRONMENTS names, `.environments` in the repository if it is not set, and are made anew
when their requirements change.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from benchmarks.scoring.environments import TORCH, Steps, environment, folder_of

HERE = Path(__file__).parent
NAMES = tuple(sorted(file.stem for file in HERE.glob("*.txt")))

MUST_RUN = "BERTIE_TEST_ENVIRONMENTS_MUST_EXIST"
"""Set to 1, as CI does: then an environment that was not made is an error, not a reason to skip."""


def home() -> Path:
    """Return the folder of all environments."""
    return Path(os.environ.get("BERTIE_TEST_ENVIRONMENTS") or HERE.parents[1] / ".environments").resolve()


def steps(name: str) -> Steps:
    """Return what pip is given for an environment, call by call."""
    paragraphs = (HERE / f"{name}.txt").read_text(encoding="utf-8").split("\n\n")
    lines = ([line.split("#")[0].strip() for line in paragraph.splitlines()] for paragraph in paragraphs)
    found = (tuple(TORCH if line == "torch" else line for line in step if line) for step in lines)
    return tuple(step for step in found if step)


def python_of(name: str) -> Path:
    """Return the Python of an environment that was made before; skips the test where there is none."""
    folder = folder_of(name, steps(name), home())
    if not (folder / ".ready").is_file():
        reason = f"the environment {name!r} is not there: python -m tests.environments {name}"
        if os.environ.get(MUST_RUN) == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder / "bin" / "python"


def make(name: str) -> Path:
    """Make an environment, unless it is there; return its Python. Raises CannotInstall."""
    return environment(name, steps(name), home())
