"""Script mode: a folder with a program and its requirements, for images that know PyTorch and nothing of bertie.

It is what `SourceCode(source_dir=...)` of the SageMaker SDK 3, `source_dir=` of its version 2, and our own jobs take.
There is no setup.py in it: AWS's toolkit would then start the program as a module, and refuse it under torchrun.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from bertie import disk
from bertie.deploy.docker.wheel import write_wheel
from bertie.errors import UsageError
from bertie.version import __version__

ENTRY = "train.py"
REQUIREMENTS = "requirements.txt"

PROGRAM = '''"""Trains a text classifier with bertie, as a SageMaker job asks for it by hyperparameters and channels."""

from bertie.deploy.container.train import main

main()
'''

START = (
    f"python3 -m pip install -q -r {REQUIREMENTS} || "
    "{ echo 'bertie could not be installed; see the log of the job' > /opt/ml/output/failure; exit 1; }; "
    f"exec python3 {ENTRY}"
)
"""How a shell in the folder starts it. With exec the program gets the SIGTERM that the platform sends."""


def write_source_folder(
    folder: Path, *, wheel: Path | None = None, from_index: bool = False, overwrite: bool = False
) -> list[Path]:
    """Write the folder, and return its files.

    It holds the wheel of the bertie that runs here, or the one given; `from_index` names this version for pip to find
    in its index instead. Raises OutputError where something is already, DeployError, UsageError.
    """
    if wheel is not None and (from_index or wheel.suffix != ".whl" or not wheel.is_file()):
        raise UsageError(f"{wheel} cannot be taken.", expected="a file ending in .whl, without --from-index")
    with disk.folder(folder, replace=overwrite) as stage:
        requirement = f"bertie[train]=={__version__}"
        if not from_index:
            there = Path(shutil.copy(wheel, stage)) if wheel is not None else write_wheel(stage)
            requirement = f"./{there.name}[train]"
        disk.write_text(stage / ENTRY, PROGRAM)
        disk.write_text(stage / REQUIREMENTS, requirement + "\n")
    return sorted(folder.iterdir())
