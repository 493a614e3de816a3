"""AWS's inference toolkits on multi-model-server, in processes as their images run them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.environments import python_of

PROGRAM = Path(__file__).with_name("toolkit_program.py")
SECONDS = 150

SHIM = """try:
    import transformers.file_utils as files
    files.is_tf_available = lambda: False
except ImportError:
    pass
"""
"""The published Hugging Face toolkit asks transformers for a name that went with version 5."""


@contextmanager
def container(toolkit: str, base: Path, **environment: str) -> Iterator[str]:
    """Run a toolkit with `base` in the place of /opt/ml, and give its address once GET /ping says 200."""
    python = python_of("sagemaker-inference")
    if shutil.which("java") is None:
        pytest.fail("multi-model-server needs Java: apt-get install openjdk-17-jre-headless")
    (base / "site").mkdir(parents=True)
    (base / "tmp").mkdir()
    (base / "site" / "sitecustomize.py").write_text(SHIM if toolkit == "huggingface" else "")
    port = _free_port()
    known = {name: value for name, value in os.environ.items() if not name.startswith(("SAGEMAKER", "PYTHON"))}
    known |= {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(base / "site"),
        "TMPDIR": str(base / "tmp"),
        "TEMP": str(base / "tmp"),
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
        "SAGEMAKER_PROGRAM": "inference.py",
        "HF_HUB_OFFLINE": "1",
    }
    log = base / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [python, PROGRAM, toolkit, base / "mms.properties"],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=base,
            env=known | environment,
            start_new_session=True,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/ping", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        # Its workers would live on without their server.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    """Return a port below 32768: multi-model-server takes larger numbers for invalid ones."""
    for port in range(20000 + os.getpid() % 10000, 32768):
        with suppress(OSError), socket.create_server(("0.0.0.0", port)):  # noqa: S104 - where the server listens
            return port
    raise OSError("no port is free")


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=2).status_code == 200:
                return
        assert process.poll() is None, log.read_text()[-4000:]
        time.sleep(0.2)
    pytest.fail(f"the container is not healthy after {SECONDS} s: {log.read_text()[-4000:]}")
