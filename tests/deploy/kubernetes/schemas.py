"""Compares manifests with the real schemas; runs in the environment `kubernetes`, which has nothing of this project.

stdin has a JSON list of objects; stdout gets, for each, what is wrong with it, an empty list if nothing is.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CORE = "1.34"
"""The oldest version of Kubernetes that has all we write: `sleep` before a stop is settled from there on."""


def core(document: dict[str, Any]) -> list[str]:
    """By the JSON schemas of Kubernetes' OpenAPI description, in which nothing unknown may stand."""
    import kubernetes_validate

    try:
        kubernetes_validate.validate(document, CORE, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error).splitlines()[0]]
    return []


def service_monitor(document: dict[str, Any]) -> list[str]:
    """By the Prometheus operator's custom resource definition, as pydantic models."""
    from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

    def through(one: Any) -> Any:
        return ServiceMonitor.model_validate(one).model_dump(mode="json", by_alias=True, exclude_unset=True)

    return by_models(through, document)


def train_job(document: dict[str, Any]) -> list[str]:
    """By Kubeflow Trainer's API, as pydantic models."""
    from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

    def through(one: Any) -> Any:
        job = TrainerV1alpha1TrainJob.from_dict(one)
        return None if job is None else job.to_dict()

    return by_models(through, document)


def by_models(through: Callable[[Any], Any], document: dict[str, Any]) -> list[str]:
    """The values must be of the models' types, and none may be lost on the way through them: then it was unknown."""
    try:
        return lost(document, through(document), "")
    except (ValueError, AttributeError) as error:  # the generated code asks any value for its attributes
        return str(error).splitlines()[:4]


def lost(given: Any, back: Any, where: str) -> list[str]:
    if isinstance(given, dict) and isinstance(back, dict):
        return [
            found
            for key, value in given.items()
            for found in (lost(value, back[key], f"{where}.{key}") if key in back else [f"{where}.{key} is unknown"])
        ]
    if isinstance(given, list) and isinstance(back, list) and len(given) == len(back):
        return [
            found
            for at, (one, two) in enumerate(zip(given, back, strict=True))
            for found in lost(one, two, f"{where}[{at}]")
        ]
    return [] if given == back else [f"{where}: {given!r} became {back!r}"]


def inference_service(document: dict[str, Any]) -> list[str]:
    """By KServe's API: its classes say the type of each field, and kubernetes' own do for what is below."""
    # The package's first lines start a whole server; its models stand alone.
    if "kserve" not in sys.modules:
        found = find_spec("kserve")
        assert found is not None
        package = types.ModuleType("kserve")
        package.__path__ = [str(Path(str(found.origin)).parent)]
        sys.modules["kserve"] = package
    import kserve.models
    from kubernetes.client import models

    return by_types("V1beta1InferenceService", document, (kserve.models, models), "")


def by_types(kind: str, value: Any, homes: tuple[Any, ...], where: str) -> list[str]:
    """Compare a value with a type as these classes write it: str, list[...], dict(str, ...), or a class."""
    if match := re.fullmatch(r"[lL]ist\[(.*)\]", kind):
        inner = [(match[1], f"[{at}]", one) for at, one in enumerate(value)] if isinstance(value, list) else None
    elif match := re.fullmatch(r"[dD]ict[(\[]\w+, (.*)[)\]]", kind):
        inner = [(match[1], f".{key}", one) for key, one in value.items()] if isinstance(value, dict) else None
    elif kind in PLAIN:
        fits = isinstance(value, PLAIN[kind]) and (kind == "bool" or not isinstance(value, bool))
        inner = [] if fits else None
    else:
        model = next((getattr(home, kind) for home in homes if hasattr(home, kind)), None)
        if model is None:
            return [f"{where}: there is no schema {kind}"]
        fields = {model.attribute_map[field]: kind for field, kind in model.openapi_types.items()}
        inner = (
            [(fields.get(key, ""), f".{key}", one) for key, one in value.items()] if isinstance(value, dict) else None
        )
    if inner is None:
        return [f"{where}: {value!r} is no {kind}"]
    return [
        found
        for kind, name, one in inner
        for found in (by_types(kind, one, homes, where + name) if kind else [f"{where}{name} is unknown"])
    ]


PLAIN: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": float, "object": object}

CHECKS = {
    "ServiceMonitor": service_monitor,
    "TrainJob": train_job,
    "InferenceService": inference_service,
}


def main() -> None:
    documents = json.load(sys.stdin)
    json.dump([CHECKS.get(one["kind"], core)(one) for one in documents], sys.stdout)


if __name__ == "__main__":
    main()
