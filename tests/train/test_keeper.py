from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from bertie.config import TrainSettings
from bertie.data.examples import from_lists
from bertie.errors import OutputError, UsageError
from bertie.talk import Talk
from bertie.train.base_models import resolve
from bertie.train.checkpoints import Checkpoint, Checkpoints
from bertie.train.cluster import Cluster
from bertie.train.job import MANY_ROWS, Job
from bertie.train.keeper import Keeper, Standing
from bertie.train.limits import text_encoder, text_limits
from bertie.train.model import build
from bertie.train.weights import Weights
from tests.conftest import Heard, make_rows

CPU = torch.device("cpu")


def job(base: Path, run: Path, rows: int = 12, fingerprint: str = "one", **wanted: object) -> Job:
    settings = TrainSettings.load(wanted, environment={})
    found = resolve(str(base))
    texts, labels = zip(*make_rows(rows), strict=True)
    examples = from_lists(texts, labels)
    encoder = text_encoder(found, text_limits(found, settings))
    return Job(run, found, encoder, examples, examples, ("delivery", "praise"), settings, 0, fingerprint)


def keep(mine: Job, update: int = 3) -> None:
    keeper = Keeper(mine, Talk(quiet=True), Cluster.alone(), CPU)
    weights = Weights(build(mine.base, mine.labels, "single-label"), torch.float32, weight_decay=0.0)
    keeper.keep(Standing(update, precision="fp32"), weights, None, must=True)


def test_random_numbers_go_on_where_they_were(tiny_base: Path, tmp_path: Path) -> None:
    mine = job(tiny_base, tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(9)
        keep(mine)
        expected = torch.rand(3)
        keeper = Keeper(mine, Talk(quiet=True), Cluster.alone(), CPU)
        found = keeper.find()
        assert found is not None
        # As it arrives in another process: bytes, of which a tensor can begin anywhere.
        for odd in range(8):
            moved = Checkpoint(found.update, found.tensors | {"a": torch.zeros(odd, dtype=torch.uint8)}, found.facts)
            keeper.restore_random(Checkpoint.from_bytes(moved.to_bytes()))
            assert torch.equal(torch.rand(3), expected)


def test_another_number_of_processes_draws_anew_but_always_the_same(tiny_base: Path, tmp_path: Path) -> None:
    mine = job(tiny_base, tmp_path)
    draws = []
    with torch.random.fork_rng():
        keep(mine)
        found = Keeper(mine, Talk(quiet=True), Cluster.alone(), CPU).find()
        assert found is not None
        for rank in (0, 1, 1):
            Keeper(mine, Talk(quiet=True), Cluster(rank, 2, rank), CPU).restore_random(found)
            draws.append(torch.rand(3).tolist())
    assert draws[0] != draws[1]
    assert draws[1] == draws[2]


def test_a_checkpoint_of_another_training_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    keep(job(tiny_base, tmp_path))
    for other in (
        job(tiny_base, tmp_path, fingerprint="other"),
        job(tiny_base, tmp_path, learning_rate=1e-5),
        job(tiny_base, tmp_path, max_tokens=16),
    ):
        with pytest.raises(UsageError, match="belongs to another training"):
            Keeper(other, Talk(quiet=True), Cluster.alone(), CPU).find()
    # What only decides how it is computed and kept may change.
    same = job(tiny_base, tmp_path, batch_tokens=64, keep=9, checkpoint_minutes=1)
    found = Keeper(same, Talk(quiet=True), Cluster.alone(), CPU).find()
    assert found is not None
    assert found.update == 3


class Following(Cluster):
    """The second of two processes, and what it told the first."""

    told: ClassVar[list[int]] = []

    def newest(self, step: int) -> tuple[int, int]:
        self.told.append(step)
        return 0, 0


def test_what_another_training_left_on_a_following_host_is_passed_over(tiny_base: Path, tmp_path: Path) -> None:
    keep(job(tiny_base, tmp_path))
    for fingerprint in ("other", "one"):
        mine = job(tiny_base, tmp_path, fingerprint=fingerprint)
        assert Keeper(mine, Talk(quiet=True), Following(1, 2, 1), CPU).find() is None
    assert Following.told == [0, 3]


def test_it_is_due_by_number_and_by_clock(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("bertie.train.keeper.time.monotonic", lambda: now[0])
    quiet, alone = Talk(quiet=True), Cluster.alone()
    numbered = Keeper(job(tiny_base, tmp_path, checkpoint_updates=4, checkpoint_minutes=0), quiet, alone, CPU)
    timed = Keeper(job(tiny_base, tmp_path, checkpoint_minutes=2), quiet, alone, CPU)
    assert [numbered.due(update) for update in (1, 4, 5, 8)] == [False, True, False, True]
    assert not timed.late()
    now[0] += 121
    assert timed.late()
    assert not timed.due(5)
    assert not numbered.late()


class Forgetful(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store that stops answering what is in `broken`."""

    protocol = "forgetful"
    broken: ClassVar[set[str]] = set()

    def _answer(self, what: str) -> None:
        if what in self.broken:
            raise ConnectionResetError(f"the store does not answer ({what})")

    def ls(self, path: str, detail: bool = True, **more: Any) -> Any:
        self._answer("ls")
        return super().ls(path, detail, **more)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        self._answer("rm")
        super().rm(path, recursive, maxdepth)

    def exists(self, path: str, **more: Any) -> bool:
        self._answer("exists")
        return bool(super().exists(path, **more))

    def put_file(self, lpath: str, rpath: str, **more: Any) -> None:
        self._answer("put")
        super().put_file(lpath, rpath, **more)

    def get_file(self, rpath: str, lpath: str, **more: Any) -> None:
        self._answer("get")
        super().get_file(rpath, lpath, **more)


@pytest.fixture
def forgetful() -> Iterator[set[str]]:
    fsspec.register_implementation("forgetful", Forgetful, clobber=True)
    yield Forgetful.broken
    Forgetful.broken.clear()
    Forgetful.store.clear()


def test_a_store_that_does_not_answer_costs_a_warning_and_no_training(
    tiny_base: Path, tmp_path: Path, forgetful: set[str]
) -> None:
    mine = job(tiny_base, tmp_path, checkpoints="forgetful://bucket/run", keep=1)
    heard = Heard()
    keeper = Keeper(mine, heard, Cluster.alone(), CPU)
    weights = Weights(build(mine.base, mine.labels, "single-label"), torch.float32, weight_decay=0.0)

    def kept(update: int, *broken: str, must: bool = False) -> list[str]:
        heard.words.clear()
        forgetful.clear()
        forgetful.update(broken)
        keeper.keep(Standing(update, precision="fp32"), weights, None, must=must)
        return list(heard.words)

    assert kept(1) == []
    assert "no checkpoint after update 2: cannot write" in kept(2, "put")[0]
    assert "no checkpoint after update 3: " in kept(3, "exists")[0]
    # The new one is written; only the old ones could not be removed.
    assert kept(4, "rm", must=True) == [heard.words[0]]
    assert "older checkpoints stay for now" in heard.words[0]
    assert "older checkpoints stay for now" in kept(5, "ls")[0]
    with pytest.raises(OutputError, match="cannot write the checkpoint"):
        kept(6, "put", must=True)
    forgetful.clear()
    found = keeper.find()
    assert found is not None
    assert found.update == 5
    for broken, said in (("get", "cannot read"), ("ls", "cannot list")):
        forgetful.add(broken)
        with pytest.raises(OutputError, match=said):  # not the beginning, nor an older one
            keeper.find()
        forgetful.clear()
    heard.words.clear()
    forgetful.add("rm")
    keeper.clear()
    assert "stay: cannot remove" in heard.words[0]
    assert kept(7) == []
    assert len(Forgetful.store) == 2  # the older ones went at last


def test_a_place_is_tried_before_it_is_needed(forgetful: set[str], tmp_path: Path) -> None:
    for place in ("forgetful://bucket/run", str(tmp_path / "here")):
        Checkpoints.at(place, keep=1).check()
    assert not list(tmp_path.iterdir())
    assert not Forgetful.store
    forgetful.add("put")
    with pytest.raises(OutputError, match="does not answer"):
        Checkpoints.at("forgetful://bucket/run", keep=1).check()
    with pytest.raises(OutputError, match="ConnectionRefusedError"):
        Checkpoints.at("ftp://127.0.0.1:1/here", keep=1)


def test_large_sets_take_more_texts_an_update(tiny_base: Path, tmp_path: Path) -> None:
    assert job(tiny_base, tmp_path, rows=10).batch_size == 16
    assert job(tiny_base, tmp_path, rows=MANY_ROWS).batch_size == 64
    assert job(tiny_base, tmp_path, rows=10, batch_size=7).batch_size == 7
