from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bertie.bundle.manifest import Manifest
from bertie.bundle.probe import Probe
from tests.conftest import Bertie, last_json
from tests.deploy.aws.cloud import ACCOUNT, REGION, ROLE, Cloud

IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/bertie:1"
USUAL = ["--role", ROLE, "--instance-type", "ml.c7i.xlarge", "--image", IMAGE, "--name", "intents", "--no-verify"]


@pytest.fixture(autouse=True)
def right_answers(cloud: Cloud, tiny_bundle: Path) -> None:
    """Let endpoints answer as the bundle does."""
    scores = Probe.from_file(tiny_bundle / "probe.json").scores[1]
    label = Manifest.from_file(tiny_bundle / "manifest.json").labels[scores.index(max(scores))]
    cloud.answers(json.dumps({"label": label, "score": max(scores)}))


@pytest.mark.slow
def test_an_endpoint_from_its_making_to_its_end(cloud: Cloud, bertie: Bertie, tiny_bundle: Path) -> None:
    made = bertie("deploy", "sagemaker", tiny_bundle, *USUAL)
    assert made.returncode == 0, made.stderr
    assert "made     endpoint intents" in made.stdout
    assert "invoke_endpoint(" in made.stdout
    assert made.stdout.splitlines()[-1].startswith("next: bertie deploy sagemaker-status intents")
    assert "InService" in made.stderr

    facts = last_json(bertie("deploy", "sagemaker-status", "intents", "--json").stdout)
    assert (facts["status"], facts["instance_type"], facts["instances"]) == ("InService", "ml.c7i.xlarge", 1)
    assert "InService" in bertie("deploy", "sagemaker", "status", "intents").stdout, "the same verb in two words"

    taken = bertie("deploy", "sagemaker", tiny_bundle, *USUAL)
    assert taken.returncode == 11
    assert "exists already" in taken.stderr

    logs = cloud.client("logs")
    assert "no log" in bertie("deploy", "sagemaker-logs", "intents").stderr
    where = {"logGroupName": "/aws/sagemaker/Endpoints/intents", "logStreamName": "AllTraffic/i-1"}
    logs.create_log_group(logGroupName=where["logGroupName"])
    logs.create_log_stream(**where)
    logs.put_log_events(**where, logEvents=[{"timestamp": int(time.time() * 1000), "message": "ready on 8080\n"}])
    assert bertie("deploy", "sagemaker-logs", "intents").stdout.endswith("  ready on 8080\n")

    shown = bertie("deploy", "sagemaker-delete", "intents", "--all", "--dry-run")
    assert "sagemaker DeleteEndpoint" in shown.stdout
    gone = bertie("deploy", "sagemaker-delete", "intents", "--all", "--logs", "--json")
    assert "endpoint intents" in str(last_json(gone.stdout)["removed"])
    assert cloud.nothing_left()
    assert last_json(bertie("deploy", "sagemaker-delete", "intents", "--all", "--json").stdout)["removed"] == []
    missing = bertie("deploy", "sagemaker-status", "intents")
    assert (missing.returncode, missing.stdout) == (11, "")


def test_a_dry_run_needs_no_credentials(
    cloud: Cloud, bertie: Bertie, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    done = bertie("deploy", "sagemaker", tiny_bundle, *USUAL, "--dry-run")
    assert done.returncode == 0, done.stderr
    numbers = [line for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert numbers[-1] == f"{len(numbers)}. sagemaker-runtime InvokeEndpoint"
    assert "nothing was sent" in done.stdout.splitlines()[-1]
    assert cloud.asked() == []
    real = bertie("deploy", "sagemaker", tiny_bundle, *USUAL)
    assert real.returncode == 11
    assert "no AWS credentials" in real.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--instance-type", "ml.eia2.medium"], 2, "Inferentia2"),
        (["--instance-type", "ml.g5.xlarge"], 2, "CPU only"),
        (["--role", "absent"], 11, "no role 'absent'"),
        (["--region", "eu-west-11"], 2, "eu-west-1"),
        (["--serverless"], 2, "--instance-type"),
        (["--bucket", "not-there"], 11, "aws s3 mb"),
        (["--update"], 11, "no endpoint"),
    ],
)
def test_bad_input_creates_nothing(
    cloud: Cloud, bertie: Bertie, tiny_bundle: Path, arguments: list[str], code: int, said: str
) -> None:
    done = bertie("deploy", "sagemaker", tiny_bundle, *USUAL, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert cloud.operations() == []


def test_ctrl_c_while_waiting(cloud: Cloud, tiny_bundle: Path) -> None:
    cloud.states(endpoint=[{"EndpointStatus": "Creating"}])
    command = [sys.executable, "-m", "bertie", "deploy", "sagemaker", str(tiny_bundle), *USUAL]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stderr is not None
    said = ""
    while "Creating" not in said:
        said += process.stderr.readline()
        assert process.poll() is None, said
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "goes on being made" in said
    assert "bertie deploy sagemaker-delete intents --region eu-west-1 --all" in said


def test_batch_and_recommend_answer(cloud: Cloud, bertie: Bertie, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('"hello"\n')
    machine = ["--role", ROLE, "--instance-type", "ml.c7i.xlarge", "--image", IMAGE, "--no-verify", "--dry-run"]
    done = bertie("deploy", "sagemaker-batch", tiny_bundle, tmp_path / "texts.jsonl", "s3://out/x", *machine)
    assert done.returncode == 0, done.stderr
    assert "sagemaker CreateTransformJob" in done.stdout
    limits = ["--rate", "20", "--p99-ms", "500", "--seconds", "0.02"]
    found = bertie("deploy", "sagemaker", "recommend", tiny_bundle, *limits)
    assert found.returncode == 0, found.stderr
    assert "assuming that" in found.stdout
    assert "--instance-type ml.c5.large" in found.stdout.splitlines()[-1]


def test_help_reads_no_client_library() -> None:
    program = (
        "import sys; sys.argv = ['bertie', 'deploy', 'sagemaker', '--help']\n"
        "try:\n    from bertie.cli.main import run; run()\n"
        "except SystemExit: pass\n"
        "heavy = {'boto3', 'botocore', 'numpy', 'onnxruntime', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
