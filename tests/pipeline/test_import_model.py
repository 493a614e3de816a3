"""What AWS's old sample left in model.tar.gz becomes a bundle that answers as the old model did."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bertie import load
from bertie.bundle.probe import TEXTS
from bertie.errors import BundleDamaged, BundleNotFound, BundleUnusable, OutputError, UsageError
from bertie.pipeline.import_model import _config, _labels, import_model
from bertie.talk import Talk
from bertie.train import imported
from bertie.train.checkpoint import load as load_checkpoint
from tests.conftest import Bertie, Heard, last_json
from tests.train.test_torch_archive import Attack

QUIET = Talk(quiet=True)


def as_the_sample_saved(run: Path, folder: Path) -> None:
    """Write what the sample's training script wrote: a pickle of weights, no names of labels, no vocabulary."""
    model = load_checkpoint(run / "checkpoint").classifier
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    config = json.loads((run / "checkpoint" / "config.json").read_text())
    for name in ("id2label", "label2id", "dtype", "transformers_version"):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config | {"num_labels": 2}))


def write_vocabulary(run: Path, folder: Path) -> None:
    words = json.loads((run / "checkpoint" / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in sorted(words, key=words.get)))


@pytest.fixture(scope="module")
def old(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    as_the_sample_saved(tiny_run, folder)
    return folder


def answers(model: Path) -> NDArray[np.float32]:
    return load(model).logits(list(TEXTS))


@pytest.mark.slow
def test_an_old_folder_and_its_archive(old: Path, tiny_run: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as tar:
        for path in old.iterdir():
            tar.add(path, path.name)
    expected = answers(tiny_run)
    for source in (old, tmp_path / "model.tar.gz"):
        out = tmp_path / f"out-{source.name}"
        result = import_model(source, out, QUIET, tokenizer=str(tiny_run / "checkpoint"))
        assert result["labels"] == ("LABEL_0", "LABEL_1")
        assert result["parity"]["max_difference"] < 1e-4
        assert np.abs(answers(out) - expected).max() < 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_file(tiny_run: Path, tmp_path: Path) -> None:
    model = load_checkpoint(tiny_run / "checkpoint").classifier
    model.config.return_dict = False
    ones = torch.ones((1, 8), dtype=torch.int64)
    (tmp_path / "old").mkdir()
    torch.jit.save(torch.jit.trace(model, (ones, ones), strict=False), tmp_path / "old" / "traced_bert.pt")  # type: ignore[no-untyped-call]  # torch's
    shutil.copy(tiny_run / "checkpoint" / "config.json", tmp_path / "old")
    import_model(
        tmp_path / "old", tmp_path / "out", QUIET, tokenizer=str(tiny_run / "checkpoint"), labels=("bad", "good")
    )
    assert load(tmp_path / "out").labels == ("bad", "good")
    assert np.abs(answers(tmp_path / "out") - answers(tiny_run)).max() < 1e-4


@pytest.mark.slow
def test_the_command_line_with_a_vocabulary(old: Path, tiny_run: Path, tmp_path: Path, bertie: Bertie) -> None:
    folder = tmp_path / "old"
    shutil.copytree(old, folder)
    write_vocabulary(tiny_run, folder)
    done = bertie(
        "import", folder, "--out", tmp_path / "out", "--labels", "delivery, praise", "--max-tokens", 32, "--json"
    )
    assert done.returncode == 0, done.stderr
    assert last_json(done.stdout)["labels"] == ["delivery", "praise"]
    assert "not calibrated" in done.stderr
    again = bertie("import", folder, "--out", tmp_path / "out")
    assert again.returncode == OutputError.exit_code
    asked = bertie("predict", tmp_path / "out", "where is my parcel", "--json")
    assert last_json(asked.stdout)["label"] == "delivery"


def test_what_does_not_fit_is_refused_and_leaves_nothing(old: Path, tiny_run: Path, tmp_path: Path) -> None:
    words, out = str(tiny_run / "checkpoint"), tmp_path / "out"
    with pytest.raises(UsageError, match="2 outputs"):
        import_model(old, out, QUIET, tokenizer=words, labels=("a", "b", "c"))
    with pytest.raises(UsageError, match="reads at once"):
        import_model(old, out, QUIET, tokenizer=words, max_tokens=65)
    with pytest.raises(BundleNotFound):
        import_model(tmp_path / "none", out, QUIET, tokenizer=words)
    copy = tmp_path / "copy"
    shutil.copytree(old, copy)
    tensors = torch.load(copy / "pytorch_model.bin", weights_only=True)
    tensors.pop("classifier.bias")
    torch.save(tensors, copy / "pytorch_model.bin")
    with pytest.raises(BundleUnusable, match=r"1 are missing.*classifier\.bias"):
        import_model(copy, out, QUIET, tokenizer=words)
    assert not out.exists()


def test_an_archive_that_writes_elsewhere_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("../outside.txt")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"hi"))
    with pytest.raises(BundleDamaged, match="cannot be unpacked"):
        import_model(archive, tmp_path / "out", QUIET)
    assert not list(tmp_path.rglob("outside.txt"))


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_an_archive_that_was_copied_badly_is_refused(damage: str, old: Path, tmp_path: Path, bertie: Bertie) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in old.iterdir():
            tar.add(path, path.name)
    content = bytearray(archive.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        content[1000:1100] = bytes(100)
    archive.write_bytes(content)
    done = bertie("import", archive, "--out", tmp_path / "out")
    assert done.returncode == BundleDamaged.exit_code
    assert "cannot be unpacked" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_call_in_a_file_is_not_run_by_the_command_either(old: Path, tmp_path: Path, bertie: Bertie) -> None:
    folder, marker = tmp_path / "old", tmp_path / "marker"
    shutil.copytree(old, folder)
    torch.save({"weight": Attack(marker)}, folder / "pytorch_model.bin")
    done = bertie("import", folder, "--out", tmp_path / "out")
    assert done.returncode == BundleDamaged.exit_code
    assert "nothing of it was run" in done.stderr
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


def test_a_folder_without_weights_says_which_were_looked_for(old: Path, tmp_path: Path) -> None:
    shutil.copy(old / "config.json", tmp_path)
    with pytest.raises(BundleNotFound, match=r"no weights[^$]*pytorch_model\.bin"):
        import_model(tmp_path, tmp_path / "out", QUIET)


@pytest.mark.parametrize("named", [None, {"0": "LABEL_0", "1": "LABEL_1"}, {"0": "no", "1": "yes"}])
def test_names_that_say_nothing_are_warned_of(named: dict[str, str] | None) -> None:
    heard = Heard()
    found = _labels({"id2label": named, "num_labels": 2}, (), heard)
    said = named is not None and "no" in named.values()
    assert found == (("no", "yes") if said else ("LABEL_0", "LABEL_1"))
    assert bool(heard.words) != said


@pytest.mark.parametrize("named", [{"zero": "no"}, ["no", "yes"]])
def test_names_that_cannot_be_read_are_refused(named: object) -> None:
    with pytest.raises(BundleDamaged, match="id2label"):
        _labels({"id2label": named}, (), QUIET)


def test_without_a_configuration_the_shapes_say_it(old: Path) -> None:
    tensors = torch.load(old / "pytorch_model.bin", weights_only=True)
    heard = Heard()
    for width, heads in ((768, 12), (384, 12), (312, 12), (256, 4)):
        tensors["bert.embeddings.word_embeddings.weight"] = torch.zeros(10, width)
        found = _config(old / "none", tensors, heard)
        assert found["num_attention_heads"] == heads
        assert f"{heads} attention heads" in heard.words[-1]
    tensors.pop("classifier.weight")
    with pytest.raises(BundleUnusable, match=r"lack classifier\.weight"):
        _config(old / "none", tensors, heard)


def test_a_vocabulary_that_is_much_smaller_is_warned_of(old: Path, tiny_run: Path, tmp_path: Path) -> None:
    config = json.loads((old / "config.json").read_text())
    tensors = torch.load(old / "pytorch_model.bin", weights_only=True)
    name = "bert.embeddings.word_embeddings.weight"
    heard, words = Heard(), tiny_run / "checkpoint"
    for more in (100, 1000):
        rows = torch.cat([tensors[name], torch.zeros(more, tensors[name].shape[1])])
        model = imported.build(config | {"vocab_size": len(rows)}, ("a", "b"), tensors | {name: rows})
        imported.save(model, words, 16, tmp_path / str(more), heard)
    assert len(heard.words) == 1
    assert "if it is not the model's own" in heard.words[0]
