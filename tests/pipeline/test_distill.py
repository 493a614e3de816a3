"""A student learns from a run, a bundle or an archive, and becomes a run like any other."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import bertie
from bertie.bundle.manifest import Manifest
from bertie.config import DataSettings, DistillSettings, SplitSettings, TrainSettings
from bertie.errors import BundleDamaged, BundleNotFound, DataError, DataNotFound, OutputError, UsageError
from bertie.pipeline.distill import DistillRequest, answers_of, distill_run
from bertie.pipeline.lesson import size
from bertie.pipeline.train_run import finish, resume_run
from bertie.talk import Talk
from tests.conftest import Bertie, Train, last_json, make_rows, write_csv

QUIET = Talk(quiet=True)
TRAINING: dict[str, Any] = {"batch_size": 8, "learning_rate": 2e-3, "precision": "fp32", "freeze_embeddings": False}


def distil(teacher: Path, out: Path, *, passes: int = 6, data: dict[str, Any] | None = None, **asked: Any) -> Any:
    request: dict[str, Any] = {
        name: asked.pop(name) for name in ("valid", "test", "unlabelled", "overwrite", "again") if name in asked
    }
    request["data"] = asked.pop("rows", None)
    return distill_run(
        DistillRequest(teacher, out, **request),
        DataSettings.load(data or {}, environment={}),
        SplitSettings(),
        TrainSettings(**TRAINING, max_passes=passes),
        DistillSettings(**asked),
        QUIET,
    )


def write_texts(path: Path, count: int, seed: int = 7) -> Path:
    path.write_text("".join(f"{text}\n" for text, _ in make_rows(count, seed)), encoding="utf-8")
    return path


def test_a_student_of_a_run_is_smaller_and_answers_as_its_teacher(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    found = distil(tiny_run, out, layers=1, trim_vocabulary=True, frequent_pieces=0)
    assert {"run", "bundle", "metrics", "teacher", "parameters", "layers"} <= found.keys()
    whole = size(tiny_run / "checkpoint")
    assert (found["layers"], whole["layers"]) == (1, 2)
    assert found["parameters"] < whole["parameters"]
    assert found["teacher"]["agreement"] > 0.9
    assert found["metrics"]["accuracy"]["value"] > 0.9
    # The teacher is measured on the same rows, which are those of its own run.
    of_teacher = json.loads((tiny_run / "metrics.json").read_text())
    assert found["teacher"]["metrics"]["accuracy"] == of_teacher["accuracy"]
    assert found["teacher"]["metrics"]["n"] == found["metrics"]["n"] == of_teacher["n"]

    manifest = Manifest.from_file(out / "bundle" / "manifest.json")
    teacher = Manifest.from_file(tiny_run / "bundle" / "manifest.json")
    assert manifest.labels == teacher.labels
    assert manifest.provenance["lesson"]["layers"] == [0]
    assert found["teacher"]["bytes"] == teacher.files["model.onnx"].bytes
    assert "both answer alike" in (out / "report.html").read_text()
    assert bertie.load(out).predict(["where is my parcel 7"])[0].label == "delivery"
    # What only training needed is gone; the bundle can be made again.
    assert not (out / "student").exists()
    assert not (out / "teacher" / "answers.npy").exists()
    again = finish(out, QUIET)
    assert again["teacher"] == found["teacher"]


def test_texts_without_labels_are_learned_by_the_teachers_answers(
    tiny_bundle: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """The labelled rows are wrong, and have no share: what the student knows it has from unlabelled texts."""
    flip = {"delivery": "praise", "praise": "delivery"}
    wrong = write_csv(tmp_path / "wrong.csv", [(text, flip[label]) for text, label in make_rows(40, seed=3)])
    right = write_csv(tmp_path / "right.csv", list(make_rows(60, seed=4)))
    texts = write_texts(tmp_path / "more.txt", 300)
    out = tmp_path / "student"
    found = distil(
        tiny_bundle,
        out,
        rows=wrong,
        valid=right,
        test=right,
        unlabelled=(texts,),
        base=str(tiny_base),
        soft_share=1.0,
        passes=8,
    )
    assert found["metrics"]["accuracy"]["value"] > 0.9
    facts = json.loads((out / "data.json").read_text())
    assert facts["rows"]["train"] == 40
    assert facts["lesson"]["unlabelled"] == 300
    assert len((out / "splits" / "unlabelled.jsonl").read_text().splitlines()) == 300

    # Negative control: from the labels alone it learns what they say, and not to agree.
    astray: dict[str, Any] = {"rows": wrong, "valid": wrong, "test": right, "base": str(tiny_base), "soft_share": 0.0}
    assert distil(tiny_bundle, tmp_path / "astray", **astray, passes=8)["teacher"]["agreement"] < 0.7


def test_several_labels(train_tiny: Train, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = []
    for number in range(400):
        labels = [label for label in ("late", "money") if random.random() < 0.5]
        rows.append((f"{' '.join(labels)} the order has come {number}", ";".join(labels)))
    data = write_csv(tmp_path / "data.csv", rows, ("text", "labels"))
    teacher = train_tiny(data, columns={"label_separator": ";"}, max_passes=15)
    texts = tmp_path / "more.jsonl"
    texts.write_text("".join(json.dumps({"text": f"money and late {number}"}) + "\n" for number in range(50)))
    found = distil(teacher, tmp_path / "student", layers=1, unlabelled=(texts,), passes=10)
    assert found["teacher"]["agreement"] > 0.9
    manifest = Manifest.from_file(tmp_path / "student" / "bundle" / "manifest.json")
    assert (manifest.task, len(manifest.thresholds)) == ("multi-label", 2)


@pytest.fixture(scope="module")
def pairs(train_tiny: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [(f"late {number}", ("love", "late")[number % 2], ("other", "same")[number % 2]) for number in range(120)]
    data = write_csv(tmp_path_factory.mktemp("pairs") / "data.csv", rows, ("text", "text_pair", "label"))
    return train_tiny(data, max_passes=2)


def test_pairs(pairs: Path, tmp_path: Path) -> None:
    texts = write_csv(tmp_path / "more.csv", [("late a", "love"), ("late b", "late")], ("text", "text_pair"))
    found = distil(pairs, tmp_path / "student", layers=1, unlabelled=(texts,), passes=1)
    assert Manifest.from_file(tmp_path / "student" / "bundle" / "manifest.json").input.pairs
    assert found["layers"] == 1
    with pytest.raises(DataError, match=r"more\.txt holds single texts, but pairs of texts are needed"):
        distil(pairs, tmp_path / "other", unlabelled=(write_texts(tmp_path / "more.txt", 5),))


def test_answers_are_calibrated(tiny_bundle: Path) -> None:
    teacher, texts = bertie.load(tiny_bundle), ["where is my parcel", "love it"]
    teacher.decision = dataclasses.replace(teacher.decision, temperature=4.0)
    wanted = np.log(teacher.predict_proba(texts))
    found = answers_of(teacher, texts)
    assert found.dtype == np.float32
    assert np.allclose(found - found[:, :1], wanted - wanted[:, :1], atol=1e-5)  # a softmax knows no common shift


def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let a training die after its first checkpoint; return what lets it live again."""
    from bertie.train.keeper import Keeper

    keep = Keeper.keep

    def keep_and_die(self: Keeper, *given: Any, **options: Any) -> None:
        keep(self, *given, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Keeper, "keep", keep_and_die)
    return lambda: monkeypatch.setattr(Keeper, "keep", keep)


def test_an_interrupted_student_goes_on_to_the_same_weights(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRAINING, "checkpoint_updates", 30)
    texts = write_texts(tmp_path / "more.txt", 40)
    asked: dict[str, Any] = {"layers": 1, "unlabelled": (texts,), "trim_vocabulary": True, "passes": 3}
    distil(tiny_run, tmp_path / "quiet", **asked)
    teacher = tmp_path / "teacher"
    shutil.copytree(tiny_run, teacher)
    live_again = interrupted(monkeypatch)
    for name in ("resumed", "again"):
        with pytest.raises(KeyboardInterrupt):
            distil(teacher, tmp_path / name, **asked)
    live_again()
    # The same command again: --auto-resume.
    distil(teacher, tmp_path / "again", **asked, again=True)
    with pytest.raises(UsageError, match="belongs to another training"):
        distil(teacher, tmp_path / "resumed", **asked, temperature=5.0, again=True)
    # bertie train --resume, where the teacher is no more.
    shutil.rmtree(teacher)
    resume_run(tmp_path / "resumed", QUIET)
    weights = [
        load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("quiet", "resumed", "again")
    ]
    for other in weights[1:]:
        assert all(np.array_equal(other[name], values) for name, values in weights[0].items())
    with pytest.raises(UsageError, match="nothing to resume"):
        resume_run(tmp_path / "resumed", QUIET)


def test_damaged_answers_are_told(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRAINING, "checkpoint_updates", 5)
    live_again = interrupted(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        distil(tiny_run, tmp_path / "student", layers=1)
    live_again()
    (tmp_path / "student" / "teacher" / "answers.npy").write_bytes(b"nonsense")
    with pytest.raises(BundleDamaged, match=r"answers\.npy cannot be read"):
        resume_run(tmp_path / "student", QUIET)


def without_checkpoint(run: Path, to: Path) -> Path:
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("checkpoint"))
    return to


def test_what_cannot_teach_or_be_learned_leaves_nothing(
    tiny_run: Path, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    out, base = tmp_path / "out", str(tiny_base)
    bare = without_checkpoint(tiny_run, tmp_path / "bare")
    empty, blank = tmp_path / "empty.csv", tmp_path / "blank.txt"
    empty.write_text("text\n")
    blank.write_text("\n \n")
    known = write_csv(tmp_path / "known.csv", [(text, "") for text, _ in make_rows(300)])
    other = write_csv(tmp_path / "other.csv", [(f"late {number}", "xy"[number % 2]) for number in range(40)])
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "fine"}\n{"text": \n')
    before = {path.name for path in tmp_path.iterdir()}
    cases: list[tuple[type[Exception], str, Path, dict[str, Any]]] = [
        (UsageError, "bare has no checkpoint that a student could start from", bare, {}),
        (UsageError, "--layers 3 cannot be kept of an encoder that has 2", tiny_run, {"layers": 3}),
        (UsageError, "no base model 'nowhere'", tiny_run, {"base": "nowhere"}),
        (UsageError, "is not a run, so it has no rows", tiny_run / "bundle", {"base": base}),
        (UsageError, "--valid and --test go with DATA", tiny_run, {"valid": tiny_data}),
        (BundleNotFound, "no model", tmp_path / "nowhere", {}),
        (DataNotFound, "no file", tiny_run, {"unlabelled": (tmp_path / "nowhere.txt",)}),
        (DataError, "has no texts", tiny_run, {"unlabelled": (empty,)}),
        (DataError, "no unlabelled text is left", tiny_run, {"unlabelled": (blank,)}),
        (DataError, "no unlabelled text is left", tiny_run, {"unlabelled": (known,)}),
        (DataError, r"broken\.jsonl, line 2", tiny_run, {"unlabelled": (broken,)}),
        (DataError, "does not know the label 'x'", tiny_run, {"rows": other}),
        (OutputError, "not empty", tiny_run, {"out": tiny_run}),
    ]
    for kind, message, teacher, asked in cases:
        with pytest.raises(kind, match=message):
            distil(teacher, asked.pop("out", out), **asked)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_bad_rows_are_left_out_when_asked(tiny_run: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "one more"}\n{"text": \n{"text": "One  more"}\n{"text": ""}\n')
    out = tmp_path / "out"
    distil(tiny_run, out, unlabelled=(texts,), data={"drop": "bad-row"}, layers=1, passes=1)
    assert json.loads((out / "data.json").read_text())["lesson"]["unlabelled"] == 1


def test_a_full_disk_leaves_nothing(tiny_run: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(200 * 1024))
    with pytest.raises(OutputError, match="cannot write"):
        distil(tiny_run, small_disk / "run", layers=2)
    assert [entry.name for entry in small_disk.iterdir()] == ["filler"]


def test_the_command_prints_the_contract(bertie: Bertie, tiny_bundle: Path, tiny_base: Path, tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for entry in sorted(tiny_bundle.iterdir()):
            tar.add(entry, entry.name)
    data = write_csv(tmp_path / "data.csv", list(make_rows(60)))
    texts = [write_texts(tmp_path / f"more-{seed}.txt", 20, seed) for seed in (1, 2)]
    words = ["distill", archive, data, "--base", tiny_base, "--layers", 1, "--max-passes", 1]
    words += [word for path in texts for word in ("--unlabelled", path)]
    result = bertie(*words, "--out", tmp_path / "run", "--json")
    assert result.returncode == 0, result.stderr
    facts = last_json(result.stdout)
    assert {"run", "bundle", "metrics", "teacher", "parameters", "layers"} <= facts.keys()
    assert {"metrics", "agreement"} <= facts["teacher"].keys()
    assert result.stdout.count("\n") == 1
    told = bertie(*words, "--out", tmp_path / "run", "--overwrite")
    assert told.returncode == 0, told.stderr
    assert "the teacher" in told.stdout
    assert "both answer alike on" in told.stdout
    refused = bertie("distill", tiny_bundle, "--out", tmp_path / "other")
    assert refused.returncode == 2
    assert "hint: name one with --base" in refused.stderr
