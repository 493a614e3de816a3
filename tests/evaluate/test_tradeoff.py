from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.evaluate import tradeoff as module
from bertie.evaluate.tradeoff import frontier, places, tradeoff

AREA = (0.0, 0.0, 400.0, 280.0)


def candidate(name: str, p50: float, value: float, *, accepted: bool = True) -> dict[str, Any]:
    metric = {"value": value, "low": value - 0.02, "high": value + 0.02}
    return {"name": name, "accepted": accepted, "metric": metric, "p50_ms": p50, "texts_per_s": 1000 / p50, "mb": p50}


CANDIDATES = [
    candidate("slow", 8, 0.90),
    candidate("middle", 4, 0.89),
    candidate("beaten", 5, 0.88),
    candidate("quick", 2, 0.87),
    candidate("wrong", 1, 0.60, accepted=False),
]


def drawn(**wanted: Any) -> str:
    usual: dict[str, Any] = {"goal": "latency", "chosen": "quick", "floor": 0.86, "metric": "macro-F1"}
    return tradeoff(wanted.pop("candidates", CANDIDATES), **(usual | wanted))


@pytest.mark.parametrize(("key", "more"), [("p50_ms", False), ("texts_per_s", True)])
def test_the_frontier_holds_what_nothing_accepted_beats(key: str, more: bool) -> None:
    assert [one["name"] for one in frontier(CANDIDATES, key, more=more)] == ["quick", "middle", "slow"]
    assert frontier([candidate("wrong", 1, 0.9, accepted=False)], key, more=more) == []
    twins = [candidate("one", 2, 0.9), candidate("other", 2, 0.8)]
    assert [one["name"] for one in frontier(twins[::-1], key, more=more)] == ["one"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9), st.booleans()), max_size=12))
def test_every_accepted_candidate_is_on_the_frontier_or_beaten_by_one_that_is(
    rows: list[tuple[int, int, bool]],
) -> None:
    shown = [candidate(str(place), *row[:2], accepted=row[2]) for place, row in enumerate(rows)]
    best = frontier(shown, "p50_ms", more=False)
    for one in shown:
        beaten = any(b["p50_ms"] <= one["p50_ms"] and b["metric"]["value"] >= one["metric"]["value"] for b in best)
        assert beaten or not one["accepted"]


def test_the_picture_is_shapes_and_text_and_names_everyone() -> None:
    for goal, (_, title) in module.AXES.items():
        svg = drawn(goal=goal)
        elements = list(ET.fromstring(svg).iter())  # noqa: S314 - our own output
        assert "image" not in {element.tag.split("}")[1] for element in elements}
        said = " ".join("".join(element.itertext()) for element in elements if element.tag.endswith("}text"))
        for one in CANDIDATES:
            assert str(one["name"]) in said
        assert title in said
        assert "floor of the contract 0.860" in said
        assert "wrong (0.600)" in said, "far below the picture, so its value is written"


def test_what_was_not_measured_is_not_drawn() -> None:
    unmeasured = candidate("untimed", 3, 0.9) | {"p50_ms": None}
    assert "untimed" not in drawn(candidates=[*CANDIDATES, unmeasured])
    assert drawn(candidates=[unmeasured]) == ""
    assert "quick" in drawn(candidates=[CANDIDATES[3]])


def test_a_name_that_looks_like_markup_or_mathematics_stays_text() -> None:
    svg = drawn(candidates=[candidate("<b>$x$", 3, 0.9)], chosen=None)
    assert "<b>" not in svg
    assert "$x$" in svg


@pytest.mark.parametrize("goal", ["latency", "throughput"])
def test_ticks_are_plain_numbers(goal: str) -> None:
    for spread in (1.02, 1.5, 6, 400):
        svg = drawn(goal=goal, candidates=[candidate("a", 3, 0.9), candidate("b", 3 * spread, 0.9)])
        ticks = re.findall(r'<g id="xtick_\d+">.*?<text[^>]*>([^<]*)</text>', svg, re.DOTALL)
        assert 2 <= len(ticks) <= 14, (spread, ticks)
        assert all(re.fullmatch(r"[\d,.]+", tick) for tick in ticks)


def overlap(one: module.Box, other: module.Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def wrongs(marks: list[tuple[float, float]], boxes: list[module.Box]) -> int:
    found = sum(overlap(box, other) for place, box in enumerate(boxes) for other in boxes[:place])
    found += sum(box[0] <= x <= box[2] and box[1] <= y <= box[3] for box in boxes for x, y in marks)
    return found + sum(box[0] < AREA[0] or box[1] < AREA[1] or box[2] > AREA[2] or box[3] > AREA[3] for box in boxes)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("spread", [0, 8, 60])
def test_labels_hide_no_mark_and_no_label(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    centre = random.uniform((40, 40), (360, 240))
    marks = [tuple(np.clip(random.normal(centre, spread), (5, 5), (395, 275)).tolist()) for _ in range(9)]
    found = places(marks, [100.0] * len(marks), [], AREA)
    assert wrongs(marks, [place.box for place in found]) == 0
    careless = [(x, y, x + 100, y + 10) for x, y in marks]
    assert wrongs(marks, careless), "the check sees labels that are written where the marks are"


def test_a_label_keeps_off_lines_where_it_can() -> None:
    line = (0.0, 99.0, 400.0, 101.0)
    free, kept = (places([(200.0, 100.0)], [60.0], lines, AREA)[0].box for lines in ([], [line]))
    assert overlap(free, line)
    assert not overlap(kept, line)
