from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from bertie.bench.prices import Machine
from bertie.errors import BundleNotFound, DataUnreadable
from bertie.pipeline.bench_model import bench_model
from bertie.talk import Talk
from tests.conftest import Bertie, Train, last_json, make_rows, write_csv

QUIET = Talk(quiet=True)
SECONDS = 0.02
PROMISED = {"p50_ms", "p99_ms", "texts_per_s", "tokens_per_s", "cold_start_ms", "machine"}


def test_a_run_is_measured_on_its_test_rows(tiny_run: Path) -> None:
    facts = bench_model(tiny_run, QUIET, seconds=SECONDS, price=Machine("mine", 0.36))
    assert facts.keys() >= PROMISED
    rows = (tiny_run / "splits" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert facts["texts"] == len(rows) > 0
    assert facts["on"].endswith("test.jsonl")
    assert facts["variant"] == json.loads((tiny_run / "bundle" / "manifest.json").read_text())["chosen"]
    assert facts["cost_per_million"] == pytest.approx(100 / facts["texts_per_s"], rel=1e-3)
    assert facts["priced_as"] == "mine"


def test_an_archive_is_measured_on_its_probe(tiny_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "bundle.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tiny_bundle, "bundle")
    facts = bench_model(archive, QUIET, seconds=SECONDS)
    assert facts["texts"] == 8
    assert "probe" in facts["on"]
    assert "cost_per_million" not in facts


def test_a_tab_parts_a_pair_and_only_a_pair(tiny_bundle: Path, train_tiny: Train, tmp_path: Path) -> None:
    lines = ["where is my parcel\tit is late", "thank you\tso much\tlove it"]
    assert bench_model(tiny_bundle, QUIET, lines=lines, seconds=SECONDS)["texts"] == 2
    rows = [(text, text[::-1], label) for text, label in make_rows(60)]
    data = write_csv(tmp_path / "pairs.csv", rows, ("text", "text_pair", "label"))
    pairs = train_tiny(data, max_passes=1)
    assert bench_model(pairs, QUIET, lines=lines, seconds=SECONDS)["texts"] == 2
    assert bench_model(pairs, QUIET, seconds=SECONDS)["on"].endswith("test.jsonl")
    with pytest.raises(DataUnreadable, match="line 2 holds one text"):
        bench_model(pairs, QUIET, lines=[lines[0], "alone"], seconds=SECONDS)


def test_a_variant_that_is_not_there_is_refused_at_once(tiny_bundle: Path) -> None:
    with pytest.raises(BundleNotFound, match="no variant 'int3'"):
        bench_model(tiny_bundle, QUIET, variant="int3")


def test_the_command_prints_for_people_and_for_machines(tiny_bundle: Path, tmp_path: Path, bertie: Bertie) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("where is my parcel\nthank you so much\n", encoding="utf-8")
    common = ("bench", tiny_bundle, "--input", texts, "--threads", 1, "--seconds", SECONDS)
    people = bertie(*common, "--machine", "c7i.large")
    assert people.returncode == 0, people.stderr
    for said in ("p50, ms", "short", "texts/s", "cold start", "at $0.08925 an hour (c7i.large, if it is as fast"):
        assert said in people.stdout
    machines = bertie(*common, "--price-per-hour", 0.5, "--json", "--quiet")
    facts = last_json(machines.stdout)
    assert facts.keys() >= PROMISED | {"cost_per_million"}
    assert facts["threads"] == 1
    assert machines.stderr == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--machine", "c7i.large", "--price-per-hour", 1), "not from both"),
        (("--prices", "table.toml"), "add --machine NAME"),
        (("--machine", "nowhere.large"), "there is no price"),
        (("--input", "/dev/null"), "holds no texts"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tiny_bundle: Path, bertie: Bertie, options: tuple[object, ...], said: str
) -> None:
    done = bertie("bench", tiny_bundle, *options)
    assert done.returncode == 2
    assert said in done.stderr
