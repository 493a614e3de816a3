"""How soon `bertie predict` answers, and what the environment that serves weighs."""

from __future__ import annotations

import collections
import importlib.metadata
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.scoring.environments import pip

ROOT = Path(__file__).parents[2]
TEXT = "Where is the invoice for March?"
STARTS = 10
BARE = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
"""Without paths to this checkout: what is installed answers."""
STAGES = """
import json, sys, time
started = time.perf_counter()
import bertie.cli.main
commands = time.perf_counter()
import numpy
numbers = time.perf_counter()
from bertie.runtime.classifier import load
library = time.perf_counter()
classifier = load(sys.argv[1])
loaded = time.perf_counter()
classifier.predict([sys.argv[2]])
answered = time.perf_counter()
print(json.dumps({
    "import the command line": commands - started, "import numpy": numbers - commands,
    "import the runtime": library - numbers, "load and check the bundle": loaded - library,
    "answer": answered - loaded, "torch": "torch" in sys.modules,
}))
"""
"""What one start consists of; the interpreter's own start is measured beside it."""


def cold_start(command: list[str], bundle: Path) -> dict[str, Any]:
    """Measure `bertie predict`: a process from its start to its first line, and to its end, files in the cache."""
    first, end = [], []
    for turn in range(STARTS + 1):
        started = time.perf_counter()
        with subprocess.Popen(
            [*command, "predict", str(bundle), TEXT, "--json"], stdout=subprocess.PIPE, text=True, env=BARE
        ) as process:
            line = process.stdout.readline() if process.stdout else ""
            answered = time.perf_counter() - started
        if process.returncode or '"label"' not in line:
            raise RuntimeError(f"{command} predict gave {line!r} and ended with {process.returncode}")
        if turn:  # the first one fills the system's cache
            first.append(answered)
            end.append(time.perf_counter() - started)
    return {
        "first_line_s": first,
        "exit_s": end,
        "median_first_line_s": statistics.median(first),
        "median_exit_s": statistics.median(end),
    }


def stages(python: Path, bundle: Path) -> dict[str, Any]:
    """Return the seconds of each stage of a start, medians, and the slowest imports by package."""
    import json

    bare, found = [], []
    for _ in range(STARTS):
        started = time.perf_counter()
        subprocess.run([python, "-c", "pass"], check=True, env=BARE)
        bare.append(time.perf_counter() - started)
        done = subprocess.run(
            [python, "-c", STAGES, bundle, TEXT], stdout=subprocess.PIPE, text=True, check=True, env=BARE
        )
        found.append(json.loads(done.stdout))
    if any(one.pop("torch") for one in found):
        raise RuntimeError("bertie predict imports torch")
    answer = {"start Python": statistics.median(bare)}
    answer |= {name: statistics.median(one[name] for one in found) for name in found[0]}
    return {"stages_s": answer, "imports_ms": imports(python, bundle)}


def imports(python: Path, bundle: Path) -> dict[str, float]:
    """Return the milliseconds that importing each package's own modules takes, without what they import in turn."""
    command = [python, "-X", "importtime", "-m", "bertie", "predict", bundle, TEXT, "--json"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True, env=BARE)
    spent: collections.Counter[str] = collections.Counter()
    for microseconds, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", done.stderr, re.MULTILINE):
        spent[_package(name)] += int(microseconds)
    return {name: value / 1e3 for name, value in spent.most_common(12)}


def _package(module: str) -> str:
    top = module.split(".", maxsplit=1)[0]
    return "standard library" if top in sys.stdlib_module_names else top


def serving_environment(home: Path, extras: str) -> tuple[Path, dict[str, Any]]:
    """Install this checkout's wheel into an empty environment; return its Python, and what it weighs on disk."""
    folder = home / f"serving-{extras.replace(',', '-')}"
    shutil.rmtree(folder, ignore_errors=True)
    wheels = folder / "wheel"
    command = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--wheel-dir", wheels, ROOT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wheel = next(wheels.glob("*.whl"))
    place = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin" / "python"
    pip(python, "-c", str(ROOT / "constraints.txt"), f"bertie[{extras}] @ {wheel.as_uri()}")
    lacks = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, check=False)
    if "No module named 'torch'" not in lacks.stderr:
        raise RuntimeError("the serving environment has torch")
    return python, {"extras": extras, "mb": on_disk(place), "packages": weights(place)}


def on_disk(folder: Path) -> float:
    """Return the 10^6 bytes that a folder takes on disk, whole blocks, each file once."""
    blocks = {}
    for place, _, files in os.walk(folder):
        for name in ("", *files):
            facts = (Path(place) / name).lstat()
            blocks[facts.st_dev, facts.st_ino] = facts.st_blocks
    return 512 * sum(blocks.values()) / 1e6


def weights(place: Path, most: int = 10) -> dict[str, float]:
    """Return the heaviest packages of an environment, in 10^6 bytes."""
    (site,) = place.glob("lib/python3*/site-packages")
    found = {}
    for package in importlib.metadata.distributions(path=[str(site)]):
        files = [Path(str(file.locate())) for file in package.files or ()]
        found[package.metadata["Name"]] = 512 * sum(file.lstat().st_blocks for file in files if file.is_file()) / 1e6
    return dict(sorted(found.items(), key=lambda item: -item[1])[:most])
