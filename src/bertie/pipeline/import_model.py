"""`bertie import`: a BERT classifier that was saved by another program becomes a checkpoint and a bundle."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertie import disk
from bertie.bundle.probe import TEXTS
from bertie.bundle.read import unpack
from bertie.config import TrainSettings
from bertie.data.examples import Examples
from bertie.errors import BundleDamaged, BundleNotFound, BundleUnusable, UsageError, need
from bertie.scores import Kind
from bertie.talk import Talk
from bertie.tokens import TextLimits
from bertie.train.base_models import resolve
from bertie.train.limits import most_tokens
from bertie.version import __version__

WEIGHTS = ("*.safetensors", "pytorch_model.bin", "*.bin", "*.pt", "*.pth")
"""Files of weights, the best kind first."""

HEAD = 64
"""Width of an attention head in all of Google's BERTs, taken where no config.json says it."""

HEADS = {312: 12, 384: 12}
"""Attention heads by width of the model, where others chose otherwise: TinyBERT's four layers, and all of MiniLM's."""


def import_model(
    source: Path, out: Path, talk: Talk, *, labels: tuple[str, ...] = (), tokenizer: str = "", max_tokens: int = 0
) -> dict[str, Any]:
    """Write `checkpoint` and `bundle` into `out` from a folder, an archive or a file; return what `--json` prints.

    `labels` are the names of the outputs in their order. Raises BundleError, UsageError, OutputError, ExportError.
    """
    try:
        from bertie.export.export import Plan, export  # noqa: PLC0415 - imports PyTorch
        from bertie.train import imported  # noqa: PLC0415
        from bertie.train.torch_archive import read_weights  # noqa: PLC0415
    except ImportError as error:
        raise need("train", error) from error
    with _opened(source) as folder, disk.folder(out) as stage:
        weights = _weights(folder)
        talk.say(f"reading {weights.name}: weights alone, no code")
        tensors = read_weights(weights)
        config = _config(folder, tensors, talk)
        names = _labels(config, labels, talk)
        words = _tokenizer(folder, tokenizer, talk)
        model = imported.build(config, names, tensors)
        limits = _limits(config, max_tokens)
        imported.save(model, words, limits.max_tokens, stage / "checkpoint", talk)
        several = config.get("problem_type") == "multi_label_classification"
        kind: Kind = "multi-label" if several else "single-label"
        plan = Plan(
            labels=names,
            kind=kind,
            pairs=False,
            limits=limits,
            pad_id=int(config.get("pad_token_id") or 0),
            tolerance=TrainSettings().tolerance,
            provenance={"bertie": __version__, "imported": {"file": weights.name, "sha256": disk.sha256(weights)}},
        )
        talk.say("exporting, and comparing the exported model with the imported one")
        texts = Examples("probe", list(TEXTS), [()] * len(TEXTS), kind=kind, labelled=False)
        manifest = export(stage / "checkpoint", stage / "bundle", plan, texts, lambda _: {})
    talk.warn("there are no labelled texts here: the quality is not known, and probabilities are not calibrated")
    return {"bundle": str(out / "bundle"), "checkpoint": str(out / "checkpoint"), "labels": names} | {
        "parity": manifest.parity
    }


@contextmanager
def _opened(source: Path) -> Iterator[Path]:
    """Give the folder with a model's files. Raises BundleNotFound, BundleDamaged."""
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise BundleNotFound(f"there is no model {source}.", expected="a folder, a model.tar.gz or a file of weights")
    folder = Path(tempfile.mkdtemp(prefix="bertie-"))
    try:
        if source.name.endswith((".tar.gz", ".tgz", ".tar")):
            unpack(source, folder)
        else:
            (folder / source.name).symlink_to(source.resolve())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _weights(folder: Path) -> Path:
    for pattern in WEIGHTS:
        # The nearest to the top; beside a model lie optimizers and arguments of trainers.
        found = [path for path in folder.rglob(pattern) if path.name not in {"optimizer.pt", "scheduler.pt"}]
        if found := [path for path in found if path.name != "training_args.bin"]:
            return min(found, key=lambda path: (len(path.parts), path.name))
    raise BundleNotFound(f"there are no weights in {folder.name}.", expected=f"one of {', '.join(WEIGHTS)}")


def _config(folder: Path, tensors: dict[str, Any], talk: Talk) -> dict[str, Any]:
    """Return the model's configuration: that of its config.json, else what the shapes of its weights say."""
    path = next(iter(sorted(folder.rglob("config.json"), key=lambda one: len(one.parts))), None)
    if path is not None:
        try:
            values: Any = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BundleDamaged(f"{path.name} is not JSON: {error}.") from error
        if not isinstance(values, dict):
            raise BundleDamaged(f"{path.name} holds no settings of a model.")
        return values
    words = tensors.get("bert.embeddings.word_embeddings.weight")
    if words is None:
        raise BundleUnusable("there is no config.json, and the weights are not a BERT's.", hint="add its config.json")
    width = int(words.shape[1])
    heads = HEADS.get(width, max(1, width // HEAD))
    talk.warn(
        f"there is no config.json: taken for a BERT with {heads} attention heads in each layer; if it had another "
        "number, all answers are wrong, and its config.json belongs beside the weights"
    )

    def size(name: str) -> int:
        if name not in tensors:
            raise BundleUnusable(f"there is no config.json, and the weights lack {name}.", hint="add its config.json")
        return int(tensors[name].shape[0])

    return {
        "model_type": "bert",
        "vocab_size": int(words.shape[0]),
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_hidden_layers": len({name.split(".")[3] for name in tensors if name.startswith("bert.encoder.layer.")}),
        "intermediate_size": size("bert.encoder.layer.0.intermediate.dense.weight"),
        "max_position_embeddings": size("bert.embeddings.position_embeddings.weight"),
        "type_vocab_size": size("bert.embeddings.token_type_embeddings.weight"),
        "num_labels": size("classifier.weight"),
    }


def _limits(config: dict[str, Any], max_tokens: int) -> TextLimits:
    most = most_tokens(config)
    if max_tokens > most:
        raise UsageError(f"--max-tokens {max_tokens} is more than the model reads at once.", expected=f"at most {most}")
    return TextLimits(max_tokens or most)


def _labels(config: dict[str, Any], given: tuple[str, ...], talk: Talk) -> tuple[str, ...]:
    named = config.get("id2label") or {}
    if not isinstance(named, dict):
        raise BundleDamaged("the id2label of config.json is no table of names.")
    count = len(named) or int(config.get("num_labels") or config.get("_num_labels") or 2)
    if given:
        if len(given) != count or len(set(given)) != count:
            raise UsageError(f"--labels has {len(set(given))} names, and the model {count} outputs.")
        return given
    unsaid = tuple(f"LABEL_{number}" for number in range(count))
    found = unsaid
    if named:
        try:
            found = tuple(str(named[key]) for key in sorted(named, key=int))
        except ValueError as error:
            raise BundleDamaged("the id2label of config.json has keys that are no numbers.") from error
    if found == unsaid:
        talk.warn(f"the model does not say what its {count} outputs mean: they are called LABEL_0 ...; see --labels")
    return found


def _tokenizer(folder: Path, given: str, talk: Talk) -> Path:
    """Return a folder with a tokenizer: the one given, the model's, or that of the base model `bert`."""
    if given:
        return Path(given) if Path(given).is_dir() else resolve(given).folder
    for name in ("tokenizer.json", "vocab.txt"):
        found = sorted(folder.rglob(name), key=lambda one: len(one.parts))
        if found:
            return found[0].parent
    talk.warn("the model brings no vocab.txt: the tokenizer of bert-base-uncased is taken; see --tokenizer")
    return resolve("bert").folder
