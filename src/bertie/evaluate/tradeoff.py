"""The picture of speed against accuracy: the candidates of an optimization, the contract's floor, the frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

from bertie.evaluate.pictures import BLUE, INK, ORANGE, figure

AXES = {
    "latency": ("p50_ms", "milliseconds for one text, median"),
    "throughput": ("texts_per_s", "texts a second"),
    "size": ("mb", "megabytes on disk"),
}
"""For each goal what the horizontal axis shows. Less is better but for throughput."""

FONT, CHARACTER, MARK = 9.0, 0.58, 5.0
"""Points of the labels' font and of half a mark; the width of a character as a share of the font, on the wide side,
because the reader's font is not known."""
RADII, DIRECTIONS = (9, 15, 22, 30, 40, 52, 66, 82), 16
"""Where a label is tried: points away from its mark, and directions."""
LEADER = 16
"""A label further away than this many points is tied to its mark by a line."""

Box: TypeAlias = tuple[float, float, float, float]


class Place(NamedTuple):
    """Where a label goes: offset from its mark in points, alignment, and the box that it fills."""

    offset: tuple[float, float]
    align: str
    box: Box


def tradeoff(candidates: Sequence[dict[str, Any]], *, goal: str, chosen: str | None, floor: float, metric: str) -> str:
    """Draw the candidates that have been measured as SVG: accepted ones filled, rejected ones hollow.

    Each has `name`, `accepted`, `metric` with `value`, `low`, `high`, and the speed that `goal` asks for. `floor` is
    the least value of the metric that the contract allows. Returns "" if no candidate has both.
    """
    key, title = AXES[goal]
    shown = [one for one in candidates if one.get(key) and one.get("metric")]
    if not shown:
        return ""
    with figure(6.2, 4.4) as (axes, done):
        bottom, top = _range(shown, floor)
        # A little more room to the right and left, where labels go.
        least, most = min(one[key] for one in shown), max(one[key] for one in shown)
        room = max(1.25, (most / least) ** 0.12)
        axes.set_xscale("log")
        axes.set_xlim(least / room, most * room)
        axes.set_ylim(bottom, top)
        _ticks(axes.xaxis, most * room / (least / room))
        axes.axhline(
            floor, color=ORANGE, linestyle=(0, (4, 3)), linewidth=1.2, label=f"floor of the contract {floor:.3f}"
        )
        best = [(one[key], one["metric"]["value"]) for one in frontier(shown, key, more=goal == "throughput")]
        if len(best) > 1:
            axes.plot(*zip(*best, strict=True), color=BLUE, linewidth=1.2, alpha=0.8, zorder=1, label="frontier")
        marks = [_mark(axes, one, key, chosen, bottom + 0.02 * (top - bottom)) for one in shown]
        for name, face, edge in (("accepted", BLUE, BLUE), ("rejected", "none", INK)):
            axes.scatter([], [], s=40, facecolors=face, edgecolors=edge, linewidths=1.4, label=name)
        axes.set_xlabel(title)
        axes.set_ylabel(metric)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, labelcolor=INK, fontsize=FONT
        )
        bars = [
            ((x, one["metric"]["low"]), (x, one["metric"]["high"])) for one, (x, _) in zip(shown, marks, strict=True)
        ]
        level = ((least / room, floor), (most * room, floor))
        _write_names(axes, shown, marks, [level, *pairwise(best), *bars], chosen)
    return done[0]


def frontier(candidates: Sequence[dict[str, Any]], key: str, *, more: bool) -> list[dict[str, Any]]:
    """Return the accepted candidates that no other accepted one beats in both speed and metric, the fastest first.

    `more` says that more of `key` is faster.
    """
    sign = -1 if more else 1
    accepted = [one for one in candidates if one["accepted"]]
    best: list[dict[str, Any]] = []
    for one in sorted(accepted, key=lambda one: (sign * one[key], -one["metric"]["value"])):
        if not best or one["metric"]["value"] > best[-1]["metric"]["value"]:
            best.append(one)
    return best


def places(
    marks: Sequence[tuple[float, float]], widths: Sequence[float], lines: Sequence[Box], area: Box
) -> list[Place]:
    """Return where the label of each mark goes, so that it hides no mark and no other label.

    All is in points. `lines` may be crossed, but need not; `area` must not be left. Labels choose in the given order.
    """
    taken = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in marks]
    found: list[Place] = []
    for mark, width in zip(marks, widths, strict=True):
        tried = [_place(mark, width, radius, step) for radius in RADII for step in range(DIRECTIONS)]
        best = min(tried, key=lambda place: _cost(place, taken, lines, area))
        taken.append(best.box)
        found.append(best)
    return found


def _place(mark: tuple[float, float], width: float, radius: float, step: int) -> Place:
    angle = 2 * math.pi * step / DIRECTIONS
    x, y = radius * math.cos(angle), radius * math.sin(angle)
    align = "center" if abs(x) < 0.5 * radius else "left" if x > 0 else "right"
    left = mark[0] + x - {"left": 0.0, "center": width / 2, "right": width}[align]
    middle, half = mark[1] + y, 0.62 * FONT
    return Place((x, y), align, (left, middle - half, left + width, middle + half))


def _cost(place: Place, taken: Sequence[Box], lines: Sequence[Box], area: Box) -> float:
    box = place.box
    outside = box[0] < area[0] or box[1] < area[1] or box[2] > area[2] or box[3] > area[3]
    hidden = sum(_overlap(box, other) for other in taken)
    crossed = sum(_overlap(box, line) for line in lines)
    # To the right is where one looks for a label first; so it goes where all else is equal.
    return 1e6 * outside + 1e3 * hidden + 6 * crossed + math.hypot(*place.offset) - 0.05 * place.offset[0]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _range(shown: Sequence[dict[str, Any]], floor: float) -> tuple[float, float]:
    """Return the ends of the vertical axis: all that is accepted with its interval, and what is not far below."""
    kept = [one["metric"] for one in shown if one["accepted"]] or [one["metric"] for one in shown]
    top = max([floor, *(metric["high"] for metric in kept)])
    low = min([floor, *(metric["low"] for metric in kept)])
    near = [one["metric"]["value"] for one in shown if one["metric"]["value"] > low - 0.7 * (top - low)]
    low = min([low, *near])
    margin = 0.07 * (top - low) or 0.01
    return low - margin, top + margin


def _ticks(axis: Any, span: float) -> None:
    """Write plain numbers at round places of a logarithmic axis that spans a factor of `span`."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: PLC0415 - an extra

    steps = (1, 2, 5) if span > 8 else (1, 1.5, 2, 3, 4, 5, 6, 8) if span > 2 else tuple(n / 4 for n in range(4, 40))
    axis.set_major_locator(LogLocator(subs=steps, numticks=50))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_locator(NullLocator())


def _mark(axes: Any, one: dict[str, Any], key: str, chosen: str | None, edge: float) -> tuple[float, float]:
    """Draw a candidate and its interval; one far below the picture is an arrow at its lower edge."""
    x, metric = one[key], one["metric"]
    y, below = max(metric["value"], edge), metric["value"] < edge
    colour = INK if not one["accepted"] else ORANGE if one["name"] == chosen else BLUE
    if not below:
        axes.plot([x, x], [metric["low"], metric["high"]], color=colour, linewidth=1, alpha=0.35, zorder=0)
    face = colour if one["accepted"] else "none"
    size = 90 if one["name"] == chosen else 40
    shape = "v" if below else "o"
    axes.scatter([x], [y], s=size, marker=shape, facecolors=face, edgecolors=colour, linewidths=1.4, zorder=3)
    return x, y


def _write_names(
    axes: Any,
    shown: Sequence[dict[str, Any]],
    marks: Sequence[tuple[float, float]],
    segments: Sequence[tuple[tuple[float, float], tuple[float, float]]],
    chosen: str | None,
) -> None:
    """Write the names beside the marks, away from the segments; the chosen one's first, so that it is nearest."""
    axes.figure.draw_without_rendering()  # lays the axes out, so that places in the picture are known
    points = 72 / axes.figure.dpi
    order = sorted(range(len(shown)), key=lambda row: shown[row]["name"] != chosen)
    names = [_name(shown[row], marks[row]) for row in order]
    at = points * axes.transData.transform([marks[row] for row in order])
    lines = [box for segment in segments for box in _boxes(*(points * axes.transData.transform(segment)).tolist())]
    area = tuple(points * value for value in axes.bbox.extents)
    found = places(at.tolist(), [CHARACTER * FONT * len(name) for name in names], lines, area)
    for row, name, place in zip(order, names, found, strict=True):
        far, ours = math.hypot(*place.offset) > LEADER, shown[row]["name"] == chosen
        axes.annotate(
            name,
            marks[row],
            place.offset,
            textcoords="offset points",
            ha=place.align,
            va="center",
            fontsize=FONT,
            fontweight="bold" if ours else "normal",
            color=ORANGE if ours else INK,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6, "alpha": 0.6} if far else None,
        ).set_in_layout(False)


def _boxes(start: Sequence[float], end: Sequence[float]) -> list[Box]:
    """Return small boxes along a segment, in points."""
    pieces = max(1, round(math.dist(start, end) / 12))
    (x, y), (across, up) = start, ((end[axis] - start[axis]) / pieces for axis in (0, 1))
    corners = [(x + step * across, y + step * up) for step in range(pieces + 1)]
    return [(min(x, u) - 1, min(y, v) - 1, max(x, u) + 1, max(y, v) + 1) for (x, y), (u, v) in pairwise(corners)]


def _name(one: dict[str, Any], mark: tuple[float, float]) -> str:
    value = one["metric"]["value"]
    return f"{one['name']} ({value:.3f})" if value < mark[1] else str(one["name"])
