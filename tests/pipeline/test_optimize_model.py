from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bertie
from bertie.bench.measure import measure
from bertie.bundle.manifest import Variant
from bertie.config import OptimizeSettings
from bertie.errors import DataError, OutputError, UsageError
from bertie.optimize.candidate import Source
from bertie.optimize.onnx_int8_dynamic import OnnxInt8Dynamic
from bertie.pipeline import optimize_model as module
from bertie.pipeline.optimize_model import Request, _not_needed, optimize_model
from bertie.talk import Talk
from tests.conftest import Bertie, Heard, last_json, make_rows, write_csv

QUIET = Talk(quiet=True)


def settings(**wanted: Any) -> OptimizeSettings:
    return OptimizeSettings(**({"seconds": 0.01, "threads": 1, "candidates": "onnx-int8-dynamic"} | wanted))


def optimize(model: Path, out: Path, **wanted: Any) -> dict[str, Any]:
    request = {name: wanted.pop(name) for name in ("data", "overwrite", "calibrate") if name in wanted}
    return optimize_model(Request(model, out, settings(**wanted), **request), QUIET)


class Ruined(OnnxInt8Dynamic):
    """A quantization in which the head's scale for one label has lost its sign."""

    def __init__(self) -> None:
        super().__init__(embeddings=False)
        self.name = "ruined"

    def build(self, source: Source, folder: Path) -> Variant:
        variant = super().build(source, folder)
        model = onnx.load(folder / variant.file)
        scale = [one for one in model.graph.initializer if one.name.endswith("_scale")][-1]
        values = numpy_helper.to_array(scale).copy()
        values[0] *= -1
        scale.CopyFrom(numpy_helper.from_array(values, scale.name))
        (folder / variant.weights).unlink()
        onnx.save_model(model, folder / variant.file, save_as_external_data=True, location=variant.weights)
        return variant


class Crashing(OnnxInt8Dynamic):
    """One that raises what a library may raise."""

    def __init__(self) -> None:
        super().__init__(embeddings=False)
        self.name = "crashing"

    def build(self, source: Source, folder: Path) -> Variant:
        raise RuntimeError("no kernel for this\nand much more")


def test_the_contract_rejects_a_ruined_layer(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANDIDATES", (Ruined(), OnnxInt8Dynamic(embeddings=False)))
    result = optimize(tiny_run, tmp_path / "out", candidates="", goal="size")
    portable, ruined, sound = result["candidates"]
    assert not ruined["accepted"], ruined
    assert "at least 99 % must" in ruined["why"]
    assert ruined["flips"] > 0
    # The negative control: the same quantization with its scale as it should be.
    assert sound["accepted"], sound["why"]
    assert result["chosen"] == sound["name"]
    assert portable["accepted"]


def test_the_chosen_variant_answers_and_the_record_says_why(tiny_run: Path, tmp_path: Path) -> None:
    result = optimize(tiny_run, tmp_path / "out", goal="size", price_per_hour=0.36)
    assert result["chosen"] == "onnx-int8-dynamic"
    for row in result["candidates"]:
        assert row["cost_per_million"] == pytest.approx(100 / row["texts_per_s"], rel=1e-6)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["chosen"] == "onnx-int8-dynamic"
    assert [variant["name"] for variant in manifest["variants"]] == ["onnx-int8-dynamic", "onnx-fp32"]
    assert manifest["optimization"]["goal"] == "size"
    assert manifest["quality"]["on"] == "held-out"
    texts = ["where is my parcel", "i love it"]
    fast, portable = bertie.load(tmp_path / "out"), bertie.load(tmp_path / "out", variant="onnx-fp32")
    assert np.allclose(portable.predict_proba(texts), bertie.load(tiny_run).predict_proba(texts), atol=1e-6)
    assert not np.array_equal(fast.logits(texts), portable.logits(texts))
    assert np.allclose(fast.predict_proba(texts), portable.predict_proba(texts), atol=0.1)
    page = (tmp_path / "out" / "optimize.html").read_text()
    assert "onnx-int8-dynamic" in page
    assert "<svg" in page
    rows: list[dict[str, Any]] = result["candidates"]
    for row in rows:
        wanted = {"name", "p50_ms", "texts_per_s", "bytes", "metric", "agreement", "accepted", "why"}
        assert wanted <= set(row), row


def test_an_optimized_bundle_can_be_optimized_again(tiny_run: Path, tmp_path: Path) -> None:
    optimize(tiny_run, tmp_path / "once", goal="size")
    data = tiny_run / "splits" / "test.jsonl"
    result = optimize(tmp_path / "once", tmp_path / "twice", goal="size", data=data)
    assert result["chosen"] == "onnx-int8-dynamic"
    bertie.load(tmp_path / "twice")


def test_what_is_optimized_again_starts_from_the_trained_model(tiny_run: Path, tmp_path: Path) -> None:
    # The fused graph needs no instructions either, and is fp32 too.
    optimize(tiny_run, tmp_path / "once", candidates="onnx-fp32-fused", max_drop=1.0, min_agreement=0.0)
    manifest = json.loads((tmp_path / "once" / "manifest.json").read_text())
    manifest["variants"].sort(key=lambda one: one["name"] == "onnx-fp32")
    (tmp_path / "once" / "manifest.json").write_text(json.dumps(manifest))
    data = tiny_run / "splits" / "test.jsonl"
    result = optimize(tmp_path / "once", tmp_path / "twice", candidates="onnx-fp32-fused", data=data)
    assert [row["name"] for row in result["candidates"]] == ["onnx-fp32", "onnx-fp32-fused"]


def test_a_bundle_without_the_portable_variant_is_smaller(tiny_run: Path, tmp_path: Path) -> None:
    optimize(tiny_run, tmp_path / "both", goal="size")
    optimize(tiny_run, tmp_path / "alone", goal="size", portable=False)
    assert not (tmp_path / "alone" / "model.onnx").exists()
    assert bertie.load(tmp_path / "alone").predict(["ok"])
    with pytest.raises(UsageError, match="no portable variant"):
        optimize(tmp_path / "alone", tmp_path / "again", data=tiny_run / "splits" / "test.jsonl")


def test_a_candidate_that_fails_is_a_line_and_no_crash(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CANDIDATES", (Crashing(),))
    result = optimize(tiny_run, tmp_path / "out", candidates="")
    assert result["chosen"] == "onnx-fp32"
    assert result["candidates"][1]["why"] == "could not be built or run: RuntimeError: no kernel for this"


def test_a_candidate_whose_engine_kills_its_process_is_a_line_too(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenVINO or ONNX Runtime do where they meet an instruction that the processor lacks."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, os, signal, subprocess, sys\n"
        "asked = sys.stdin.read()\n"
        "if json.loads(asked)['variant'] == 'onnx-fp32-fused':\n"
        "    os.kill(os.getpid(), signal.SIGILL)\n"
        "command = [sys.executable, '-m', 'bertie.bench.worker', *sys.argv[1:]]\n"
        "sys.exit(subprocess.run(command, input=asked, text=True, check=False).returncode)\n"
    )
    monkeypatch.setattr("bertie.bench.measure.WORKER", (sys.executable, str(worker)))
    result = optimize(tiny_run, tmp_path / "out", candidates="onnx-fp32-fused,onnx-int8-dynamic", goal="size")
    assert result["candidates"][1]["why"] == "could not be built or run: the process that measured was ended by SIGILL."
    assert result["candidates"][2]["accepted"], "the one after it is tried all the same"
    assert result["chosen"] == "onnx-int8-dynamic"


def test_a_candidate_that_lacks_something_is_skipped_with_the_reason(
    tiny_bundle: Path, tiny_run: Path, tmp_path: Path
) -> None:
    data = tiny_run / "splits" / "test.jsonl"
    result = optimize(tiny_bundle, tmp_path / "out", candidates="openvino-int8", data=data)
    assert result["candidates"][1]["skipped"]
    assert "no texts to calibrate" in result["candidates"][1]["why"]


@pytest.mark.filterwarnings("ignore")  # what quantizing libraries say about themselves
def test_a_bundle_is_quantized_on_texts_without_labels(tiny_bundle: Path, tiny_run: Path, tmp_path: Path) -> None:
    texts = tmp_path / "mine.txt"
    texts.write_text("where is my parcel\n\ni love it\n")
    data = tiny_run / "splits" / "test.jsonl"
    result = optimize(tiny_bundle, tmp_path / "out", candidates="onnx-int8-static", data=data, calibrate=texts)
    assert not result["candidates"][1]["skipped"]
    assert result["candidates"][1]["p50_ms"] > 0


def test_a_bundle_without_texts_asks_for_some(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data FILE"):
        optimize(tiny_bundle, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_the_users_is_never_replaced(tiny_run: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("years of work")
    with pytest.raises(OutputError, match="is not a folder"):
        optimize(tiny_run, thesis, overwrite=True)
    assert thesis.read_text() == "years of work"


def test_without_rows_there_is_nothing_to_compare_on(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("text,label\n")
    with pytest.raises(DataError, match="no rows"):
        optimize(tiny_bundle, tmp_path / "out", data=tmp_path / "empty.csv")


def test_few_rows_are_said_to_say_little(tiny_run: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "few.csv", list(make_rows(20)))
    heard = Heard()
    request = Request(tiny_run, tmp_path / "out", settings(candidates="onnx-fp32-fused"), data=tmp_path / "few.csv")
    optimize_model(request, heard)
    assert heard.words == ["so few that 5 % of them are one text: --data FILE brings more"]


@pytest.mark.parametrize(("free", "error"), [(0, OutputError), (10**12, None)])
def test_a_full_disk_is_no_fault_of_the_candidate(
    free: int, error: type[Exception] | None, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a library says it that writes files itself."""
    monkeypatch.setattr(module, "CANDIDATES", (Crashing(),))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    if error is None:
        assert optimize(tiny_run, tmp_path / "out", candidates="")["chosen"] == "onnx-fp32"
        return
    with pytest.raises(error, match="no room is left"):
        optimize(tiny_run, tmp_path / "out", candidates="")
    assert list(tmp_path.iterdir()) == []


def test_the_trained_models_own_files_may_have_several_links(tiny_bundle: Path, tiny_run: Path, tmp_path: Path) -> None:
    # As `cp -al` and `rsync --link-dest` make them; onnx refuses weights in such files.
    shutil.copytree(tiny_bundle, tmp_path / "linked", copy_function=os.link)
    data = tiny_run / "splits" / "test.jsonl"
    result = optimize(tmp_path / "linked", tmp_path / "out", candidates="onnx-fp32-fused,onnx-int8-dynamic", data=data)
    assert [row["why"] for row in result["candidates"][1:]] == ["holds the contract"] * 2


def test_the_fastest_for_one_text_is_chosen_by_its_median(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, measured = measure, {"onnx-fp32": (2.0, 900.0), "onnx-fp32-fused": (1.0, 100.0)}

    def told(folder: Path, *given: Any, variant: str, **more: Any) -> Any:
        p50, rate = measured[variant]
        return replace(real(folder, *given, variant=variant, **more), p50_ms=p50, texts_per_s=rate)

    monkeypatch.setattr(module, "measure", told)
    for goal, wanted in (("latency", "onnx-fp32-fused"), ("throughput", "onnx-fp32")):
        result = optimize(tiny_run, tmp_path / goal, candidates="onnx-fp32-fused", goal=goal)
        assert result["chosen"] == wanted


def test_an_unknown_candidate_is_named(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="onnx-int8-dynamc"):
        optimize(tiny_run, tmp_path / "out", candidates="onnx-int8-dynamc")


def test_a_filled_folder_is_refused_before_the_work(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        optimize(tiny_run, tmp_path / "out")
    # With the flag a bundle is replaced, all that lies in its folder included.
    (tmp_path / "out" / "mine").unlink()
    optimize(tiny_run, tmp_path / "out")
    (tmp_path / "out" / "mine").write_text("mine")
    optimize(tiny_run, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "mine").exists()


def test_a_full_disk_leaves_nothing_and_the_model_as_it_was(tiny_run: Path, small_disk: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    with pytest.raises(OutputError, match="free some disk space"):
        optimize(run, small_disk / "out")
    assert list(small_disk.iterdir()) == []
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_the_result_shares_no_file_with_the_model(tiny_run: Path, tmp_path: Path) -> None:
    optimize(tiny_run, tmp_path / "out")
    ours = {file.stat().st_ino for file in (tmp_path / "out").iterdir()}
    assert not ours & {file.stat().st_ino for file in (tiny_run / "bundle").iterdir()}
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_the_command_prints_the_table(tiny_run: Path, tmp_path: Path, bertie: Bertie) -> None:
    flags = ("--candidates", "onnx-int8-dynamic,openvino-int8", "--seconds", "0.01", "--goal", "size")
    done = bertie("optimize", tiny_run, "--out", tmp_path / "out", *flags, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    result: dict[str, Any] = last_json(done.stdout)
    assert {row["name"] for row in result["candidates"]} == {"onnx-fp32", "onnx-int8-dynamic", "openvino-int8"}
    shown = bertie("optimize", tiny_run, "--out", tmp_path / "other", *flags)
    assert "* chosen for size" in shown.stdout
    assert "next: bertie serve" in shown.stdout


def test_what_would_only_be_slower_is_not_tried() -> None:
    def row(name: str, texts_per_s: float, *, accepted: bool) -> dict[str, Any]:
        return {"name": name, "accepted": accepted, "skipped": False, "texts_per_s": texts_per_s}

    trained = row("onnx-fp32", 100, accepted=True)
    slower, faster = row("openvino-int8", 90, accepted=False), row("openvino-int8", 110, accepted=False)
    assert "no better here than onnx-fp32" in _not_needed("openvino-int8", [trained, slower], "throughput")
    assert _not_needed("openvino-int8", [trained, faster], "throughput") == ""
    kept = row("openvino-int8", 110, accepted=True)
    assert "breaks the contract" in _not_needed("openvino-int8", [trained, kept], "throughput")
    assert "breaks the contract" in _not_needed("openvino-int8", [trained], "throughput")
    unbuilt = {"name": "openvino-int8", "accepted": False, "skipped": False}
    assert _not_needed("openvino-int8", [trained, unbuilt], "throughput") == ""


def test_the_model_is_never_what_is_replaced(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    shutil.copytree(tiny_run, run)
    before = sorted(run.rglob("*"))
    for out in (run, run / "bundle", tmp_path / "runs", tmp_path / "runs" / ".." / "runs" / "first"):
        with pytest.raises(OutputError, match="holds the model itself"):
            optimize_model(Request(run, out, settings(), overwrite=True), QUIET)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not a bundle"):
        optimize_model(Request(run, tmp_path / "mine", settings(), overwrite=True), QUIET)
    assert sorted(run.rglob("*")) == before
    assert (tmp_path / "mine" / "thesis.txt").is_file()
