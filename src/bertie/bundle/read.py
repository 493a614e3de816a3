"""Find a bundle, whatever the user points at, and make sure that it is whole before anything is loaded from it."""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertie.bundle.manifest import FILE, FileRecord
from bertie.disk import sha256
from bertie.errors import BundleDamaged, BundleNotFound

LARGEST_ARCHIVE = 8 * 1024**3
"""Bytes that an archive may unpack to; a small file that unpacks to more is an attack or a mistake."""


@contextmanager
def opened(model: Path) -> Iterator[Path]:
    """Give the folder of the bundle that a run, a bundle or a `.tar.gz` of one stands for.

    An archive is unpacked into a temporary folder that lives as long as the block. Raises BundleNotFound.
    """
    with contextlib.ExitStack() as stack:
        if model.is_file() and model.name.endswith((".tar.gz", ".tgz")):
            model = stack.enter_context(_unpacked(model))
        yield _folder(model)


def _folder(model: Path) -> Path:
    for folder in (model, model / "bundle"):
        if (folder / FILE).is_file():
            return folder
    if not model.exists():
        raise BundleNotFound(
            f"there is no model {model}.",
            expected="a run, a bundle, or a .tar.gz of a bundle",
            hint="make one with bertie train, or try bertie demo",
        )
    hint = f"bertie export {model}" if (model / "checkpoint").is_dir() else "bertie train DATA --out RUN makes one"
    raise BundleNotFound(f"{model} holds no bundle: there is no {FILE}.", hint=hint)


@contextmanager
def _unpacked(archive: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bertie-"))
    try:
        unpack(archive, folder)
        inner = [entry for entry in folder.iterdir() if entry.is_dir()]
        yield folder if (folder / FILE).is_file() or len(inner) != 1 else inner[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a `.tar.gz` or `.tar` into a folder that is there.

    Raises BundleDamaged for what is cut off, too large, not a file or a folder, or would land elsewhere.
    """
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            if sum(member.size for member in members) > LARGEST_ARCHIVE:
                raise BundleDamaged(f"{archive} would unpack to more than {LARGEST_ARCHIVE >> 30} GiB.")
            if any(not (member.isfile() or member.isdir()) for member in members):
                raise BundleDamaged(f"{archive} holds something that is neither a file nor a folder.")
            tar.extractall(folder, members, filter="data")
            while tar.fileobj.read(1 << 20):  # to its end, where gzip's checksum is compared
                pass
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise BundleDamaged(f"{archive} cannot be unpacked: {error}.", hint="copy it again") from error


def verify(folder: Path, files: dict[str, FileRecord]) -> None:
    """Compare files of a bundle with their sizes and hashes. Raises BundleDamaged."""
    for name, record in files.items():
        path = folder / name
        if not path.is_file():
            raise BundleDamaged(f"the bundle {folder} lacks its file {name}.", hint="copy the bundle again")
        if path.stat().st_size != record.bytes or sha256(path) != record.sha256:
            raise BundleDamaged(
                f"{path} is not the file that was written: its size or its hash differs from the manifest's.",
                hint="copy the bundle again; if that does not help, export it again",
            )
