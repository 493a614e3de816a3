"""Every command and every Python block of the README and the guides runs, in the order in which a reader meets them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import make_rows
from tests.pipeline.test_import_model import as_the_sample_saved, write_vocabulary

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/guides/data.md",
    "docs/guides/training.md",
    "docs/guides/serving.md",
    "docs/guides/optimizing.md",
    "docs/guides/benchmarking.md",
    "docs/guides/exporting.md",
    "docs/guides/sagemaker.md",
    "docs/guides/docker.md",
    "docs/guides/kubernetes.md",
    "docs/guides/sagemaker-training.md",
)
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)

MIGRATE = "docs/guides/migrate.md"
"""A page whose commands have a test of their own: they begin with a model that another program saved."""

NOT_RUN = {
    "source .venv/bin/activate": "the test has the environment on its path already",
    "make test": "that is this test",
}

STOPPED = (
    "bertie train demo/data/train.csv --out runs/safe --max-passes 1 --checkpoint-updates 10 --checkpoints runs/kept"
)
"""The command that is stopped with SIGTERM once there is a checkpoint."""

# What a reader has at hand where a Python block needs more than it shows.
PREAMBLE = """
import csv, warnings
warnings.simplefilter("error")
with open("demo/data/valid.csv", encoding="utf-8", newline="") as file:
    rows = list(csv.DictReader(file))
texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
"""


def blocks() -> Iterator[tuple[str, str, str]]:
    for page in PAGES:
        for kind, body in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
            yield page, kind, body


class Reader:
    """Types what the documentation says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[subprocess.Popen[bytes]] = []
        self.ports = {shown: _free_port() for shown in ("8080", "8081", "8082")}
        self.environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        if "PYTEST_XDIST_WORKER" not in os.environ:  # beside other tests, two threads would wait for each other
            self.environment.pop("OMP_NUM_THREADS", None)  # set for tiny models; these commands run as a user's would
        # Commands that name no number of passes make this many: enough to beat a bag of words by far.
        self.environment["BERTIE_TRAIN_MAX_PASSES"] = "4"
        # Those that name no candidates try these: all take minutes, and have tests of their own.
        self.environment["BERTIE_OPTIMIZE_CANDIDATES"] = "onnx-fp32-fused,onnx-int8-dynamic,openvino-fp32"

    def here(self, shown: str) -> str:
        """Return what a reader types, with ports that are free."""
        for port, free in self.ports.items():
            shown = shown.replace(port, free)
        return shown

    def type(self, line: str) -> str:
        line = self.here(line)
        if line == "make demo":
            line = f"make -C {ROOT} demo DEMO={self.folder / 'demo'}"
        if line == STOPPED:
            return self.start_and_stop(line)
        if line.startswith("bertie serve"):
            self.serve(line)
            return ""
        said = self.run(["sh", "-c", line], line)
        assert "curl" not in line or '{"error"' not in said, f"{line}\n{said}"
        return said

    def run(self, command: list[str], shown: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{shown}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start_and_stop(self, line: str) -> str:
        process = subprocess.Popen(
            line.split(), cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 120
        while not list(self.folder.glob("runs/kept/step-*/state.json")) and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.terminate()
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 75, errors
        return errors

    def serve(self, line: str) -> None:
        self.stop()
        self.servers.append(subprocess.Popen(line.split(), cwd=self.folder, env=self.environment))
        port = re.search(r"--port (\d+)", line)
        scheme, context = ("https", ssl._create_unverified_context()) if "--tls-cert" in line else ("http", None)  # noqa: S323
        address = f"{scheme}://127.0.0.1:{port[1] if port else self.ports['8080']}"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5, context=context).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        pytest.fail(f"{line} never became ready")

    def python(self, body: str) -> None:
        body = self.here(body)
        self.run([sys.executable, "-c", PREAMBLE + body], body)

    def stop(self) -> None:
        for server in self.servers:
            server.terminate()
            server.wait(30)
        self.servers.clear()


@pytest.mark.slow
def test_every_documented_command_runs(tmp_path: Path) -> None:
    if shutil.which("make") is None or shutil.which("curl") is None:
        pytest.skip("make and curl are what the documentation uses")
    reader = Reader(tmp_path)
    said: dict[str, str] = {}
    wrong = []  # all of them: a run takes long
    try:
        for page, kind, body in blocks():
            try:
                if kind == "python":
                    reader.python(body)
                    continue
                for line in filter(None, map(str.strip, body.splitlines())):
                    if line not in NOT_RUN:
                        said[line] = reader.type(line)
            except (AssertionError, pytest.fail.Exception) as error:
                wrong.append(f"{page}: {error}")
    finally:
        reader.stop()
    assert not wrong, "\n\n".join(wrong)

    demo = said["make demo"]
    ours, simple = (_macro_f1(demo, name) for name in ("this model", "tf-idf"))
    assert ours > simple + 0.05, demo
    assert re.search(r"done in \d+ s", demo)
    assert '"label"' in said["curl localhost:8080/invocations -d '\"Where is my parcel?\"'"]


@pytest.mark.slow
def test_the_commands_for_a_model_of_the_old_sample(tiny_run: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    as_the_sample_saved(tiny_run, saved)
    write_vocabulary(tiny_run, saved)
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        for path in saved.iterdir():
            archive.add(path, path.name)
    labels = {"delivery": "unacceptable", "praise": "acceptable"}
    rows = [f"{text},{labels[label]}" for text, label in make_rows(40)]
    (tmp_path / "test.csv").write_text("\n".join(["sentence,label", *rows]) + "\n")
    [block] = re.findall(r"^```bash\n(.*?)^```", (ROOT / MIGRATE).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = block.splitlines()
    assert [line.split()[1] for line in lines] == ["import", "evaluate", "serve"]
    reader = Reader(tmp_path)
    try:
        for line in lines:
            reader.type(line)
    finally:
        reader.stop()


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _macro_f1(output: str, name: str) -> float:
    line = next(line for line in output.splitlines() if line.startswith(name))
    return float(line.removeprefix(name).split()[4])


def test_the_documentation_has_commands_and_few_of_them_are_left_out() -> None:
    lines = [line for _, kind, body in blocks() if kind == "bash" for line in body.splitlines() if line.strip()]
    assert len(lines) > 10
    assert {*NOT_RUN, STOPPED} <= set(lines)
    guides = {str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "guides").glob("*.md")}
    assert {*PAGES, MIGRATE} == {*guides, "README.md"}


def test_a_broken_command_would_be_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="there is no file"):
        Reader(tmp_path).type("bertie check nowhere.csv")
    (tmp_path / "demo" / "data").mkdir(parents=True)
    (tmp_path / "demo" / "data" / "valid.csv").write_text("text,label\n")
    with pytest.raises(AssertionError, match="has no attribute"):
        Reader(tmp_path).python("import bertie\nbertie.nothing")


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
