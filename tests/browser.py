"""A real browser for tests, and a server in a thread that can be told to be busy, to ask for a key, or to refuse."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MUST_RUN = "BERTIE_TEST_BROWSER"
"""Set to 1, as CI does: then it is an error, not a reason to skip, if there is no Chromium."""

NAMES = ("chromium", "chromium-browser", "google-chrome")

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
"""What axe looks for: contrast, names, roles, order of headings and the like."""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's Chromium; skip where there is none."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        if os.environ.get(MUST_RUN) == "1":
            raise FileNotFoundError(f"{MUST_RUN} is 1, but there is no {' or '.join(NAMES)}.")
        pytest.skip("there is no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


Open = Callable[..., AbstractContextManager[Page]]
Serve = Callable[..., AbstractContextManager[tuple[str, "Moody"]]]
"""What the fixtures of tests/serve/routes/conftest.py return."""

EVIL = "<img src=x onerror=\"document.title='taken'\"> parcel <script>document.title='taken'</script>"


@dataclass
class Watched:
    """What a page said on its console, and what it asked of others than its own server."""

    address: str
    said: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.address}/", "blob:", "data:")):
            self.outside.append(request.url)


def barriers(page: Page) -> list[str]:
    """Return what axe finds on a page that keeps people from using it. The page's context must bypass its policy."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    found: dict[str, Any] = page.evaluate("rules => axe.run(rules)", RULES)
    return [f"{one['id']}: {node['html']} {node['any']}" for one in found["violations"] for node in one["nodes"]]


class Moody:
    """Passes requests on to an application, unless told otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.busy = 0
        """So many of the next requests to classify are answered with 429."""
        self.key = ""
        """What must come as a bearer token with all but the page's own files."""
        self.poison = ""
        """A request with this in its body is answered with 422."""
        self.asked: list[int] = []
        """The texts in each request to classify."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        problem = self._problem(scope, body)
        if problem is not None:
            await problem(scope, receive, send)
            return
        first = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(first, None) or await receive()

        await self._app(scope, again, send)

    def _problem(self, scope: Scope, body: bytes) -> JSONResponse | None:
        path, headers = scope["path"], dict(scope["headers"])
        public = path == "/" or path.startswith("/page/")
        if self.key and not public and headers.get(b"authorization") != f"Bearer {self.key}".encode():
            return JSONResponse({"error": {"code": "KeyMissing", "message": "a key is needed."}}, 401)
        if path != "/invocations":
            return None
        texts = json.loads(body)
        self.asked.append(len(texts) if isinstance(texts, list) else 1)
        if self.busy:
            self.busy -= 1
            return JSONResponse({"error": {"message": "too much waits."}}, 429, {"retry-after": "1"})
        if self.poison and self.poison in body.decode():
            return JSONResponse({"error": {"message": "that is poison."}}, 422)
        return None


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


@contextlib.contextmanager
def running(app: ASGIApp) -> Iterator[str]:
    """Serve an application in a thread; give its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", access_log=False, ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, name="test-server")
    thread.start()
    try:
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive(), "the server did not start"
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()


def answer(address: str, body: Any) -> Any:
    """Return what a server answers to a request to classify."""
    with urllib.request.urlopen(f"{address}/invocations", json.dumps(body).encode()) as response:
        return json.load(response)


def classify(page: Page, text: str) -> None:
    """Let a page classify a text, and wait for its words."""
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.locator("#words .spoken").first).to_have_text(text)


def give(page: Page, name: str, content: str) -> None:
    """Give a page a file."""
    page.get_by_role("tab", name="Many texts").click()
    page.get_by_label("CSV file").set_input_files({"name": name, "mimeType": "text/csv", "buffer": content.encode()})


def results(page: Page) -> str:
    """Return the CSV that the page gives for download, once it is done."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the results as CSV").click()
    return Path(download.value.path()).read_text(encoding="utf-8")


def rows_of(text: str, delimiter: str = ",") -> list[list[str]]:
    """Return the rows of a CSV that begins with the mark of UTF-8."""
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter, strict=True))
