"""What computes logits. An engine knows arrays; it knows no text and no label."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bertie.bundle.manifest import Device, Manifest, Variant
from bertie.errors import BundleUnusable
from bertie.runtime import cpu


class Engine(Protocol):
    """Computes one batch. Safe to call from several threads."""

    def run(self, inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        """Return logits [windows, labels] of `input_ids`, `attention_mask` and `token_type_ids`."""
        ...

    def warm(self) -> None:
        """Do now what would slow the first calls down."""
        ...


def _onnxruntime(path: Path, variant: Variant, threads: int, digest: str) -> Engine:
    from bertie.runtime.onnx_engine import OnnxEngine  # noqa: PLC0415 - a bundle needs one engine, not all

    return OnnxEngine(path, threads, device=variant.device, digest=digest)


def _openvino(path: Path, variant: Variant, threads: int, digest: str) -> Engine:
    from bertie.runtime.openvino_engine import OpenVinoEngine  # noqa: PLC0415 - likewise

    return OpenVinoEngine(path, threads, precision=variant.precision, lengths=variant.lengths, digest=digest)


ENGINES: dict[str, Callable[[Path, Variant, int, str], Engine]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
"""How each engine that a manifest may name is started; the name is that of its Python package too."""


def start(folder: Path, variant: Variant, threads: int = 0, digest: str = "") -> Engine:
    """Load a variant's model. `threads` is that of one call, 0 for all physical cores.

    With the `digest` of its files, what an engine compiles is kept for the next start. Raises BundleDamaged.
    """
    return ENGINES[variant.engine](folder / variant.file, variant, threads or cpu.cores(), digest)


def pick(manifest: Manifest, name: str | None = None) -> tuple[Variant, str]:
    """Return the variant that answers on this machine and, if it is not the one wanted, why.

    The chosen one may need instructions or a library that are not here; then the bundle's first variant that needs
    neither stands in. One that is asked for by `name` has no substitute. Raises BundleUnusable.
    """
    wanted = manifest.variant(name)
    why = lacks(wanted)
    if not why:
        return wanted, ""
    for other in () if name else manifest.variants:
        if not lacks(other):
            return other, f"{why}; the variant {other.name} answers in its place, more slowly"
    raise BundleUnusable(
        f"{why}.",
        hint="optimize the model again on a machine like this one, with bertie optimize",
    )


def lacks(variant: Variant) -> str:
    """Return what this machine lacks for a variant, as half a sentence; nothing if it lacks nothing."""
    if find_spec(variant.engine) is None:
        return f"the variant {variant.name} needs the package {variant.engine} (pip install 'bertie[{variant.engine}]')"
    if why := no_device(variant.device):
        return f"the variant {variant.name} {why}"
    if variant.needs and not set(variant.needs) & cpu.instruction_sets():
        return f"the variant {variant.name} is made for a CPU with {' or '.join(variant.needs)}, which this one lacks"
    return ""


def no_device(device: Device) -> str:
    """Return what keeps ONNX Runtime from a device, as half a sentence; nothing if it has what drives it."""
    if device == "cpu":
        return ""
    import onnxruntime  # noqa: PLC0415 - a bundle needs one engine, not all

    from bertie.runtime.onnx_engine import PROVIDERS  # noqa: PLC0415 - likewise

    if PROVIDERS[device] in onnxruntime.get_available_providers():
        return ""
    needed = "the package onnxruntime-gpu in the place of onnxruntime" + (", and TensorRT" * (device == "tensorrt"))
    return f"needs an NVIDIA GPU and {needed}"
