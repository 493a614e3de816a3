"""Everyone who scores texts in `benchmarks/infer.py`, each driven as its own documentation and an expert would.

All take strings and give labels: tokenization counts for everybody. All use every core. Runs in the contestant's own
Python, which need not have Bertie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Labels = list[str]
MOST_TOKENS = 512


@dataclass(frozen=True)
class Scorer:
    """A loaded model."""

    one: Callable[[str], str]
    """A text to its label."""
    many: dict[int, Callable[[list[str]], Labels]]
    """By texts a batch (0: the library decides), texts to their labels, in order."""


@dataclass(frozen=True)
class Contestant:
    """How one is loaded, and where."""

    environment: str
    """Of `environments.py`; nothing for the environment of this program."""
    model: str
    """The folder that it reads, by its name in `models.py`, or `bundle`."""
    load: Callable[[Path], Scorer]
    note: str
    """How it is driven, for the page."""


def old_sample(folder: Path) -> Scorer:
    """Score as the retired SageMaker sample's handlers did, which padded every text to 64 tokens; batches as given."""
    import torch
    from transformers import BertForSequenceClassification, BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder).eval()

    def score(texts: list[str]) -> Labels:
        rows = [tokenizer.encode(text, add_special_tokens=True, truncation=True, max_length=64) for text in texts]
        ids = torch.tensor([row + [0] * (64 - len(row)) for row in rows])
        with torch.no_grad():
            logits = model(ids, attention_mask=(ids > 0).long())[0]
        return [model.config.id2label[row] for row in logits.argmax(1).tolist()]

    return Scorer(lambda text: score([text])[0], {64: lambda texts: _in_order(texts, 64, score)})


def pipeline(folder: Path, dtype: str) -> Scorer:
    """Use the transformers pipeline."""
    import torch
    from transformers import pipeline as make

    scorer: Any = make("text-classification", model=str(folder), device="cpu", dtype=getattr(torch, dtype))

    def many(texts: list[str], size: int) -> Labels:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        found = scorer([texts[row] for row in order], batch_size=size)
        return _back(order, [one["label"] for one in found])

    return Scorer(lambda text: str(scorer(text)[0]["label"]), _sizes(many))


def onnxruntime(folder: Path, file: str) -> Scorer:
    """Use ONNX Runtime and the tokenizers library alone: texts sorted by tokens, padded to the longest of a batch."""
    import json

    import onnxruntime as ort
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
    session = ort.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
    wanted = {node.name for node in session.get_inputs()}

    def score(rows: list[list[int]]) -> list[int]:
        inputs = _padded(rows)
        logits = session.run(["logits"], {name: value for name, value in inputs.items() if name in wanted})[0]
        return [int(row) for row in logits.argmax(1)]

    def many(texts: list[str], size: int) -> Labels:
        rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        return [names[str(row)] for row in _sorted(rows, size, score)]

    return Scorer(lambda text: str(names[str(score([tokenizer.encode(text).ids])[0])]), _sizes(many))


def optimum_onnx(folder: Path, file: str) -> Scorer:
    """Use the ONNX model through Optimum, as one uses a transformers model."""
    from optimum.onnxruntime import ORTModelForSequenceClassification

    return _as_transformers(folder, ORTModelForSequenceClassification.from_pretrained(folder, file_name=file))


def optimum_intel(folder: Path) -> Scorer:
    """Use the OpenVINO model through Optimum Intel, as one uses a transformers model."""
    from optimum.intel.openvino import OVModelForSequenceClassification

    return _as_transformers(folder, OVModelForSequenceClassification.from_pretrained(folder, device="CPU"))


def infinity(folder: Path, engine: str) -> Scorer:
    """Use infinity's engine from Python: it sorts and batches by itself."""
    import asyncio

    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    # Its own warm-up has longer texts than the model can read, which the ONNX model refuses; the worker warms it up.
    arguments = EngineArgs(
        model_name_or_path=str(folder), engine=engine, device="cpu", batch_size=32, model_warmup=False
    )
    running = AsyncEmbeddingEngine.from_args(arguments)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(running.astart())

    def many(texts: list[str]) -> Labels:
        found, _ = loop.run_until_complete(running.classify(sentences=texts))
        return [max(one, key=lambda label: label["score"])["label"] for one in found]

    return Scorer(lambda text: many([text])[0], {32: many})


def bertie(folder: Path) -> Scorer:
    """Use Bertie's public interface."""
    from bertie import load

    classifier = load(folder)
    classifier.warm()
    return Scorer(
        lambda text: str(classifier.predict([text])[0].label),
        {0: lambda texts: [str(one.label) for one in classifier.predict(texts)]},
    )


def _as_transformers(folder: Path, model: Any) -> Scorer:
    """Tokenize all, sort by tokens, pad to the longest of a batch: less work than the pipeline does around a model."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    names = model.config.id2label

    def score(rows: list[list[int]]) -> list[int]:
        return [int(row) for row in np.asarray(model(**_padded(rows)).logits).argmax(1)]

    def many(texts: list[str], size: int) -> Labels:
        rows = tokenizer(texts, truncation=True, max_length=MOST_TOKENS)["input_ids"]
        return [names[row] for row in _sorted(rows, size, score)]

    def one(text: str) -> str:
        inputs = tokenizer(text, truncation=True, max_length=MOST_TOKENS, return_tensors="np")
        return str(names[int(np.asarray(model(**inputs).logits).argmax())])

    return Scorer(one, _sizes(many))


def _sizes(many: Callable[[list[str], int], Labels]) -> dict[int, Callable[[list[str]], Labels]]:
    return {size: lambda texts, size=size: many(texts, size) for size in (1, 8, 32)}  # type: ignore[misc] # the default


def _in_order(rows: list[Any], size: int, score: Callable[[list[Any]], list[Any]]) -> list[Any]:
    return [label for start in range(0, len(rows), size) for label in score(rows[start : start + size])]


def _sorted(rows: list[list[int]], size: int, score: Callable[[list[list[int]]], list[int]]) -> list[int]:
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    return _back(order, _in_order([rows[row] for row in order], size, score))


def _back(order: list[int], labels: list[Any]) -> list[Any]:
    answer: list[Any] = [None] * len(order)
    for row, label in zip(order, labels, strict=True):
        answer[row] = label
    return answer


def _padded(rows: list[list[int]]) -> dict[str, Any]:
    """Return the inputs of a BERT, each [rows, longest row]."""
    lengths = np.asarray([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": np.zeros_like(ids)}


CONTESTANTS = {
    "old sample": Contestant("", "checkpoint", old_sample, "fp32, every text padded to 64 tokens, batches of 64"),
    "transformers pipeline": Contestant("", "checkpoint", lambda f: pipeline(f, "float32"), "fp32"),
    "transformers pipeline, bf16": Contestant("", "checkpoint", lambda f: pipeline(f, "bfloat16"), "weights in bf16"),
    "ONNX Runtime": Contestant("", "onnx", lambda f: onnxruntime(f, "model.onnx"), "exported by Optimum, fp32"),
    "ONNX Runtime, fused": Contestant(
        "", "onnx", lambda f: onnxruntime(f, "fused.onnx"), "fp32, after onnxruntime.transformers.optimizer"
    ),
    "ONNX Runtime, int8": Contestant(
        "", "onnx", lambda f: onnxruntime(f, "int8.onnx"), "quantize_dynamic, a scale for each column"
    ),
    "ONNX Runtime, fused, int8": Contestant(
        "", "onnx", lambda f: onnxruntime(f, "fused_int8.onnx"), "quantize_dynamic of the fused model"
    ),
    "Optimum ONNX": Contestant("optimum-onnx", "onnx", lambda f: optimum_onnx(f, "model.onnx"), "fp32"),
    "Optimum ONNX, int8": Contestant(
        "optimum-onnx",
        "optimum-int8",
        lambda f: optimum_onnx(f, "model_quantized.onnx"),
        "ORTQuantizer, dynamic, avx512_vnni, a scale for each column",
    ),
    "Optimum Intel": Contestant("optimum-intel", "openvino", optimum_intel, "OpenVINO, its default precision"),
    "Optimum Intel, int8": Contestant(
        "optimum-intel", "openvino-int8", optimum_intel, "OVQuantizer, static, 300 training texts"
    ),
    "infinity, torch": Contestant(
        "infinity", "infinity", lambda f: infinity(f, "torch"), "its defaults: fp32, BetterTransformer"
    ),
    "infinity, optimum": Contestant(
        "infinity", "infinity", lambda f: infinity(f, "optimum"), "its defaults: the quantized ONNX model"
    ),
    "Bertie": Contestant("", "latency", bertie, "bertie optimize --goal latency"),
    "Bertie, throughput": Contestant("", "throughput", bertie, "bertie optimize --goal throughput"),
}
PEERS = [name for name in CONTESTANTS if not name.startswith("Bertie") and name != "old sample"]
OLD = "old sample"
