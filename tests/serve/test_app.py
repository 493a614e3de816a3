from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

import bertie
from bertie.config import ServeSettings
from bertie.serve.app import Endpoint, make_app
from bertie.serve.server import app_for

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


@pytest.fixture
def client(classifier: bertie.Classifier) -> httpx.AsyncClient:
    settings = ServeSettings(max_body_bytes=1024, max_texts=5)
    app = app_for(classifier, settings)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def test_ping_is_200_and_empty_when_ready(client: httpx.AsyncClient) -> None:
    response = await client.get("/ping")
    assert (response.status_code, response.content) == (200, b"")


async def test_an_answer_is_the_classifiers_own(client: httpx.AsyncClient, classifier: bertie.Classifier) -> None:
    texts = ["where is my parcel", "i love it"]
    response = await client.post("/invocations", json=texts)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    for answer, prediction in zip(response.json(), classifier.predict(texts), strict=True):
        assert answer["label"] == prediction.label
        assert answer["scores"] == pytest.approx(prediction.scores, abs=1e-6)


async def test_errors_have_status_and_sentence_and_no_traceback(client: httpx.AsyncClient) -> None:
    for body, status in ((b"", 400), (b"nope", 400), (b"[]", 422), (b'["a",1]', 422), (b'"\\ud800"', 422)):
        response = await client.post("/invocations", content=body)
        assert response.status_code == status
        error = response.json()["error"]
        assert error["message"].endswith(".")
        assert "Traceback" not in response.text


async def test_a_body_over_the_limit_is_a_413(client: httpx.AsyncClient) -> None:
    at_limit = json.dumps("a" * 1022).encode()
    assert len(at_limit) == 1024
    assert (await client.post("/invocations", content=at_limit)).status_code == 200
    response = await client.post("/invocations", content=at_limit + b" ")
    assert (response.status_code, response.json()["error"]["expected"]) == (413, "at most 1024")


async def test_before_loading_and_while_closing_nothing_is_accepted(classifier: bertie.Classifier) -> None:
    endpoint = Endpoint(ServeSettings())
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=make_app(endpoint)), base_url="http://test")
    for path, method in (("/ping", "GET"), ("/invocations", "POST")):
        assert (await client.request(method, path, content=b'"a"')).status_code == 503
    endpoint.classifier = classifier
    assert (await client.get("/ping")).status_code == 200
    endpoint.closing = True
    assert (await client.get("/ping")).status_code == 503


async def test_a_failure_inside_says_nothing_of_the_inside(classifier: bertie.Classifier) -> None:
    class Broken:
        pairs = False

        def predict(self, texts: list[str]) -> None:
            raise RuntimeError("secret path /srv/model")

    endpoint = Endpoint(ServeSettings())
    endpoint.classifier = Broken()  # type: ignore[assignment]
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=make_app(endpoint)), base_url="http://test")
    response = await client.post("/invocations", json="a")
    assert response.status_code == 500
    assert "secret" not in response.text


async def test_docs_need_no_internet(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    document = (await client.get("/openapi.json")).json()
    assert {"/ping", "/invocations"} <= document["paths"].keys()
    body = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    assert "one text" in body["examples"]


async def test_the_documented_examples_work(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    body = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    for name, example in body["examples"].items():
        response = await client.post("/invocations", json=example["value"])
        assert response.status_code == (422 if name == "a pair of texts" else 200)
