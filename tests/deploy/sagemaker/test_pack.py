from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bertie.deploy.sagemaker.checks import FRAMEWORK_MB
from bertie.deploy.sagemaker.pack import pack, unpacked_bytes
from bertie.disk import sha256
from bertie.errors import BertieError, UsageError
from bertie.talk import Talk

QUIET = Talk(quiet=True)


@pytest.mark.slow
def test_an_artifact_is_started_and_compared(tiny_bundle: Path, tmp_path: Path) -> None:
    artifact = pack(tiny_bundle, tmp_path, "bertie", QUIET, verify=True)
    assert artifact.sha256 == sha256(artifact.path)
    assert artifact.bytes == artifact.path.stat().st_size
    bundled = sum(path.stat().st_size for path in tiny_bundle.rglob("*") if path.is_file())
    assert unpacked_bytes(artifact.path) >= bundled * 0.9


@pytest.mark.slow
def test_one_that_answers_otherwise_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "wrong"
    shutil.copytree(tiny_bundle, bundle)
    probe = json.loads((bundle / "probe.json").read_text())
    probe["scores"] = [scores[::-1] for scores in probe["scores"]]
    (bundle / "probe.json").write_text(json.dumps(probe))
    manifest = json.loads((bundle / "manifest.json").read_text())
    record = {"sha256": sha256(bundle / "probe.json"), "bytes": (bundle / "probe.json").stat().st_size}
    manifest["files"]["probe.json"] = record
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BertieError):
        pack(bundle, tmp_path, "bertie", QUIET, verify=True)


def test_one_that_is_too_large_for_serverless_is_refused(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FRAMEWORK_MB, "bertie", 5000)
    with pytest.raises(UsageError, match="--memory-mb"):
        pack(tiny_bundle, tmp_path, "bertie", QUIET, verify=False, memory_mb=2048)
