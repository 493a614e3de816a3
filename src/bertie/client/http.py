"""`Client` and `AsyncClient`: a server's model behind the methods of a Classifier."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from bertie.client.exchange import Came, Exchange, Result, Retries, Send, carry_out, predictions
from bertie.errors import UsageError, need
from bertie.scores import Prediction
from bertie.tokens import Text

try:
    import httpx
except ImportError as missing:
    raise need("client", missing) from missing


CONNECT_SECONDS = 5.0
"""Time for a connection to be made; a machine that does not answer for as long may not be there."""

KEEP_SECONDS = 3.0
"""How long an idle connection is used again: less than bertie serve keeps it, so that none is used as it closes."""


class _Session(ABC):
    """What both clients are made of."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
        retry_seconds: float = 60.0,
        verify: Any = True,
    ) -> None:
        """Connect with a server when it is first asked.

        `model` is the name of one of several models, the server's first if there is none. `timeout` is what one
        request may take, `retries` how often it is sent again where the server is busy, starting or not reached, and
        `retry_seconds` how long that may go on. `verify` is an ssl.SSLContext for certificates of one's own, which the
        variable SSL_CERT_FILE may name, too. Raises UsageError for what is no address.
        """
        self.url = _address(url)
        self._path = "/invocations" if model is None else f"/models/{model}/invoke"
        self._times, self._seconds = retries, retry_seconds
        headers = {"content-type": "application/json", "accept": "application/json"}
        if api_key is not None:
            headers["authorization"] = f"Bearer {api_key.strip()}"
        self._begin(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
            limits=httpx.Limits(keepalive_expiry=KEEP_SECONDS),
            verify=verify,
        )

    @abstractmethod
    def _begin(self, **options: Any) -> None:
        """Make what sends requests, with these options of httpx."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _retries(self) -> Retries:
        return Retries(self._times, self._seconds)


class Client(_Session):
    """Labels texts through a server. Connections are kept; several threads may share one client.

    >>> with bertie.Client("http://localhost:8080") as client:
    ...     client.predict(["Where is my parcel?"])[0].label
    'delivery'
    """

    def _begin(self, **options: Any) -> None:
        self._http = httpx.Client(**options)

    def predict(self, texts: Sequence[Text]) -> list[Prediction]:
        """Return one Prediction for each text, in order. A long list is sent in several requests, one after the other.

        Raises what the server raised; NotReady where it is not reached, DeadlinePassed where it takes too long.
        """
        return carry_out(predictions(texts, self._retries), self._post)

    def predict_proba(self, texts: Sequence[Text]) -> NDArray[np.float64]:
        """Return probabilities [texts, labels], labels in the model's order. Raises as `predict` does."""
        return table(self.predict(texts))

    def ready(self) -> bool:
        """Return whether the server is reached and its models are loaded."""
        try:
            return self._http.get("/ping").status_code == 200
        except httpx.RequestError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _post(self, body: bytes) -> Came:
        try:
            return _came(self._http.post(self._path, content=body))
        except httpx.RequestError as error:
            return _lost(error)


class AsyncClient(_Session):
    """The same in an event loop."""

    def _begin(self, **options: Any) -> None:
        self._http = httpx.AsyncClient(**options)

    async def predict(self, texts: Sequence[Text]) -> list[Prediction]:
        """Return one Prediction for each text, in order. See `Client.predict`."""
        return await self._run(predictions(texts, self._retries))

    async def predict_proba(self, texts: Sequence[Text]) -> NDArray[np.float64]:
        """Return probabilities [texts, labels], labels in the model's order. Raises as `predict` does."""
        return table(await self.predict(texts))

    async def ready(self) -> bool:
        """Return whether the server is reached and its models are loaded."""
        try:
            return (await self._http.get("/ping")).status_code == 200
        except httpx.RequestError:
            return False

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def _run(self, exchange: Exchange[Result]) -> Result:
        came: Came | None = None
        while True:
            try:
                act = exchange.send(came)
            except StopIteration as done:
                found: Result = done.value
                return found
            if isinstance(act, Send):
                try:
                    came = _came(await self._http.post(self._path, content=act.body))
                except httpx.RequestError as error:
                    came = _lost(error)
            else:
                await asyncio.sleep(act.seconds)
                came = None


def table(found: Sequence[Prediction]) -> NDArray[np.float64]:
    """Return the scores of predictions, [texts, labels]; no columns where there is no text to tell them."""
    rows = [list(one.scores.values()) for one in found]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(rows[0]) if rows else 0)


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return url.rstrip("/")
    except ValueError:  # a port that is no number of one, or half an IPv6 address
        pass
    raise UsageError(f"{url!r} is no address.", expected="http://HOST:PORT or https://HOST:PORT")


def _came(response: httpx.Response) -> Came:
    return Came(response.status_code, response.content, response.headers.get("retry-after", ""))


def _lost(error: httpx.RequestError) -> Came:
    # One that was not even connected in time may be so the next time; one that got no answer has cost the server all
    # that work already.
    late = isinstance(error, httpx.ReadTimeout)
    return Came(lost="" if late else str(error) or type(error).__name__, late=late)
