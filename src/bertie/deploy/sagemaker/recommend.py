"""`bertie deploy sagemaker-recommend`: the cheapest instances that answer a rate of requests in time.

The model: requests come at random (Poisson) and are shared evenly between the instances. An instance with at most as
many cores as this machine is a queue with one server, as fast as was measured here with that many cores; a larger one
is several such queues. The wait's 99th percentile is bounded by P(W > t) <= exp(-decay t), where decay solves
rate (exp(decay s) - 1) = decay for the service time s: Kingman's bound for the queue M/D/1 (J. F. C. Kingman,
"Inequalities in the theory of queues", J. R. Stat. Soc. B 32, 1970).

The server forms batches, so there are two estimates. One text at a time, the service time is the latency of one text:
too much for a busy server. In batches it is the share of one text in the throughput, and a request waits for the rest
of its own batch too: too much for an idle one. The lower one is taken. For the load test that
test_recommend.py compares it with it is a sixth too low: the load came from the same two cores there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bertie.bench.measure import measure
from bertie.bench.prices import Machine
from bertie.bundle.read import opened
from bertie.deploy.aws.instances import instance
from bertie.deploy.sagemaker.cost import HOURS_A_MONTH, prices
from bertie.errors import UsageError
from bertie.runtime.cpu import cores
from bertie.serve.batching import BATCH_SECONDS
from bertie.talk import Talk

UTILIZATION = 0.7
"""An instance is at most so busy: the rest is for bursts, and for the time in which one of them is replaced."""
OVERHEAD_MS = 10.0
"""Taken for the network, TLS and SageMaker's own routing. A guess to be replaced by a measurement."""
HTTP_MS = 1.3
"""What the server adds to a call of the model: `docs/benchmarks.md`, a request alone."""
MOST_INSTANCES = 1000
THREADS_A_CORE = 2
"""Of the x86 types in the table: two virtual processors are one core."""


@dataclass(frozen=True)
class Service:
    """How fast the model is with a number of cores: one text alone, and texts a second in batches."""

    p50_ms: float
    p99_ms: float
    texts_per_s: float


@dataclass(frozen=True)
class Choice:
    """A number of instances of a type, and what is expected of them."""

    instance_type: str
    instances: int
    usd_per_hour: float
    usd_per_month: float
    utilization: float
    p99_ms: float
    as_of: str


def recommend(
    model: Path,
    talk: Talk,
    *,
    rate: float,
    p99_ms: float,
    table: Path | None = None,
    utilization: float = UTILIZATION,
    overhead_ms: float = OVERHEAD_MS,
    seconds: float = 1.0,
) -> dict[str, Any]:
    """Measure a bundle here and return the choices that hold, the cheapest first, with the assumptions.

    `rate` is in requests of one text a second. Raises UsageError if no type of the table is fast enough.
    """
    known = [one for one in prices(table).values() if one.name.startswith("ml.") and one.vcpus]
    usable = [one for one in known if instance(one.name).kind == "cpu"]
    if not usable:
        raise UsageError("the table of prices has no x86 instance type with its number of vcpus.")
    here = cores()
    services: dict[int, Service] = {}
    with opened(model) as folder:
        for count in sorted({min(here, max(1, one.vcpus // THREADS_A_CORE)) for one in usable}):
            talk.say(f"measuring with {count} core{'s' if count > 1 else ''}")
            speed = measure(folder, threads=count, seconds=seconds)
            services[count] = Service(speed.p50_ms, speed.p99_ms, speed.texts_per_s)
    choices = chosen(usable, services, rate=rate, p99_ms=p99_ms - overhead_ms, utilization=utilization)
    if not choices:
        best = min(service.p99_ms for service in services.values())
        raise UsageError(
            f"no type of the table answers in {p99_ms:g} ms at the 99th percentile: one text alone takes {best:.1f} ms "
            f"here, and {overhead_ms:g} ms are taken for the network.",
            hint="bertie optimize makes the model faster; or allow more with --p99-ms",
        )
    return {
        "rate": rate,
        "p99_ms": p99_ms,
        "recommended": asdict(choices[0]),
        "choices": [asdict(choice) for choice in choices],
        "measured": {str(count): asdict(service) for count, service in services.items()},
        "left_out": sorted(one.name for one in known if one not in usable),
        "assumptions": _assumptions(here, utilization, overhead_ms),
    }


def chosen(
    machines: Iterable[Machine], services: dict[int, Service], *, rate: float, p99_ms: float, utilization: float
) -> list[Choice]:
    """Return for each type the least number of instances that holds, the cheapest choice first."""
    found = []
    for machine in machines:
        own = max(1, machine.vcpus // THREADS_A_CORE)
        here = min(own, max(services))
        copies, service = own // here, services[here]
        count = _fewest(service, rate / copies, p99_ms, utilization)
        if count is None:
            continue
        busy, late = expected(service, rate / (count * copies))
        hour = machine.usd_per_hour * count
        month = round(hour * HOURS_A_MONTH, 2)
        found.append(Choice(machine.name, count, round(hour, 4), month, round(busy, 3), round(late, 2), machine.as_of))
    return sorted(found, key=lambda choice: (choice.usd_per_hour, choice.instances))


def expected(service: Service, rate: float) -> tuple[float, float]:
    """Return how busy one server is, from 0 to 1 and beyond, and its 99th percentile in ms; infinity if it is too busy.

    The service's own 99th percentile and that of the wait are added; both are seldom bad at once.
    """
    alone = service.p50_ms + HTTP_MS
    shared = min(alone, 1000 / service.texts_per_s + HTTP_MS)
    late = min(wait_ms(alone, rate, 0.99), wait_ms(shared, rate, 0.99) + 1000 * BATCH_SECONDS)
    return rate * shared / 1000, service.p99_ms + HTTP_MS + late


def wait_ms(service_ms: float, rate: float, quantile: float) -> float:
    """Return a bound of a quantile of the wait in the queue M/D/1, in ms; infinity if more comes than it can do.

    `rate` is a second.
    """
    busy = rate * service_ms / 1000
    if busy >= 1:
        return math.inf
    if busy <= 1 - quantile:  # so many find nobody before them
        return 0.0
    # exp(x) - 1 = x / busy, for x = decay times service; found by halving.
    low, high = 0.0, 1.0
    while math.expm1(high) < high / busy:
        low, high = high, high * 2
    low = max(low, 1e-12)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if math.expm1(middle) < middle / busy else (low, middle)
    return -math.log(1 - quantile) / low * service_ms


def _fewest(service: Service, rate: float, p99_ms: float, utilization: float) -> int | None:
    """Return the least number of servers that a rate can be shared between; None if no number helps."""

    def holds(count: int) -> bool:
        busy, late = expected(service, rate / count)
        return busy <= utilization and late <= p99_ms

    if not holds(MOST_INSTANCES):
        return None
    low, high = 0, MOST_INSTANCES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _assumptions(here: int, utilization: float, overhead_ms: float) -> list[str]:
    return [
        f"a core there is as fast as one of this machine's {here}; the endpoint runs bertie's own image",
        "requests of one text come at random, and are shared evenly (queues M/D/1; the wait is a bound, not a mean)",
        f"a type with more cores than {here} answers like several machines of {here}",
        f"an instance is busy {utilization:.0%} of the time at most",
        f"the server adds {HTTP_MS:g} ms to each call of the model, and forms batches of {1000 * BATCH_SECONDS:g} ms",
        f"{overhead_ms:g} ms go to the network and SageMaker's routing: measure yours, and give --overhead-ms",
        "GPUs, ARM processors and accelerators are left out: nothing of theirs was measured here",
        "prices are those of the table, not today's",
    ]
