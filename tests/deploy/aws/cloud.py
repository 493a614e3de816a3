"""AWS for tests: moto's server as a process of its own, with a list of what it was asked, and with faults on demand."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertie.deploy.sagemaker.state import Clock
from tests.environments import python_of

PROGRAM = Path(__file__).with_name("moto_program.py")
REGION, ACCOUNT, ROLE = "eu-west-1", "123456789012", "sagemaker-role"
QUICK = Clock(poll_seconds=0.01)

CHANGES = ("Create", "Update", "Delete", "Put", "Register", "Deregister", "Upload", "Complete", "Abort")
"""How the names of operations that change something begin."""


@dataclass
class Cloud:
    """A running moto."""

    url: str
    _since: int = 0

    def environment(self) -> dict[str, str]:
        """Return the variables that point boto3 here, and at nothing of the user's."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def reset(self) -> None:
        """Forget everything, and make the role again."""
        self._post("/moto-api/reset", None)
        self.fail([])
        self._post("/_test/states", {"endpoint": [], "update": [], "transform": [], "training": []})
        trust = {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
        self.client("iam").create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
        self._since = len(self._calls())

    def client(self, service: str) -> Any:
        """Return a client of boto3 that knows nothing of the code under test."""
        import boto3

        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, **keys)

    def bucket(self, *names: str) -> None:
        """Make buckets in the region, as the user has."""
        for name in names:
            place = {"LocationConstraint": REGION}
            self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=place)
        self._since = len(self._calls())

    def fail(self, faults: Sequence[Mapping[str, Any]]) -> None:
        """Let operations fail: each has `operation`, and code, message, status, times, skip, drop, lose, slow, body."""
        self._post("/_test/faults", list(faults))

    def states(self, **of: Sequence[Mapping[str, Any]]) -> None:
        """Set what the next `endpoint`, `update`, `transform` or `training` goes through, look by look."""
        self._post("/_test/states", {kind: list(states) for kind, states in of.items()})

    def answers(self, *bodies: str) -> None:
        """Queue what endpoints answer."""
        results = [{"Body": body, "ContentType": "application/json"} for body in bodies]
        order = {"account_id": ACCOUNT, "region": REGION, "results": results}
        self._post("/moto-api/static/sagemaker/endpoint-results", order)

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the operations since the last reset that change something, with their arguments, in order."""
        return [
            (call["operation"], call["arguments"])
            for call in self._calls()[self._since :]
            if call["operation"].startswith(CHANGES)
        ]

    def operations(self) -> list[str]:
        """Return the names of those operations."""
        return [operation for operation, _ in self.calls()]

    def asked(self) -> list[str]:
        """Return the names of all operations since the last reset."""
        return [call["operation"] for call in self._calls()[self._since :]]

    def nothing_left(self) -> bool:
        """Tell whether there is no endpoint, configuration, model or alarm, and no object in any bucket."""
        sagemaker, s3 = self.client("sagemaker"), self.client("s3")
        things = [
            *sagemaker.list_endpoints()["Endpoints"],
            *sagemaker.list_endpoint_configs()["EndpointConfigs"],
            *sagemaker.list_models()["Models"],
            *self.client("cloudwatch").describe_alarms()["MetricAlarms"],
        ]
        for bucket in s3.list_buckets()["Buckets"]:
            things += s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", [])
            things += s3.list_multipart_uploads(Bucket=bucket["Name"]).get("Uploads", [])
        return not things

    def _calls(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/_test/calls", timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def _post(self, path: str, order: Any) -> None:
        request = urllib.request.Request(self.url + path, data=json.dumps(order).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=30):
            pass


@contextmanager
def running(log: Path) -> Iterator[Cloud]:
    """Start moto on a free port; end it with the block. Skips where its environment is not there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as file:
        process = subprocess.Popen([python_of("moto"), PROGRAM, str(port)], stdout=file, stderr=file)
    cloud = Cloud(f"http://127.0.0.1:{port}")
    try:
        for _ in range(600):
            try:
                cloud._calls()
                break
            except OSError:
                if process.poll() is not None:
                    raise AssertionError(log.read_text()) from None
                time.sleep(0.1)
        yield cloud
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
