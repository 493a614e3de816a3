"""What a server asks of whatever holds its models: this process, or another one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from bertie.serve.scheduler import Answer
from bertie.serve.shares import Share
from bertie.tokens import Text


@dataclass(frozen=True)
class Described:
    """A model as its server tells of it."""

    name: str
    bundles: tuple[str, ...]
    """Paths of the bundles that share its requests."""
    loaded: bool
    """Whether it is in memory."""


class Held(Protocol):
    """A model that is held while a request is answered."""

    @property
    def pairs(self) -> bool:
        """Whether it reads pairs of texts."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels."""

    async def classify(self, texts: Sequence[Text], *, timeout: float) -> Answer:
        """Score texts. Raises as Scheduler.classify does."""

    async def explain(self, text: Text, label: str | None, *, timeout: float) -> dict[str, Any]:
        """Say which words an answer stands on. Raises as `explain.explain` does, and DeadlinePassed."""

    async def card(self) -> dict[str, Any]:
        """Say what it is, and how good."""


class Holder(Protocol):
    """The models of a server, the first of which is asked where a request names none."""

    closing: bool
    """Whether the server takes nothing new."""

    def check(self) -> None:
        """Raise NotReady while models are loading, or the server is closing."""

    def all(self) -> list[Described]:
        """Return the models, the first one first."""

    def find(self, name: str | None = None) -> Described:
        """Return a model, the first where there is no name. Raises ModelUnknown."""

    async def returned(self, timeout: float) -> None:
        """Wait for models that are gone for a moment, and at most so many seconds; `check` says whether they came."""

    def lease(self, name: str | None = None, timeout: float | None = None) -> AbstractAsyncContextManager[Held]:
        """Hold what answers a request for a model.

        Raises ModelUnknown; where it is loaded again, BundleError, and DeadlinePassed after `timeout` seconds.
        """

    async def load(self, name: str, shares: tuple[Share, ...] = (), *, pinned: bool = True, new: bool = False) -> None:
        """Load a model, or replace it unless it must be `new`.

        Raises ModelUnknown, ModelKnown, ModelTooLarge or BundleError.
        """

    async def unload(self, name: str) -> None:
        """Forget a model. Raises ModelUnknown."""

    def count(self, path: str, status: int, times: int = 1) -> None:
        """Count requests."""

    async def page(self) -> bytes:
        """Return what Prometheus reads of the whole server."""
