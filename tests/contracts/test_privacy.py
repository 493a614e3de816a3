"""Nothing of a user's work is reported to anybody by the libraries that do it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("reports", "telemetry"), [(False, None), (True, "0")])
def test_onnx_runtime_reports_only_to_whom_asks_for_it(
    reports: bool, telemetry: str | None, tiny_bundle: Path, tmp_path: Path
) -> None:
    # What it would send waits in a data base in the user's cache.
    kept = {"PATH", "PYTHONPATH"}  # it looks at others to find out whether it runs in CI
    environment = {name: value for name, value in os.environ.items() if name in kept} | {"HOME": str(tmp_path)}
    if telemetry is not None:
        environment["ORT_DISABLE_TELEMETRY"] = telemetry
    command = [sys.executable, "-m", "bertie", "predict", str(tiny_bundle), "where is my parcel"]
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=120)
    assert any("onnxruntime" in path.name for path in tmp_path.rglob("*")) == reports
