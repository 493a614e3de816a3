"""How a table of settings is read: default < file (bertie.toml) < environment < flag, the later one winning.

The tables are in config.py. Nothing is read before a command asks for it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import tomlkit
from pydantic import BaseModel, ConfigDict, ValidationError

from bertie.errors import UsageError, nearest

FILE = "bertie.toml"

ELSEWHERE = frozenset({"aws", "container", "docker", "hosting", "kubernetes", "trainingjob", "transform"})
"""Tables that stand beside what they are for, not in config.py, so that they may not have been imported."""


class Settings(BaseModel):
    """The settings of one stage. Unknown names are errors that name the nearest one."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
    command: ClassVar[str] = "train"
    """The command whose help explains these settings."""

    @classmethod
    def section(cls) -> str:
        """The name of this table in bertie.toml, and the middle of BERTIE_<SECTION>_<NAME>."""
        return cls.__name__.removesuffix("Settings").lower()

    @classmethod
    def load(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        file: Path | None = None,
        given_as: str = "the flags",
    ) -> Self:
        """Merge the four sources, the later one winning, and check the result.

        `flags` holds only what the user gave, and `given_as` is what errors call it. `file` is bertie.toml in the
        working folder unless another is named. Raises UsageError that says which source holds the wrong value.
        """
        sources = {
            str(file or FILE): cls._from_file(file),
            "the environment": cls._from_environment(os.environ if environment is None else environment),
            given_as: dict(flags or {}),
        }
        merged: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for source, values in sources.items():
            cls._refuse_unknown(values, source)
            merged |= values
            origin |= dict.fromkeys(values, source)
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            raise _sentence(error, origin, cls) from None

    @classmethod
    def _from_file(cls, file: Path | None) -> dict[str, Any]:
        path = file or Path(FILE)
        if file is None and not path.is_file():
            return {}
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise UsageError(f"cannot read the settings in {path}: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is not valid TOML: {error}.") from error
        known = sorted(ELSEWHERE | {settings.section() for settings in Settings.__subclasses__()})
        for name in tables:
            if name not in known:
                hint = nearest(name, known) or f"known are {', '.join(known)}"
                raise UsageError(f"{path}: there is no table of settings {name!r}.", hint=hint)
        table = tables.get(cls.section(), {})
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {cls.section()!r} is not a table.", expected=f"a line [{cls.section()}]")
        return table

    @classmethod
    def _from_environment(cls, environment: Mapping[str, str]) -> dict[str, Any]:
        prefix = f"BERTIE_{cls.section().upper()}_"
        return {
            name.removeprefix(prefix).lower(): value for name, value in environment.items() if name.startswith(prefix)
        }

    @classmethod
    def _refuse_unknown(cls, values: Mapping[str, Any], source: str) -> None:
        for name in values:
            if name not in cls.model_fields:
                hint = nearest(name, cls.model_fields) or f"known are {', '.join(cls.model_fields)}"
                raise UsageError(f"{source}: there is no setting {name!r} for {cls.section()}.", hint=hint)

    def to_toml(self) -> str:
        """Return these settings as a commented TOML table that `load` reads back."""
        table = tomlkit.table()
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            for line in (field.description or "").splitlines():
                table.add(tomlkit.comment(line))
            if value is None:
                table.add(tomlkit.comment(f"{name} ="))
            else:
                table.add(name, list(value) if isinstance(value, tuple) else value)
        document = tomlkit.document()
        document.add(type(self).section(), table)
        return tomlkit.dumps(document)


def _sentence(error: ValidationError, origin: Mapping[str, str], settings: type[Settings]) -> UsageError:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else settings.section()
    given = "" if isinstance(first["input"], dict) else f" {first['input']!r}"
    return UsageError(
        f"{origin.get(name, 'the settings')}: {name} cannot be{given}.",
        expected=first["msg"],
        hint=f"see bertie {settings.command} --help",
    )
