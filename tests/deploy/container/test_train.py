"""The training program in its own process, with /opt/ml in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bertie
from bertie.deploy.container.place import LONGEST_FAILURE, Place, ended, interface_of
from bertie.errors import DataError
from tests.conftest import make_rows, write_csv

LEARNING = {"max_passes": "2", "precision": "fp32", "freeze_embeddings": "false"}


def lay_out(folder: Path, base: Path, **hyperparameters: str) -> Path:
    config, data = folder / "input" / "config", folder / "input" / "data"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(LEARNING | hyperparameters))
    shutil.copytree(base, data / "base")
    (data / "train").mkdir()
    return data / "train"


def program(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bertie.deploy.container", "train", *words],
        env={**os.environ, "SAGEMAKER_BASE_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *words: str) -> tuple[int, str]:
    process = program(folder, *words)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def failure(folder: Path) -> str:
    return (folder / "output" / "failure").read_text()


@pytest.mark.slow
def test_files_of_a_channel_become_a_model_that_serves_and_that_transformers_reads(
    tiny_base: Path, tmp_path: Path
) -> None:
    from transformers import pipeline

    channel = lay_out(tmp_path, tiny_base)
    rows = list(make_rows(203))
    write_csv(channel / "part-0.csv", rows[:100])
    write_csv(channel / "part-1.csv", rows[100:])
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "failure").write_text("of an earlier try on this disk")
    # The command line goes before the file, as where somebody gives ContainerArguments.
    code, said = run(tmp_path, "--max_passes", "3")
    assert code == 0, said
    model, reports = tmp_path / "model", tmp_path / "output" / "data"
    ours = bertie.load(model).predict(["where is my parcel"])[0]
    theirs = pipeline("text-classification", model=str(model))("where is my parcel")[0]
    assert ours.label == theirs["label"]
    assert json.loads((reports / "training.json").read_text())["passes"] == 3
    assert {path.name for path in reports.iterdir()} == {
        *("report.html", "metrics.json", "training.json", "config.toml", "log.jsonl")
    }
    assert list((tmp_path / "checkpoints").glob("step-*")) == [], "none was due"
    assert not (tmp_path / "output" / "failure").exists()
    facts = json.loads((tmp_path / "run" / "data.json").read_text())
    assert sum(facts["rows"].values()) == 203


@pytest.mark.slow
def test_a_sigterm_that_does_arrive_saves_a_checkpoint(tiny_base: Path, tmp_path: Path) -> None:
    write_csv(lay_out(tmp_path, tiny_base, max_passes="100000", patience="100000") / "a.csv", list(make_rows(203)))
    process = program(tmp_path)
    deadline = time.monotonic() + 60
    while not (log := tmp_path / "run" / "log.jsonl").is_file() or log.stat().st_size < 1000:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 75, said
    assert list((tmp_path / "checkpoints").glob("step-*/state.json"))
    assert failure(tmp_path).startswith("Preempted: asked to end (SIGTERM)")


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again_leaves_a_reason(tiny_base: Path, tmp_path: Path) -> None:
    channel = lay_out(tmp_path, tiny_base, max_passes="100000", patience="100000", restarts="0")
    write_csv(channel / "a.csv", list(make_rows(203)))
    process = program(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "log.jsonl").is_file():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 137
    assert "most often because memory ran out" in failure(tmp_path)


def test_data_that_cannot_be_used_fail_in_sentences_without_the_texts(tiny_base: Path, tmp_path: Path) -> None:
    rows = [*make_rows(60), ("a secret of the user", "")]
    write_csv(lay_out(tmp_path, tiny_base) / "a.csv", rows)
    code, said = run(tmp_path)
    assert code == DataError.exit_code
    assert failure(tmp_path).startswith("DataError: ")
    assert len(failure(tmp_path)) <= LONGEST_FAILURE
    assert "secret" not in failure(tmp_path) + said
    assert not (tmp_path / "model").exists()


def test_an_error_of_our_own_tells_no_text_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bertie.deploy.container import train

    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the user")

    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr(train, "train", broken)
    with pytest.raises(SystemExit) as caught:
        train.main([])
    assert caught.value.code == 1
    assert failure(tmp_path) == "an error in bertie itself (RuntimeError); the log of the job shows where it happened."


@pytest.mark.parametrize(
    ("resources", "interface"),
    [
        ('{"network_interface_name": "lo"}', "lo"),
        ('{"network_interface_name": "of-another-machine"}', ""),
        ('{"network_interface_name": null}', ""),
        ("[]", ""),
        ("{", ""),
    ],
)
def test_the_network_between_the_hosts_is_the_one_that_is_told_and_there(
    resources: str, interface: str, tmp_path: Path
) -> None:
    assert interface_of(tmp_path) == ""
    (tmp_path / "resourceconfig.json").write_text(resources)
    assert interface_of(tmp_path) == interface


def test_a_failure_is_written_once_and_is_not_too_long(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.fail("x" * 5000)
    place.fail("the second process to say something")
    assert failure(tmp_path) == "x" * LONGEST_FAILURE
    place.forget()
    place.fail(ended(3))
    assert "exit code 3" in failure(tmp_path)
