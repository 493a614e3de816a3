"""A notebook's few lines, against moto's AWS; the endpoint behind it is a real server of ours."""

from __future__ import annotations

import json
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import bertie
from bertie import sagemaker
from bertie.errors import BertieError, DeployError, RequestInvalid, ResourceMissing, UsageError
from tests.deploy.aws.cloud import ACCOUNT, QUICK, REGION, ROLE, Cloud
from tests.deploy.conftest import cloud, moto

__all__ = ["cloud", "moto"]

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/bertie:1"
TEXTS = ["where is my parcel", "love it so much"]
HOSTED: dict[str, Any] = {
    "role": ROLE,
    "instance_type": "ml.c7i.xlarge",
    "image": IMAGE,
    "verify": False,
    "name": "intents",
}
TRAINED: dict[str, Any] = {"role": ROLE, "instance_type": "ml.m5.xlarge", "image": IMAGE, "name": "intents"}


class Runtime(BaseHTTPRequestHandler):
    """SageMaker's runtime: passes requests on to a container, and wraps what it refuses into a ModelError."""

    container = ""
    not_ready = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if type(self).not_ready:
            type(self).not_ready -= 1
            self._answer(429, b"{}", "ModelNotReadyException")
            return
        kinds = {name: self.headers[name] for name in ("Content-Type", "Accept")}
        request = urllib.request.Request(f"{self.container}/invocations", body, kinds)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                self._answer(200, answer.read())
        except urllib.error.HTTPError as error:
            said = {"OriginalStatusCode": error.code, "OriginalMessage": error.read().decode(), "Message": "refused"}
            self._answer(424, json.dumps(said).encode(), "ModelError")

    def _answer(self, status: int, body: bytes, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if error:
            self.send_header("x-amzn-errortype", error)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def runtime(cloud: Cloud, served: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Runtime]]:
    """The runtime's address is that of a real server behind a `Runtime`; all else is moto's."""
    kind = type("Here", (Runtime,), {"container": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, name="runtime")
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", f"http://127.0.0.1:{server.server_port}")
    try:
        yield kind
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_five_lines_from_a_bundle_to_answers_and_nothing_is_left(
    cloud: Cloud, runtime: type[Runtime], tiny_bundle: Path
) -> None:
    endpoint = sagemaker.deploy(tiny_bundle, quiet=True, clock=QUICK, **HOSTED)
    assert endpoint.status()["status"] == "InService"
    assert endpoint.predict(TEXTS) == pytest.approx(bertie.load(tiny_bundle).predict(TEXTS))
    assert "endpoint intents" in endpoint.delete(quiet=True)
    assert cloud.nothing_left()


def test_an_endpoint_made_before_is_found_by_its_name(cloud: Cloud, runtime: type[Runtime], tiny_bundle: Path) -> None:
    sagemaker.deploy(tiny_bundle, quiet=True, clock=QUICK, **HOSTED)
    again = sagemaker.endpoint("intents", region=REGION)
    assert [one.label for one in again.predict(TEXTS)] == ["delivery", "praise"]
    again.delete(quiet=True)
    with pytest.raises(ResourceMissing, match="intents"):
        again.status()


def test_what_the_container_says_arrives_as_its_own_error(runtime: type[Runtime]) -> None:
    endpoint = sagemaker.endpoint("intents", region=REGION)
    with pytest.raises(BertieError) as wrong:
        endpoint.predict([("a pair", "where single texts are read")])
    assert wrong.value.http_status == 422
    with pytest.raises(RequestInvalid, match="a list of texts"):
        endpoint.predict("one text")


def test_an_endpoint_that_still_loads_is_asked_again(runtime: type[Runtime]) -> None:
    runtime.not_ready = 3
    found = sagemaker.endpoint("intents", region=REGION).predict(TEXTS)
    assert [one.label for one in found] == ["delivery", "praise"]


def test_what_aws_refuses_is_an_error_in_words(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.fail([{"operation": "InvokeEndpoint", "code": "AccessDeniedException", "status": 403, "times": 20}])
    with pytest.raises(DeployError, match="ask the endpoint intents"):
        sagemaker.endpoint("intents", region=REGION).predict(TEXTS)


def test_a_dry_run_shows_the_requests_and_sends_none(cloud: Cloud, tiny_bundle: Path, tiny_data: Path) -> None:
    endpoint = sagemaker.deploy(tiny_bundle, dry_run=True, quiet=True, region=REGION, **HOSTED)
    made = [request["operation"] for request in endpoint.facts["requests"]]
    # The last one is the trial: a text sent to the endpoint.
    assert made[-4:] == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint", "InvokeEndpoint"]
    job = sagemaker.train(tiny_data, dry_run=True, quiet=True, region=REGION, learning_rate=1e-3, **TRAINED)
    assert job.facts["requests"][-1]["operation"] == "CreateTrainingJob"
    assert "0.001" in job.facts["requests"][-1]["arguments"]["HyperParameters"].values()
    assert endpoint.delete() == []
    for never in (lambda: endpoint.predict(TEXTS), job.follow):
        with pytest.raises(UsageError, match="dry run"):
            never()
    assert cloud.asked() == []


def test_a_job_is_started_now_and_its_run_fetched_later(
    cloud: Cloud, tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    job = sagemaker.train(tiny_data, wait=False, quiet=True, clock=QUICK, **TRAINED)
    with pytest.raises(UsageError, match="is not here"):
        _ = job.model
    described = cloud.client("sagemaker").describe_training_job(TrainingJobName=job.name)
    bucket, key = described["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").split("/", 1)
    with tarfile.open(tmp_path / "model.tar.gz", "w:gz") as archive:
        archive.add(tiny_bundle, arcname=".")
    cloud.client("s3").upload_file(str(tmp_path / "model.tar.gz"), bucket, key)
    done = job.follow(tmp_path / "run", quiet=True)
    assert done.model == tmp_path / "run"
    assert [one.label for one in bertie.load(done.model).predict(TEXTS)] == ["delivery", "praise"]


def test_a_setting_that_nobody_knows_is_refused_before_anything_is_sent(cloud: Cloud, tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="no setting 'instance_typ'") as wrong:
        sagemaker.deploy(tiny_bundle, role=ROLE, instance_typ="ml.c7i.xlarge")
    assert "instance_type" in str(wrong.value)
    assert cloud.asked() == []
