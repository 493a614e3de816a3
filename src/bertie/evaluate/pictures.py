"""The report's pictures, as SVG text. They follow the page into dark mode: no background, grey ink."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bertie.errors import need

INK = "#808891"
"""Grey that can be read on white and on black."""
BLUE, ORANGE = "#3b7dd8", "#e08a3c"
MOST_LABELS = 40
"""With more labels the matrix cannot be read; then only the most confused ones are drawn."""


def confusion(table: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Draw the confusion matrix: rows are the truth, colours the share of the row."""
    counts = np.asarray(table)
    if len(labels) > MOST_LABELS:
        wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
        kept = np.sort(np.argsort(-wrong, kind="stable")[:MOST_LABELS])
        counts, labels = counts[np.ix_(kept, kept)], [labels[place] for place in kept]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = max(3.2, 0.55 * len(labels) + 1.6)
    with figure(size, size) as (axes, done):
        # Drawn as shapes, not as an image: the page's security policy allows no image, not even an embedded one.
        centres = np.arange(len(labels))
        axes.pcolormesh(centres, centres, shares, cmap="Blues", vmin=0, vmax=1, shading="nearest")
        axes.set_aspect("equal")
        axes.invert_yaxis()
        for row in range(len(labels)):
            for column in range(len(labels)):
                if counts[row, column]:
                    ink = "white" if shares[row, column] > 0.5 else "#20242a"
                    axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink, fontsize=9)
        axes.set_xticks(range(len(labels)), [_short(label) for label in labels], rotation=45, ha="right")
        axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.spines[:].set_visible(False)
    return done[0]


def bars(per_label: dict[str, dict[str, Any]]) -> str:
    """Draw precision, recall and F1 of each label, the weakest label first."""
    labels = sorted(per_label, key=lambda label: float(per_label[label]["f1"]))[:MOST_LABELS]
    with figure(7.0, 0.55 * len(labels) + 1.1) as (axes, done):
        places = np.arange(len(labels))
        for offset, (metric, colour) in enumerate((("precision", BLUE), ("recall", ORANGE), ("f1", INK))):
            values = [per_label[label][metric] for label in labels]
            axes.barh(places + (offset - 1) * 0.26, values, height=0.24, color=colour, label=metric)
        axes.set_yticks(places, [f"{_short(label)} ({per_label[label]['support']})" for label in labels])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False, labelcolor=INK)
        axes.spines[["top", "right"]].set_visible(False)
    return done[0]


def reliability(bins: Sequence[dict[str, float]]) -> str:
    """Draw how often the model was right for how sure it was; on the diagonal the probabilities can be believed."""
    with figure(4.2, 3.6) as (axes, done):
        axes.plot([0, 1], [0, 1], color=INK, linestyle=":", linewidth=1)
        most = max(part["rows"] for part in bins)
        sizes = [20 + 160 * part["rows"] / most for part in bins]
        axes.plot([part["confidence"] for part in bins], [part["right"] for part in bins], color=BLUE, linewidth=1)
        axes.scatter([part["confidence"] for part in bins], [part["right"] for part in bins], s=sizes, color=BLUE)
        axes.set_xlabel("probability given")
        axes.set_ylabel("share that was right")
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.05)
        axes.spines[["top", "right"]].set_visible(False)
    return done[0]


def curve(passes: Sequence[dict[str, float]], metric: str) -> str:
    """Draw validation loss and metric over the passes."""
    numbers = [int(scores["pass"]) for scores in passes]
    with figure(4.8, 3.2) as (axes, done):
        axes.plot(numbers, [scores[metric] for scores in passes], color=BLUE, marker="o", label=metric)
        axes.plot(numbers, [scores["log_loss"] for scores in passes], color=ORANGE, marker="o", label="log loss")
        axes.set_xticks(numbers)
        axes.set_xlabel("pass")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, labelcolor=INK)
        axes.spines[["top", "right"]].set_visible(False)
    return done[0]


def _short(label: str) -> str:
    return label if len(label) <= 24 else label[:23] + "…"


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Any, list[str]]]:
    """Give axes to draw on, and a list that holds the SVG after the block. Uses no global state of matplotlib."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
        from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise need("evaluate", error) from error
    done: list[str] = []
    # Text stays text: it can be searched, read aloud, and takes the reader's fonts, which have all alphabets.
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "bertie",
        "font.family": "sans-serif",
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "font.size": 10,
        "text.parse_math": False,
    }
    with mpl.rc_context(style):
        drawn = Figure(figsize=(width, height), layout="constrained")
        drawn.patch.set_alpha(0)
        axes = drawn.add_subplot()
        axes.patch.set_alpha(0)
        yield axes, done
        buffer = io.StringIO()
        FigureCanvasSVG(drawn).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    done.append(svg[svg.index("<svg") :])
