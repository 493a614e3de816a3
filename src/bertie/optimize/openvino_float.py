"""OpenVINO, fp32 or bf16: one model, whose products the engine computes in either."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from bertie.bundle.manifest import Precision, Variant
from bertie.optimize.candidate import Source, fast_sets, needs_package
from bertie.runtime.cpu import BF16


class OpenVinoFloat:
    """The model in OpenVINO's own form, whose weights are mapped and not parsed."""

    rescues = ""

    def __init__(self, precision: Literal["fp32", "bf16"]) -> None:
        self.name = f"openvino-{precision}"
        self._precision: Literal["fp32", "bf16"] = precision

    def lacks(self, source: Source) -> str:
        """bf16 needs instructions for it; without, it would be computed in fp32 by a detour."""
        if self._precision == "bf16" and not fast_sets(BF16):
            return "this processor has no bf16 instructions"
        return needs_package("openvino")

    def build(self, source: Source, folder: Path) -> Variant:
        """Write the model."""
        import openvino  # noqa: PLC0415 - an extra

        return saved(
            openvino.Core().read_model(source.model), folder, self.name, self._precision, source, fast_sets(BF16)
        )


def saved(
    model: Any,
    folder: Path,
    name: str,
    precision: Precision,
    source: Source,
    sets: tuple[str, ...],
) -> Variant:
    """Write an OpenVINO model into a folder and return its variant."""
    import openvino  # noqa: PLC0415 - an extra

    openvino.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)
    return Variant(
        name=name,
        file=f"{name}.xml",
        weights=f"{name}.bin",
        engine="openvino",
        precision=precision,
        needs=() if precision == "fp32" else sets,
        lengths=source.lengths,
    )
