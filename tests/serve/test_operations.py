from __future__ import annotations

import logging
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import bertie
from bertie.config import ServeSettings
from bertie.errors import UsageError
from bertie.serve.limits import address
from bertie.serve.operations import allow_connections
from bertie.serve.server import app_for

PAGE = "https://a.example"


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


def client_of(classifier: bertie.Classifier, **settings: object) -> httpx.AsyncClient:
    app = app_for(classifier, ServeSettings.load(settings, environment={}))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


@pytest.mark.anyio
async def test_no_page_of_another_origin_reads_answers_unless_it_may(classifier: bertie.Classifier) -> None:
    asked = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    for origins, allowed in (("", None), ("https://b.example", None), (f"https://b.example,{PAGE}", PAGE), ("*", "*")):
        client = client_of(classifier, cors_origins=origins)
        before = await client.options("/invocations", headers=asked)
        assert before.headers.get("access-control-allow-origin") == allowed
        for body in ("a", ""):  # an error is to be read, too
            response = await client.post("/invocations", json=body, headers={"origin": PAGE})
            assert response.headers.get("access-control-allow-origin") == allowed
        if allowed:
            assert "x-request-id" in response.headers["access-control-expose-headers"]


@pytest.mark.anyio
async def test_a_browser_asks_before_it_sends_a_key(
    classifier: bertie.Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERTIE_API_KEYS", "first-key-0123456789")
    client = client_of(classifier, cors_origins=PAGE)
    asked = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    assert (await client.options("/invocations", headers=asked)).status_code == 200
    response = await client.post("/invocations", json="a", headers={"origin": PAGE})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (401, PAGE)


@pytest.mark.parametrize("wrong", ["a.example", "https://a.example/", "https://a.example, https://b.example", "*,a"])
def test_what_is_no_origin_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="cors_origins"):
        ServeSettings.load({"cors_origins": wrong}, environment={})


@pytest.mark.anyio
async def test_no_answer_is_taken_for_something_else(classifier: bertie.Classifier) -> None:
    client = client_of(classifier)
    for path in ("/ping", "/metrics", "/nowhere", "/docs"):
        assert (await client.get(path)).headers["x-content-type-options"] == "nosniff"


def test_the_address_is_one_that_can_be_typed() -> None:
    for host, family, shown in (("127.0.0.1", socket.AF_INET, "127.0.0.1"), ("::1", socket.AF_INET6, "[::1]")):
        with socket.socket(family) as listener:
            listener.bind((host, 0))
            port = listener.getsockname()[1]
            assert address(listener, ServeSettings()) == f"http://{shown}:{port}"
            assert address(listener, ServeSettings(tls_cert=Path("c"))) == f"https://{shown}:{port}"


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_as_many_files_may_be_open_as_connections_need(
    limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))
    allow_connections(100)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 512
    allow_connections(1000)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1256
    assert not caplog.records
    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, 800))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: set_to.append(pair))
    set_to: list[tuple[int, int]] = []
    with caplog.at_level(logging.WARNING, "bertie"):
        allow_connections(1000)
    assert set_to == [(800, 800)]
    assert "only 800 files" in caplog.text
