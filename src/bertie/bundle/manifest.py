"""`manifest.json`: what a bundle is, what it predicts, how it was measured, and the hash of each of its files.

The format is an integer. Readers accept every format since 1; writers write the newest. A field may be added within
a format if readers that do not know it still predict the same; anything else is a new format.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bertie.errors import BundleDamaged, BundleNotFound, BundleTooNew
from bertie.scores import Decision, Kind
from bertie.tokens import TextLimits

FORMAT = 2
"""2 has variants for other engines than ONNX Runtime, and for some processors only."""

FILE = "manifest.json"


Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8", "int8+bf16"]
Device: TypeAlias = Literal["cpu", "cuda", "tensorrt"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class FileRecord(_Part):
    """Size and hash of one file."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Input(_Part):
    """How texts become the model's input."""

    max_tokens: int = Field(ge=8)
    long: Literal["truncate", "windows"] = "truncate"
    overlap: int = Field(0, ge=0)
    max_windows: int = Field(32, ge=1)
    pooling: Literal["mean"] = "mean"
    """How the logits of a text's windows become one."""
    pairs: bool = False
    pad_id: int = Field(0, ge=0)
    tokenizer: str = "tokenizer.json"


class Variant(_Part):
    """One form of the model: which file, for which engine."""

    name: str
    file: str
    engine: Literal["onnxruntime", "openvino"]
    precision: Precision
    device: Device = "cpu"
    """What it runs on; "tensorrt" is an NVIDIA GPU too."""
    needs: tuple[str, ...] = ()
    """Instruction sets without which it is slow or wrong; one of them suffices."""
    lengths: tuple[int, ...] = ()
    """Tokens of the single texts for which a program of their own pays."""
    weights: str = ""
    """The file beside `file` that holds the weights, for engines that keep them apart."""
    probe: str = ""
    """The probe scored by this variant; the bundle's if there is none."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read for this variant alone."""
        return tuple(name for name in (self.file, self.weights, self.probe) if name)


class Manifest(_Part):
    """The whole manifest. See the module's first lines for what may change."""

    format: int = Field(ge=1)
    task: Kind
    labels: tuple[str, ...] = Field(min_length=1)
    input: Input
    temperature: float = Field(1.0, gt=0)
    thresholds: tuple[float, ...] = ()
    variants: tuple[Variant, ...] = Field(min_length=1)
    chosen: str
    probe: str = "probe.json"
    files: dict[str, FileRecord]
    quality: dict[str, Any] = {}
    parity: dict[str, Any] = {}
    optimization: dict[str, Any] = {}
    """What was tried, measured and chosen."""
    provenance: dict[str, Any] = {}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label stands there twice")
        if self.thresholds and len(self.thresholds) != len(self.labels):
            raise ValueError("there is not one threshold for each label")
        if self.chosen not in {variant.name for variant in self.variants}:
            raise ValueError(f"the chosen variant {self.chosen!r} is not among the variants")
        for file in (self.input.tokenizer, self.probe, *(name for one in self.variants for name in one.files)):
            if file not in self.files:
                raise ValueError(f"the file {file!r} has no hash")
        for file in self.files:
            if Path(file).is_absolute() or ".." in Path(file).parts:
                raise ValueError(f"the file {file!r} is outside the bundle")
        return self

    @property
    def decision(self) -> Decision:
        """How logits are read."""
        return Decision(self.labels, self.task, self.temperature, self.thresholds)

    @property
    def limits(self) -> TextLimits:
        """How much of a text the model sees."""
        part = self.input
        return TextLimits(part.max_tokens, part.long, part.overlap, part.max_windows)

    def variant(self, name: str | None = None) -> Variant:
        """Return the chosen variant, or the one named."""
        wanted = name or self.chosen
        for variant in self.variants:
            if variant.name == wanted:
                return variant
        raise BundleNotFound(
            f"the bundle has no variant {wanted!r}.", expected=f"one of {', '.join(v.name for v in self.variants)}"
        )

    def digest(self, variant: Variant) -> str:
        """Return what tells a variant's files from any others."""
        return ":".join(self.files[name].sha256 for name in variant.files)

    def read_for(self, variant: Variant) -> dict[str, FileRecord]:
        """Return the files that a classifier with this variant is made from: all but those of other variants."""
        others = {name for one in self.variants for name in one.files} - set(variant.files)
        return {name: record for name, record in self.files.items() if name not in others}

    def to_json(self) -> str:
        """Return the manifest as the text of its file."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_file(cls, path: Path) -> Manifest:
        """Read a manifest. Raises BundleTooNew for a newer format, BundleDamaged for anything else that is wrong."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BundleDamaged(f"{path} cannot be read: {error}.", hint="copy the bundle again") from error
        found = values.get("format") if isinstance(values, dict) else None
        if isinstance(found, int) and found > FORMAT:
            needed = values.get("provenance", {}).get("bertie", "a newer version")
            raise BundleTooNew(
                f"{path} is of format {found}; this bertie reads up to format {FORMAT}.",
                hint=f"pip install 'bertie>={needed}'" if needed[:1].isdigit() else f"install {needed}",
            )
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "as a whole"
            raise BundleDamaged(f"{path} is not a manifest: {where}: {first['msg']}.") from None
