from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bertie.bench import measure as module
from bertie.bench.measure import ask, measure, size
from bertie.bundle.manifest import FILE, Manifest
from bertie.errors import BenchError, BundleDamaged, BundleNotFound, RequestInvalid
from bertie.tokens import Text
from tests.conftest import Train, make_rows, write_csv

SECONDS = 0.02


def dies(program: str) -> list[str]:
    return [sys.executable, "-c", f"import os, signal, sys, time; {program}"]


def test_a_bundle_is_measured(tiny_bundle: Path) -> None:
    texts = [text for text, _ in make_rows(200, lengths=(2, 40))]
    speed = measure(tiny_bundle, texts, threads=1, seconds=SECONDS)
    assert 0 < speed.p50_ms <= speed.p99_ms
    assert list(speed.by_length) == ["short", "median", "long"]
    tokens = [group["tokens"] for group in speed.by_length.values()]
    assert tokens[0] < tokens[1] < tokens[2] <= 64
    assert all(group["calls"] >= 100 and 0 < group["p50_ms"] <= group["p99_ms"] for group in speed.by_length.values())
    assert list(speed.texts_per_s_by_batch) == ["200", "32", "8", "1"]
    assert speed.texts_per_s == max(speed.texts_per_s_by_batch.values())
    assert speed.texts_per_s == speed.texts_per_s_by_batch[str(speed.batch)]
    assert speed.tokens_per_s > 5 * speed.texts_per_s
    assert speed.cold_start_ms > 50, "a process that starts Python and loads a model"
    assert speed.texts == 200
    assert json.loads(json.dumps(speed.as_dict()))["by_length"].keys() == speed.by_length.keys()


def test_a_call_that_takes_longer_is_measured_as_longer(tiny_bundle: Path, tmp_path: Path) -> None:
    """The probe's own texts, through a classifier that sleeps."""
    program = (
        "import sys, time; from bertie.bench import worker; from bertie.runtime.classifier import Classifier\n"
        "plain = Classifier.predict\n"
        "def slow(self, texts):\n    time.sleep(0.005 * len(texts)); return plain(self, texts)\n"
        "Classifier.predict = slow; worker.LEAST_CALLS = 20; worker.main()"
    )
    request = {
        "folder": str(tiny_bundle),
        "variant": None,
        "threads": 1,
        "groups": {"median": ["where is my parcel"]},
        "texts": ["where is my parcel"] * 10,
        "seconds": SECONDS,
    }
    slow, plain = ask(request, [sys.executable, "-c", program]), ask(request)
    assert 5 < slow["latency"]["median"]["p50_ms"] < 5 + plain["latency"]["median"]["p99_ms"] + 5
    assert slow["texts_per_s"]["10"] < 200 < plain["texts_per_s"]["10"]


def test_the_process_that_measures_imports_no_pytorch(tiny_bundle: Path) -> None:
    request = {"folder": str(tiny_bundle), "variant": None, "threads": 1, "groups": {"median": ["a"]}, "seconds": 0}
    program = (
        "import sys; sys.argv = ['worker', '0']\n"
        "from bertie.bench.worker import main\nfrom bertie.bench import measure, machine\nmain()\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'matplotlib'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(request), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cold_start_ms"] > 0


def test_memory_is_that_of_the_model_not_of_the_process_that_asks(tiny_bundle: Path) -> None:
    ballast = np.ones(500_000_000, dtype=np.uint8)
    speed = measure(tiny_bundle, ["where is my parcel"], threads=1, seconds=SECONDS)
    assert 20 < speed.peak_mb < 400, f"not with the {ballast.nbytes} bytes of this one"


def test_without_texts_the_probe_is_read_and_pairs_are_pairs(train_pairs: Path) -> None:
    probe = measure(train_pairs, seconds=SECONDS)
    assert probe.texts == 8
    pairs: list[Text] = [("where is my parcel", "it is late"), ("thank you", "so much")]
    assert measure(train_pairs, pairs, seconds=SECONDS).texts == 2
    with pytest.raises(RequestInvalid, match="cannot read"):
        measure(train_pairs, ["one text"], seconds=SECONDS)


@pytest.fixture(scope="module")
def train_pairs(train_tiny: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [(text, text[::-1], label) for text, label in make_rows(60)]
    data = write_csv(tmp_path_factory.mktemp("pairs") / "pairs.csv", rows, ("text", "text_pair", "label"))
    return train_tiny(data, max_passes=1) / "bundle"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGILL)", "ended by SIGILL.*instruction that this processor lacks"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL.*memory is short"),
        ("sys.stderr.write('first\\nthe reason\\n'); os.abort()", "ended by SIGABRT.*the reason"),
        ("sys.exit('no such luck')", "exit code 1: no such luck"),
        ("os._exit(3)", "exit code 3: it said nothing"),
    ],
)
def test_a_process_that_dies_is_a_result(program: str, said: str) -> None:
    with pytest.raises(BenchError, match=f"(?s){said}"):
        ask({}, dies(program))


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT_SECONDS", 0.5)
    with pytest.raises(BenchError, match="took more than"):
        ask({}, dies("time.sleep(60)"))


def test_what_a_library_prints_does_no_harm() -> None:
    assert ask({}, dies("print('loading', end=''); print(); print('{\"cold_start_ms\": 1}')")) == {"cold_start_ms": 1}


def test_the_errors_of_the_bundle_come_through(tiny_bundle: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    model = damaged / Manifest.from_file(damaged / FILE).variant().file
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    with pytest.raises(BundleDamaged, match="is not the file that was written"):
        measure(damaged, ["a"], seconds=SECONDS)
    with pytest.raises(BundleNotFound, match="no variant 'int3'"):
        measure(tiny_bundle, ["a"], variant="int3", seconds=SECONDS)


def test_the_size_leaves_out_what_only_other_variants_need(tiny_bundle: Path) -> None:
    manifest = Manifest.from_file(tiny_bundle / FILE)
    whole = sum(record.bytes for record in manifest.files.values())
    assert size(manifest) == whole
    first = manifest.variants[0]
    files = manifest.files | {"small.onnx": manifest.files[first.file].model_copy(update={"bytes": 10})}
    second = first.model_copy(update={"name": "small", "file": "small.onnx"})
    both = manifest.model_copy(update={"files": files, "variants": (first, second)})
    assert size(both) == whole
    assert size(both, "small") == whole - manifest.files[first.file].bytes + 10


@pytest.mark.parametrize("count", [1, 2, 19, 20, 39, 400, 2000])
def test_the_groups_stand_for_their_percentile(count: int) -> None:
    tokens = np.random.default_rng(count).permutation(count)
    for percentile in (5, 50, 95):
        rows = module._near(tokens, percentile)
        assert len(rows) == max(1, min(module.GROUP, count // 20))
        assert abs(np.median(tokens[rows]) - percentile / 100 * (count - 1)) <= max(1, count / 40)
