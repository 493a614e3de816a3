from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bertie.bench.prices import Machine
from bertie.deploy.sagemaker.cost import TABLE, preview, prices, sentence
from bertie.deploy.sagemaker.recommend import HTTP_MS, Choice, Service, chosen, expected, recommend, wait_ms
from bertie.errors import UsageError
from bertie.talk import Talk


def simulated(service_ms: float, rate: float, quantile: float) -> float:
    """Return a quantile of the wait of two million requests in the queue M/D/1, by Lindley's recursion."""
    random = np.random.default_rng(0)
    steps = service_ms - random.exponential(1000 / rate, 2_000_000)
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    waits = walk - np.minimum.accumulate(walk)
    return float(np.quantile(waits, quantile))


@pytest.mark.parametrize("busy", [0.3, 0.5, 0.7, 0.9])
def test_the_bound_of_the_wait_holds_and_is_not_far_off(busy: float) -> None:
    true, bound = simulated(10, busy * 100, 0.99), wait_ms(10, busy * 100, 0.99)
    assert true <= bound * 1.02
    assert bound < true * 1.7 + 2


def test_an_empty_queue_has_no_wait_and_a_full_one_no_end() -> None:
    assert wait_ms(10, 0.5, 0.99) == 0
    assert wait_ms(10, 101, 0.99) == math.inf
    one = Service(10 - HTTP_MS, 12 - HTTP_MS, texts_per_s=1)  # a machine that batches do not help
    assert expected(one, 101)[1] == math.inf
    busy, late = expected(one, 0.5)
    assert (busy, late) == pytest.approx((0.005, 12))


def test_batches_let_a_server_answer_more_than_one_after_the_other() -> None:
    alone, batches = Service(5, 7, texts_per_s=150), Service(5, 7, texts_per_s=600)
    assert expected(alone, 200)[1] == math.inf
    assert expected(batches, 200)[1] < 40
    # Where nobody waits, nobody waits for a batch.
    assert expected(batches, 1)[1] == 7 + HTTP_MS


def test_it_foretells_what_the_load_generator_measured() -> None:
    """Figures of `benchmarks/results/serve.json`, of 2026-11-28; the load came from the same two cores."""
    model = Service(p50_ms=3.0, p99_ms=5.8, texts_per_s=581)
    busy, late = expected(model, 207)
    assert 0.5 < busy < 0.8
    assert late == pytest.approx(47, rel=0.25)


FAST, SLOW = Service(11, 14, 150), Service(20, 25, 80)
SERVERS = {"ml.c5.large": (SLOW, 1), "ml.c5.xlarge": (FAST, 1), "ml.m5.2xlarge": (FAST, 2)}


def choose(rate: float, p99_ms: float) -> list[Choice]:
    costs = {"ml.c5.large": (0.1, 2), "ml.c5.xlarge": (0.2, 4), "ml.m5.2xlarge": (0.5, 8)}
    machines = [Machine(name, price, vcpus=vcpus) for name, (price, vcpus) in costs.items()]
    services = {1: SLOW, 2: FAST}
    return chosen(machines, services, rate=rate, p99_ms=p99_ms, utilization=0.7)


def test_the_cheapest_comes_first() -> None:
    choices = choose(100, 200)
    assert [choice.usd_per_hour for choice in choices] == sorted(choice.usd_per_hour for choice in choices)
    assert choices[0].instance_type == "ml.c5.large"
    assert choices[0].instances == math.ceil(100 * (1 / 80 + HTTP_MS / 1000) / 0.7)


def test_a_short_limit_needs_a_fast_machine() -> None:
    assert {choice.instance_type for choice in choose(10, 20)} == {"ml.c5.xlarge", "ml.m5.2xlarge"}
    assert choose(10, 15) == []


def test_every_choice_holds_and_one_instance_fewer_does_not() -> None:
    for choice in choose(500, 60):
        assert choice.utilization <= 0.7
        assert choice.p99_ms <= 60
        service, copies = SERVERS[choice.instance_type]
        if choice.instances > 1:
            busy, late = expected(service, 500 / (copies * (choice.instances - 1)))
            assert busy > 0.7 or late > 60


@pytest.mark.slow
def test_a_bundle_is_measured_and_a_machine_found(tiny_bundle: Path) -> None:
    facts = recommend(tiny_bundle, Talk(quiet=True), rate=50, p99_ms=500, seconds=0.05)
    best = facts["recommended"]
    assert best == facts["choices"][0]
    assert best["usd_per_hour"] == min(choice["usd_per_hour"] for choice in facts["choices"])
    assert all(service["p50_ms"] > 0 for service in facts["measured"].values())
    assert "ml.g5.xlarge" in facts["left_out"]
    assert facts["assumptions"]
    with pytest.raises(UsageError, match="no type of the table"):
        recommend(tiny_bundle, Talk(quiet=True), rate=50, p99_ms=10, overhead_ms=10, seconds=0.05)


def test_a_table_without_a_fitting_type(tmp_path: Path, tiny_bundle: Path) -> None:
    (tmp_path / "p.toml").write_text('[[machine]]\nname = "ml.g5.xlarge"\nvcpus = 4\nusd_per_hour = 1.4\n')
    with pytest.raises(UsageError, match="no x86"):
        recommend(tiny_bundle, Talk(quiet=True), rate=1, p99_ms=100, table=tmp_path / "p.toml")


def test_prices_say_when_and_where_they_were_known() -> None:
    for machine in prices().values():
        assert machine.name.startswith("ml.")
        assert machine.as_of
        assert machine.source.startswith("https://")
        assert machine.vcpus
    assert "They are not today" in TABLE.read_text()


def test_the_preview(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('[[machine]]\nname = "ml.c7i.xlarge"\nusd_per_hour = 0.5\nas_of = "2026-11"\n')
    cost = preview("ml.c7i.xlarge", 2, tmp_path / "p.toml", most=4)
    assert (cost["usd_per_hour"], cost["usd_per_month"], cost["usd_per_hour_at_most"]) == (1.0, 730.0, 2.0)
    assert "2026-11" in sentence(cost)
    assert preview("ml.p5.48xlarge", 1) == {}
    assert "--prices" in sentence({})
    with pytest.raises(UsageError, match=r"ml\.p5\.48xlarge"):
        preview("ml.p5.48xlarge", 1, tmp_path / "p.toml")
