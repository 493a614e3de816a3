"""What the OpenAPI document says, held against what the server does, by schemathesis."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

import bertie
from bertie.config import ServeSettings
from bertie.serve.app import make_app
from bertie.serve.endpoint import Endpoint
from bertie.serve.models import Models
from bertie.serve.server import app_for

EXAMPLES = 12
"""Requests of each kind to each operation; forty times as many found nothing more."""


@pytest.fixture(scope="module")
def app(tiny_bundle: Path) -> FastAPI:
    return app_for(bertie.load(tiny_bundle), ServeSettings(max_body_bytes=2**16))


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def failures(app: FastAPI, mode: GenerationMode, *, excluded: tuple[Any, ...] = ()) -> set[str]:
    """Return what is wrong with the answers to some requests of each operation."""
    found: set[str] = set()
    for result in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations():
        # What takes nothing cannot be asked wrongly.
        with contextlib.suppress(Unsatisfiable):
            _ask(result.ok(), mode, excluded, found)  # type: ignore[union-attr]  # a broken one raises
    return found


def _ask(operation: Any, mode: GenerationMode, excluded: tuple[Any, ...], found: set[str]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        try:
            case.call_and_validate(excluded_checks=[*excluded, *_not_fitting(case)])
        except FailureGroup as group:
            found.update(f"{operation.label}: {type(one).__name__}: {one}" for one in group.exceptions)

    ask()


def _not_fitting(case: Any) -> list[Any]:
    """Return checks that a case cannot pass: what a schema cannot say, or what one model of several refuses."""
    if case.media_type not in {None, "application/json"}:
        return [
            positive_data_acceptance,
            negative_data_rejection,
        ]  # what is no JSON is text to its schema, whatever it was made from
    body = json.dumps(case.body, default=str)
    pairs = "text_pair" in body or (case.path == "/predict" and "[" in body)
    # A label is one of the model's, a tensor has the shape of its data, and there is no folder to load others from.
    unsaid = case.path == "/models" or case.path.endswith("/infer") or (case.path == "/explain" and "label" in body)
    return [positive_data_acceptance] if pairs or unsaid else []


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_answers_are_as_documented(app: FastAPI, mode: GenerationMode) -> None:
    assert not failures(app, mode)


@pytest.mark.slow
def test_answers_are_as_documented_while_the_model_is_loading() -> None:
    loading = make_app(Endpoint(ServeSettings(), Models(ServeSettings())))
    assert not failures(loading, GenerationMode.POSITIVE, excluded=(not_a_server_error, positive_data_acceptance))


def test_a_fault_is_found() -> None:
    faulty = FastAPI()

    @faulty.get("/number/{number}", responses={200: {"content": {"application/json": {"schema": {"type": "string"}}}}})
    async def number(number: int) -> Response:
        return JSONResponse(number, 500 if number < 0 else 200)

    found = "\n".join(failures(faulty, GenerationMode.POSITIVE))
    assert "JsonSchemaError" in found
    assert "ServerError" in found
    assert "UndefinedStatusCode" in found


def test_each_operation_has_a_name_and_says_how_it_refuses(document: dict[str, Any]) -> None:
    names = [operation.get("operationId") for _, operation in operations(document)]
    assert None not in names
    assert len(names) == len(set(names)) > 20
    for label, operation in operations(document):
        assert [status for status in operation["responses"] if status.startswith("4")], label
        assert "HTTPValidationError" not in json.dumps(operation), label  # FastAPI's own shape, which is never sent


def test_examples_are_valid_against_their_schemas(document: dict[str, Any]) -> None:
    checked = 0
    for label, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            examples = [one["value"] for one in content.get("examples", {}).values()]
            validator = jsonschema_rs.Draft202012Validator(content["schema"])
            for example in examples or [content["example"]]:
                validator.validate(example)
                checked += 1
            assert not validator.is_valid({"wrong": 1}), label
    assert checked > 15


@pytest.mark.anyio
async def test_an_unknown_path_or_method_is_refused_in_the_same_shape(app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        missing, wrong = await client.get("/i-made-this-up"), await client.get("/invocations")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "NotFound")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "MethodNotAllowed")
    assert wrong.headers["allow"] == "POST"
