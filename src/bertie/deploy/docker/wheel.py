"""The wheel of the bertie that runs here, made from its own files: an image serves with the code that measured.

A wheel is a zip archive of the package and a folder of facts about it.
https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import bertie
from bertie.errors import DeployError

FACTS = ("METADATA", "entry_points.txt")
WHEEL = "Wheel-Version: 1.0\nGenerator: bertie\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
BEGINNING = (1980, 1, 1, 0, 0, 0)
"""The time of every file in it, so that the same files make the same wheel."""


def write_wheel(folder: Path) -> Path:
    """Write the wheel into a folder and return it. Raises DeployError where this bertie was not installed by pip."""
    try:
        installed = distribution("bertie")
    except PackageNotFoundError:
        raise DeployError(
            "this bertie was not installed, so that nothing is known about what it needs.",
            hint="pip install bertie, or give its wheel with --wheel",
        ) from None
    about = f"bertie-{installed.version}.dist-info"
    files = _package()
    files |= {f"{about}/{name}": text.encode() for name in FACTS if (text := installed.read_text(name))}
    files[f"{about}/WHEEL"] = WHEEL.encode()
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
    files[f"{about}/RECORD"] = f"{record}{about}/RECORD,,\n".encode()
    path = folder / f"bertie-{installed.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, BEGINNING)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return path


def _package() -> dict[str, bytes]:
    root = Path(bertie.__file__).parent
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {f"bertie/{path.relative_to(root).as_posix()}": path.read_bytes() for path in files}


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
