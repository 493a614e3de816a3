from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from bertie.config import TrainSettings
from bertie.data.examples import Examples, from_lists
from bertie.errors import OutputError, Preempted, TrainingError, UsageError
from bertie.talk import Talk
from bertie.tokens import Tokens
from bertie.train import checkpoint, device
from bertie.train.base_models import resolve
from bertie.train.cluster import Cluster
from bertie.train.forward import Unpadded
from bertie.train.job import Job
from bertie.train.limits import text_encoder, text_limits
from bertie.train.stop import Stop
from bertie.train.train import Fitted, _Trainer, train
from tests.conftest import Heard, make_rows

QUIET = Talk(quiet=True)


def examples(count: int, seed: int = 0) -> Examples:
    texts, labels = zip(*make_rows(count, seed), strict=True)
    return from_lists(texts, labels)


def fitted(
    tiny_base: Path, run: Path, count: int = 240, talk: Talk = QUIET, *, resume: bool = False, **wanted: object
) -> Fitted:
    usual: dict[str, object] = {"max_passes": 2, "batch_size": 8, "learning_rate": 2e-3, "precision": "fp32"}
    settings = TrainSettings.load(usual | wanted, environment={})
    base = resolve(str(tiny_base))
    encoder = text_encoder(base, text_limits(base, settings))
    run.mkdir(exist_ok=True)
    data = examples(count)
    return train(
        Job(run, base, encoder, data, examples(40, 1), data.label_names(), settings, seed=5), talk, resume=resume
    )


def full(*_: object) -> None:
    raise OutputError("the disk is full.")


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
    assert fitted(tiny_base, tmp_path / "whole", max_passes=20).passes == 20, "only where it is asked for"


def test_a_training_that_had_waited_enough_does_not_go_on(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual: dict[str, Any] = {"max_passes": 20, "patience": 1, "checkpoint_updates": 1}
    quiet = fitted(tiny_base, tmp_path / "quiet", **usual)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(OutputError):
            fitted(tiny_base, tmp_path / "run", **usual)
    again = fitted(tiny_base, tmp_path / "run", resume=True, **usual)
    assert (again.updates, again.passes) == (quiet.updates, quiet.passes)
    assert quiet.passes < 20
    assert all(torch.equal(value, weights(quiet)[name]) for name, value in weights(again).items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_killed_in_a_long_validation_it_goes_on_with_that_validation(
    precision: str, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual: dict[str, Any] = {"max_passes": 3, "checkpoint_minutes": 0, "precision": precision}
    quiet = fitted(tiny_base, tmp_path / "quiet", **usual)
    validate, calls = _Trainer._validate, []

    def killed(self: _Trainer, stop: Stop) -> dict[str, float]:
        calls.append(self.standing.update)
        if len(calls) == 2:
            raise OutputError("killed.")
        return validate(self, stop)

    def interrupted(run: Path) -> Fitted:
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(_Trainer, "_validate", killed)
            with pytest.raises(OutputError, match="killed"):
                fitted(tiny_base, run, **usual)
        with monkeypatch.context() as patch:
            patch.setattr(_Trainer, "_validate", killed)
            return fitted(tiny_base, run, resume=True, **usual)

    monkeypatch.setattr("bertie.train.train.SHORT_SECONDS", 0.0)
    found = interrupted(tmp_path / "run")
    assert calls == [30, 60, 60, 90]
    assert all(torch.equal(value, weights(quiet)[name]) for name, value in weights(found).items())
    logs = []
    for run in ("quiet", "run"):
        lines = map(json.loads, (tmp_path / run / "log.jsonl").read_text().splitlines())
        logs.append([{name: value for name, value in line.items() if name != "tokens_per_s"} for line in lines])
    assert logs[0] == logs[1]
    # Where validation is short, none is written for it, and all is done again.
    monkeypatch.setattr("bertie.train.train.SHORT_SECONDS", 1e9)
    interrupted(tmp_path / "other")
    assert calls == [30, 60, 30, 60, 90]


def test_asked_to_end_in_validation_it_does_not_finish_that_first(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual: dict[str, Any] = {"max_passes": 3, "batch_tokens": 64}
    quiet = fitted(tiny_base, tmp_path / "quiet", **usual)
    run, batches = Unpadded.__call__, []

    def asked(self: Unpadded, *given: Any) -> torch.Tensor:
        if torch.is_inference_mode_enabled():
            batches.append(1)
            os.kill(os.getpid(), signal.SIGTERM)
        return run(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Unpadded, "__call__", asked)
        with pytest.raises(Preempted, match="after 30 updates; all of it is saved"):
            fitted(tiny_base, tmp_path / "run", **usual)
    assert len(batches) == 1
    found = fitted(tiny_base, tmp_path / "run", resume=True, **usual)
    assert (found.updates, found.passes) == (quiet.updates, quiet.passes)
    assert all(torch.equal(value, weights(quiet)[name]) for name, value in weights(found).items())


@pytest.mark.parametrize("suits", [True, False])
def test_on_a_machine_that_is_slow_in_the_number_format_of_before_it_goes_on_in_fp32(
    suits: bool, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual: dict[str, Any] = {"max_passes": 3, "precision": "auto", "checkpoint_updates": 10}
    seconds = {torch.bfloat16: 1.0, torch.float32: 2.0}
    monkeypatch.setattr(device, "_seconds", lambda _, dtype: seconds[dtype])

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(OutputError):
            fitted(tiny_base, tmp_path / "run", **usual)
    seconds[torch.bfloat16] = 3.0 if suits else 5.0  # not faster any more, which alone is no reason
    heard = Heard()
    found = fitted(tiny_base, tmp_path / "run", talk=heard, resume=True, **usual)
    assert found.precision == ("bf16" if suits else "fp32")
    assert bool(heard.words) != suits
    assert all("began in bf16, which this machine is slow in" in word for word in heard.words)


def test_texts_over_the_limit_are_counted(tiny_base: Path, tmp_path: Path) -> None:
    assert fitted(tiny_base, tmp_path / "all", max_passes=1).truncated == 0
    assert fitted(tiny_base, tmp_path / "few", max_passes=1, max_tokens=8).truncated > 0


def test_a_loss_that_is_no_number_stops_training(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no numbers|loss became"):
        fitted(tiny_base, tmp_path / "run", learning_rate=1e30, max_passes=3)
    assert not (tmp_path / "run" / "checkpoint").exists()


def overflowing(base: Path, folder: Path) -> Path:
    """Copy a base, with a last norm so large that what comes after it has no number in fp16."""
    shutil.copytree(base, folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layer.1.output.LayerNorm.weight"))
    tensors[name] = tensors[name] * 1e6
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_where_fp16_has_no_numbers_it_goes_on_in_fp32(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = device.Machine(torch.device("cpu"), torch.float16)
    monkeypatch.setattr(device, "choose", lambda *_: machine)
    base, heard = overflowing(tiny_base, tmp_path / "base"), Heard()
    fit = fitted(base, tmp_path / "run", talk=heard, max_passes=1)
    assert fit.precision == "fp32"
    assert any("in fp16; going on in fp32" in word for word in heard.words)
    assert all(torch.isfinite(value).all() for value in weights(fit).values())
    # And where fp16 has the numbers, it stays.
    quiet = Heard()
    assert fitted(tiny_base, tmp_path / "other", talk=quiet, max_passes=1).precision == "fp16"
    assert quiet.words == []


def test_a_full_disk_costs_checkpoints_but_not_the_training(tiny_base: Path, tmp_path: Path, small_disk: Path) -> None:
    heard = Heard()
    (small_disk / "ballast").write_bytes(bytes(200 * 1024))
    place = str(small_disk / "checkpoints")
    fit = fitted(tiny_base, tmp_path / "run", talk=heard, checkpoints=place, checkpoint_updates=5)
    assert len(heard.words) == fit.updates // 5
    assert "no checkpoint after update 5: cannot write" in heard.words[0]
    quiet = weights(fitted(tiny_base, tmp_path / "quiet"))
    assert all(torch.equal(value, quiet[name]) for name, value in weights(fit).items())


def test_a_result_that_does_not_fit_on_the_disk_is_an_output_error(tiny_base: Path, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(200 * 1024))
    with pytest.raises(OutputError, match="cannot write"):
        fitted(tiny_base, small_disk / "run", max_passes=1)
    assert not (small_disk / "run" / "checkpoint").exists()
    assert not (small_disk / "run" / "training.json").exists()


@pytest.mark.parametrize("where", ["training", "validation"])
def test_where_memory_ends_fewer_tokens_are_computed_at_once(
    where: str, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, sizes = Unpadded.__call__, []

    def limited(self: Unpadded, tokens: Tokens, windows: NDArray[np.int64], *rest: Any) -> torch.Tensor:
        sizes.append(int(tokens.lengths[windows].sum()))
        if sizes[-1] > 70 and torch.is_inference_mode_enabled() == (where == "validation"):
            raise errors[len(sizes) % 2]
        return run(self, tokens, windows, *rest)

    errors = (torch.OutOfMemoryError("as CUDA says it"), MemoryError("as NumPy does"))
    whole = weights(fitted(tiny_base, tmp_path / "whole", max_passes=1, dropout=0.0))
    monkeypatch.setattr(Unpadded, "__call__", limited)
    parts = fitted(tiny_base, tmp_path / "parts", max_passes=1, dropout=0.0)
    assert max(sizes) > 70
    assert sizes[-1] <= 70
    assert parts.batch_tokens < TrainSettings().batch_tokens
    assert all(torch.allclose(whole[name], value, atol=1e-4) for name, value in weights(parts).items())


def test_memory_too_small_for_one_text_is_an_error(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr(Unpadded, "__call__", never)
    with pytest.raises(TrainingError, match="memory"):
        fitted(tiny_base, tmp_path / "run", max_passes=1)


def test_fp16_needs_a_gpu(tiny_base: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        fitted(tiny_base, tmp_path / "run", precision="fp16")


@pytest.mark.parametrize(("bf16", "taken"), [(0.7, torch.bfloat16), (0.9, torch.float32)])
def test_auto_takes_bf16_only_where_it_is_faster(
    bf16: float, taken: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "kind", lambda: "cpu")
    monkeypatch.setattr(device, "_seconds", lambda _, dtype: bf16 if dtype is torch.bfloat16 else 1.0)
    assert device.choose(TrainSettings(), Cluster.alone()).dtype is taken
    assert device.choose(TrainSettings(precision="bf16"), Cluster.alone()).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("capability", "taken", "varlen"),
    [((9, 0), torch.bfloat16, True), ((7, 5), torch.float16, False), ((6, 1), torch.float32, False)],
)
def test_what_a_gpu_can(
    capability: tuple[int, int], taken: torch.dtype, varlen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PyTorch describes GPUs; no GPU has been asked."""
    monkeypatch.setattr(device, "kind", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capability >= (8, 0))
    here = device.choose(TrainSettings(), Cluster.alone())
    assert (here.device.type, here.dtype) == ("cuda", taken)
    assert device.has_varlen(here.device) == varlen
    assert [device.suits(dtype, here.device) for dtype in (torch.bfloat16, torch.float16, torch.float32)] == [
        taken is torch.bfloat16,
        taken is not torch.float32,
        True,
    ]
