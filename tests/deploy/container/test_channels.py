from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertie.deploy.container.channels import Channels, channels
from bertie.errors import DataNotFound, UsageError


def put(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text,label\n")
    return folder


def found(folder: Path) -> Channels:
    return channels(folder, folder.parent / "inputdataconfig.json")


def test_channels_are_known_by_both_of_their_names_and_the_sdks_own_are_no_data(tmp_path: Path) -> None:
    ours = ("training/a.csv", "validation/b.csv", "test/c.csv", "base/config.json")
    data = put(tmp_path / "data", *ours, "code/train.py", "sm_drivers/x.sh", "sagemaker_x/y")
    here = Channels(data / "training/a.csv", data / "validation/b.csv", data / "test/c.csv", data / "base")
    assert found(data) == here


@pytest.mark.parametrize(
    ("files", "content"),
    [
        (["train/a.csv"], "train/a.csv"),
        (["train/a.csv", "train/_SUCCESS", "train/.a.csv.crc"], "train/a.csv"),
        (["train/a.csv", "train/b.csv"], "train"),
        (["train/pos/1.txt", "train/neg/1.txt"], "train"),
        (["train/pos/1.txt"], "train"),
        (["train/prefix/a.csv"], "train/prefix/a.csv"),
        (["train/prefix/pos/1.txt", "train/prefix/neg/2.txt"], "train/prefix"),
    ],
)
def test_a_channel_is_a_file_or_a_folder_of_files_or_of_labels(files: list[str], content: str, tmp_path: Path) -> None:
    assert found(put(tmp_path / "data", *files)).data == tmp_path / "data" / content


@pytest.mark.parametrize(
    ("files", "kind", "says"),
    [
        (["test/a.csv"], DataNotFound, "no channel with training data; there are test"),
        ([], DataNotFound, "there are none"),
        (["train/_SUCCESS"], DataNotFound, "the channel 'train' is empty"),
        (["trian/a.csv"], UsageError, "did you mean 'train'?"),
        (["train/a.csv", "training/a.csv"], UsageError, "two channels hold the same"),
    ],
)
def test_channels_that_cannot_be_used_are_refused(
    files: list[str], kind: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        found(put(tmp_path / "data", *files))
    assert says in str(caught.value)


def test_a_pipe_and_a_channel_that_did_not_come_are_refused(tmp_path: Path) -> None:
    data = put(tmp_path / "data", "train/a.csv")
    config = tmp_path / "inputdataconfig.json"
    config.write_text(json.dumps({"train": {"TrainingInputMode": "Pipe"}}))
    with pytest.raises(UsageError, match="'train' is a pipe"):
        found(data)
    config.write_text(json.dumps({"train": {}, "valid": {"TrainingInputMode": "File"}}))
    with pytest.raises(DataNotFound, match="'valid' is empty"):
        found(data)
    config.write_text("[]")
    with pytest.raises(UsageError, match="not what SageMaker writes"):
        found(data)
