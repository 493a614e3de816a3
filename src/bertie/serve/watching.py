"""Bundles that are replaced on disk are served from then on, without a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from anyio import to_thread

from bertie.errors import BertieError
from bertie.serve.loading import stamp
from bertie.serve.models import Models

LOG = logging.getLogger("bertie")

LONGEST_WAIT = 600.0
"""Seconds between two tries to load a bundle that cannot be used, at most."""


@dataclass
class _Try:
    """A bundle that was replaced, and when it is looked at again."""

    stamp: tuple[int, int] | None = None
    wait: float = 0.0
    again: float = 0.0


async def watch(models: Models, seconds: float) -> None:
    """Replace each model whose bundle is replaced on disk; look every so many seconds, until cancelled.

    Nothing is watched where `seconds` is 0.
    """
    tries: dict[str, _Try] = {}
    while seconds:
        await asyncio.sleep(seconds)
        for name, bundles in models.seen().items():
            try:
                if await _is_due(bundles, tries.setdefault(name, _Try()), seconds):
                    await models.load(name)
            except BertieError as error:
                LOG.warning("model %s was replaced on disk and cannot be used: %s", name, error)
            except Exception as error:  # whatever it is, looking for others goes on
                LOG.error("model %s was replaced on disk and loading failed: %r", name, error)  # noqa: TRY400 - one line


async def _is_due(bundles: dict[Path, tuple[int, int] | None], tried: _Try, seconds: float) -> bool:
    """Return whether a bundle is another one now; one that was tried, only after a wait that doubles.

    A bundle that is copied into place can be seen before all of it is there.
    """
    for bundle, loaded in bundles.items():
        now = await to_thread.run_sync(stamp, bundle)
        if now in {None, loaded} or (now == tried.stamp and time.monotonic() < tried.again):
            continue
        wait = min(2 * tried.wait, LONGEST_WAIT) if now == tried.stamp else seconds
        tried.stamp, tried.wait, tried.again = now, wait, time.monotonic() + wait
        return True
    return False
