from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertie
from bertie.bundle.manifest import Manifest, Variant
from bertie.errors import BundleDamaged, BundleUnusable
from bertie.runtime import cpu, engine
from bertie.runtime.onnx_engine import OnnxEngine
from bertie.runtime.openvino_engine import HOT, OpenVinoEngine

Inputs = dict[str, np.ndarray[Any, np.dtype[np.int64]]]
TEXTS = ["where is my parcel", "i love it", "ok", "the parcel is late and nobody answers " * 9]


def rows(count: int, tokens: int) -> Inputs:
    ids = np.random.default_rng(count * tokens).integers(5, 60, (count, tokens))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


@pytest.fixture(scope="module")
def graph(tiny_bundle: Path) -> Path:
    return tiny_bundle / "model.onnx"


@pytest.fixture
def with_variant(tiny_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies the bundle and puts another variant in front, from the same graph."""

    def made(**fields: Any) -> Path:
        folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
        manifest = json.loads((folder / "manifest.json").read_text())
        new = {"name": "fast", "file": "model.onnx", "weights": "model.onnx.data", "engine": "onnxruntime"}
        manifest["variants"].insert(0, new | {"precision": "int8"} | fields)
        manifest["chosen"] = "fast"
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return made


def test_openvino_computes_what_onnxruntime_does(graph: Path) -> None:
    plain = engine.ENGINES["onnxruntime"](
        graph, Variant(name="", file="", engine="onnxruntime", precision="fp32"), 1, ""
    )
    found = OpenVinoEngine(graph, 1, precision="fp32")
    for shape in ((1, 1), (1, 9), (5, 3), (33, 17), (1, 9)):
        given = rows(*shape)
        given["attention_mask"][0, shape[1] // 2 + 1 :] = 0
        assert np.allclose(found.run(given), plain.run(given), atol=1e-5)


def test_a_program_for_a_length_gives_the_same_logits(graph: Path) -> None:
    plain = OpenVinoEngine(graph, 1, precision="fp32")
    quick = OpenVinoEngine(graph, 1, precision="fp32", lengths=(8, 16))
    quick.warm()
    assert sorted(quick._of_length) == [8, 16]
    for tokens in (1, 7, 8, 9, 16, 17):
        given = rows(1, tokens)
        assert np.allclose(quick.run(given), plain.run(given), atol=1e-5)


def test_a_program_is_made_only_for_a_length_that_is_asked_for_often(graph: Path) -> None:
    quick = OpenVinoEngine(graph, 1, precision="fp32", lengths=(8, 16))
    for _ in range(HOT):
        quick.run(rows(1, 12))
    assert not quick._of_length
    quick.run(rows(1, 12))
    assert list(quick._of_length) == [16]


def test_threads_may_share_an_openvino_engine(graph: Path) -> None:
    shared = OpenVinoEngine(graph, 1, precision="fp32", lengths=(8,))
    given = [rows(1 + number % 3, 1 + number % 11) for number in range(60)]
    expected = [shared.run(one) for one in given]
    with ThreadPoolExecutor(8) as threads:
        for found, wanted in zip(threads.map(shared.run, given), expected, strict=True):
            assert np.allclose(found, wanted, atol=1e-5)


def test_a_file_that_is_no_openvino_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.xml").write_text("no model")
    with pytest.raises(BundleDamaged, match=r"model\.xml"):
        OpenVinoEngine(tmp_path / "model.xml", 1, precision="fp32")


def test_the_compiled_model_is_kept_for_those_files_alone(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTIE_CACHE", str(tmp_path))
    for digest in ("a", "a", "b"):
        OpenVinoEngine(graph, 1, precision="fp32", digest=digest)
    kept = list((tmp_path / "openvino").iterdir())
    assert len(kept) == 2
    assert all(list(folder.glob("*.blob")) for folder in kept)
    assert {folder.stat().st_mode & 0o777 for folder in kept} == {0o700}


def test_an_unwritable_cache_costs_nothing_but_time(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BERTIE_CACHE", str(tmp_path / "file"))
    assert OpenVinoEngine(graph, 1, precision="fp32", digest="a").run(rows(2, 5)).shape == (2, 2)


def test_a_cpu_without_the_instructions_takes_the_portable_variant_and_says_so(
    with_variant: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = with_variant(needs=["an_instruction_set_of_tomorrow", "another"])
    with caplog.at_level(logging.WARNING, "bertie"):
        classifier = bertie.load(folder)
    assert "an_instruction_set_of_tomorrow or another" in caplog.text
    assert "onnx-fp32 answers in its place" in caplog.text
    assert len(classifier.predict(TEXTS)) == len(TEXTS)


def test_a_cpu_with_one_of_the_instructions_takes_the_chosen_variant(
    with_variant: Callable[..., Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above."""
    monkeypatch.setattr(cpu, "instruction_sets", lambda: frozenset({"another"}))
    folder = with_variant(needs=["an_instruction_set_of_tomorrow", "another"])
    with caplog.at_level(logging.WARNING, "bertie"):
        bertie.load(folder)
    assert not caplog.text


def test_a_variant_asked_for_by_name_has_no_substitute(with_variant: Callable[..., Path]) -> None:
    folder = with_variant(needs=["an_instruction_set_of_tomorrow"])
    with pytest.raises(BundleUnusable, match="which this one lacks"):
        bertie.load(folder, variant="fast")


def test_a_bundle_without_any_variant_for_this_machine_says_what_to_do(with_variant: Callable[..., Path]) -> None:
    folder = with_variant(needs=["an_instruction_set_of_tomorrow"])
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["variants"] = manifest["variants"][:1]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleUnusable, match="bertie optimize"):
        bertie.load(folder)


def test_an_engine_that_is_not_installed_is_named(
    with_variant: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None if name == "openvino" else name)
    with caplog.at_level(logging.WARNING, "bertie"):
        bertie.load(with_variant(engine="openvino"))
    assert "pip install 'bertie[openvino]'" in caplog.text


def test_only_the_files_that_are_read_must_be_whole(with_variant: Callable[..., Path]) -> None:
    folder = with_variant(needs=["an_instruction_set_of_tomorrow"], file="fast.onnx", weights="")
    (folder / "fast.onnx").write_bytes(b"damaged, and never read here")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["fast.onnx"] = {"sha256": 64 * "0", "bytes": 1}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert bertie.load(folder).predict(["ok"])
    assert "fast.onnx" not in Manifest.from_file(folder / "manifest.json").read_for(
        bertie.load(folder).manifest.variant("onnx-fp32")  # type: ignore[union-attr]  # a loaded one has a manifest
    )


def test_predicting_through_openvino_imports_nothing_heavy(graph: Path) -> None:
    program = (
        "import sys, numpy as np; from bertie.runtime.openvino_engine import OpenVinoEngine\n"
        f"e = OpenVinoEngine({str(graph)!r}, 1, precision='fp32'); o = np.ones((1, 4), dtype=np.int64)\n"
        "e.run({'input_ids': o, 'attention_mask': o, 'token_type_ids': o})\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'nncf', 'onnx', 'scipy', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_machine_without_the_gpu_takes_the_portable_variant_and_says_so(
    with_variant: Callable[..., Path], device: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = with_variant(device=device, precision="fp16")
    with caplog.at_level(logging.WARNING, "bertie"):
        assert bertie.load(folder).predict(["where is my parcel"])
    assert "needs an NVIDIA GPU" in caplog.text
    assert "onnx-fp32 answers in its place" in caplog.text


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_does_not_start_is_no_cpu_in_disguise(graph: Path) -> None:
    with pytest.raises(BundleUnusable, match="made for cuda"):
        OnnxEngine(graph, 1, device="cuda")


def test_what_is_bf16_elsewhere_is_fp32_where_the_processor_has_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    from bertie.runtime import cpu
    from bertie.runtime.openvino_engine import _type

    for sets, expected in (({"avx512_vnni"}, "f32"), ({"avx512_vnni", "avx512_bf16"}, "bf16")):
        monkeypatch.setattr(cpu, "instruction_sets", lambda sets=sets: frozenset(sets))
        assert (_type("int8+bf16"), _type("int8")) == (expected, "f32")
