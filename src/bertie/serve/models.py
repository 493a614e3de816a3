"""The models of a server: found by name, loaded, replaced and unloaded while requests are answered.

All of it belongs to one event loop. A request holds its model with `lease` while it is answered; a model that was
replaced ends when nobody holds it any more.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio import to_thread

from bertie.config import ServeSettings
from bertie.errors import BertieError, DeadlinePassed, ModelKnown, ModelTooLarge, ModelUnknown, NotReady, RequestInvalid
from bertie.runtime.classifier import Classifier
from bertie.serve.holder import Described
from bertie.serve.loaded import Loaded, Model
from bertie.serve.loading import Fresh, digest, expected_bytes, file_bytes, load_warm, stamp
from bertie.serve.metrics import Metrics
from bertie.serve.scheduler import Scheduler
from bertie.serve.shares import Share

LOG = logging.getLogger("bertie")


class Models:
    """All models of a server, the first of which is asked where a request names none."""

    def __init__(
        self,
        settings: ServeSettings,
        *,
        loads: Callable[[Path, ServeSettings], Fresh] = load_warm,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._metrics = settings, Metrics()
        self._loads, self._chance, self._clock = loads, chance, clock
        self._models: dict[str, Model] = {}
        self._loading = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()
        self._coming: set[asyncio.Task[Loaded]] = set()
        self.opened = False
        """Whether all that was to be loaded at the start is loaded."""
        self.closing = False
        """Whether the server takes nothing new."""
        self.changed: Callable[[], None] = lambda: None
        """Called when models were loaded or unloaded, or are ready."""

    def all(self) -> list[Described]:
        """Return the models, the first one first, in memory or not."""
        return [model.described for model in self._models.values()]

    def check(self) -> None:
        """Raise NotReady while models are loading, or the server is closing."""
        if self.closing:
            raise NotReady("the server is shutting down.", hint="send the request to another one")
        if not self.opened:
            raise NotReady("the model is still loading.", hint="try again when GET /ping answers 200")

    def find(self, name: str | None = None) -> Described:
        """Return a model, the first where there is no name. Raises ModelUnknown."""
        return self._find(name).described

    def _find(self, name: str | None) -> Model:
        model = next(iter(self._models.values()), None) if name is None else self._models.get(name)
        if model is None:
            raise ModelUnknown.of(name, self._models)
        return model

    @asynccontextmanager
    async def lease(self, name: str | None = None, timeout: float | None = None) -> AsyncIterator[Loaded]:
        """Hold what answers a request for a model; it stays whole until it is let go, also if it is replaced.

        Raises ModelUnknown; loads again what had to make room, which may raise BundleError or ModelTooLarge, and
        DeadlinePassed where it takes longer than `timeout` seconds: it is loaded all the same, for who asks next.
        """
        model = self._find(name)
        model.used = self._clock()
        share = model.share(self._chance()) if len(model.shares) > 1 else model.shares[0]
        loaded = model.loaded.get(share) or await self._in_time(self._again(model, share), timeout)
        loaded.users += 1
        try:
            yield loaded
        finally:
            loaded.users -= 1
            if loaded.retired and not loaded.users:
                self._end(loaded)

    async def open(self, models: Mapping[str, tuple[Share, ...]], known: Sequence[dict[str, Any]] = ()) -> None:
        """Load what the server is told to serve, know what an earlier process remembered, and be ready.

        Raises BundleError.
        """
        for name, shares in models.items():
            await self.load(name, shares)
        self._recall(known)
        self.opened = True
        self.changed()

    def add(self, name: str, classifier: Classifier) -> None:
        """Serve a classifier that is loaded already."""
        share = Share(Path(name))
        model = Model(name, (share,), pairs=classifier.pairs, labels=classifier.labels)
        model.loaded[share] = self._answering(
            name, share, Fresh(classifier, file_bytes(classifier), digest(classifier))
        )
        self._models[name] = model
        self.opened = True

    async def load(self, name: str, shares: tuple[Share, ...] = (), *, pinned: bool = True, new: bool = False) -> None:
        """Load a model, or replace it by what its bundles are now. Where that fails, what was there goes on.

        Raises ModelUnknown for a name that is not known where there are no `shares`, ModelKnown for one that is where
        it must be `new`, BundleError, or ModelTooLarge.
        """
        async with self._loading:
            known = self._models.get(name)
            if known and new:
                raise ModelKnown(f"model {name!r} is loaded already.", hint="DELETE it first")
            shares = shares or (known.shares if known else ())
            if not shares:
                raise ModelUnknown.of(name, self._models)
            model = known or Model(name, shares, pinned, used=self._clock())
            # Of one that is replaced, old and new are there together for a moment, whatever the limit.
            if known is None:
                self._make_room(model, sum(expected_bytes(share.bundle) for share in shares))
            fresh: dict[Share, Loaded] = {}
            try:
                for share in shares:
                    fresh[share] = await self._start(name, share)
            except BaseException:
                for one in fresh.values():
                    self._retire(one)
                self._forget_unknown(name)
                raise
            before, model.loaded = model.loaded, fresh
            self._models[name] = model
            try:
                self._make_room(model)
            except ModelTooLarge:
                self._put_away(model)
                model.loaded = before
                if known is None:
                    del self._models[name]
                    self._forget_unknown(name)
                raise
            finally:
                self.changed()
            model.shares = shares
            model.pairs, model.labels = fresh[shares[0]].pairs, fresh[shares[0]].labels
            for old in before.values():
                self._retire(old)

    def _forget_unknown(self, name: str) -> None:
        """Count a failure under no name of a client's choice."""
        if name not in self._models:
            self._metrics.forget(name)
            self._metrics.load("other", "failed")

    async def unload(self, name: str) -> None:
        """Forget a model; requests that hold it are answered.

        Raises ModelUnknown, and RequestInvalid for one that the server was started with: nobody could load it again.
        """
        async with self._loading:
            model = self._find(name)
            if model.pinned:
                raise RequestInvalid(
                    f"model {name!r} is one that this server was started with, and stays.",
                    expected="a model that was loaded over HTTP",
                )
            del self._models[name]
            self._put_away(model)
            self._metrics.forget(name)
            self.changed()

    def remember(self) -> list[dict[str, Any]]:
        """Return what was loaded over HTTP, as JSON, so that another process can go on with it."""
        return [
            {
                "name": model.name,
                "shares": [(str(share.bundle), share.weight) for share in model.shares],
                "pairs": model.pairs,
                "labels": model.labels,
            }
            for model in self._models.values()
            if not model.pinned
        ]

    def _recall(self, known: Sequence[dict[str, Any]]) -> None:
        """Know what another process remembered; it is loaded when it is asked."""
        for one in known:
            shares = tuple(Share(Path(bundle), weight) for bundle, weight in one["shares"])
            self._models.setdefault(
                one["name"],
                Model(one["name"], shares, pinned=False, pairs=one["pairs"], labels=tuple(one["labels"])),
            )

    def facts(self, name: str) -> dict[str, Any]:
        """Return what reading a request for a model takes: whether it reads pairs, and its labels."""
        return {"pairs": self._models[name].pairs, "labels": self._models[name].labels}

    async def returned(self, timeout: float) -> None:
        """Models of this process do not go away while it runs."""

    def count(self, path: str, status: int, times: int = 1) -> None:
        """Count requests."""
        self._metrics.request(path, status, times)

    async def page(self) -> bytes:
        """Return what Prometheus reads."""
        return self._metrics.page()

    def seen(self) -> dict[str, dict[Path, tuple[int, int] | None]]:
        """Return, by model, the bundles in memory, and what `loading.stamp` said of each when it was loaded."""
        return {
            model.name: {share.bundle: loaded.stamp for share, loaded in model.loaded.items()}
            for model in self._models.values()
        }

    async def close(self) -> None:
        """Answer what was accepted, and stop."""
        self.closing = True
        for model in self._models.values():
            self._put_away(model)
        await asyncio.gather(*self._ending)

    async def _in_time(self, loading: Coroutine[Any, Any, Loaded], timeout: float | None) -> Loaded:
        task = asyncio.ensure_future(loading)
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # told to those who still wait
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(task)
        except TimeoutError:
            raise DeadlinePassed(f"the model was not loaded within {timeout:g} seconds.", hint="try again") from None

    async def _again(self, model: Model, share: Share) -> Loaded:
        async with self._loading:
            if self._models.get(model.name) is not model:  # it was unloaded meanwhile
                raise ModelUnknown.of(model.name, self._models)
            if share not in model.loaded:
                try:
                    self._make_room(model, model.costs.get(share, 0))
                    await asyncio.gather(*self._ending)
                    loaded = await self._start(model.name, share)
                    # While others end, the process grows by less than what a model takes.
                    loaded.memory = max(loaded.memory, model.costs.get(share, 0))
                    model.loaded[share] = loaded
                    self._make_room(model)
                except ModelTooLarge:
                    self._put_away(model)
                    raise
                finally:
                    self.changed()
            return model.loaded[share]

    async def _start(self, name: str, share: Share) -> Loaded:
        seen = stamp(share.bundle)
        try:
            fresh = await to_thread.run_sync(self._loads, share.bundle, self._settings)
            loaded = await to_thread.run_sync(self._answering, name, share, fresh)
        except BertieError:
            self._metrics.load(name, "failed")
            raise
        loaded.stamp = seen
        self._metrics.load(name, "done")
        LOG.info("loaded %s", loaded.name)
        return loaded

    def _answering(self, name: str, share: Share, fresh: Fresh) -> Loaded:
        metrics = self._metrics.of(name, share.label)
        scheduler = Scheduler(
            fresh.classifier,
            batch_tokens=self._settings.batch_tokens,
            queue_seconds=self._settings.queue_seconds,
            observe=metrics.batch,
        )
        metrics.watch_queue(scheduler)
        return Loaded(f"{name}/{quote(share.label)}@{fresh.digest}", scheduler, metrics, fresh.memory)

    def _make_room(self, wanted: Model, coming: int = 0) -> None:
        """Put away what was not used for longest until the limit is kept, also with `coming` more bytes.

        What was put away stays known, and is loaded again when it is asked. Raises ModelTooLarge.
        """
        limit = self._settings.memory_limit_mb * 2**20
        wanted.costs |= {share: loaded.memory for share, loaded in wanted.loaded.items()}
        while limit and sum(model.memory for model in self._models.values()) + coming > limit:
            idle = [
                model
                for model in self._models.values()
                if model.loaded and not model.pinned and model is not wanted
                if not any(one.users for one in model.loaded.values())
            ]
            if idle:
                self._put_away(min(idle, key=lambda model: model.used))
            elif wanted.pinned:
                return
            else:
                raise ModelTooLarge(
                    f"there is no room for model {wanted.name!r}.",
                    expected=f"models of {self._settings.memory_limit_mb} MB together",
                    hint="unload another one, or give --memory-limit-mb a higher value",
                )

    def _put_away(self, model: Model) -> None:
        loaded, model.loaded = model.loaded, {}
        for one in loaded.values():
            self._retire(one)

    def _retire(self, loaded: Loaded) -> None:
        loaded.retired = True
        if not loaded.users:
            self._end(loaded)

    def _end(self, loaded: Loaded) -> None:
        task = asyncio.ensure_future(to_thread.run_sync(loaded.scheduler.close))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
