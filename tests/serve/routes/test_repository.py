from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

import bertie
from bertie.config import ServeSettings
from bertie.serve.server import app_for

pytestmark = pytest.mark.anyio
TENSOR = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["where is my parcel"]}]}


@pytest.fixture
def store(tiny_bundle: Path, tmp_path: Path) -> Path:
    for name in ("aa", "bb"):
        shutil.copytree(tiny_bundle, tmp_path / "store" / name / "model")
    shutil.copytree(tiny_bundle, tmp_path / "secret")
    return tmp_path / "store"


@pytest.fixture
def client(tiny_bundle: Path, store: Path) -> httpx.AsyncClient:
    app = app_for(bertie.load(tiny_bundle), ServeSettings(model_store=store, name="first"))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def test_sagemakers_multi_model_api(client: httpx.AsyncClient, store: Path) -> None:
    body = {"model_name": "hash1", "url": str(store / "aa" / "model")}
    loaded = await client.post("/models", json=body)
    assert (loaded.status_code, loaded.json()) == (200, {"modelName": "hash1", "modelUrl": body["url"]})
    assert (await client.post("/models", json=body)).status_code == 409
    assert [one["modelName"] for one in (await client.get("/models")).json()["models"]] == ["first", "hash1"]
    assert (await client.get("/models/hash1")).json()["modelUrl"] == body["url"]
    answer = await client.post("/models/hash1/invoke", json=["where is my parcel"])
    assert (answer.status_code, answer.json()[0]["label"]) == (200, "delivery")
    assert answer.headers["x-model"].startswith("hash1/model@")
    assert (await client.delete("/models/hash1")).status_code == 200
    for method, path in (("DELETE", "/models/hash1"), ("GET", "/models/hash1"), ("POST", "/models/hash1/invoke")):
        assert (await client.request(method, path, content=b'"a"')).status_code == 404


async def test_tritons_repository_extension(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v2/models/aa/infer", json=TENSOR)).status_code == 404
    assert (await client.post("/v2/repository/models/aa/load", json={})).status_code == 200
    answer = (await client.post("/v2/models/aa/infer", json=TENSOR)).json()
    assert (answer["model_name"], answer["outputs"][0]["data"]) == ("aa", ["delivery"])
    index = (await client.post("/v2/repository/index")).json()
    assert [(one["name"], one["state"]) for one in index] == [("first", "READY"), ("aa", "READY")]
    assert (await client.post("/v2/repository/models/aa/unload")).status_code == 200
    missing = await client.post("/v2/repository/models/aa/unload")
    assert missing.status_code == 404
    assert isinstance(missing.json()["error"], str)


async def test_a_damaged_bundle_is_refused_and_the_old_one_goes_on(client: httpx.AsyncClient, store: Path) -> None:
    assert (await client.post("/v2/repository/models/aa/load")).status_code == 200
    (store / "aa" / "model" / "model.onnx").write_bytes(b"not a model")
    assert (await client.post("/v2/repository/models/aa/load")).status_code == 500
    assert (await client.post("/v2/models/aa/infer", json=TENSOR)).status_code == 200


async def test_what_the_server_was_started_with_stays(client: httpx.AsyncClient) -> None:
    for method, path in (("DELETE", "/models/first"), ("POST", "/v2/repository/models/first/unload")):
        assert (await client.request(method, path)).status_code == 422
    assert (await client.post("/invocations", json="where is my parcel")).status_code == 200


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://test.elsewhere.example"])
async def test_pages_of_other_sites_load_and_unload_nothing(
    client: httpx.AsyncClient, store: Path, origin: str
) -> None:
    body = {"model_name": "hash1", "url": str(store / "aa" / "model")}
    for headers, status in (({"origin": origin}, 422), ({"origin": "http://test"}, 200)):
        assert (await client.post("/models", json=body, headers=headers)).status_code == status
    for what in ("load", "unload"):
        for headers, status in (({"origin": origin}, 422), ({}, 200)):
            response = await client.post(f"/v2/repository/models/hash1/{what}", headers=headers)
            assert response.status_code == status, what


async def test_names_that_no_file_or_header_can_have_are_no_faults(client: httpx.AsyncClient, store: Path) -> None:
    long = await client.post("/models", json={"model_name": "x", "url": "a" * 300})
    assert long.status_code == 422
    shutil.copytree(store / "aa", store / "日本")
    assert (await client.post("/v2/repository/models/日本/load")).status_code == 404


@pytest.mark.parametrize("path", ["../secret", "/etc", "aa/../../secret", ".", "", "aa\0", "../store"])
async def test_nothing_outside_the_store_is_loaded(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post("/models", json={"model_name": "x", "url": path})
    assert response.status_code == 422
    assert "secret" not in response.text
    if path == "../secret":
        assert (await client.post("/v2/repository/models/..%2fsecret/load")).status_code in {404, 422}


async def test_a_link_out_of_the_store_is_no_way_out(client: httpx.AsyncClient, store: Path) -> None:
    (store / "link").symlink_to(store.parent / "secret")
    assert (await client.post("/models", json={"model_name": "x", "url": "link"})).status_code == 422


async def test_without_a_store_only_what_is_served_can_be_loaded_again(tiny_bundle: Path) -> None:
    app = app_for(bertie.load(tiny_bundle))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        refused = await client.post("/models", json={"model_name": "x", "url": str(tiny_bundle)})
        assert (refused.status_code, "--model-store" in refused.json()["error"]["hint"]) == (422, True)
        assert (await client.post("/v2/repository/models/x/load")).status_code == 404


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model_name": "a b", "url": "aa"}', b'{"model_name": 1}'])
async def test_a_body_of_another_shape_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    assert (await client.post("/models", content=body)).status_code in {400, 422}
