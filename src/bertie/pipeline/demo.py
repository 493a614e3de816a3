"""`bertie demo`: the whole job on the data that ships with the package, from a file to an answer over HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertie import samples
from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.disk import refuse_filled
from bertie.errors import BertieError
from bertie.pipeline.check_data import check_data
from bertie.pipeline.run_folder import Request
from bertie.pipeline.train_run import train_run
from bertie.talk import Talk

QUESTION = "I was charged twice for the same order, please send one of the payments back."
STOP_SECONDS = 30


def demo(folder: Path, talk: Talk, *, overwrite: bool = False) -> dict[str, Any]:
    """Check, train, evaluate, export, serve and ask; return what `--json` prints. Everything lands in `folder`."""
    if not overwrite:
        refuse_filled(folder)
    started = time.perf_counter()
    files = [_copy(split, folder / "data") for split in samples.SPLITS]
    talk.say(f"1. check: bertie check {' '.join(map(str, files))}")
    report = check_data(files, DataSettings(), TrainSettings(), talk)
    talk.say(f"   {report['rows']} messages in {len(report['labels'])} classes, {len(report['problems'])} problems")

    run = folder / "run"
    talk.say(f"2. train: bertie train {files[0]} --valid {files[1]} --test {files[2]} --out {run}")
    request = Request(files[0], run, files[1], files[2], overwrite=overwrite)
    result = train_run(request, DataSettings(), SplitSettings(), TrainSettings.load(), talk)

    talk.say(f"3. serve: bertie serve {run} --port 0")
    with serving(run) as address:
        answer = ask(address, QUESTION)
    metrics = result["metrics"]
    return {
        "accuracy": metrics["accuracy"]["value"],
        "macro_f1": metrics["macro_f1"]["value"],
        "baselines": {one["name"]: one["macro_f1"]["value"] for one in metrics["baselines"]},
        "question": QUESTION,
        "answer": answer,
        "run": result["run"],
        "bundle": result["bundle"],
        "report": result["report"],
        "metrics": metrics,
        "train_seconds": result["train_seconds"],
        "seconds": time.perf_counter() - started,
    }


def _copy(split: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(samples.path(split), folder))


@contextmanager
def serving(model: Path) -> Iterator[str]:
    """Run `bertie serve` on a free port in a process of its own; give its address once it is ready."""
    command = [sys.executable, "-m", "bertie", "serve", str(model), "--port", "0", "--json", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise BertieError(f"the server did not start: exit code {process.wait(STOP_SECONDS)}.")
        yield str(json.loads(line)["url"])
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()


def ask(address: str, text: str) -> dict[str, Any]:
    """Send one text to a server, and return its answer."""
    request = urllib.request.Request(  # noqa: S310 - the address is the server that we started
        f"{address}/invocations", data=json.dumps(text).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
    return answer
