from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bertie.deploy.container.__main__ import serving
from bertie.deploy.container.ping import ready

MODEL, HOST = "/opt/ml/model", ["--host", "0.0.0.0"]  # noqa: S104


@pytest.mark.parametrize(
    ("words", "environment", "wanted"),
    [
        ([], {}, [MODEL, *HOST]),
        (["--workers", "2"], {}, [MODEL, *HOST, "--workers", "2"]),
        (["/mnt/models"], {}, [*HOST, "/mnt/models"]),
        (["a=/models/a", "b=/models/b"], {}, [*HOST, "a=/models/a", "b=/models/b"]),
        ([], {"SAGEMAKER_MULTI_MODEL": "true"}, HOST),
        ([], {"BERTIE_SERVE_HOST": "::"}, [MODEL]),
    ],
)
def test_serve_means_the_model_at_its_place(words: list[str], environment: dict[str, str], wanted: list[str]) -> None:
    assert serving(words, environment) == wanted


def container(*words: str, program: str = "") -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-c", program] if program else [sys.executable, "-m", "bertie.deploy.container"]
    return subprocess.run([*start, *words], capture_output=True, text=True, check=False)


def test_other_words_are_those_of_bertie() -> None:
    assert container("--version").stdout.startswith("bertie ")
    unknown = container("serv")
    assert unknown.returncode == 2
    assert "serv" in unknown.stderr


def test_serve_without_a_model_says_where_it_should_be() -> None:
    if os.path.exists(MODEL):  # noqa: PTH110 - nothing else of pathlib is needed
        pytest.skip(f"there is something at {MODEL}")
    done = container("serve", "--port", "0")
    assert done.returncode == 4
    assert MODEL in done.stderr


def test_an_image_without_pytorch_cannot_train_and_says_so() -> None:
    program = (
        "import sys, runpy, importlib.machinery as m\n"
        "find = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        "sys.argv = ['container', 'train']\n"
        "runpy.run_module('bertie.deploy.container', run_name='__main__')"
    )
    done = container(program=program)
    assert done.returncode == 6
    assert "--with-training" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def server(status: int) -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ping" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        try:
            yield one.server_port
        finally:
            one.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "wanted"), [(200, True), (503, False)])
def test_the_health_check_sees_whether_the_server_is_ready(status: int, wanted: bool) -> None:
    with server(status) as port:
        assert ready({"SAGEMAKER_BIND_TO_PORT": str(port)}) is wanted
        assert ready({"SAGEMAKER_BIND_TO_PORT": "1", "BERTIE_SERVE_PORT": str(port)}) is wanted
        assert not ready({"BERTIE_SERVE_PORT": str(port), "BERTIE_SERVE_TLS_CERT": "cert.pem"})
    assert not ready({"BERTIE_SERVE_PORT": str(port)})
