from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bertie.config import TrainSettings
from bertie.data.examples import Examples, from_lists
from bertie.errors import TrainingError, UsageError
from bertie.talk import Talk
from bertie.token_cache import TokenCache
from bertie.train import machine
from bertie.train.base_models import resolve
from bertie.train.limits import text_encoder, text_limits
from bertie.train.train import Fitted, Job, ramp, train
from tests.conftest import Bertie, make_rows, write_csv

QUIET = Talk(quiet=True)


def examples(count: int, seed: int = 0) -> Examples:
    texts, labels = zip(*make_rows(count, seed), strict=True)
    return from_lists(texts, labels)


def fitted(tiny_base: Path, run: Path, count: int = 240, **wanted: object) -> Fitted:
    usual: dict[str, object] = {"max_passes": 2, "batch_size": 8, "learning_rate": 2e-3, "precision": "fp32"}
    settings = TrainSettings.load(usual | wanted, environment={})
    base = resolve(str(tiny_base))
    encoder = text_encoder(base, text_limits(base, settings))
    run.mkdir()
    data = examples(count)
    return train(Job(run, base, encoder, data, examples(40, 1), data.label_names(), settings, seed=5), QUIET)


def weights(fit: Fitted) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(fit.checkpoint / "model.safetensors")
    return found


def test_it_learns_and_logs(tiny_base: Path, tmp_path: Path) -> None:
    fit = fitted(tiny_base, tmp_path / "run", max_passes=8, patience=8)
    assert fit.best["accuracy"] > 0.9
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    assert [line["pass"] for line in lines if "pass" in line] == list(range(1, fit.passes + 1))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_same_seed_gives_the_same_weights_twice(tiny_base: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    one = weights(fitted(tiny_base, tmp_path / "one"))
    torch.manual_seed(2)
    two = weights(fitted(tiny_base, tmp_path / "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_training_leaves_the_users_random_numbers_alone(tiny_base: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fitted(tiny_base, tmp_path / "run", max_passes=1)
    assert torch.equal(torch.rand(2), expected)


def test_a_batch_computed_in_parts_is_the_same_update(tiny_base: Path, tmp_path: Path) -> None:
    # Without dropout, which draws other masks for other shapes.
    base = tmp_path / "base"
    base.mkdir()
    for file in tiny_base.iterdir():
        (base / file.name).write_bytes(file.read_bytes())
    config = json.loads((base / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (base / "config.json").write_text(json.dumps(config))
    whole = weights(fitted(base, tmp_path / "whole", max_passes=1))
    parts = weights(fitted(base, tmp_path / "parts", max_passes=1, batch_tokens=64))
    assert all(torch.allclose(whole[name], parts[name], atol=1e-4) for name in whole)


def test_it_stops_early_and_keeps_the_best_pass(tiny_base: Path, tmp_path: Path) -> None:
    fit = fitted(tiny_base, tmp_path / "run", max_passes=20, patience=1)
    assert fit.passes < 20
    assert fit.best["macro_f1"] == max(scores["macro_f1"] for scores in fit.curve)


def test_texts_over_the_limit_are_counted(tiny_base: Path, tmp_path: Path) -> None:
    assert fitted(tiny_base, tmp_path / "all", max_passes=1).truncated == 0
    assert fitted(tiny_base, tmp_path / "few", max_passes=1, max_tokens=8).truncated > 0


def test_a_loss_that_is_no_number_stops_training(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no numbers|loss became"):
        fitted(tiny_base, tmp_path / "run", learning_rate=1e30, max_passes=3)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_fp16_needs_a_gpu(tiny_base: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        fitted(tiny_base, tmp_path / "run", precision="fp16")


def test_auto_takes_bf16_only_where_it_is_faster() -> None:
    chosen = machine.choose(TrainSettings())
    assert chosen.dtype in {torch.bfloat16, torch.float32}
    assert machine.choose(TrainSettings(precision="bf16")).dtype is torch.bfloat16


def test_the_learning_rate_rises_then_falls_to_almost_nothing() -> None:
    rates = [ramp(update, 100, 0.1) for update in range(100)]
    assert rates[9] == max(rates) == 1.0
    assert np.all(np.diff(rates[:10]) > 0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert 0 < rates[-1] < 0.02


def test_ctrl_c_leaves_a_usable_checkpoint(tiny_base: Path, tmp_path: Path, bertie: Bertie) -> None:
    data = write_csv(tmp_path / "data.csv", list(make_rows(400)))
    run = tmp_path / "run"
    command = [sys.executable, "-m", "bertie", "train", data, "--out", run, "--base", tiny_base]
    process = subprocess.Popen(
        [*map(str, command), "--max-passes", "5000", "--patience", "5000"], stderr=subprocess.PIPE, text=True
    )
    log = run / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and '"pass": 2' in log.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after" in errors
    assert "Traceback" not in errors
    assert (run / "checkpoint" / "model.safetensors").is_file()
    exported = bertie("export", run, "--json")
    assert exported.returncode == 0, exported.stderr
    assert bertie("predict", run, "where is my parcel").returncode == 0


@pytest.mark.parametrize(("token_cache", "kept"), [(True, 2), (False, 0)])
def test_tokens_are_kept_unless_the_setting_forbids_it(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token_cache: bool, kept: int
) -> None:
    cache = TokenCache(tmp_path / "tokens", QUIET, fewest_texts=1)
    monkeypatch.setattr(TokenCache, "usual", lambda _: cache)
    fits = [
        fitted(tiny_base, tmp_path / name, count=40, max_passes=1, token_cache=token_cache) for name in ("one", "two")
    ]
    assert len(list(tmp_path.glob("tokens/*"))) == kept
    one, two = map(weights, fits)
    assert all(torch.equal(one[name], two[name]) for name in one)
