"""The image, built by podman and run by runc as Kubernetes would run it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bertie as package
from bertie.serve.limits import GRACE_SECONDS
from tests.conftest import last_json, make_rows, write_csv
from tests.engine import BASE, PYTHON, Engine, engine

BUNDLE = Path(__file__).parents[2] / "bundles" / "v2" / "bundle"
TEXTS = ["where is my parcel", "i love it"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def podman() -> Iterator[Engine]:
    with engine() as one:
        yield one


@pytest.fixture(scope="module")
def facts(podman: Engine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command says of an image with the bundle in it."""
    return deploy(podman, tmp_path_factory.mktemp("context") / "image")


@pytest.fixture(scope="module")
def image(facts: dict[str, Any]) -> str:
    return str(facts["tag"])


def deploy(
    podman: Engine, folder: Path, *words: str, tag: str = "localhost/tone:1", wheels: Path | None = None
) -> dict[str, Any]:
    """Let the command write and build, with the wheels that are here, in the place of any index."""
    command: list[Any] = [
        sys.executable,
        "-m",
        "bertie",
        "deploy",
        "docker",
        BUNDLE,
        "--out",
        folder,
        "--base-image",
        BASE,
    ]
    done = subprocess.run(
        [*command, "--engine", "podman", "--wheels", wheels or podman.wheels, "--tag", tag, *words, "--json"],
        env=podman.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return last_json(done.stdout)


def spoilt(facts: dict[str, Any], to: Path) -> Path:
    """Copy the build context, to be damaged."""
    return Path(shutil.copytree(facts["out"], to))


def serving(podman: Engine, image: str, *words: str, options: tuple[str, ...] = ()) -> str:
    """Start a container and wait until its own health check is content."""
    container = podman.start(image, *words, options=options)
    for _ in range(300):
        if podman.inside(container, "python", "-m", "bertie.deploy.container.ping").returncode == 0:
            return container
        time.sleep(0.1)
    pytest.fail(f"never ready: {podman.podman('logs', container).stderr}")


ASK = """
import sys, urllib.request
request = urllib.request.Request('http://127.0.0.1:8080/invocations', sys.argv[1].encode())
print(urllib.request.urlopen(request).read().decode())
"""


def ask(podman: Engine, container: str, texts: list[str]) -> list[dict[str, Any]]:
    done = podman.inside(container, "python", "-c", ASK, json.dumps(texts))
    assert done.returncode == 0, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def expected() -> list[tuple[str | None, Any]]:
    return [(one.label, pytest.approx(one.score, abs=1e-5)) for one in package.load(BUNDLE).predict(TEXTS)]


def test_it_serves_read_only_without_rights_and_ends_well(podman: Engine, image: str) -> None:
    container = serving(podman, image, "serve")
    assert [(one["label"], one["score"]) for one in ask(podman, container, TEXTS)] == expected()
    status = podman.inside(container, "cat", "/proc/1/status").stdout
    assert "\nUid:\t65532\t65532\t65532\t65532\n" in status
    assert "\nCapEff:\t0000000000000000\n" in status
    command = podman.inside(container, "cat", "/proc/1/cmdline").stdout.split("\0")
    assert command[1:5] == ["-m", "bertie", "serve", "/opt/ml/model"]
    assert podman.inside(container, "touch", "/opt/ml/model/x").returncode != 0
    assert podman.inside(container, "touch", "/tmp/x").returncode == 0  # noqa: S108
    started = time.monotonic()
    podman.podman("stop", "--time", GRACE_SECONDS + 5, container)
    assert time.monotonic() - started < GRACE_SECONDS
    assert podman.podman("inspect", "--format", "{{.State.ExitCode}}", container).stdout.strip() == "0"
    logs = podman.podman("logs", container)
    assert not [text for text in TEXTS if text in logs.stdout + logs.stderr]


def test_the_optimized_engine_answers_in_it(podman: Engine, image: str) -> None:
    program = "import bertie; print(bertie.load('/opt/ml/model').variant.engine)"
    done = podman.podman("run", "--rm", "--no-healthcheck", "--entrypoint=python", image, "-c", program)
    assert done.stdout == "openvino\n"


def test_a_mounted_bundle_is_served_too(podman: Engine, image: str, tmp_path: Path) -> None:
    facts = deploy(podman, tmp_path / "bare", "--no-bake", tag="localhost/bare:1")
    container = serving(podman, facts["tag"], options=(f"--volume={BUNDLE}:/opt/ml/model:ro",))
    assert [(one["label"], one["score"]) for one in ask(podman, container, TEXTS)] == expected()


def test_it_says_that_it_cannot_train(podman: Engine, image: str) -> None:
    done = podman.podman("run", "--rm", "--no-healthcheck", image, "train", check=False)
    assert done.returncode == 6
    assert "--with-training" in done.stderr


SIZES = """
import json, os, pathlib
def size(folder):
    files = (os.path.join(at, name) for at, _, names in os.walk(folder) for name in names)
    return sum(os.lstat(file).st_size for file in files)
packages = next(pathlib.Path('/opt/bertie/lib').glob('python*/site-packages'))
each = {one.name: size(one) for one in packages.iterdir()}
print(json.dumps({'/opt/bertie': size('/opt/bertie'), 'packages': each}))
try:
    import torch
except ModuleNotFoundError:
    print('no torch')
"""


def test_there_is_no_pytorch_in_it_and_its_size_is_known(podman: Engine, facts: dict[str, Any]) -> None:
    start = ("run", "--rm", "--no-healthcheck", "--network=none", "--entrypoint=python")
    said, torch = podman.podman(*start, facts["tag"], "-c", SIZES).stdout.splitlines()
    sizes = json.loads(said)
    largest = sorted(sizes["packages"].items(), key=lambda one: -one[1])[:12]
    shown = ", ".join(f"{name} {bytes_ / 1e6:.0f}" for name, bytes_ in largest)
    sys.stdout.write(f"image {facts['bytes'] / 1e6:.0f} MB, /opt/bertie {sizes['/opt/bertie'] / 1e6:.0f} MB: {shown}\n")
    assert torch == "no torch"
    assert {"openvino", "onnxruntime"} <= set(sizes["packages"])
    assert sizes["/opt/bertie"] < 600e6
    assert sizes["/opt/bertie"] < facts["bytes"] < 900e6


def test_the_labels_are_those_that_sagemaker_asks_for(podman: Engine, image: str) -> None:
    facts = json.loads(podman.podman("image", "inspect", image).stdout)[0]
    labels = facts["Labels"]
    assert labels["com.amazonaws.sagemaker.capabilities.multi-models"] == "true"
    assert labels["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert labels["bertie.bundle.digest"].startswith("sha256:")
    assert facts["Config"]["Entrypoint"] == ["python", "-m", "bertie.deploy.container"]
    assert facts["Config"]["Cmd"] == ["serve"]
    assert facts["Config"]["User"] == "65532:65532"
    assert facts["Healthcheck"]["Test"][0] == "CMD"


def test_several_models_are_loaded_over_http(podman: Engine, image: str, tmp_path: Path) -> None:
    shutil.copytree(BUNDLE, tmp_path / "models" / "abc" / "model")
    options = ("--env=SAGEMAKER_MULTI_MODEL=true", f"--volume={tmp_path}/models:/opt/ml/models:ro")
    container = serving(podman, image, "serve", options=(*options, "--env=SAGEMAKER_BIND_TO_PORT=8099"))
    program = """
import json, urllib.request
def post(path, body):
    asked = urllib.request.Request('http://127.0.0.1:8099' + path, json.dumps(body).encode())
    return urllib.request.urlopen(asked).read()
post('/models', {'model_name': 'abc', 'url': '/opt/ml/models/abc/model'})
print(json.loads(post('/models/abc/invoke', 'i love it'))['label'])
"""
    done = podman.inside(container, "python", "-c", program)
    assert done.stdout == "praise\n", done.stderr


def test_one_that_is_made_for_it_trains_and_serves_what_it_learned(
    podman: Engine, tiny_base: Path, tmp_path: Path
) -> None:
    wanted = ("--with-training", "--no-bake")
    facts = deploy(podman, tmp_path / "image", *wanted, tag="localhost/trains:1", wheels=podman.training_wheels)
    ml = tmp_path / "ml"
    for part in ("input/data/train", "input/config", "model", "output", "checkpoints"):
        (ml / part).mkdir(parents=True)
    write_csv(ml / "input" / "data" / "train" / "messages.csv", list(make_rows(203)))
    shutil.copytree(tiny_base, ml / "input" / "data" / "base")
    config = ml / "input" / "config" / "hyperparameters.json"
    config.write_text(json.dumps({"max_passes": "3", "precision": "fp32", "freeze_embeddings": "false"}))
    # As SageMaker starts it: /opt/ml alone can be written to, and no network is needed.
    strict = ("--rm", "--no-healthcheck", "--network=none", "--read-only", "--tmpfs=/tmp", f"--volume={ml}:/opt/ml")
    done = podman.podman("run", *strict, facts["tag"], "train", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[metric] test:accuracy=" in done.stdout + done.stderr
    assert not (ml / "output" / "failure").exists()
    container = serving(podman, facts["tag"], "serve", options=(f"--volume={ml}/model:/opt/ml/model:ro",))
    learned = [(one.label, pytest.approx(one.score, abs=1e-5)) for one in package.load(ml / "model").predict(TEXTS)]
    assert [(one["label"], one["score"]) for one in ask(podman, container, TEXTS)] == learned
    config.write_text(json.dumps({"max_pases": "3"}))
    done = podman.podman("run", *strict, facts["tag"], "train", check=False)
    assert done.returncode == 2
    assert "did you mean 'max_passes'?" in (ml / "output" / "failure").read_text()


def test_an_image_with_pytorch_in_it_is_not_made(podman: Engine, facts: dict[str, Any], tmp_path: Path) -> None:
    context = spoilt(facts, tmp_path / "spoilt")
    copied = "COPY --from=build /opt/bertie /opt/bertie\n"
    place = f"/opt/bertie/lib/python{PYTHON}/site-packages/torch"
    before, after = (context / "Dockerfile").read_text().split(copied)
    (context / "Dockerfile").write_text(f"{before}{copied}RUN mkdir {place} && touch {place}/__init__.py\n{after}")
    done = podman.podman("build", "--format=docker", context, check=False)
    assert done.returncode != 0
    assert "['torch'] does not belong into an image that only serves" in done.stdout + done.stderr


def test_a_package_that_is_missing_stops_the_build(podman: Engine, facts: dict[str, Any], tmp_path: Path) -> None:
    context = spoilt(facts, tmp_path / "spoilt")
    (context / "requirements.txt").write_text("")
    done = podman.podman("build", "--format=docker", context, check=False)
    assert done.returncode != 0
    assert "requires numpy, which is not installed" in done.stdout + done.stderr
