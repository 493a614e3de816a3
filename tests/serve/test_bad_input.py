"""Whatever comes in, the answer is a sentence of ours, tells neither text nor insides, and the next one is right."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bertie
from bertie.config import ServeSettings
from bertie.serve.server import app_for
from tests.serve.broken import BINARY, BODIES, GOOD, KINDS, ROUTES, SECRET
from tests.serve.wire.test_invocations import JSON

Post = Callable[..., httpx.Response]

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=80)


@pytest.fixture(scope="module")
def post(tiny_bundle: Path) -> Iterator[Post]:
    """Return a function that posts to a server of the tiny bundle within this process, and judges the answer."""
    classifier = bertie.load(tiny_bundle)
    app = app_for(classifier, ServeSettings(max_body_bytes=2**20, max_texts=5000))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")
    (right,) = classifier.predict(["i love it"])
    with asyncio.Runner() as runner:

        def ask(path: str, body: bytes, **headers: str) -> httpx.Response:
            named = {name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}
            answer = runner.run(client.post(path, content=body, headers=named))
            judge(answer)
            # The same server still answers what is right.
            good = runner.run(client.post("/invocations", content=b'"i love it"')).json()
            assert good["label"] == right.label
            assert good["score"] == pytest.approx(right.score, abs=1e-6)
            return answer

        yield ask
        runner.run(client.aclose())


def judge(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    assert SECRET not in "".join(answer.headers.values())
    if answer.status_code >= 400:
        assert SECRET not in answer.text
        assert "Traceback" not in answer.text
        assert len(answer.content) < 2000
        error = answer.json()["error"]
        assert (error if isinstance(error, str) else error["message"]).partition("\n")[0].endswith(".")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", KINDS)
def test_broken_bodies_are_refused_in_our_own_words(
    post: Post, route: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        for name, body in BODIES.items():
            answer = post(route, body, content_type=kind)
            if (route, kind) == ("/invocations", "application/json") and name[:4] not in {"NUL,", "UTF-"}:
                assert answer.status_code >= 400, name
    assert SECRET not in caplog.text


@pytest.mark.parametrize("name", BINARY)
def test_binary_tensors_of_wrong_lengths_are_refused(post: Post, name: str) -> None:
    body, length = BINARY[name]
    answer = post("/v2/models/model/infer", body, inference_header_content_length=length)
    assert 400 <= answer.status_code < 500


def test_a_judge_that_sees_nothing_would_be_none() -> None:
    for broken in (
        httpx.Response(500, json={"error": {"message": "It failed."}}),
        httpx.Response(422, json={"error": {"message": f"{SECRET} is no text."}}),
        httpx.Response(422, text="Traceback (most recent call last):"),
        httpx.Response(200, headers={"x-text": SECRET}),
    ):
        with pytest.raises((AssertionError, ValueError)):
            judge(broken)


@FUZZ
@given(
    route=st.sampled_from(ROUTES),
    kind=st.sampled_from(KINDS) | HEADER,
    accept=st.sampled_from(["", "*/*", "text/csv", "application/jsonlines", "application/json; output=logits"])
    | HEADER,
    custom=st.sampled_from(["", "output=logits", "top_k=2"]) | HEADER,
    length=st.sampled_from(["", "", "0", "10"]) | HEADER,
    body=st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: json.dumps({"inputs": value, "parameters": value, "outputs": value, "id": value}).encode())
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
)
def test_any_request_is_answered_or_refused(
    post: Post, route: str, kind: str, accept: str, custom: str, length: str, body: bytes
) -> None:
    post(
        route,
        body,
        content_type=kind,
        accept=accept,
        x_amzn_sagemaker_custom_attributes=custom,
        inference_header_content_length=length,
    )


@FUZZ
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_good_request_with_a_piece_changed_is_answered_or_refused(
    post: Post, route: str, data: st.DataObject
) -> None:
    body = GOOD[route]
    first = data.draw(st.integers(0, len(body)))
    last = data.draw(st.integers(first, min(len(body), first + 10)))
    changed = body[:first] + data.draw(st.binary(max_size=6)) + body[last:]
    answer = post(route, changed, content_type="application/json")
    assert answer.status_code in {200, 400, 413, 422}


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_characters="/?#"), min_size=1, max_size=30))
def test_any_name_of_a_model_is_known_or_not(post: Post, name: str) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in name.encode("utf-8", "surrogatepass"))
    for path in (f"/models/{quoted}", f"/models/{quoted}/invoke", f"/v2/models/{quoted}/infer"):
        assert post(path, GOOD["/v2/models/model/infer"]).status_code in {404, 405, 422}


def test_a_text_of_a_field_that_csv_would_not_read_is_read(post: Post) -> None:
    assert post("/invocations", b"love " * 40_000, content_type="text/csv").status_code == 200
