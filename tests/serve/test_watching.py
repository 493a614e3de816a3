"""Bundles that are replaced on disk while requests are answered."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from bertie.config import ServeSettings
from bertie.serve.loaded import Loaded
from bertie.serve.loading import Fresh, load_warm
from bertie.serve.models import Models
from bertie.serve.shares import Share
from bertie.serve.watching import watch
from tests.serve.test_models import asked, held, made

pytestmark = pytest.mark.anyio


async def replaced_by_another(models: Models, before: Loaded) -> None:
    for _ in range(200):
        if await held(models) is not before:
            return
        await asyncio.sleep(0.05)
    pytest.fail("it was not replaced")


async def test_what_is_replaced_on_disk_is_loaded_and_what_is_damaged_is_not(bundles: list[Path]) -> None:
    models = made()
    await models.open({"one": (Share(bundles[0]),)})
    before = await held(models)
    watching = asyncio.create_task(watch(models, 0.02))

    async def replaced(by: Path) -> None:
        for file in by.iterdir():
            new = bundles[0] / f".{file.name}"
            shutil.copy(file, new)
            new.replace(bundles[0] / file.name)
        os.utime(bundles[0] / "manifest.json")
        await asyncio.sleep(0.3)

    (bundles[2] / "model.onnx").write_bytes(b"not a model")
    await replaced(bundles[2])
    assert await held(models) is before
    await replaced(bundles[1])
    await replaced_by_another(models, before)
    assert await asked(models) == "delivery"
    watching.cancel()
    await models.close()


async def test_a_bundle_that_was_seen_before_all_of_it_was_there_is_tried_again(bundles: list[Path]) -> None:
    models = made()
    await models.open({"one": (Share(bundles[0]),)})
    before = await held(models)
    watching = asyncio.create_task(watch(models, 0.02))
    whole = (bundles[0] / "model.onnx").read_bytes()
    (bundles[0] / "model.onnx").write_bytes(whole[:100])
    os.utime(bundles[0] / "manifest.json")
    await asyncio.sleep(0.3)
    assert await held(models) is before
    (bundles[0] / "model.onnx").write_bytes(whole)  # the manifest stays as it was seen
    await replaced_by_another(models, before)
    watching.cancel()
    await models.close()


async def test_looking_for_replaced_bundles_goes_on_whatever_happens(bundles: list[Path]) -> None:
    broken = False

    def load(bundle: Path, settings: ServeSettings) -> Fresh:
        if broken:
            raise RuntimeError("nobody thought of this")
        return load_warm(bundle, settings)

    models = Models(ServeSettings(), loads=load)
    await models.open({"one": (Share(bundles[0]),)})
    before = await held(models)
    watching = asyncio.create_task(watch(models, 0.02))
    broken = True
    os.utime(bundles[0] / "manifest.json")
    await asyncio.sleep(0.3)
    assert not watching.done()
    assert await held(models) is before
    broken = False
    os.utime(bundles[0] / "manifest.json")
    await replaced_by_another(models, before)
    watching.cancel()
    await models.close()
