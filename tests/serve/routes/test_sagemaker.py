from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

import bertie
from bertie.config import ServeSettings
from bertie.serve.server import app_for
from bertie.serve.wire.attributes import HEADER

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


def client(classifier: bertie.Classifier, **settings: Any) -> httpx.AsyncClient:
    app = app_for(classifier, ServeSettings(**settings))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def test_where_no_kind_of_answer_is_named_the_default_is_given(classifier: bertie.Classifier) -> None:
    asking = client(classifier, default_accept="text/csv")
    for headers in ({}, {"accept": "*/*"}):
        assert (await asking.post("/invocations", json="a", headers=headers)).headers["content-type"] == "text/csv"
    answer = await asking.post("/invocations", json="a", headers={"accept": "application/json"})
    assert answer.headers["content-type"] == "application/json"


async def test_a_batch_transform_asks_what_fits(classifier: bertie.Classifier) -> None:
    answer = await client(classifier, max_body_bytes=6 * 2**20).get("/execution-parameters")
    assert answer.json() == {"MaxConcurrentTransforms": 4, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}


async def test_custom_attributes_come_back_with_good_answers_alone(classifier: bertie.Classifier) -> None:
    asking = client(classifier)
    answer = await asking.post("/invocations", json="a", headers={HEADER: "top_k=1; trace=7"})
    assert len(answer.json()) == 1
    assert answer.headers[HEADER] == f"model={answer.headers['x-model']}"
    answer = await asking.post("/invocations", json="a", headers={HEADER: "top_k=many"})
    assert answer.status_code == 422
    assert HEADER not in answer.headers


async def test_what_the_body_asks_for_stands_over_the_attributes(classifier: bertie.Classifier) -> None:
    body = {"inputs": "a", "parameters": {"top_k": 2}}
    answer = await client(classifier).post("/invocations", json=body, headers={HEADER: "top_k=1"})
    assert len(answer.json()) == 2


async def test_a_text_over_the_limit_is_a_413(classifier: bertie.Classifier) -> None:
    asking = client(classifier, max_characters=5)
    assert (await asking.post("/invocations", json=["a", "☕☕☕☕☕"])).status_code == 200
    answer = await asking.post("/invocations", json=["a", "secret"])
    assert answer.status_code == 413
    assert answer.json()["error"]["expected"] == "at most 5"
    assert "secret" not in answer.text
