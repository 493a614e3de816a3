from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bertie.config import TrainSettings
from bertie.data.examples import from_lists
from bertie.errors import UsageError
from bertie.talk import Talk
from bertie.train.base_models import resolve
from bertie.train.checkpoints import Checkpoint
from bertie.train.cluster import Cluster
from bertie.train.job import MANY_ROWS, Job
from bertie.train.keeper import Keeper, Standing
from bertie.train.limits import text_encoder, text_limits
from bertie.train.model import build
from bertie.train.weights import Weights
from tests.conftest import make_rows

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


def test_it_is_due_by_number_and_by_clock(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("bertie.train.keeper.time.monotonic", lambda: now[0])
    quiet, alone = Talk(quiet=True), Cluster.alone()
    numbered = Keeper(job(tiny_base, tmp_path, checkpoint_updates=4, checkpoint_minutes=0), quiet, alone, CPU)
    timed = Keeper(job(tiny_base, tmp_path, checkpoint_minutes=2), quiet, alone, CPU)
    assert [numbered.due(update) for update in (1, 4, 5, 8)] == [False, True, False, True]
    assert not timed.due(4)
    now[0] += 121
    assert timed.due(5)
    assert not numbered.due(5)


def test_large_sets_take_more_texts_an_update(tiny_base: Path, tmp_path: Path) -> None:
    assert job(tiny_base, tmp_path, rows=10).batch_size == 16
    assert job(tiny_base, tmp_path, rows=MANY_ROWS).batch_size == 64
    assert job(tiny_base, tmp_path, rows=10, batch_size=7).batch_size == 7
