"""A browser, and servers for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tokenizers import Tokenizer

from bertie.scores import Decision
from bertie.serve.server import app_for
from tests.browser import Moody, Open, Serve, Watched, chromium, running
from tests.serve.counting import counting


# Not longer, because while it runs no other event loop can.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def opened(browser: Browser) -> Open:
    """Return what opens a server's page, and in the end sees that it neither complained nor asked elsewhere."""

    @contextlib.contextmanager
    def open_page(address: str, *, path: str = "/", complaints: tuple[str, ...] = (), **how: Any) -> Iterator[Page]:
        context = browser.new_context(**({"viewport": {"width": 1120, "height": 800}} | how))
        context.set_default_timeout(20_000)
        page, watched = context.new_page(), Watched(address)
        watched.watch(page)
        page.goto(f"{address}{path}")
        yield page
        context.close()
        assert watched.outside == []
        assert [said for said in watched.said if not any(known in said for known in complaints)] == []

    return open_page


@pytest.fixture
def counted(tiny_tokenizer: Tokenizer) -> Serve:
    """Return what serves a model that counts words, as `counting` makes it."""

    @contextlib.contextmanager
    def serve(decision: Decision | None = None, **how: Any) -> Iterator[tuple[str, Moody]]:
        moody = Moody(app_for(counting(tiny_tokenizer, *([decision] if decision else []), **how)))
        with running(moody) as address:
            yield address, moody

    return serve
