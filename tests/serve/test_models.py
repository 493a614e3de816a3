from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import bertie
from bertie.bundle.manifest import FILE, Manifest
from bertie.bundle.write import complete
from bertie.config import ServeSettings
from bertie.errors import (
    BundleDamaged,
    BundleNotFound,
    BundleUnusable,
    DeadlinePassed,
    ModelKnown,
    ModelTooLarge,
    ModelUnknown,
    NotReady,
    ProbeFailed,
    RequestInvalid,
)
from bertie.serve.loaded import Loaded
from bertie.serve.loading import Fresh, expected_bytes, file_bytes, load_warm
from bertie.serve.models import Models
from bertie.serve.shares import Share

pytestmark = pytest.mark.anyio


def megabytes(count: int) -> object:
    """Return how to load with a model that takes so many megabytes, whatever it takes."""

    def load(bundle: Path, settings: ServeSettings) -> Fresh:
        fresh = load_warm(bundle, settings)
        return Fresh(fresh.classifier, count << 20, fresh.digest)

    return load


def made(**settings: object) -> Models:
    return Models(ServeSettings(**settings), loads=megabytes(10))  # type: ignore[arg-type]  # settings by name


async def asked(models: Models, name: str | None = None) -> str:
    async with models.lease(name) as loaded:
        return (await loaded.scheduler.classify(["where is my parcel"], timeout=20)).predictions[0].label or ""


async def held(models: Models) -> Loaded:
    async with models.lease() as loaded:
        return loaded


async def test_nothing_is_ready_before_all_is_loaded(bundles: list[Path]) -> None:
    models = made()
    with pytest.raises(NotReady):
        models.check()
    await models.open({"one": (Share(bundles[0]),), "two": (Share(bundles[1]),)})
    models.check()
    assert await asked(models) == await asked(models, "two") == "delivery"
    with pytest.raises(ModelUnknown, match="three"):
        models.find("three")
    await models.close()
    with pytest.raises(NotReady):
        models.check()


async def test_a_replaced_model_answers_those_who_hold_it(bundles: list[Path]) -> None:
    models = made()
    await models.open({"one": (Share(bundles[0]),)})
    async with models.lease() as old:
        await models.load("one")
        assert old.retired
        assert (await old.scheduler.classify(["i love it"], timeout=20)).predictions
        async with models.lease() as new:
            assert new is not old
    await asyncio.sleep(0.1)
    with pytest.raises(NotReady):
        await old.scheduler.classify(["i love it"], timeout=20)
    await models.close()


async def test_under_requests_replacing_loses_none(bundles: list[Path]) -> None:
    models = made(queue_seconds=60)
    await models.open({"one": (Share(bundles[0]),)})
    answers: Counter[str] = Counter()
    over = False

    async def client() -> None:
        while not over:
            answers[await asked(models)] += 1

    clients = [asyncio.create_task(client()) for _ in range(8)]
    for _ in range(5):
        await models.load("one")
    over = True
    await asyncio.gather(*clients)
    assert set(answers) == {"delivery"}
    assert answers["delivery"] > 8
    await models.close()


async def test_where_the_new_one_is_broken_the_old_one_goes_on(bundles: list[Path]) -> None:
    models = made()
    await models.open({"one": (Share(bundles[0]),)})
    (bundles[0] / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(BundleDamaged):
        await models.load("one")
    with pytest.raises(BundleNotFound):
        await models.load("one", (Share(bundles[1]), Share(Path("nowhere"))))
    assert await asked(models) == "delivery"
    assert models.find("one").bundles == (str(bundles[0]),)
    await models.close()


async def test_where_the_new_one_answers_otherwise_than_when_it_was_made_the_old_one_goes_on(
    bundles: list[Path],
) -> None:
    models = made()
    await models.open({"one": (Share(bundles[0]),)})
    # Whole, by all its hashes; only what it says of the probe's texts is not what it said then.
    probe = json.loads((bundles[0] / "probe.json").read_text())
    probe["scores"] = [row[::-1] for row in probe["scores"]]
    (bundles[0] / "probe.json").write_text(json.dumps(probe))
    complete(bundles[0], Manifest.from_file(bundles[0] / FILE).model_dump(exclude={"format", "files"}))
    with pytest.raises(ProbeFailed):
        await models.load("one")
    assert await asked(models) == "delivery"
    await models.close()


async def test_what_another_process_remembered_is_loaded_when_it_is_asked(bundles: list[Path]) -> None:
    first = made()
    await first.open({"one": (Share(bundles[0]),)})
    await first.load("two", (Share(bundles[1], 3), Share(bundles[2])), pinned=False)
    known = json.loads(json.dumps(first.remember()))
    await first.close()
    second = made()
    await second.open({"one": (Share(bundles[0]),)}, known)
    assert [(one.name, one.loaded) for one in second.all()] == [("one", True), ("two", False)]
    assert second.find("two").bundles == first.find("two").bundles
    assert await asked(second, "two") == "delivery"
    assert second.remember() == first.remember()
    with pytest.raises(RequestInvalid, match="started with"):
        await second.unload("one")
    await second.unload("two")
    assert second.remember() == []
    await second.close()


async def test_room_is_made_before_a_model_is_loaded(bundles: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[list[str]] = []
    monkeypatch.setattr("bertie.serve.models.expected_bytes", lambda _: 10 << 20)

    def load(bundle: Path, settings: ServeSettings) -> Fresh:
        there.append([model.name for model in models.all() if model.loaded])
        fresh = load_warm(bundle, settings)
        return Fresh(fresh.classifier, 10 << 20, fresh.digest)

    models = Models(ServeSettings(memory_limit_mb=15), loads=load)
    models.opened = True
    for name, bundle in zip("ab", bundles, strict=False):
        await models.load(name, (Share(bundle),), pinned=False)
    assert there == [[], []]
    monkeypatch.setattr("bertie.serve.models.expected_bytes", lambda _: 20 << 20)
    with pytest.raises(ModelTooLarge):
        await models.load("c", (Share(bundles[2]),), pinned=False)
    assert len(there) == 2, "it was not even begun"
    await models.close()


def test_a_bundle_says_how_many_bytes_will_be_read(tiny_bundle: Path, tiny_run: Path, tmp_path: Path) -> None:
    loaded = file_bytes(bertie.load(tiny_bundle))
    assert expected_bytes(tiny_bundle) == expected_bytes(tiny_run) == loaded > 0
    assert expected_bytes(tmp_path) == 0


async def test_two_that_share_requests_are_told_apart_also_where_they_fail(bundles: list[Path]) -> None:
    chances = iter([0.0, 0.99])
    models = Models(ServeSettings(), chance=lambda: next(chances))
    await models.open({"one": (Share(bundles[0]), Share(bundles[1]))})
    async with models.lease() as loaded:
        await loaded.classify(["where is my parcel"], timeout=20)
    async with models.lease() as loaded:
        with pytest.raises(RequestInvalid):
            await loaded.classify(["\ud800"], timeout=20)
    page = (await models.page()).decode()
    assert 'bertie_model_requests_total{bundle="a",model="one",outcome="answered"} 1.0' in page
    assert 'bertie_model_requests_total{bundle="b",model="one",outcome="RequestInvalid"} 1.0' in page
    await models.close()


async def test_numbers_of_a_model_that_is_gone_are_gone(bundles: list[Path]) -> None:
    models = made()
    await models.open({"one": (Share(bundles[0]),)})
    await models.load("hash1", (Share(bundles[1]),), pinned=False)
    async with models.lease("hash1") as loaded:
        await loaded.classify(["where is my parcel"], timeout=20)
    assert b'"hash1"' in await models.page()
    await models.unload("hash1")
    page = await models.page()
    assert b'"hash1"' not in page
    assert b'"one"' in page
    await models.close()


async def test_a_share_of_the_requests_goes_to_another_bundle(bundles: list[Path]) -> None:
    chances = iter([place / 100 for place in range(100)])
    models = Models(ServeSettings(), chance=lambda: next(chances))
    await models.open({"one": (Share(bundles[0], 90), Share(bundles[1], 10))})
    seen: Counter[str] = Counter()
    for _ in range(100):
        async with models.lease() as loaded:
            seen[loaded.name.split("@")[0]] += 1
    assert seen == {"one/a": 90, "one/b": 10}
    await models.close()


async def test_the_least_recently_used_makes_room_and_comes_back(bundles: list[Path]) -> None:
    models = made(memory_limit_mb=25)
    models.opened = True
    for name, bundle in zip("ab", bundles, strict=False):
        await models.load(name, (Share(bundle),), pinned=False)
    assert await asked(models, "a")  # now b is the one that was not asked for longest
    await models.load("c", (Share(bundles[2]),), pinned=False)
    assert [model.name for model in models.all() if model.loaded] == ["a", "c"]
    assert await asked(models, "b") == "delivery"
    assert [model.name for model in models.all() if model.loaded] == ["b", "c"]
    await models.close()


async def test_what_is_held_or_pinned_never_makes_room(bundles: list[Path]) -> None:
    models = made(memory_limit_mb=25)
    await models.open({"a": (Share(bundles[0]),)})
    await models.load("b", (Share(bundles[1]),), pinned=False)
    async with models.lease("b"):
        with pytest.raises(ModelTooLarge):
            await models.load("c", (Share(bundles[2]),), pinned=False)
    assert [model.name for model in models.all()] == ["a", "b"]
    await models.load("c", (Share(bundles[2]),), pinned=False)
    assert [model.name for model in models.all() if model.loaded] == ["a", "c"]
    await models.close()


async def test_what_is_too_large_does_not_take_the_place_of_what_answers(bundles: list[Path]) -> None:
    sizes = {bundles[0]: 10, bundles[1]: 30}

    def load(bundle: Path, settings: ServeSettings) -> Fresh:
        fresh = load_warm(bundle, settings)
        return Fresh(fresh.classifier, sizes[bundle] << 20, fresh.digest)

    models = Models(ServeSettings(memory_limit_mb=25), loads=load)
    models.opened = True
    await models.load("one", (Share(bundles[0]),), pinned=False)
    before = await held(models)
    with pytest.raises(ModelTooLarge):
        await models.load("one", (Share(bundles[1]),), pinned=False)
    assert await held(models) is before
    assert models.find("one").bundles == (str(bundles[0]),)
    assert await asked(models) == "delivery"
    with pytest.raises(ModelTooLarge):
        await models.load("two", (Share(bundles[1]),), pinned=False)
    assert [model.name for model in models.all()] == ["one"]
    await models.close()


async def test_of_two_who_load_one_new_name_only_one_does(bundles: list[Path]) -> None:
    models = made()
    models.opened = True
    loads = [models.load("one", (Share(bundle),), pinned=False, new=True) for bundle in bundles[:2]]
    ends = await asyncio.gather(*loads, return_exceptions=True)
    assert [type(end) for end in ends] == [type(None), ModelKnown]
    assert models.find("one").bundles == (str(bundles[0]),)
    await models.close()


async def test_what_is_unloaded_while_a_request_waits_for_it_does_not_come_back(bundles: list[Path]) -> None:
    models = made(memory_limit_mb=15)
    models.opened = True
    await models.load("a", (Share(bundles[0]),), pinned=False)
    await models.load("b", (Share(bundles[1]),), pinned=False)  # and a makes room
    unloading = asyncio.create_task(models.unload("a"))
    waiting = asyncio.create_task(asked(models, "a"))
    await unloading
    with pytest.raises(ModelUnknown):
        await waiting
    assert [model.name for model in models.all() if model.loaded] == ["b"]
    await models.close()


async def test_names_of_what_cannot_be_loaded_do_not_gather(bundles: list[Path]) -> None:
    models = made(memory_limit_mb=15)
    await models.open({"one": (Share(bundles[0]),)})
    with pytest.raises(BundleNotFound):
        await models.load("made-up-1", (Share(Path("nowhere")),), pinned=False)
    with pytest.raises(ModelTooLarge):
        await models.load("made-up-2", (Share(bundles[1]),), pinned=False)
    page = (await models.page()).decode()
    assert "made-up" not in page
    assert 'bertie_model_loads_total{model="other",outcome="failed"} 2.0' in page
    await models.close()


async def test_who_waits_for_a_model_waits_no_longer_than_told_and_it_comes_all_the_same(bundles: list[Path]) -> None:
    go, loads = threading.Event(), []

    def slow(bundle: Path, settings: ServeSettings) -> Fresh:
        loads.append(bundle)
        assert len(loads) == 1 or go.wait(20)
        return load_warm(bundle, settings)

    models = Models(ServeSettings(), loads=slow)
    await models.open({"one": (Share(bundles[0]),)})
    models._put_away(models._models["one"])
    for _ in range(2):
        with pytest.raises(DeadlinePassed, match=r"not loaded within 0\.05 seconds"):
            async with models.lease("one", 0.05):
                pass
    go.set()
    async with models.lease("one", 20) as loaded:
        assert loaded.pairs is False
    assert len(loads) == 2
    await models.close()


async def test_what_gives_no_numbers_is_seen_in_its_outcomes(bundles: list[Path]) -> None:
    models = made()
    await models.open({"one": (Share(bundles[0]),)})
    async with models.lease() as loaded:
        classifier = loaded.scheduler.classifier
        classifier.run = lambda inputs: np.full((len(inputs["input_ids"]), 2), np.nan, np.float32)  # type: ignore[method-assign]
        with pytest.raises(BundleUnusable):
            await loaded.classify(["a"], timeout=20)
    page = (await models.page()).decode()
    assert 'outcome="BundleUnusable"} 1.0' in page
    assert 'outcome="answered"' not in page
    await models.close()


def test_loading_says_what_it_takes(tiny_bundle: Path) -> None:
    fresh = load_warm(tiny_bundle, ServeSettings())
    assert fresh.memory >= (tiny_bundle / "model.onnx").stat().st_size
    assert len(fresh.digest) == 12
    assert isinstance(fresh.classifier, bertie.Classifier)
