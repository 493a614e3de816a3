"""What a training job asks for: SageMaker's hyperparameters, in the spellings of both of its SDKs, as settings.

All values are strings. Version 2 of the SDK encodes each as JSON, and the toolkit in AWS's images then writes them to
the command line as Python does (True, ['a', 'b'], -n for a name of one letter); version 3 writes JSON there.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertie.config import DataSettings, SplitSettings, TrainSettings
from bertie.errors import UsageError, nearest

NAME = re.compile(r"--?([A-Za-z_][\w-]*)(?:=(.*))?", re.DOTALL)
SOURCE = "the hyperparameters"
NOTHING = {"", "None", "null"}
"""How the SDKs write a value that is not there."""
TABLES = (DataSettings, SplitSettings, TrainSettings)
KNOWN = tuple(name for table in TABLES for name in table.model_fields)


@dataclass(frozen=True)
class Asked:
    """The settings of a training, read and checked."""

    data: DataSettings
    split: SplitSettings
    train: TrainSettings


def asked(given: Mapping[str, str], environment: Mapping[str, str]) -> Asked:
    """Return the settings for hyperparameters by name; for others, variables such as BERTIE_TRAIN_PRECISION count.

    Raises UsageError for a name that is no setting, with the nearest one, and for a value that a setting cannot have.
    """
    values = {}
    for name, value in given.items():
        setting = name.replace("-", "_")
        # sagemaker_program, _tuning_objective_metric and the like are between the SDKs and the toolkit.
        if setting.startswith(("sagemaker_", "_")):
            continue
        if setting not in KNOWN:
            hint = nearest(setting, KNOWN) or f"known are {', '.join(KNOWN)}"
            raise UsageError(f"{SOURCE}: there is no setting {name!r}.", hint=hint)
        if (read := plain(value)) not in NOTHING:
            values[setting] = read
    data, split, train = (
        {name: value for name, value in values.items() if name in table.model_fields} for table in TABLES
    )
    return Asked(
        DataSettings.load(data, environment=environment, given_as=SOURCE),
        SplitSettings.load(split, environment=environment, given_as=SOURCE),
        TrainSettings.load(train, environment=environment, given_as=SOURCE),
    )


def from_file(path: Path) -> dict[str, str]:
    """Read hyperparameters.json; without the file there are none. Raises UsageError for what is not a JSON object."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not JSON.", expected="an object of strings, as SageMaker writes it") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} is not a JSON object.", expected="an object of strings, as SageMaker writes it")
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}


def from_words(words: Sequence[str]) -> dict[str, str]:
    """Read `--name value`, `--name=value`, `-n value`, and a mere `--name` as true. Raises UsageError for the rest."""
    found: dict[str, str] = {}
    waiting = ""
    for word in words:
        name = NAME.fullmatch(word)
        if name:
            waiting = "" if name[2] is not None else name[1]
            found[name[1]] = "true" if name[2] is None else name[2]
        elif waiting:
            found[waiting], waiting = word, ""
        else:
            raise UsageError(f"{word[:100]!r} is the value of no hyperparameter.", expected="--name value")
    return found


def plain(value: str) -> str:
    """Return a value without its encoding: JSON's quotes, once or twice, go; the items of a list get commas between."""
    for _ in range(2):
        if not value.startswith('"'):
            break
        try:
            inner = json.loads(value)
        except ValueError:
            break
        value = inner
    if not (value.startswith("[") and value.endswith("]")):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return ",".join(map(str, read(value)))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return value
