from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertie.deploy.container.hyperparameters import asked, from_file, from_words, plain
from bertie.errors import UsageError


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("bert", "bert"),
        ('"bert"', "bert"),
        ('"\\"bert\\""', "bert"),
        ("['bad-row', 'empty-text']", "bad-row,empty-text"),
        ('["bad-row", "empty-text"]', "bad-row,empty-text"),
        ('"["', "["),
        ("[not a list]", "[not a list]"),
        ('"half', '"half'),
        ("5e-05", "5e-05"),
    ],
)
def test_a_value_loses_the_encoding_of_either_sdk(written: str, meant: str) -> None:
    assert plain(written) == meant


@pytest.mark.parametrize(
    "words",
    [
        # The toolkit, for version 2 of the SDK: sorted, as Python writes values, one letter with one hyphen.
        ["--drop", "['bad-row']", "--freeze-embeddings", "False", "--learning_rate", "2e-05", "--max_passes", "3"],
        # Version 3: JSON.
        ["--max_passes", "3", "--learning_rate", "2e-05", "--freeze_embeddings", "false", "--drop", '["bad-row"]'],
        ["--max-passes=3", "--learning-rate=2e-5", "--freeze-embeddings=false", "--drop=bad-row"],
    ],
)
def test_the_command_lines_of_both_sdks_mean_the_same(words: list[str]) -> None:
    settings = asked(from_words(words), {})
    assert settings.train.max_passes == 3
    assert settings.train.learning_rate == 2e-5
    assert settings.train.freeze_embeddings is False
    assert settings.data.drop == "bad-row"


def test_the_file_holds_strings_that_are_json(tmp_path: Path) -> None:
    path = tmp_path / "hyperparameters.json"
    path.write_text(
        json.dumps({"base": '"distilbert"', "seed": "7", "text_column": "3", "sagemaker_program": '"train.py"'})
    )
    settings = asked(from_file(path), {})
    assert (settings.train.base, settings.split.seed, settings.data.text_column) == ("distilbert", 7, "3")
    assert from_file(tmp_path / "none.json") == {}
    for broken in ("{", "[]"):
        path.write_text(broken)
        with pytest.raises(UsageError, match="JSON"):
            from_file(path)


def test_what_the_platform_adds_is_left_out_and_nothing_is_nothing() -> None:
    words = ["--sagemaker_region", "eu", "--_tuning_objective_metric", "x", "--pair_column", "", "--dropout", "null"]
    settings = asked(from_words(words), {})
    assert settings.data.pair_column is None
    assert settings.train.dropout is None


def test_a_mere_name_is_true_and_a_negative_number_is_a_value() -> None:
    assert from_words(["--header", "-n", "-5", "--x"]) == {"header": "true", "n": "-5", "x": "true"}
    with pytest.raises(UsageError, match="'stray' is the value of no hyperparameter"):
        from_words(["stray"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"epochs": "3"}, "there is no setting 'epochs'"),
        ({"max_pases": "3"}, "did you mean 'max_passes'?"),
        ({"n": "3"}, "there is no setting 'n'"),
        ({"max_passes": "three"}, "the hyperparameters: max_passes cannot be 'three'"),
        ({"quoting": "some"}, "the hyperparameters: quoting cannot be 'some'"),
    ],
)
def test_what_is_no_setting_is_refused_with_the_nearest(given: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        asked(given, {})
    assert says in str(caught.value)


def test_hyperparameters_go_before_the_environment() -> None:
    environment = {"BERTIE_TRAIN_MAX_PASSES": "9", "BERTIE_TRAIN_PATIENCE": "8"}
    settings = asked({"max_passes": "2"}, environment).train
    assert (settings.max_passes, settings.patience) == (2, 8)
