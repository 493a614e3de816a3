"""The program that answers in AWS's own images, `code/inference.py` of an artifact for the Hugging Face image.

It runs in two toolkits, sagemaker-inference and sagemaker-huggingface-inference-toolkit, which call `model_fn` once and
`transform_fn` for each request. What it imports of this package lies beside it in the artifact, so that a body is read,
a text cut, a logit turned into an answer and an error worded by the same code as in `bertie serve`.

No error is raised out of here: sagemaker-inference writes the traceback into the body of an answer, and the Hugging
Face toolkit makes a 400 of everything. An error is an answer with a status instead.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
import sys
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification

from bertie.errors import BertieError
from bertie.scores import Decision, predictions, probabilities
from bertie.serve.wire import attributes
from bertie.serve.wire.exchange import JSON, Found, Limits, Reply, write_error
from bertie.serve.wire.invocations import read
from bertie.tokens import Text, TextEncoder, TextLimits, by_length, pooled

# The toolkits decode bodies of these types before they call us, and one that is not UTF-8 ends in their own words.
for _toolkit in ("sagemaker_inference", "sagemaker_huggingface_inference_toolkit"):
    if _types := sys.modules.get(f"{_toolkit}.content_types"):
        _types.UTF8_TYPES = []  # type: ignore[attr-defined]  # theirs

MOST = 10**7
"""Texts of one request in a batch transform: as many as its payload holds."""

CELLS = {"cpu": 4096, "cuda": 65536}
"""Padded tokens of one model call: more does not run faster, and takes memory."""


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to answer."""

    model: Any
    device: str
    encoder: TextEncoder
    decision: Decision
    limits: Limits
    inputs: tuple[str, ...]
    name: str

    @torch.inference_mode()
    def logits(self, texts: list[Text]) -> NDArray[np.float32]:
        """Return the model's raw scores, [texts, labels], computed in batches of like length."""
        tokens = self.encoder.encode(texts)
        found = np.empty((len(tokens.rows), len(self.decision.labels)), dtype=np.float32)
        for windows in by_length(tokens.lengths, len(tokens.rows), CELLS[self.device]):
            padded = tokens.pad(windows, self.encoder.pad_id)
            given = {name: torch.from_numpy(padded[name]).to(self.device) for name in self.inputs}
            found[windows] = self.model(**given).logits.float().cpu().numpy()
        return pooled(found, tokens.rows, len(texts))


def model_fn(model_dir: str) -> Loaded:
    """Load the checkpoint and the settings it was trained with."""
    folder = Path(model_dir)
    settings = json.loads((folder / "code" / "bertie.json").read_text(encoding="utf-8"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, local_files_only=True
    )
    encoder = TextEncoder.from_file(folder / "tokenizer.json", TextLimits(**settings["limits"]), settings["pad_id"])
    decision = Decision(
        tuple(settings["labels"]), settings["task"], settings["temperature"], tuple(settings["thresholds"])
    )
    known = inspect.signature(model.forward).parameters
    inputs = tuple(name for name in ("input_ids", "attention_mask", "token_type_ids") if name in known)
    # In a batch transform one request that is refused fails the whole file.
    batch = os.environ.get("SAGEMAKER_BATCH", "").lower() == "true"
    limits = Limits(settings["pairs"], MOST if batch else settings["max_texts"], settings["max_characters"])
    return Loaded(model.eval().to(device), device, encoder, decision, limits, inputs, settings["name"])


def transform_fn(model: Loaded, body: Any, content_type: str, accept: str, context: Any) -> bytes:
    """Answer one request. `accept` has a default in it that depends on the toolkit, so the header itself is read."""
    request = context.request_processor[0]
    headers = {name.lower(): value for name, value in request.get_request_properties().items()}
    accept = headers.get("accept", "").strip()
    if accept in {"", "*/*"}:
        accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "")
    raw = body.encode() if isinstance(body, str) else bytes(body or b"")
    status, reply = _answer(model, raw, content_type or "", accept, headers.get(attributes.HEADER, ""))
    request.report_status(status, HTTPStatus(status).phrase)
    for name, value in attributes.write(model.name).items():
        request.add_response_property(name, value)
    request.add_response_property("content-type", reply.media_type)
    # After this the toolkits would set the content type once more: to what the client takes, lists and all.
    request.add_response_property = _nothing
    return reply.body


def _answer(model: Loaded, body: bytes, content_type: str, accept: str, custom: str) -> tuple[int, Reply]:
    try:
        ask = read(body, content_type, accept, model.limits, custom)
        logits = model.logits(ask.texts)
        found = predictions(probabilities(logits, model.decision), model.decision)
        return HTTPStatus.OK, ask.reply(Found(found, logits, model.decision.labels))
    except BertieError as error:
        return error.http_status, Reply(write_error(error), JSON)
    except Exception as error:
        logging.getLogger("bertie").error(  # noqa: TRY400 - its message may quote a text, its kind cannot
            "a request failed with %s", type(error).__name__
        )
        return HTTPStatus.INTERNAL_SERVER_ERROR, Reply(write_error(BertieError("the model failed on this request.")))


def _nothing(name: str, value: str) -> None:
    """Leave a header as it is."""
