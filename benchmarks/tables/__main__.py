"""Writes docs/benchmarks.md from the records in benchmarks/results; `--check` says whether it is up to date.

python -m benchmarks.tables [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.tables.inference import infer
from benchmarks.tables.serving import lasting, serve
from benchmarks.tables.training import defaults, demo, distill, million_rows, train, train_speed, train_time

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"

HEAD = """# Benchmarks

Written by `make docs` from the records in `benchmarks/results/`; edit the programs, not this page. Machines differ and
are noisy: compare the rows of one table, which come from one run, and quote ratios.
"""

SECTIONS = {
    "train": train,
    "train_time": train_time,
    **dict.fromkeys(("train_speed", "train_speed_gpu"), train_speed),
    "infer": infer,
    "serve": serve,
    **dict.fromkeys(("serve_overload", "serve_soak", "serve_replace", "serve_kill"), lasting),
    "distill": distill,
    "defaults": defaults,
    "demo": demo,
    "million_rows": million_rows,
}
"""What writes the section of each record, in their order on the page."""


def page() -> str:
    """Return the whole page."""
    sections = [HEAD]
    for name, write in SECTIONS.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            sections.append(write(json.loads(path.read_text(encoding="utf-8"))))
    return "\n".join(sections)


def main() -> None:
    """Write the page, or with `--check` compare it."""
    if "--check" not in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/benchmarks.md does not say what the records say: run `make docs`")


if __name__ == "__main__":
    main()
