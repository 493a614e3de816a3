"""Quality and time on the sample set: the default settings, several seeds, beside the simple methods.

    python -m benchmarks.demo --seeds 3

The last line of the output is the record, which also goes to `benchmarks/results/demo.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, matrix_rates
from bertie import samples

RESULT = Path(__file__).parent / "results" / "demo.json"


def train(work: Path, seed: int) -> dict[str, Any]:
    """Train as `bertie demo` does, with another seed."""
    files = [samples.path("train"), "--valid", samples.path("valid"), "--test", samples.path("test")]
    command = [sys.executable, "-m", "bertie", "train", *files, "--out", work / str(seed), "--seed", seed, "--json"]
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    metrics = result["metrics"]
    return {
        "seed": seed,
        "n": metrics["n"],
        "macro_f1": metrics["macro_f1"]["value"],
        "accuracy": metrics["accuracy"]["value"],
        "train_seconds": result["train_seconds"],
        "baselines": {one["name"]: one["macro_f1"]["value"] for one in metrics["baselines"]},
    }


def main() -> None:
    """Run the seeds and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        runs = [train(Path(work), seed) for seed in range(given.seeds)]
    record = {"benchmark": "demo", "machine": describe(), "gflops": matrix_rates(), "runs": runs}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
