from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bertie.errors import OutputError
from bertie.evaluate.optimize_report import choice, write_optimize_report

EVIL = "<img src=x onerror=alert(1)>"


def candidate(name: str, p50: float, value: float, **wanted: Any) -> dict[str, Any]:
    usual = {
        "name": name,
        "engine": "onnxruntime",
        "precision": "int8",
        "accepted": True,
        "why": "",
        "skipped": False,
        "metric": {"value": value, "low": value - 0.05, "high": value + 0.04},
        "agreement": 0.995,
        "flips": 4,
        "max_shift": 0.0123,
        "ece": 0.031,
        "p50_ms": p50,
        "p99_ms": 2 * p50,
        "by_length": {"short": {"tokens": 6.0, "p50_ms": p50 / 2, "p99_ms": p50, "calls": 100}},
        "texts_per_s": 1000 / p50,
        "cold_start_ms": 640.0,
        "bytes": 24_000_000,
        "peak_mb": 210.0,
        "cost_per_million": 0.0363,
    }
    return usual | wanted


def skipped(name: str, why: str) -> dict[str, Any]:
    return {"name": name, "engine": "e", "precision": "p", "accepted": False, "skipped": True, "why": why}


def facts(**wanted: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "title": EVIL,
        "goal": "latency",
        "chosen": "int8",
        "metric": "macro_f1",
        "budget": {"max_drop": 0.005, "min_agreement": 0.99},
        "reference": {"name": "fp32", "metric": {"value": 0.85, "low": 0.8, "high": 0.9}},
        "candidates": [
            candidate("fp32", 6.0, 0.85, flips=0),
            candidate("int4", 1.0, 0.8, accepted=False, why=f"too low {EVIL}"),
            skipped("fp16", "no GPU here"),
            candidate("int8", 2.0, 0.848),
        ],
        "machine": {"processor": "A", "instructions": ["avx2", "amx_int8"], "versions": {"numpy": "2"}, "limit": None},
        "texts": 840,
    }
    return usual | wanted


def page(tmp_path: Path, **wanted: Any) -> str:
    write_optimize_report(tmp_path / "optimize.html", facts(**wanted))
    return (tmp_path / "optimize.html").read_text(encoding="utf-8")


def rows(text: str, of: str) -> list[list[str]]:
    """Return the cells of the table that follows a heading."""
    table = text[text.index(f"<h2>{of}") :].partition("</table>")[0]
    found = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)
    return [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in found]


def test_the_page_loads_nothing_and_names_stay_text(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert not re.search(r"<script|<link|<img|<iframe|@import", text)
    assert not re.search(r"(src|href)=[\"']?https?:", text)
    assert "default-src 'none'" in text
    assert text.count("&lt;img src=x") == 3
    assert text.count("<svg") == 1


def test_the_tables_hold_every_figure_the_chosen_first(tmp_path: Path) -> None:
    text = page(tmp_path)
    quality, speed = rows(text, "Which candidates"), rows(text, "What each costs")
    assert [row[0] for row in quality] == [row[0] for row in speed] == ["candidate", "int8", "fp32", "int4"]
    assert quality[1] == ["int8", "0.848 0.798–0.888", "99.50 %", "4", "0.012", "0.031"]
    assert speed[0][2] == "short (6 tokens)"
    assert speed[1] == ["int8", "2 / 4", "1 / 2", "500", "0.64", "24.0", "210", "0.0363"]
    assert "avx2, amx_int8" in text
    assert "at least 0.8450, 0.005 below fp32" in text


def test_each_candidate_has_a_verdict_and_a_reason(tmp_path: Path) -> None:
    text = page(tmp_path)
    verdicts = re.findall(r'<li class="(\w+)"><b>(\w+)</b>', text)
    assert verdicts == [("chosen", "int8"), ("accepted", "fp32"), ("rejected", "int4"), ("skipped", "fp16")]
    assert "no GPU here" in text


def test_what_is_not_known_is_a_dash_and_no_price_no_column(tmp_path: Path) -> None:
    bare = {"name": "bare", "accepted": False, "why": "it died"}
    known = candidate("int8", 2.0, 0.848, cost_per_million=None)
    speed = rows(page(tmp_path, candidates=[known, bare]), "What each costs")
    assert "$ a million texts" not in speed[0]
    assert set(speed[2][1:]) == {"–"}


def test_a_page_without_any_measured_candidate_is_written(tmp_path: Path) -> None:
    text = page(tmp_path, chosen=None, candidates=[skipped("fp16", "no GPU here")])
    assert "None of the 0 candidates" in text
    assert "<svg" not in text


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            {},
            (
                "of 2 accepted candidates it has the lowest latency. 2 ms for one text instead of fp32's 6; "
                "macro-F1 0.848 instead of 0.850, 4 of 840 texts labelled otherwise."
            ),
        ),
        ({"goal": "throughput"}, "the highest throughput. 500 texts a second instead of fp32's 167"),
        ({"goal": "size"}, "the smallest size. 24 MB on disk instead of fp32's 24"),
        ({"chosen": None}, "None of the 3 candidates holds the contract"),
        (
            {"chosen": "fp32", "candidates": [candidate("fp32", 6.0, 0.85)]},
            "fp32 was chosen: it alone holds the contract. 6 ms for one text, macro-F1 0.850.",
        ),
    ],
)
def test_the_choice_is_told_in_words(wanted: dict[str, Any], said: str) -> None:
    assert said in choice(facts(**wanted))


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_optimize_report(tmp_path / "file" / "optimize.html", facts())
