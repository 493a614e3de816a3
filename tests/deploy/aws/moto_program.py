"""moto's server, for tests: with what it lacks, what AWS refuses and it does not, and with faults on demand.

Run by the Python of the environment `moto`: `python moto_program.py PORT`. It keeps every request, and takes orders:
GET /_test/calls, POST /_test/faults and POST /_test/states, each with a JSON list.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN002, ANN003, ANN202, ANN204

from __future__ import annotations

import io
import json
import re
import socket
import sys
import threading
import time
from urllib.parse import parse_qs, unquote

from moto.core.responses import ActionResult
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpointConfig, SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

CALLS: list[dict] = []
FAULTS: list[dict] = []
STATES: dict[str, list[dict]] = {"endpoint": [], "update": [], "transform": [], "training": []}
"""What the next thing of that kind goes through: a list of fields of its description, the last of which stays."""
STATES_OF = {"endpoints": "endpoint", "transform_jobs": "transform"}
PASSED: dict[str, list[dict]] = {}
LOCK = threading.Lock()

S3_OPERATIONS = (
    ("POST", "uploads", "CreateMultipartUpload"),
    ("GET", "uploads", "ListMultipartUploads"),
    ("PUT", "partNumber", "UploadPart"),
    ("POST", "uploadId", "CompleteMultipartUpload"),
    ("DELETE", "uploadId", "AbortMultipartUpload"),
    ("POST", "delete", "DeleteObjects"),
    ("GET", "list-type", "ListObjectsV2"),
)


def operation_of(environ: dict, body: bytes) -> tuple[str, dict]:
    """Return operation and arguments of a request, as far as they can be read."""
    target, path, method = environ.get("HTTP_X_AMZ_TARGET"), unquote(environ["PATH_INFO"]), environ["REQUEST_METHOD"]
    if target:
        return target.rpartition(".")[2], json.loads(body or b"{}")
    if found := re.match(r"/service/\w+/operation/(\w+)", path):
        return found[1], {}
    if found := re.match(r"/endpoints/([^/]+)/(async-)?invocations", path):
        return "InvokeEndpointAsync" if found[2] else "InvokeEndpoint", {"EndpointName": found[1]}
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        return form.pop("Action", "?"), form
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    bucket, _, key = path.lstrip("/").partition("/")
    arguments = {"Bucket": bucket, **({"Key": key} if key else {})}
    for verb, mark, name in S3_OPERATIONS:
        if method == verb and mark in query:
            return name, arguments
    verbs = {"HEAD": "Head", "PUT": "Put" if key else "Create", "DELETE": "Delete", "GET": "Get"}
    return f"{verbs.get(method, method)}{'Object' if key else 'Bucket'}", arguments


class Watched:
    """The server with a list of what it was asked, and with faults."""

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["PATH_INFO"].startswith("/_test/"):
            return self.ordered(environ["PATH_INFO"], body, start_response)
        if environ["PATH_INFO"].startswith("/moto-api/"):
            return self.application(environ, start_response)
        operation, arguments = operation_of(environ, body)
        with LOCK:
            CALLS.append({"operation": operation, "arguments": arguments})
            fault = next((one for one in FAULTS if one["operation"] == operation and fits(one)), None)
            if fault:
                fault["times"] = fault.get("times", 1) - 1
        if not fault:
            return self.application(environ, start_response)
        if "slow" in fault:
            time.sleep(fault["slow"])
            return self.application(environ, start_response)
        if fault.get("lose"):  # what is asked happens, and nobody hears of it
            b"".join(self.application(environ, lambda *_: None))
        if fault.get("drop") or fault.get("lose"):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        status, code, message = fault.get("status", 400), fault["code"], fault.get("message", "no reason")
        if "HTTP_X_AMZ_TARGET" in environ or environ["PATH_INFO"].startswith("/endpoints/"):
            kind, text = "application/x-amz-json-1.1", json.dumps({"__type": code, "message": message})
        elif operation in {"GetCallerIdentity", "GetRole"}:
            error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            kind, text = "text/xml", f"<ErrorResponse>{error}</ErrorResponse>"
        else:
            kind, text = "application/xml", f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        text = fault.get("body", text)
        text = "" if environ["REQUEST_METHOD"] == "HEAD" else text
        headers = [
            ("x-amzn-ErrorType", code),
            ("Content-Type", kind),
            ("Content-Length", str(len(text.encode()))),
        ]
        start_response(f"{status} Fault", headers)
        return [text.encode()]

    def ordered(self, path, body, start_response):
        with LOCK:
            if path == "/_test/calls":
                answer = json.dumps(CALLS)
            else:
                orders = json.loads(body)
                if path == "/_test/faults":
                    FAULTS[:] = orders
                else:
                    STATES.update(orders)
                answer = "[]"
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer.encode())))])
        return [answer.encode()]


def fits(fault: dict) -> bool:
    """Tell whether a fault is due: it has times left, and as many calls as it skips have gone by."""
    if fault.get("skip", 0) > 0:
        fault["skip"] -= 1
        return False
    return fault.get("times", 1) > 0


KINDS = {"endpoints": "endpoint", "transform_jobs": "transform", "training_jobs": "training"}
JOBS = {
    "TransformJob": ("transform_jobs", "transform_job_status"),
    "TrainingJob": ("training_jobs", "training_job_status"),
}
"""What moto calls jobs, and the state of one that lists look at."""


def refuse_second(name: str, kind: str, things: str, field: str) -> None:
    """Let a creation fail as AWS's does where there is such a thing already; moto replaces it in silence."""
    real = getattr(SageMakerModelBackend, name)

    def create(self, *given, **named):
        called = named.get(field) or given[0]
        if called in getattr(self, things):
            raise ValidationError(message=f'Cannot create already existing {kind} "arn:aws:sagemaker:::{called}".')
        made = real(self, *given, **named)
        PASSED[f"{things} {called}"] = states = list(STATES.get(KINDS.get(things, ""), []))
        for job, (those, state) in JOBS.items():
            if things == those and states:
                setattr(getattr(self, things)[called], state, states[0][f"{job}Status"])
        return made

    setattr(SageMakerModelBackend, name, create)


def go_through(name: str, things: str) -> None:
    """Let the description of a thing go through the states that were ordered."""
    real = getattr(SageMakerModelBackend, name)

    def describe(self, *given, **named):
        found = dict(real(self, *given, **named))
        called = [*given, *named.values()][0]
        states = PASSED.get(f"{things} {called}", [])
        return found | (states.pop(0) if len(states) > 1 else states[0] if states else {})

    setattr(SageMakerModelBackend, name, describe)


def update_endpoint(self) -> ActionResult:
    """UpdateEndpoint, which moto lacks: the new configuration, unless the states that were ordered say otherwise."""
    name, configuration = self._get_param("EndpointName"), self._get_param("EndpointConfigName")
    backend = self.sagemaker_backend
    backend.describe_endpoint_config(configuration)
    if name not in backend.endpoints:
        raise ValidationError(message=f"Could not find endpoint '{name}'.")
    backend.endpoints[name].endpoint_config_name = configuration
    PASSED[f"endpoints {name}"] = list(STATES["update"])
    return ActionResult({"EndpointArn": backend.endpoints[name].arn})


def stop(job: str) -> None:
    """StopTrainingJob and StopTransformJob, which moto lacks: a job that is stopped takes a while."""
    things, field = JOBS[job]

    def stop_job(self) -> ActionResult:
        name = self._get_param(f"{job}Name")
        setattr(getattr(self.sagemaker_backend, things)[name], field, "Stopping")
        PASSED[f"{things} {name}"] = [{f"{job}Status": status} for status in ("Stopping", "Stopping", "Stopped")]
        return ActionResult({})

    setattr(SageMakerResponse, f"stop_{things.removesuffix('s')}", stop_job)


def main() -> None:
    FakeEndpointConfig.validate_instance_type = lambda self, instance_type: None  # its list is years old
    SageMakerResponse.update_endpoint = update_endpoint
    refuse_second("create_model", "model", "_models", "model_name")
    refuse_second("create_endpoint_config", "endpoint configuration", "endpoint_configs", "endpoint_config_name")
    refuse_second("create_endpoint", "endpoint", "endpoints", "endpoint_name")
    refuse_second("create_transform_job", "transform job", "transform_jobs", "transform_job_name")
    refuse_second("create_training_job", "training job", "training_jobs", "training_job_name")
    go_through("describe_endpoint", "endpoints")
    go_through("describe_training_job", "training_jobs")
    go_through("describe_transform_job", "transform_jobs")
    stop("TrainingJob")
    stop("TransformJob")
    application = Watched(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)


if __name__ == "__main__":
    main()
