"""Training is killed, stopped, starved and cut off, as it happens to it; the result must be that of quiet days."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import equal

from bertie.config import TrainSettings
from tests.conftest import Bertie, make_rows, write_csv

PASSES, IN_PASS = 40, 10
FLAGS = (
    "--batch-size",
    "32",
    "--max-passes",
    PASSES,
    "--patience",
    PASSES,
    "--precision",
    "fp32",
    "--checkpoint-updates",
    "7",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "data.csv", list(make_rows(400)))


@pytest.fixture(scope="module")
def command(data: Path, tiny_base: Path) -> list[str]:
    """What trains for some seconds: 400 updates."""
    return [str(data), "--base", str(tiny_base), *map(str, FLAGS)]


@pytest.fixture(scope="module")
def quiet_day(command: list[str], bertie: Bertie, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the same command that nothing happened to."""
    run = tmp_path_factory.mktemp("quiet") / "run"
    done = bertie("train", *command, "--out", run)
    assert done.returncode == 0, done.stderr
    return run


@contextlib.contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run the command line beside the test."""
    words = [sys.executable, "-m", "bertie", "train", *map(str, arguments)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def updates(run: Path) -> int:
    """The last update that the log knows."""
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    with contextlib.suppress(ValueError, IndexError):
        last = json.loads(lines[-1])
        return int(last.get("update", last.get("updates", 0)))
    return 0


def child_of(process: subprocess.Popen[str]) -> int:
    """The process that does the work."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def worker_killed(command: list[str], run: Path, restarts: int, by: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
    """Train, end the process that does the work once, as the system would, and return how it all ended."""
    with started(*command, "--out", run, "--restarts", restarts) as process:
        wait_for(process, lambda: updates(run) >= 25)
        os.kill(child_of(process), by)
        _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def assert_same(run: Path, other: Path) -> None:
    """Both learned the same, to the last bit, and logged the same."""
    one, two = (load_file(folder / "checkpoint" / "model.safetensors") for folder in (run, other))
    assert one.keys() == two.keys()
    assert all(equal(one[name], two[name]) for name in one)
    logs = []
    for folder in (run, other):
        lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        logs.append([{key: value for key, value in line.items() if key != "tokens_per_s"} for line in lines])
    assert logs[0] == logs[1]
    assert not (run / "checkpoints").exists()


@pytest.mark.slow
def test_killed_at_random_updates_it_ends_with_the_same_bits(
    command: list[str], quiet_day: Path, bertie: Bertie, tmp_path: Path
) -> None:
    run, chance = tmp_path / "run", random.Random()  # noqa: S311 - other moments every time
    for part in range(4):
        begin = [*command, "--out", run] if part == 0 else ["--resume", run]
        moment = 60 * part + chance.randint(20, 60)
        with started(*begin) as process:
            wait_for(process, lambda: updates(run) >= moment)  # noqa: B023 - called at once
            time.sleep(chance.uniform(0, 0.05))
            worker = child_of(process)
            process.kill()
            process.wait()
            deadline = time.monotonic() + 10
            while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert not Path(f"/proc/{worker}").exists(), "the worker outlived its parent"
        assert not (run / "checkpoint").exists()
    resumed = bertie("train", "--resume", run, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after update" in resumed.stderr
    assert json.loads(resumed.stdout)["metrics"]["n"] > 0
    assert_same(run, quiet_day)


@pytest.mark.slow
def test_another_seed_gives_other_bits(command: list[str], quiet_day: Path, bertie: Bertie, tmp_path: Path) -> None:
    """The comparison above can fail."""
    assert bertie("train", *command, "--out", tmp_path / "run", "--seed", 1).returncode == 0
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "run", quiet_day)


@pytest.mark.slow
def test_sigterm_saves_all_and_leaves_with_its_own_exit_code(
    command: list[str], quiet_day: Path, bertie: Bertie, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    place = tmp_path / "elsewhere"
    with started(*command, "--out", run, "--checkpoints", f"file://{place}") as process:
        wait_for(process, lambda: updates(run) >= 33)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert time.monotonic() - asked < 20
    assert "asked to end (SIGTERM)" in errors
    assert f"bertie train --resume {run}" in errors
    assert "Traceback" not in errors
    assert any(place.iterdir())
    resumed = bertie("train", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert_same(run, quiet_day)
    assert not any(place.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "told"),
    [
        (signal.SIGKILL, "training was killed, most often because memory ran out; starting again"),
        (
            signal.SIGABRT,
            "training crashed in native code (SIGABRT), as it also does where memory cannot be had; starting again",
        ),
    ],
)
def test_a_worker_that_dies_is_started_again_with_fewer_tokens_at_once(
    by: signal.Signals, told: str, command: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, errors = worker_killed(command, run, restarts=1, by=by)
    assert code == 0, errors
    assert told in errors
    assert ("Fatal Python error: Aborted" in errors) == (by is signal.SIGABRT)  # and where it was
    assert "going on after update" in errors
    facts = json.loads((run / "training.json").read_text())
    assert facts["updates"] == PASSES * IN_PASS
    assert facts["batch_tokens"] < TrainSettings().batch_tokens


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["data.json", "training.json"])
def test_sigterm_before_and_after_the_updates(
    moment: str, command: list[str], quiet_day: Path, bertie: Bertie, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with started(*command, "--out", run) as process:
        wait_for(process, (run / moment).is_file)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "asked to end (SIGTERM)" in errors
    assert "Traceback" not in errors
    assert not (run / "report.html").exists()
    resumed = bertie("train", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert (run / "report.html").is_file()
    assert_same(run, quiet_day)


@pytest.mark.slow
def test_a_place_for_checkpoints_that_nothing_answers_leaves_no_run(
    command: list[str], bertie: Bertie, tmp_path: Path
) -> None:
    for place, code in (("ftp://127.0.0.1:1/x", 7), ("nothing://x", 2)):
        done = bertie("train", *command, "--out", tmp_path / "run", "--checkpoints", place)
        assert done.returncode == code, done.stderr
        assert f"checkpoints cannot be kept at {place}" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV])
def test_after_the_last_restart_it_gives_up_and_what_is_saved_stays(
    by: signal.Signals, command: list[str], bertie: Bertie, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, errors = worker_killed(command, run, restarts=0, by=by)
    assert code == 128 + by
    assert "giving up; --resume RUN goes on from the last checkpoint, and --batch-tokens" in errors
    assert bertie("train", "--resume", run, "--batch-tokens", 128).returncode == 0
    assert json.loads((run / "training.json").read_text())["batch_tokens"] == 128


@pytest.mark.slow
def test_ctrl_c_leaves_a_usable_model_and_can_go_on(
    command: list[str], quiet_day: Path, bertie: Bertie, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with started(*command, "--out", run) as process:
        wait_for(process, lambda: updates(run) >= 3 * IN_PASS)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after" in errors
    assert "Traceback" not in errors
    exported = bertie("export", run, "--json")
    assert exported.returncode == 0, exported.stderr
    assert bertie("predict", run, "where is my parcel").returncode == 0
    resumed = bertie("train", "--resume", run)
    assert resumed.returncode == 0, resumed.stderr
    assert_same(run, quiet_day)


@pytest.mark.slow
def test_the_same_command_again_goes_on(command: list[str], quiet_day: Path, bertie: Bertie, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [*command, "--out", run, "--auto-resume"]
    with started(*words) as process:
        wait_for(process, lambda: updates(run) >= 33)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    refused = bertie("train", *words, "--seed", 5)
    assert refused.returncode == 2
    assert "belongs to another training" in refused.stderr
    resumed = bertie("train", *words)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on after update" in resumed.stderr
    assert_same(run, quiet_day)


@pytest.mark.slow
def test_a_finished_run_has_nothing_to_resume(quiet_day: Path, bertie: Bertie) -> None:
    done = bertie("train", "--resume", quiet_day)
    assert done.returncode == 2
    assert "is finished: there is nothing to resume" in done.stderr


def test_a_run_of_other_rows_is_neither_continued_nor_mixed(
    bertie: Bertie, tiny_run: Path, data: Path, tiny_base: Path
) -> None:
    before = (tiny_run / "data.json").read_bytes()
    done = bertie("train", data, "--base", tiny_base, "--out", tiny_run, "--auto-resume")
    assert done.returncode == 2
    assert "belongs to another training" in done.stderr
    assert (tiny_run / "data.json").read_bytes() == before


def test_resume_takes_nothing_else(bertie: Bertie, tiny_run: Path) -> None:
    done = bertie("train", "--resume", tiny_run, "--batch-size", 7, "--seed", 3, "--keep", 9)
    assert done.returncode == 2
    assert "; --batch-size, --seed cannot be given beside it" in done.stderr
    assert "--batch-tokens" in done.stderr  # what may be


def test_resume_needs_a_run(bertie: Bertie, tmp_path: Path) -> None:
    done = bertie("train", "--resume", tmp_path)
    assert done.returncode == 4
    assert "is not a run" in done.stderr
