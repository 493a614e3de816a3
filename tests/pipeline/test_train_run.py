from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.errors import BundleNotFound, DataError, OutputError, UsageError
from bertie.pipeline.run_folder import Request, Run
from bertie.pipeline.train_run import finish, train_run
from bertie.talk import Talk
from tests.conftest import make_rows, write_csv

QUIET = Talk(quiet=True)


def run(request: Request, base: str = "nowhere") -> dict[str, object]:
    settings = TrainSettings(base=base, max_passes=1, precision="fp32")
    return train_run(request, DataSettings(), SplitSettings(), settings, QUIET)


def test_bad_data_leaves_nothing_on_disk(tmp_path: Path, tiny_base: Path) -> None:
    data = write_csv(tmp_path / "data.csv", [("a", "x"), ("", "y"), ("b", "y")])
    with pytest.raises(DataError, match=r"data\.csv, line 3: 1 row without a text"):
        run(Request(data, tmp_path / "run"), str(tiny_base))
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.csv"]


def test_an_unknown_label_in_the_test_file_is_named_before_training(tmp_path: Path, tiny_base: Path) -> None:
    data = write_csv(tmp_path / "data.csv", list(make_rows(40)))
    test = write_csv(tmp_path / "test.csv", [("where", "delivry")])
    with pytest.raises(DataError, match=r"test\.csv, line 2: the model does not know the label 'delivry'") as caught:
        run(Request(data, tmp_path / "run", test=test), str(tiny_base))
    assert "did you mean 'delivery'?" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_unknown_base_leaves_nothing_on_disk(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "data.csv", list(make_rows(40)))
    with pytest.raises(UsageError, match="no base model"):
        run(Request(data, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_is_never_written_over_by_accident(tmp_path: Path, tiny_base: Path) -> None:
    data = write_csv(tmp_path / "data.csv", list(make_rows(40)))
    out = tmp_path / "run"
    out.mkdir()
    (out / "precious").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        run(Request(data, out), str(tiny_base))
    with pytest.raises(OutputError, match="not a run"):
        run(Request(data, out, overwrite=True), str(tiny_base))
    assert (out / "precious").read_text() == "mine"


def test_an_older_run_is_replaced_when_asked(tmp_path: Path, tiny_base: Path) -> None:
    data = write_csv(tmp_path / "data.csv", list(make_rows(40)))
    out = tmp_path / "run"
    run(Request(data, out), str(tiny_base))
    (out / "note").write_text("old")
    with pytest.raises(OutputError, match="not empty"):
        run(Request(data, out), str(tiny_base))
    run(Request(data, out, overwrite=True), str(tiny_base))
    assert not (out / "note").exists()


def test_checkpoints_of_another_training_are_neither_taken_nor_a_trap(tmp_path: Path, tiny_base: Path) -> None:
    data = write_csv(tmp_path / "data.csv", list(make_rows(40)))
    place = tmp_path / "kept"

    def train(name: str, rate: float, *, overwrite: bool = False, again: bool = False) -> set[str]:
        settings = TrainSettings(
            base=str(tiny_base),
            max_passes=1,
            precision="fp32",
            learning_rate=rate,
            checkpoints=str(place),
            checkpoint_updates=1,
            keep=1,
            keep_at_end=True,
        )
        request = Request(data, tmp_path / name, overwrite=overwrite, again=again)
        train_run(request, DataSettings(), SplitSettings(), settings, QUIET)
        return {entry.name for entry in place.iterdir()}

    assert train("one", 1e-3) == {"step-00000002"}
    (place / "step-00000002").rename(place / "step-00009999")  # as of a much longer training
    for name, rate, words in (("two", 2e-3, "another training"), ("copy", 1e-3, "this training, begun before")):
        with pytest.raises(UsageError, match=f"holds checkpoints of {words}") as raised:
            train(name, rate)
        assert "--overwrite" in raised.value.hint
        assert not (tmp_path / name).exists()
    with pytest.raises(UsageError, match="another training"):
        train("two", 2e-3, again=True)
    assert train("two", 2e-3, overwrite=True) == {"step-00000002"}
    # Where the run is lost, as with a machine, its checkpoints are gone on from.
    assert train("moved", 2e-3, again=True) == {"step-00000002"}
    log = [json.loads(line) for line in (tmp_path / "moved" / "log.jsonl").read_text().splitlines()]
    assert not any("loss" in line for line in log)


def test_the_same_files_and_seed_give_the_same_splits(tiny_run: Path, tiny_data: Path, train_tiny: object) -> None:
    facts = json.loads((tiny_run / "data.json").read_text())
    assert facts["rows"] == {"train": 180, "valid": 60, "test": 60}
    texts = [set(Run.open(tiny_run).split(name).texts) for name in ("train", "valid", "test")]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]


def test_settings_are_saved_with_the_run_and_read_back(tiny_run: Path) -> None:
    settings = TrainSettings.load(environment={}, file=tiny_run / "config.toml")
    assert (settings.batch_size, settings.learning_rate) == (8, 2e-3)


def test_without_a_test_file_the_report_says_what_it_measured(tmp_path: Path, tiny_base: Path) -> None:
    data = write_csv(tmp_path / "data.csv", list(make_rows(40)))
    valid = write_csv(tmp_path / "valid.csv", list(make_rows(20, seed=1)))
    run(Request(data, tmp_path / "run", valid=valid), str(tiny_base))
    manifest = json.loads((tmp_path / "run" / "bundle" / "manifest.json").read_text())
    assert manifest["quality"]["on"] == "validation"
    assert "validation texts" in (tmp_path / "run" / "report.html").read_text()


def test_what_is_no_run_cannot_be_finished(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="not a run"):
        finish(tmp_path, QUIET)
