from __future__ import annotations

from pathlib import Path

from tests.conftest import Bertie, last_json


def test_export_to_prints_the_contract(bertie: Bertie, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = bertie("export", tiny_run, "--to", "safetensors", "--out", out, "--json")
    assert result.returncode == 0, result.stderr
    facts = last_json(result.stdout)
    assert facts.keys() == {"to", "out", "files", "bytes", "parity"}
    assert facts["files"] == sorted(file.name for file in out.iterdir())
    assert facts["bytes"] == sum(file.stat().st_size for file in out.iterdir())
    assert facts["parity"]["flips"] == 0
    again = bertie("export", tiny_run, "--to", "safetensors", "--out", out)
    assert again.returncode == 7
    assert "exists already" in again.stderr


def test_export_to_people_says_where_to_go_on(bertie: Bertie, tiny_run: Path, tmp_path: Path) -> None:
    result = bertie("export", tiny_run, "--to", "torchscript", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "README.md" in result.stdout.splitlines()[-1]
    assert result.stderr.count("\n") == 1, "nothing but what Bertie says"


def test_mistakes_are_told_before_anything_is_written(bertie: Bertie, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for arguments, code, said in (
        ((tiny_run, "--to", "onix", "--out", out), 2, "did you mean 'onnx'?"),
        ((tiny_run, "--to", "onnx"), 2, "belong together"),
        ((tiny_run, "--out", out), 2, "belong together"),
        ((tmp_path / "nowhere", "--to", "onnx", "--out", out), 4, "nowhere is not a run"),
    ):
        result = bertie("export", *arguments)
        assert result.returncode == code, result.stderr
        assert said in result.stderr
        assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_help_names_every_target(bertie: Bertie) -> None:
    from bertie.export.targets.targets import TARGETS

    text = bertie("export", "--help").stdout
    assert all(name in text for name in TARGETS)
