"""What SageMaker, and its users, tell a serving container through the environment, as settings of `bertie serve`.

The names are those of the inference toolkits: https://github.com/aws/sagemaker-inference-toolkit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bertie.errors import UsageError

MOST_MB = 100
"""Largest payload of a batch transform, in MiB."""

BATCH = {"timeout_seconds": 3600.0, "queue_seconds": 3600.0, "max_texts": 10**7}
"""In a batch transform one record that is refused fails the whole file: what comes in waits, for as long as a request
may take there, and of lines there may be as many as the payload holds."""


def _bytes(megabytes: str) -> int:
    # 0 stands for no limit.
    return (int(megabytes) or MOST_MB) * 2**20


MODEL_STORE = "/opt/ml/models"
"""Where a multi-model endpoint puts its models, each at NAME/model."""

SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "SAGEMAKER_BIND_TO_PORT": ("port", int),
    "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": ("default_accept", str),
    "SAGEMAKER_MAX_PAYLOAD_IN_MB": ("max_body_bytes", _bytes),
    "SAGEMAKER_MODEL_SERVER_TIMEOUT": ("timeout_seconds", float),
    "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": ("timeout_seconds", float),
    "SAGEMAKER_MODEL_SERVER_WORKERS": ("workers", int),
}
"""Variables, the setting of each and how it is read; of two for one setting the later wins."""


def settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return settings by their names. Raises UsageError for a value that is no number where it should be one."""
    found: dict[str, Any] = dict(BATCH) if environment.get("SAGEMAKER_BATCH", "").lower() == "true" else {}
    if environment.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true":
        found["model_store"] = MODEL_STORE
    for variable, (name, read) in SETTINGS.items():
        if value := environment.get(variable):
            try:
                found[name] = read(value)
            except ValueError:
                raise UsageError(f"the environment: {variable} cannot be {value!r}.", expected="a number") from None
    return found


def execution_parameters(max_body_bytes: int) -> dict[str, Any]:
    """Return what a batch transform is to use where its request does not say: GET /execution-parameters.

    Several requests at once keep the model busy while others travel; together they may be 100 MB.
    """
    payload = max(1, min(MOST_MB, max_body_bytes // 2**20))
    return {
        "MaxConcurrentTransforms": max(1, min(4, MOST_MB // payload)),
        "BatchStrategy": "MULTI_RECORD",
        "MaxPayloadInMB": payload,
    }
