from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bertie import __version__
from tests.conftest import Bertie, last_json, make_rows, write_csv


def test_version_and_help_answer(bertie: Bertie) -> None:
    assert bertie("--version").stdout == f"bertie {__version__}\n"
    assert "demo" in bertie("--help").stdout


def test_a_setting_is_its_flag_with_its_own_sentence(bertie: Bertie) -> None:
    text = " ".join(bertie("train", "--help").stdout.split())
    assert "--learning-rate" in text
    assert "Most passes over the training rows" in text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "nowhere.csv", "--out", "run"], 3, "there is no file nowhere.csv"),
        (["train", "data.csv", "--out", "run", "--base", "nothing"], 2, "there is no base model 'nothing'"),
        (["train", "data.csv", "--out", "run", "--text-column", "txt"], 3, "did you mean 'text'?"),
        (["train", "data.csv", "--out", "run", "--batch-size", "-1"], 2, "batch_size cannot be -1"),
        (["predict", "nowhere", "a"], 4, "there is no model nowhere"),
        (["evaluate", "nowhere", "data.csv"], 4, "there is no model nowhere"),
        (["serve", "nowhere"], 4, "there is no model nowhere"),
        (["export", "nowhere"], 4, "nowhere is not a run"),
        (["train"], 2, "needs DATA and --out RUN"),
    ],
)
def test_a_mistake_is_told_in_sentences(
    bertie: Bertie, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    write_csv(tmp_path / "data.csv", list(make_rows(40)))
    result = bertie(*arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.csv"]


def test_check_reports_problems_as_json_and_by_its_exit_code(bertie: Bertie, tmp_path: Path) -> None:
    good = write_csv(tmp_path / "good.csv", list(make_rows(40)))
    bad = write_csv(tmp_path / "bad.csv", [*make_rows(40), ("", "praise")])
    result = bertie("check", good, "--json")
    assert result.returncode == 0
    report = last_json(result.stdout)
    assert report["rows"] == 40
    assert report["labels"] == {"delivery": 20, "praise": 20}
    assert report["problems"] == []
    result = bertie("check", bad, "--json")
    assert result.returncode == 3
    assert last_json(result.stdout)["problems"][0] == {
        "kind": "empty-text",
        "severity": "error",
        "file": str(bad),
        "count": 1,
        "rows": [42],
        "message": "1 row without a text.",
    }
    text = bertie("check", bad).stdout
    assert "lines 42" in text
    assert "must be mended" in text


def test_train_prints_the_contract(bertie: Bertie, tmp_path: Path, tiny_base: Path) -> None:
    data = write_csv(tmp_path / "data.csv", list(make_rows(60)))
    run = tmp_path / "run"
    result = bertie("train", data, "--out", run, "--base", tiny_base, "--max-passes", 1, "--json")
    assert result.returncode == 0, result.stderr
    facts = last_json(result.stdout)
    assert {"run", "bundle", "metrics", "train_seconds", "truncated"} <= facts.keys()
    assert result.stdout.count("\n") == 1
    assert {one["name"] for one in facts["metrics"]["baselines"]} == {"majority", "bag of words", "tf-idf"}
    assert Path(str(facts["bundle"]), "manifest.json").is_file()


def test_evaluate_prints_the_contract(bertie: Bertie, tiny_run: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", list(make_rows(50, seed=9)))
    result = bertie("evaluate", tiny_run, data, "--json", "--report", tmp_path / "report.html")
    facts = last_json(result.stdout)
    for name in ("accuracy", "macro_f1", "mcc"):
        value = facts[name]
        assert value["low"] <= value["value"] <= value["high"]
    assert facts["n"] == 50
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert "precision" in bertie("evaluate", tiny_run / "bundle", data).stdout


def test_predict_reads_arguments_stdin_and_files(bertie: Bertie, tiny_run: Path, tmp_path: Path) -> None:
    texts = ["where is my parcel", "i love it"]
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(texts) + "\n")
    outputs = [
        bertie("predict", tiny_run, *texts, "--json").stdout,
        bertie("predict", tiny_run, "--json", stdin="\n".join(texts)).stdout,
        bertie("predict", tiny_run, "--input", file, "--json").stdout,
    ]
    answers = [[json.loads(line) for line in output.splitlines()] for output in outputs]
    for answer in answers[1:]:
        assert [one["label"] for one in answer] == [one["label"] for one in answers[0]]
    assert answers[0][0].keys() == {"label", "score", "scores"}
    assert bertie("predict", tiny_run, texts[0]).stdout == f"{answers[0][0]['label']}\t{answers[0][0]['score']:.4f}\n"


def test_predict_refuses_what_it_cannot_read(bertie: Bertie, tiny_run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "texts.txt"
    broken.write_bytes(b"fine\n\xff\n")
    assert "line 2: not UTF-8" in bertie("predict", tiny_run, "--input", broken).stderr
    assert bertie("predict", tiny_run, "--input", tmp_path / "none.txt").returncode == 3
    assert bertie("predict", tiny_run, "a", "--input", broken).returncode == 2
    assert "cannot read" in bertie("predict", tiny_run, "a", "--pair", "b").stderr


def test_a_model_may_be_an_archive(bertie: Bertie, tiny_bundle: Path, tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for entry in sorted(tiny_bundle.iterdir()):
            tar.add(entry, entry.name)
    assert bertie("predict", archive, "i love it").stdout == bertie("predict", tiny_bundle, "i love it").stdout


def test_settings_come_from_file_environment_and_flags(bertie: Bertie, tmp_path: Path) -> None:
    (tmp_path / "bertie.toml").write_text('[data]\ntext_column = "message"\n')
    write_csv(tmp_path / "data.csv", list(make_rows(40)), ("body2", "label"))
    environment = os.environ | {"BERTIE_DATA_TEXT_COLUMN": "body"}
    assert "no text column 'message'" in bertie("check", "data.csv", cwd=tmp_path).stderr
    assert "no text column 'body'" in bertie("check", "data.csv", cwd=tmp_path, env=environment).stderr
    assert bertie("check", "data.csv", "--text-column", "0", cwd=tmp_path, env=environment).returncode == 0
    (tmp_path / "bertie.toml").write_text("[data]\ntxt_column = 1\n")
    result = bertie("check", "data.csv", cwd=tmp_path)
    assert result.returncode == 2
    assert "did you mean 'text_column'?" in result.stderr


def test_output_to_a_reader_that_has_gone_is_no_crash(tiny_run: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("where is my parcel\n" * 5000)
    process = subprocess.Popen(
        [sys.executable, "-m", "bertie", "predict", str(tiny_run), "--input", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert errors == ""
