from __future__ import annotations

from pathlib import Path

import pytest

from bertie import sagemaker_environment
from bertie.config import ServeSettings
from bertie.errors import UsageError


def settings(port: int | None = None, **environment: str) -> ServeSettings:
    return ServeSettings.load({} if port is None else {"port": port}, environment=environment)


def test_each_variable_becomes_a_setting() -> None:
    found = settings(
        SAGEMAKER_BIND_TO_PORT="9000",
        SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv",
        SAGEMAKER_MAX_PAYLOAD_IN_MB="20",
        SAGEMAKER_MODEL_SERVER_TIMEOUT="50",
        SAGEMAKER_MODEL_SERVER_WORKERS="3",
    )
    assert (found.port, found.workers, found.timeout_seconds) == (9000, 3, 50.0)
    assert (found.default_accept, found.max_body_bytes) == ("text/csv", 20 * 2**20)
    both = settings(SAGEMAKER_MODEL_SERVER_TIMEOUT="50", SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS="5")
    assert both.timeout_seconds == 5.0
    assert settings(SAGEMAKER_MAX_PAYLOAD_IN_MB="0").max_body_bytes == 100 * 2**20


def test_our_own_variables_and_flags_win() -> None:
    assert settings(SAGEMAKER_BIND_TO_PORT="9000", BERTIE_SERVE_PORT="9001").port == 9001
    assert settings(9002, SAGEMAKER_BIND_TO_PORT="9000", BERTIE_SERVE_PORT="9001").port == 9002


def test_a_batch_transform_is_never_refused_for_waiting() -> None:
    usual, batch = settings(SAGEMAKER_BATCH="false"), settings(SAGEMAKER_BATCH="true")
    assert usual == settings()
    assert batch.queue_seconds == batch.timeout_seconds == 3600
    # As many lines as 100 MB hold with one letter and its quotes in each.
    assert batch.max_texts > usual.max_texts
    assert settings(SAGEMAKER_BATCH="true", SAGEMAKER_MODEL_SERVER_TIMEOUT="7").timeout_seconds == 7


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SAGEMAKER_BIND_TO_PORT", "http"), ("SAGEMAKER_BIND_TO_PORT", "70000"), ("SAGEMAKER_MODEL_SERVER_WORKERS", "0")],
)
def test_a_value_that_cannot_be_is_an_error(variable: str, value: str) -> None:
    with pytest.raises(UsageError, match=r"the environment: .* cannot be"):
        ServeSettings.load(environment={variable: value})


@pytest.mark.parametrize(("limit", "payload", "together"), [(6, 6, 4), (25, 25, 4), (50, 50, 2), (300, 100, 1)])
def test_a_batch_transform_is_told_what_fits(limit: int, payload: int, together: int) -> None:
    found = sagemaker_environment.execution_parameters(limit * 2**20)
    assert found["MaxPayloadInMB"] == payload
    assert found["MaxConcurrentTransforms"] == together
    assert found["MaxPayloadInMB"] * found["MaxConcurrentTransforms"] <= 100
    assert sagemaker_environment.execution_parameters(1024)["MaxPayloadInMB"] == 1


def test_a_multi_model_endpoint_loads_from_its_folder() -> None:
    assert settings(SAGEMAKER_MULTI_MODEL="true").model_store == Path("/opt/ml/models")
    assert settings(SAGEMAKER_MULTI_MODEL="false").model_store is None
