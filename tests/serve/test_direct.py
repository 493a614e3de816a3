from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

import bertie
from bertie.config import ServeSettings
from bertie.serve.server import app_for

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> bertie.Classifier:
    return bertie.load(tiny_bundle)


def without_it(classifier: bertie.Classifier) -> FastAPI:
    app = app_for(classifier)
    app.user_middleware = [one for one in app.user_middleware if "Direct" not in repr(one.cls)]
    return app


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("POST", "/invocations", b'"where is my parcel"'),
        ("POST", "/invocations", b"nope"),
        ("POST", "/invocations/", b'"where is my parcel"'),
        ("GET", "/invocations", b""),
        ("OPTIONS", "/predict", b""),
        ("POST", "/predict", b'{"inputs": "where is my parcel"}'),
        ("POST", "/predict", b"{}"),
    ],
)
async def test_the_short_way_answers_as_the_long_one(
    classifier: bertie.Classifier, method: str, path: str, content: bytes
) -> None:
    short, long = app_for(classifier), without_it(classifier)
    assert len(short.user_middleware) == len(long.user_middleware) + 1
    answers = [await client(app).request(method, path, content=content) for app in (short, long)]
    one, other = [(answer.status_code, answer.content, sorted(set(answer.headers))) for answer in answers]
    assert one == other
    pages = [(await client(app).get("/metrics")).text for app in (short, long)]
    counts = [[line for line in page.splitlines() if line.startswith("bertie_requests_total")] for page in pages]
    assert counts[0] == counts[1] != []


async def test_a_mounted_application_has_its_paths(classifier: bertie.Classifier) -> None:
    outer = FastAPI()
    outer.mount("/predict", app_for(classifier))
    assert (await client(outer).post("/predict/invocations", content=b'"ok"')).status_code == 200
    assert (await client(outer).post("/predict", content=b'"ok"')).status_code in {307, 404, 405}
    assert (await client(outer).post("/invocations", content=b'"ok"')).status_code == 404


async def test_middleware_added_later_is_around_the_short_way(classifier: bertie.Classifier) -> None:
    app = app_for(classifier)

    @app.middleware("http")
    async def refuse(_: object, __: object) -> httpx.Response:
        raise PermissionError

    answer = await httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, raise_app_exceptions=False), base_url="http://test"
    ).post("/invocations", content=b'"ok"')
    assert answer.status_code == 500


async def test_the_short_way_is_behind_the_keys(classifier: bertie.Classifier, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-some-length-0123456789\n", encoding="utf-8")
    app = app_for(classifier, ServeSettings(api_keys=keys))
    for path in ("/invocations", "/predict"):
        assert (await client(app).post(path, content=b'"ok"')).status_code == 401
    headers = {"x-api-key": "a-key-of-some-length-0123456789"}
    assert (await client(app).post("/invocations", content=b'"ok"', headers=headers)).status_code == 200
