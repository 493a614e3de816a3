from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest

from bertie.bundle.manifest import Variant
from bertie.config import DataSettings
from bertie.data.examples import read
from bertie.optimize import candidate as module
from bertie.optimize.candidate import Candidate, Source, calibration, fast_sets, program_lengths
from bertie.optimize.candidates import CANDIDATES
from bertie.optimize.onnx_gpu import OnnxCuda, OnnxTensorRt
from bertie.optimize.openvino_int8 import GELU_LEAST, OpenVinoInt8Mixed, after_gelu, parts, quantize, unsigned_gelu
from bertie.runtime import cpu, engine
from bertie.tokens import TextEncoder, TextLimits, Tokens

TensorRt = OnnxTensorRt()
NEED_HARDWARE = {"openvino-bf16", "onnx-cuda-fp16", "onnx-tensorrt-fp16"}


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> TextEncoder:
    return TextEncoder.from_file(tiny_bundle / "tokenizer.json", TextLimits(64), 0)


@pytest.fixture(scope="module")
def source(tiny_run: Path, encoder: TextEncoder) -> Source:
    texts = list(read(tiny_run / "splits" / "train.jsonl", DataSettings()).texts)
    return Source(tiny_run / "bundle" / "model.onnx", calibration(encoder, texts), (8,))


def logits(source: Source, path: Path, variant: Any) -> np.ndarray[Any, Any]:
    started = engine.ENGINES[variant.engine](path, variant, 1, "")
    return np.concatenate([started.run(batch) for batch in source.calibration])


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
@pytest.mark.filterwarnings("ignore")  # what quantizing libraries say about themselves
def test_each_computes_nearly_what_the_model_does(candidate: Candidate, source: Source, tmp_path: Path) -> None:
    if candidate.name in NEED_HARDWARE and candidate.lacks(source):
        pytest.skip(candidate.lacks(source))
    assert candidate.lacks(source) == ""
    variant = candidate.build(source, tmp_path)
    assert variant.name == candidate.name
    assert set(variant.files) == {file.name for file in tmp_path.iterdir()}
    plain = openvino.Core().read_model(source.model)
    original = openvino.Core().compile_model(plain, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    names = [one.get_any_name() for one in original.inputs]
    expected = np.concatenate([original({name: one[name] for name in names})[0] for one in source.calibration])
    found = logits(source, tmp_path / variant.file, variant)
    assert np.abs(found - expected).max() < (1e-4 if variant.precision == "fp32" else 0.25 * np.ptp(expected))
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95


def operations(file: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(file, load_external_data=False).graph.node)


@pytest.mark.filterwarnings("ignore")  # what quantizing libraries say about themselves
def test_what_each_does_to_the_graph(source: Source, tmp_path: Path) -> None:
    found, plain = {}, operations(source.model)
    for candidate in CANDIDATES:
        if candidate.name in {"onnx-fp32-fused", "onnx-int8-dynamic", "onnx-int8-static"}:
            found[candidate.name] = operations(tmp_path / candidate.build(source, tmp_path).file)
    products = plain["MatMul"] + plain["Gemm"]
    fused = found["onnx-fp32-fused"]
    assert fused["SkipLayerNormalization"] >= 2 * 2 - 1  # of two layers
    assert fused["BiasGelu"] + fused["FastGelu"] == 2
    assert not plain.keys() & {"SkipLayerNormalization", "BiasGelu", "FastGelu"}
    assert found["onnx-int8-dynamic"]["DynamicQuantizeLinear"] > 0
    # Attention's products are of two activations each; those with weights are all in int8.
    assert found["onnx-int8-dynamic"]["MatMulInteger"] >= products - 4
    assert found["onnx-int8-static"]["DequantizeLinear"] > found["onnx-int8-static"]["QuantizeLinear"] > 0
    # Per channel: a scale for each output of a product.
    for name in ("onnx-int8-dynamic", "onnx-int8-static"):
        model = onnx.load(tmp_path / f"{name}.onnx", load_external_data=False)
        assert max(one.dims[0] for one in model.graph.initializer if "scale" in one.name and one.dims) >= 32


@pytest.mark.filterwarnings("ignore")
def test_the_mixed_form_leaves_the_worst_parts_as_they_are(source: Source, tmp_path: Path) -> None:
    names: dict[str, list[str]] = {}
    shifts = {"0 attention": 4.0, "0 wide": 1.0, "1 attention": 1.0, "1 wide": 1.0}
    model = openvino.Core().read_model(source.model)
    found = parts(model)
    noise = {name: shifts.get(name, 0.0) ** 2 for name in found}
    for shift in (0.999, 0.2, 0.0):
        mixed = OpenVinoInt8Mixed("mixed", "openvino-int8", shift)
        given = Source(source.model, source.calibration, (8,))
        given.notes["squared shift of each part"] = dict(noise)
        names[str(shift)] = mixed._kept(model, found, given)
    assert set(found["0 attention"].products) == set(names["0.999"])
    assert set(names["0.2"]) > set(names["0.999"])
    left = [part for part in found if noise[part] and not set(found[part].products) <= set(names["0.0"])]
    assert left == []
    # And what is kept is computed in fp32, the rest in int8.
    whole, some = (quantize(model.clone(), source.calibration, kept) for kept in ([], names["0.999"]))
    counts = [sum(op.get_type_name() == "FakeQuantize" for op in one.get_ordered_ops()) for one in (whole, some)]
    assert counts[0] > counts[1] > 0


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
def test_each_says_what_it_lacks(candidate: Candidate, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setattr(cpu, "instruction_sets", frozenset)
    assert candidate.lacks(source)


@pytest.mark.filterwarnings("ignore")  # what the library says about its own insides
def test_the_graph_for_gpus_computes_nearly_what_the_model_does(source: Source, tmp_path: Path) -> None:
    """On the CPU, which computes fp16 too, slowly: what is measured is the graph, not the GPU."""
    assert OnnxCuda().lacks(source) == TensorRt.lacks(source).replace(", and TensorRT", "")
    variant = OnnxCuda().build(source, tmp_path)
    assert (variant.device, variant.precision) == ("cuda", "fp16")
    found = logits(source, tmp_path / variant.file, variant.model_copy(update={"device": "cpu"}))
    reference = Variant(name="onnx-fp32", file=source.model.name, engine="onnxruntime", precision="fp32")
    wanted = logits(source, source.model, reference)
    assert 0 < np.abs(found - wanted).max() < 0.02
    assert (tmp_path / variant.weights).stat().st_size < 0.6 * source.model.with_name("model.onnx.data").stat().st_size


def test_tensorrt_takes_the_portable_graph_and_its_weights(source: Source, tmp_path: Path) -> None:
    variant = TensorRt.build(source, tmp_path)
    assert (variant.device, variant.weights) == ("tensorrt", "model.onnx.data")
    assert (tmp_path / variant.file).read_bytes() == source.model.read_bytes()


def test_static_quantization_needs_texts(source: Source) -> None:
    bare = Source(source.model, [], ())
    lacking = {candidate.name for candidate in CANDIDATES if "texts" in candidate.lacks(bare)}
    assert lacking == {"onnx-int8-static", "openvino-int8", "openvino-int8-mixed", "openvino-int8-mixed-more"}


def test_names_are_unique_and_rescues_name_earlier_ones() -> None:
    names = [candidate.name for candidate in CANDIDATES]
    assert len(set(names)) == len(names)
    for place, candidate in enumerate(CANDIDATES):
        assert not candidate.rescues or candidate.rescues in names[:place]


def test_an_unsigned_gelu_changes_nothing_but_the_sign(source: Source) -> None:
    model = openvino.Core().read_model(source.model)
    batch = source.calibration[0]

    def run() -> Any:
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return compiled({one.get_any_name(): batch[one.get_any_name()] for one in compiled.inputs})[0]

    before = run()
    layers = len(after_gelu(model))
    assert layers == unsigned_gelu(model) > 0
    assert np.allclose(run(), before, atol=1e-5)
    assert after_gelu(model) == []  # a sum stands between
    constants = [op.data for op in model.get_ordered_ops() if op.get_type_name() == "Constant" and not op.shape]
    assert sum(np.allclose(one, GELU_LEAST) for one in constants) == layers


def test_calibration_batches_have_no_padding(encoder: TextEncoder) -> None:
    texts = [" ".join(["parcel"] * (1 + number % 23)) for number in range(300)]
    batches = calibration(encoder, texts)
    assert all(batch["attention_mask"].all() for batch in batches)
    assert sum(len(batch["input_ids"]) for batch in batches) == len(texts)
    assert max(len(batch["input_ids"]) for batch in batches) <= module.BATCH_TEXTS
    assert calibration(encoder, []) == []


def test_calibration_is_bounded(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALIBRATION_TOKENS", 100)
    batches = calibration(encoder, ["where is my parcel"] * 1000)
    assert 100 <= sum(batch["input_ids"].size for batch in batches) < 120


def tokens(lengths: list[int]) -> Tokens:
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.zeros(starts[-1], dtype=np.int32)
    rows = np.arange(len(lengths))
    return Tokens(ids, ids.astype(np.int8), starts, rows, np.zeros(len(lengths), dtype=np.bool_))


def test_programs_are_made_for_the_lengths_that_pad_least() -> None:
    assert program_lengths(tokens([7, 8, 9, 10, 11, 12, 13, 14, 30, 33])) == (16, 40)
    assert program_lengths(tokens([30, 30, 31])) == (32,)
    assert program_lengths(tokens([8])) == (8,)
    assert program_lengths(tokens([64, 5, 5])) == (8, 64)


def test_long_texts_need_no_programs() -> None:
    assert program_lengths(tokens([300, 200, 500, 12])) == ()


def test_the_instruction_sets_are_those_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "instruction_sets", lambda: frozenset({"b", "c", "d"}))
    assert fast_sets(("a", "b", "c")) == ("b", "c")


@pytest.mark.parametrize(
    ("imported", "reports"),
    [("from bertie.optimize.openvino_int8 import _nncf; nncf = _nncf()", False), ("import nncf", True)],
    ids=["as bertie imports it", "as it comes"],
)
def test_nncf_reports_to_nobody(imported: str, reports: bool, tmp_path: Path) -> None:
    """In a process of its own: NNCF reports nothing where it sees pytest."""
    code = f"{imported}; from nncf.telemetry import wrapper; print(type(wrapper.telemetry).__name__)"
    environment = {name: value for name, value in os.environ.items() if name not in {"NNCF_CI", "NNCF_DEV", "CI"}}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.strip().splitlines()[-1] == "NNCFTelemetry") is reports
