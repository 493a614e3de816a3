"""The peers' virtual environments: made once, with the versions that were found to work together, and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

# torch is named with its version, so that no other package can bring a newer build with it.
TORCH = "torch==2.13.0"
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "optimum-onnx": ("optimum-onnx[onnxruntime]==0.1.0", "transformers==4.57.6", "onnxruntime==1.32.0"),
    "optimum-intel": (
        "optimum-intel[openvino]==2.2.0",
        "transformers==5.5.4",
        "openvino==2026.4.1",
        "nncf==3.4.0",
        "datasets==5.0.1",
    ),
    # Its classifier needs BetterTransformer, which left Optimum with version 2, and numpy 1, which pyarrow left.
    "infinity": (
        "infinity-emb[torch]==0.0.78",
        "optimum[onnxruntime]==1.24.0",
        "transformers==4.48.3",
        "onnxruntime==1.32.0",
        "pyarrow==19.0.1",
        "datasets==3.6.0",
        "numpy==1.26.4",
    ),
    # Servers, for `benchmarks/serve.py`.
    "fastapi": ("fastapi==0.165.0", "uvicorn[standard]==0.54.0", "transformers==5.23.0", "numpy==2.4.6"),
    "litserve": ("litserve==0.2.19", "transformers==5.23.0", "numpy==2.4.6"),
    "mlserver": ("mlserver==1.7.1", "transformers==5.23.0", "numpy==2.4.6", "uvloop==0.21.0"),
}
# As above, with what serves.
REQUIREMENTS["infinity-server"] = ("infinity-emb[torch,server]==0.0.78", *REQUIREMENTS["infinity"][1:])
UNWANTED = {"optimum-intel": "torchvision"}
"""What comes along, does not work with a CPU build of torch, and is not needed."""


class CannotInstall(Exception):
    """An environment could not be made; the message is pip's."""


Steps = tuple[tuple[str, ...], ...]
"""What pip is given, call by call: requirements, and options for all of them."""


def python_of(name: str, home: Path) -> Path:
    """Return the Python of an environment, which is made if it is not there. Raises CannotInstall with the reason."""
    return environment(name, ((TORCH,), REQUIREMENTS[name]), home) if name else Path(sys.executable)


def folder_of(name: str, steps: Steps, home: Path) -> Path:
    """Return where an environment lies; with other requirements it lies elsewhere."""
    return home / f"{name}-{hashlib.sha256(json.dumps(steps).encode()).hexdigest()[:8]}"


def environment(name: str, steps: Steps, home: Path) -> Path:
    """Return the Python of an environment, which is made if it is not there. Raises CannotInstall with the reason."""
    folder = folder_of(name, steps, home)
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        print(f"installing {name}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        for step in steps:
            pip(python, *step)
        if name in UNWANTED:
            pip(python, "-y", UNWANTED[name], verb="uninstall")
        ready.touch()
    return python


def pip(python: Path, *arguments: str, verb: str = "install") -> None:
    """Run pip for another Python. Raises CannotInstall."""
    command = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), verb, *arguments]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise CannotInstall((said or done.stderr.splitlines() or ["pip failed"])[-1])
