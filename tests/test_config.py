from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bertie.config import DataSettings, ServeSettings, SplitSettings, TrainSettings
from bertie.errors import UsageError
from bertie.settings import Settings

ALL = [DataSettings, SplitSettings, TrainSettings, ServeSettings]
SLOW_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

Toml = Callable[[str], Path]


@pytest.fixture
def toml(tmp_path: Path) -> Toml:
    def write(text: str) -> Path:
        path = tmp_path / "bertie.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


SIXTEEN = {"BERTIE_TRAIN_BATCH_SIZE": "16"}


def test_the_default_holds_where_nothing_is_given() -> None:
    assert TrainSettings.load(environment={}).batch_size == 0


def test_the_file_wins_over_the_default(toml: Toml) -> None:
    assert TrainSettings.load(environment={}, file=toml("[train]\nbatch_size = 8")).batch_size == 8


def test_the_environment_wins_over_the_default() -> None:
    assert TrainSettings.load(environment=SIXTEEN).batch_size == 16


def test_a_flag_wins_over_the_default() -> None:
    assert TrainSettings.load({"batch_size": 4}, environment={}).batch_size == 4


def test_the_environment_wins_over_the_file(toml: Toml) -> None:
    assert TrainSettings.load(environment=SIXTEEN, file=toml("[train]\nbatch_size = 8")).batch_size == 16


def test_a_flag_wins_over_the_file(toml: Toml) -> None:
    loaded = TrainSettings.load({"batch_size": 4}, environment={}, file=toml("[train]\nbatch_size = 8"))
    assert loaded.batch_size == 4


def test_a_flag_wins_over_the_environment() -> None:
    assert TrainSettings.load({"batch_size": 4}, environment=SIXTEEN).batch_size == 4


def test_each_source_gives_what_the_later_ones_leave_open(toml: Toml) -> None:
    file = toml("[train]\nbatch_size = 8\npatience = 2\noverlap = 1")
    environment = {"BERTIE_TRAIN_PATIENCE": "5", "BERTIE_TRAIN_OVERLAP": "6", "BERTIE_SPLIT_SEED": "7"}
    loaded = TrainSettings.load({"overlap": 9}, environment=environment, file=file)
    assert (loaded.batch_size, loaded.patience, loaded.overlap) == (8, 5, 9)


def test_the_working_folders_file_is_read(toml: Toml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(toml("[split]\nseed = 3").parent)
    assert SplitSettings.load(environment={}).seed == 3


def test_another_file_named_takes_the_place_of_the_working_folders(
    toml: Toml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(toml("[split]\nseed = 3").parent)
    other = tmp_path / "other.toml"
    other.write_text("[split]\nvalid_share = 0.2")
    loaded = SplitSettings.load(environment={}, file=other)
    assert (loaded.seed, loaded.valid_share) == (0, 0.2)


def test_the_process_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTIE_SERVE_PORT", "1234")
    assert ServeSettings.load().port == 1234


@pytest.mark.parametrize(("word", "value"), [("false", False), ("0", False), ("no", False), ("true", True)])
def test_the_environment_spells_truth_values_in_words(word: str, value: bool) -> None:
    assert DataSettings.load(environment={"BERTIE_DATA_HEADER": word}).header is value


def test_a_windows_file_with_byte_order_mark_is_read(toml: Toml) -> None:
    assert SplitSettings.load(environment={}, file=toml("\ufeff[split]\r\nseed = 3\r\n")).seed == 3


def test_a_position_may_be_written_as_a_number(toml: Toml) -> None:
    assert DataSettings.load(environment={}, file=toml("[data]\ntext_column = 0")).text_column == "0"


def complaint(kind: type[Settings], flags: dict[str, Any] | None = None, **sources: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        kind.load(flags, **({"environment": {}} | sources))
    return caught.value


def test_a_wrong_value_is_told_with_its_source(toml: Toml) -> None:
    file = toml("[train]\nbatch_size = -2")
    assert complaint(TrainSettings, file=file).what == f"{file}: batch_size cannot be -2."
    assert complaint(TrainSettings, environment={"BERTIE_TRAIN_BATCH_SIZE": "few"}).what == (
        "the environment: batch_size cannot be 'few'."
    )
    assert complaint(TrainSettings, {"batch_size": -1}, file=file).what == "the flags: batch_size cannot be -1."
    assert "greater than or equal to 0" in complaint(TrainSettings, {"batch_size": -1}).expected


def test_a_wrong_value_points_to_a_command_there_is() -> None:
    assert complaint(TrainSettings, {"batch_size": -1}).hint == "see bertie train --help"
    assert complaint(SplitSettings, {"seed": -1}).hint == "see bertie train --help"
    assert complaint(DataSettings, {"header": "perhaps"}).hint == "see bertie train --help"
    assert complaint(ServeSettings, {"port": 70000}).hint == "see bertie serve --help"


def test_an_unknown_name_is_told_with_its_source_and_the_nearest(toml: Toml) -> None:
    file = toml("[train]\nbatchsize = 8")
    error = complaint(TrainSettings, file=file)
    assert error.what == f"{file}: there is no setting 'batchsize' for train."
    assert error.hint == "did you mean 'batch_size'?"
    assert complaint(TrainSettings, environment={"BERTIE_TRAIN_X": "1"}).what.startswith("the environment: ")
    assert complaint(TrainSettings, {"quark": 1}).hint.startswith("known are base, max_passes")


def test_an_unknown_table_is_told_with_the_nearest(toml: Toml) -> None:
    error = complaint(TrainSettings, file=toml("[trian]\nbatch_size = 8"))
    assert "no table of settings 'trian'" in error.what
    assert error.hint == "did you mean 'train'?"


def test_a_setting_outside_of_any_table_is_not_passed_over(toml: Toml) -> None:
    error = complaint(TrainSettings, file=toml("batch_size = 8"))
    assert "'batch_size'" in error.what
    assert error.hint.startswith("known are ")
    assert {"data", "kubernetes", "serve", "train"} <= set(error.hint.removeprefix("known are ").split(", "))


def test_the_tables_that_may_not_be_imported_are_listed() -> None:
    program = (
        "import bertie.cli.main, bertie.config\n"
        "from bertie.settings import ELSEWHERE, Settings\n"
        "known = {one.section() for one in Settings.__subclasses__() if one.__module__ != 'bertie.config'}\n"
        "assert known == ELSEWHERE, known"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_tables_of_other_stages_are_left_to_them(toml: Toml) -> None:
    assert TrainSettings.load(environment={}, file=toml("[split]\nseed = 1\n[serve]\nport = 1")) == TrainSettings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train = 3", "'train' is not a table"),
        ("[[train]]\nbatch_size = 3", "'train' is not a table"),
        ("[train", "is not valid TOML"),
        ("[train]\nseed = 1\nseed = 2", "is not valid TOML"),
    ],
)
def test_a_file_of_another_shape_is_told(toml: Toml, text: str, message: str) -> None:
    file = toml(text)
    error = complaint(TrainSettings, file=file)
    assert message in error.what
    assert str(file) in error.what


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "bertie.toml"
    path.write_bytes(b"\xff\xfe")
    assert "is not valid TOML" in complaint(TrainSettings, file=path).what


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    assert "No such file" in complaint(TrainSettings, file=tmp_path / "none.toml").what
    assert "Is a directory" in complaint(TrainSettings, file=tmp_path).what


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (DataSettings, "delimiter", "::"),
        (DataSettings, "delimiter", ""),
        (DataSettings, "delimiter", "\n"),
        (DataSettings, "delimiter", '"'),
        (DataSettings, "label_separator", ""),
        (DataSettings, "quoting", "some"),
        (SplitSettings, "valid_share", 0),
        (SplitSettings, "test_share", 0.5),
        (TrainSettings, "learning_rate", float("nan")),
        (TrainSettings, "tolerance", float("inf")),
        (TrainSettings, "warmup_share", 1),
        (TrainSettings, "batch_size", 1.5),
        (ServeSettings, "port", 65536),
    ],
)
def test_values_that_cannot_work_are_refused(kind: type[Settings], name: str, value: object) -> None:
    assert complaint(kind, {name: value}).what.startswith(f"the flags: {name} cannot be")


@pytest.mark.parametrize("kind", ALL)
def test_defaults_are_right_and_explained(kind: type[Settings]) -> None:
    kind()
    assert all((field.description or "").endswith(".") for field in kind.model_fields.values())


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainSettings().batch_size = 1  # type: ignore[misc]  # frozen, which is tested


@pytest.mark.parametrize("kind", ALL)
def test_saved_settings_are_read_back(kind: type[Settings], toml: Toml) -> None:
    assert kind.load(environment={}, file=toml(kind().to_toml())) == kind()


def test_saved_tables_stand_together_in_one_file(toml: Toml) -> None:
    given: list[Settings] = [DataSettings(text_column="body"), SplitSettings(seed=4), TrainSettings(patience=7)]
    file = toml("\n".join(part.to_toml() for part in given))
    assert [type(part).load(environment={}, file=file) for part in given] == given


def test_saved_settings_carry_their_explanation() -> None:
    lines = SplitSettings().to_toml().splitlines()
    assert lines[lines.index("seed = 0") - 1].startswith("# Seed of everything random")
    assert "# text_column =" in DataSettings().to_toml()


@SLOW_FIXTURE
@given(
    st.builds(
        DataSettings,
        text_column=st.none() | st.text(),
        label_separator=st.none() | st.text(min_size=1),
        delimiter=st.none() | st.characters(exclude_characters='"\r\n', codec="utf-8"),
        header=st.booleans(),
        encoding=st.text(),
    )
)
def test_saved_data_settings_are_read_back_whatever_they_hold(toml: Toml, given_settings: DataSettings) -> None:
    assert DataSettings.load(environment={}, file=toml(given_settings.to_toml())) == given_settings


@SLOW_FIXTURE
@given(
    st.builds(
        TrainSettings,
        learning_rate=st.floats(0, allow_infinity=False),
        tolerance=st.floats(0, exclude_min=True, allow_infinity=False),
        max_tokens=st.integers(0),
    )
)
def test_saved_numbers_are_read_back_to_the_last_digit(toml: Toml, given_settings: TrainSettings) -> None:
    text = given_settings.to_toml()
    assert TrainSettings.load(environment={}, file=toml(text)) == given_settings
    assert set(tomllib.loads(text)) == {"train"}
