from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bertie.errors import UsageError
from bertie.train import base_models
from bertie.train.base_models import resolve


def test_a_folder_is_a_base(tiny_base: Path) -> None:
    base = resolve(str(tiny_base))
    assert (base.source, base.folder) == ("folder", tiny_base)
    assert base.learning_rate == 1e-4


def test_minilm_comes_from_the_installed_package_with_the_hubs_hash() -> None:
    base = resolve("minilm")
    assert base.source == "sentence-transformers/all-MiniLM-L6-v2"
    assert base.weights_sha256 == base_models.PACKAGED["minilm"][1]


def test_a_package_with_other_weights_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = base_models.PACKAGED["minilm"]
    monkeypatch.setitem(base_models.PACKAGED, "minilm", (module, "0" * 64))
    with pytest.raises(UsageError, match="cannot be fetched from the hub"):
        resolve("minilm")


def test_a_mistyped_name_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no base model 'minlm'") as caught:
        resolve("minlm")
    assert "did you mean 'minilm'?" in str(caught.value)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(tiny_base: Path, tmp_path: Path, missing: str) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    (folder / missing).unlink()
    with pytest.raises(UsageError, match="has no"):
        resolve(str(folder))


@pytest.mark.parametrize(("width", "rate"), [(128, 1e-4), (384, 1e-4), (768, 4e-5), (1024, 2e-5), (4096, 2e-5)])
def test_wider_encoders_learn_at_lower_rates(tiny_base: Path, tmp_path: Path, width: int, rate: float) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "base"))
    config = json.loads((folder / "config.json").read_text()) | {"hidden_size": width}
    (folder / "config.json").write_text(json.dumps(config))
    assert resolve(str(folder)).learning_rate == rate
