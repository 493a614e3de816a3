from __future__ import annotations

import re
import zipfile
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import anyio
import httpx
import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder
from numpy.typing import NDArray
from tokenizers import Tokenizer

import bertie
from bertie.config import ServeSettings
from bertie.errors import Overloaded
from bertie.scores import Decision
from bertie.serve.app import make_app
from bertie.serve.batching import Waiting
from bertie.serve.endpoint import Endpoint
from bertie.serve.models import Models
from bertie.serve.server import app_for
from tests.serve.counting import counting

pytestmark = pytest.mark.anyio

PAGE = files("bertie.serve").joinpath("page")
NAMES = sorted(entry.name for entry in PAGE.iterdir())
SETTINGS = ServeSettings(max_body_bytes=1024, max_texts=5)


def client_of(classifier: bertie.Classifier, settings: ServeSettings = SETTINGS) -> httpx.AsyncClient:
    app = app_for(classifier, settings)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


@pytest.fixture
async def client(tiny_tokenizer: Tokenizer) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(counting(tiny_tokenizer)) as one:
        yield one


async def test_the_page_and_all_it_names_is_there(client: httpx.AsyncClient) -> None:
    front = await client.get("/")
    assert (front.status_code, front.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = set(re.findall(r'(?:src|href)="(page/[^"]+)"', front.text))
    assert len(named) > 2
    for name in NAMES:
        named |= {f"page/{one}" for one in re.findall(r'from "\./([^"]+)"', PAGE.joinpath(name).read_text("utf-8"))}
    assert named == {f"page/{name}" for name in NAMES} - {"page/index.html"}
    for path in named:
        response = await client.get(f"/{path}")
        assert response.status_code == 200, path
        assert response.text == PAGE.joinpath(path.removeprefix("page/")).read_text("utf-8")
    assert (await client.get("/page/main.js")).headers["content-type"].startswith("text/javascript")
    assert (await client.get("/page/page.css")).headers["content-type"].startswith("text/css")


async def test_nothing_comes_from_elsewhere_and_nothing_stands_inline() -> None:
    bad = re.compile(
        r"""https?://(?!www\.w3\.org/2000/svg)|url\(|<style|\sstyle=|\son\w+="|<script>|innerHTML|eval\("""
    )
    for name in NAMES:
        assert not bad.search(PAGE.joinpath(name).read_text("utf-8")), name
    for seen in ('<a href="http://x">', "<script>", '<b onclick="x">', '<b style="">', "a.innerHTML = b"):
        assert bad.search(seen)


async def test_pages_forbid_what_they_do_not_need(client: httpx.AsyncClient) -> None:
    for path in ("/", "/page/main.js", "/page/nothing"):
        headers = (await client.get(path)).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    # Theirs has a script within, which this policy would stop.
    headers = (await client.get("/docs")).headers
    assert headers["content-security-policy"] == "frame-ancestors 'none'"
    assert headers["referrer-policy"] == "no-referrer"


async def test_only_files_of_the_page_are_given(client: httpx.AsyncClient) -> None:
    for path in ("/page/nothing", "/page/..%2fapp.py", "/page/%2e%2e%2f%2e%2e%2ferrors.py", "/page/", "/page/a/b"):
        assert (await client.get(path)).status_code == 404, path


async def test_what_a_browser_has_is_not_sent_again_until_it_changes(client: httpx.AsyncClient) -> None:
    for path in ("/", "/page/main.js"):
        response = await client.get(path)
        assert response.headers["cache-control"] == "no-cache"
        tag = response.headers["etag"]
        for seen in (tag, f"W/{tag}", f'"other", {tag}'):
            again = await client.get(path, headers={"if-none-match": seen})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        changed = await client.get(path, headers={"if-none-match": '"other"'})
        assert (changed.status_code, changed.content) == (200, response.content)


def test_the_wheel_holds_the_page(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    built = next(WheelBuilder(str(root)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(built) as archive:
        held = {name for name in archive.namelist() if name.startswith("bertie/serve/page/")}
    assert held == {f"bertie/serve/page/{name}" for name in NAMES}


async def test_words_are_explained(client: httpx.AsyncClient) -> None:
    response = await client.post("/explain", json={"text": "  where is my parcel, please?"})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    found = response.json()
    assert found["label"] == "delivery"
    assert found["score"] == (await client.post("/invocations", json="where is my parcel, please?")).json()["score"]
    assert [(word["start"], word["end"], word["text"]) for word in found["words"]] == [
        (2, 7, "where"),
        (8, 10, "is"),
        (11, 13, "my"),
        (14, 20, "parcel"),
        (22, 28, "please"),
    ]
    weights = {word["text"]: word["weight"] for word in found["words"]}
    assert weights.pop("parcel") > 0.4
    assert max(map(abs, weights.values())) < 1e-6
    other = (await client.post("/explain", json={"text": "my parcel", "label": "praise"})).json()
    assert other["label"] == "praise"
    assert other["words"][1]["weight"] < -0.2


async def test_places_are_those_of_characters(client: httpx.AsyncClient) -> None:
    text = "🙂🙂 parcel"
    (_, word) = (await client.post("/explain", json={"text": text})).json()["words"]
    assert text[word["start"] : word["end"]] == word["text"] == "parcel"


async def test_a_text_longer_than_the_model_reads(client: httpx.AsyncClient) -> None:
    text = " ".join(["is"] * 80)
    found = (await client.post("/explain", json={"text": text})).json()
    assert len(found["words"]) == 62
    assert found["read"] == 62 * 3 - 1
    assert "read" not in (await client.post("/explain", json={"text": "is"})).json()


async def test_pairs_say_where_a_word_stands(tiny_tokenizer: Tokenizer) -> None:
    async with client_of(counting(tiny_tokenizer, pairs=True)) as client:
        answer = await client.post("/explain", json={"text": "is it", "text_pair": "love"})
        assert [(word["in"], word["text"]) for word in answer.json()["words"]] == [
            ("text", "is"),
            ("text", "it"),
            ("text_pair", "love"),
        ]
        assert answer.json()["words"][2]["weight"] > 0.4
        assert (await client.post("/explain", json={"text": "is it"})).status_code == 422
        assert (await client.get("/card")).json()["pairs"] is True


async def test_what_cannot_be_explained_is_refused_as_everywhere(client: httpx.AsyncClient) -> None:
    for body, status in (
        (b"", 400),
        (b"nope", 400),
        (b'"a"', 422),
        (b"[]", 422),
        (b'{"text": ""}', 422),
        (b'{"text": 1}', 422),
        (b'{"text": "\\ud800"}', 422),
        (b'{"text": "a", "label": 1}', 422),
        (b'{"text": "a", "label": "secret"}', 422),
        (b'{"text": "a", "text_pair": "b"}', 422),
        (b'{"text": "' + b"a" * 1024 + b'"}', 413),
    ):
        response = await client.post("/explain", content=body)
        assert response.status_code == status, body[:40]
        assert response.json()["error"]["message"].endswith(".")
        assert "secret" not in response.text


async def test_an_explanation_that_would_be_too_long_or_too_late(tiny_tokenizer: Tokenizer) -> None:
    long = {"text": "is " * 50_000}
    async with client_of(counting(tiny_tokenizer), ServeSettings()) as client:
        assert (await client.post("/explain", json=long)).status_code == 413
    async with client_of(counting(tiny_tokenizer, seconds=0.2), ServeSettings(timeout_seconds=0.3)) as client:
        # Each of its batches is in time, but not all together.
        response = await client.post("/explain", json={"text": "is it " * 30})
        assert (response.status_code, response.json()["error"]["code"]) == (504, "DeadlinePassed")


async def test_where_the_client_leaves_no_more_is_left_out(tiny_tokenizer: Tokenizer) -> None:
    classifier = counting(tiny_tokenizer, seconds=0.05)
    called = 0
    run = classifier.run

    def watched(inputs: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        nonlocal called
        called += 1
        return run(inputs)

    classifier.run = watched  # type: ignore[method-assign]  # counts the model's calls
    body = {"text": "is it " * 30}
    app = app_for(classifier)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        assert (await client.post("/explain", json=body)).status_code == 200
        whole = called
        with anyio.move_on_after(0.12):
            await client.post("/explain", json=body)
        await anyio.sleep(0.3)
    assert whole > 4
    assert called - whole < whole - 1


async def test_a_busy_server_refuses_to_explain(tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(ServeSettings())
    app = make_app(Endpoint(ServeSettings(), models))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")
    for path, method in (("/explain", "POST"), ("/card", "GET")):
        assert (await client.request(method, path, content=b'{"text": "a"}')).status_code == 503
    assert (await client.get("/")).status_code == 200
    models.add("model", counting(tiny_tokenizer))

    def full(*_: object, **__: object) -> None:
        raise Overloaded("too much waits already.")

    monkeypatch.setattr(Waiting, "put", full)
    response = await client.post("/explain", json={"text": "a"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")


async def test_the_card_of_a_bundle(tiny_bundle: Path) -> None:
    async with client_of(bertie.load(tiny_bundle)) as client:
        response = await client.get("/card")
    card = response.json()
    assert (card["labels"], card["task"], card["pairs"]) == (["delivery", "praise"], "single-label", False)
    assert card["limits"] == {"max_texts": 5, "max_body_bytes": 1024}
    bundle = card["bundle"]
    assert bundle["quality"]["n"] == bundle["rows"]["test"] == 60
    assert bundle["input"]["max_tokens"] == 64
    assert (bundle["variant"]["engine"], bundle["variant"]["precision"]) == ("onnxruntime", "fp32")
    assert bundle["variant"]["bytes"] > 1000
    assert "/" not in response.text.replace(bundle["base"]["source"], "")


async def test_the_card_of_a_classifier_from_no_bundle(tiny_tokenizer: Tokenizer) -> None:
    decision = Decision(("delivery", "praise"), "multi-label", thresholds=(0.4, 0.6))
    async with client_of(counting(tiny_tokenizer, decision)) as client:
        card = (await client.get("/card")).json()
    assert (card["task"], card["thresholds"], "bundle" in card) == ("multi-label", [0.4, 0.6], False)
