"""A model of a server: its name, its bundles, and those of them that are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from anyio import to_thread

from bertie.errors import DeadlinePassed
from bertie.scores import Prediction
from bertie.serve.card import card
from bertie.serve.explain import explain, plan
from bertie.serve.holder import Described
from bertie.serve.metrics import ModelMetrics
from bertie.serve.scheduler import INLINE_SCORES, Answer, Scheduler
from bertie.serve.shares import Share
from bertie.tokens import Text


@dataclass(eq=False)
class Loaded:
    """A model that answers."""

    name: str
    """What answers say of where they come from: NAME/BUNDLE@DIGEST."""
    scheduler: Scheduler
    metrics: ModelMetrics
    memory: int
    stamp: tuple[int, int] | None = None
    users: int = 0
    retired: bool = False

    @property
    def pairs(self) -> bool:
        """Whether it reads pairs of texts."""
        return self.scheduler.classifier.pairs

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels."""
        return self.scheduler.classifier.labels

    async def classify(self, texts: Sequence[Text], *, timeout: float) -> Answer:
        """Score texts. Raises as Scheduler.classify does."""
        outcome = "Cancelled"
        try:
            answer = replace(await self.scheduler.classify(texts, timeout=timeout), name=self.name)
            if answer.logits.size > INLINE_SCORES:
                await to_thread.run_sync(lambda: answer.predictions)
            self.metrics.answer(answer)
            outcome = "answered"
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            self.metrics.outcome(outcome)
        return answer

    async def explain(self, text: Text, label: str | None, *, timeout: float) -> dict[str, Any]:
        """Say which words an answer stands on. Raises as `explain.explain` does, and DeadlinePassed."""

        async def classify(texts: Sequence[Text]) -> list[Prediction]:
            return (await self.scheduler.classify(texts, timeout=timeout)).predictions

        encode, size, rate = self.scheduler.classifier.encode, self.scheduler.batch_tokens, self.scheduler.rate
        try:
            async with asyncio.timeout(timeout):
                planned = await to_thread.run_sync(lambda: plan(text, encode, batch_tokens=size, rate=rate))
                return (await explain(planned, classify, label)).as_dict() | {"model": self.name}
        except TimeoutError:
            raise DeadlinePassed(
                f"the explanation was not ready within {timeout:g} seconds.",
                hint="explain a shorter text, or try later",
            ) from None

    async def card(self) -> dict[str, Any]:
        """Say what it is, and how good."""
        return card(self.scheduler.classifier, self.name.partition("/")[0])


@dataclass(eq=False)
class Model:
    """A name, the bundles that share its requests, and those of them that are in memory."""

    name: str
    shares: tuple[Share, ...]
    pinned: bool = True
    """Whether it stays in memory whatever else is loaded."""
    loaded: dict[Share, Loaded] = field(default_factory=dict)
    used: float = 0.0
    """When it was asked last."""
    costs: dict[Share, int] = field(default_factory=dict)
    """Bytes that each took at most when it was loaded."""
    pairs: bool = False
    labels: tuple[str, ...] = ()

    @property
    def memory(self) -> int:
        """Bytes that it takes."""
        return sum(one.memory for one in self.loaded.values())

    @property
    def described(self) -> Described:
        """What is told of it."""
        return Described(self.name, tuple(str(share.bundle) for share in self.shares), bool(self.loaded))

    def share(self, chance: float) -> Share:
        """Return whose turn it is; `chance` is a number from 0 up to 1."""
        place = chance * sum(share.weight for share in self.shares)
        for share in self.shares:
            place -= share.weight
            if place < 0:
                return share
        return self.shares[-1]
