"""From a path to a model that answers at full speed, and what it takes of memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from bertie.bundle.manifest import FILE, Manifest
from bertie.config import ServeSettings
from bertie.errors import BertieError
from bertie.runtime.classifier import Classifier, load

WARM_LENGTHS = (1, 12, 60)
"""Words of the texts that the model scores before it is called ready."""


@dataclass(frozen=True)
class Fresh:
    """A model that was just loaded."""

    classifier: Classifier
    memory: int
    """Bytes: by how much the process grew, at least those of the bundle's files that were read."""
    digest: str


def load_warm(bundle: Path, settings: ServeSettings) -> Fresh:
    """Load a bundle, check its probe, and compute a few texts, so that no client pays for first times.

    Raises BundleError.
    """
    before = resident()
    classifier = load(bundle, threads=settings.threads)
    classifier.warm()
    for words in WARM_LENGTHS:
        text = "warm " * words
        classifier.predict([(text, text) if classifier.pairs else text])
    return Fresh(classifier, max(resident() - before, file_bytes(classifier)), digest(classifier))


def file_bytes(classifier: Classifier) -> int:
    """Return the bytes of the files that a classifier was loaded from."""
    if classifier.manifest is None or classifier.variant is None:
        return 0
    return sum(record.bytes for record in classifier.manifest.read_for(classifier.variant).values())


def expected_bytes(bundle: Path) -> int:
    """Return the bytes of the files of a bundle that would be loaded; 0 where that cannot be told."""
    for folder in (bundle, bundle / "bundle"):
        with contextlib.suppress(BertieError, OSError):
            manifest = Manifest.from_file(folder / FILE)
            return sum(record.bytes for record in manifest.read_for(manifest.variant()).values())
    return 0


def digest(classifier: Classifier) -> str:
    """Return twelve digits that tell a model from any other; nothing for one that came from no bundle."""
    if classifier.manifest is None or classifier.variant is None:
        return ""
    return hashlib.sha256(classifier.manifest.digest(classifier.variant).encode()).hexdigest()[:12]


def stamp(bundle: Path) -> tuple[int, int] | None:
    """Return what changes when a bundle is replaced on disk; nothing while it is not there."""
    for file in (bundle, bundle / FILE, bundle / "bundle" / FILE):
        if file.is_file():
            state = file.stat()
            return state.st_mtime_ns, state.st_ino
    return None


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
