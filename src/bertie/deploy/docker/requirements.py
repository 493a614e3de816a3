"""The versions that an image gets: those that are installed here, where the bundle was measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, requires, version

from bertie.errors import DependencyMissing, need

PROJECT = "bertie"


def pinned(extras: Iterable[str], python: str | None) -> dict[str, str]:
    """Return name and version of each package that bertie with these extras needs on Linux, sorted, without bertie.

    `python` is the image's version, such as "3.12"; this Python's if it is not known. Raises DependencyMissing for a
    package that is not installed here.
    """
    try:
        from packaging.markers import default_environment  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise need("deploy", error) from error
    here = {name: str(value) for name, value in default_environment().items()}
    there = here | {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    if python:
        there |= {"python_version": python, "python_full_version": f"{python}.0"}
    found: dict[str, str] = {}
    waiting = [(PROJECT, frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, wanted = waiting.pop()
        for one in _needs(name, wanted, there):
            found[one[0]] = _installed(one[0], name)
            if one not in seen:
                seen.add(one)
                waiting.append(one)
    found.pop(PROJECT, None)
    return dict(sorted(found.items()))


def _needs(name: str, extras: frozenset[str], there: Mapping[str, str]) -> list[tuple[str, frozenset[str]]]:
    from packaging.requirements import Requirement  # noqa: PLC0415 - see above

    found = []
    for line in requires(name) or ():
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({**there, "extra": extra}) for extra in {"", *extras}):
            found.append((re.sub(r"[-_.]+", "-", one.name).lower(), frozenset(one.extras)))
    return found


def _installed(name: str, by: str) -> str:
    """Return the version, without what names a build of it (+cpu): indexes have none such."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        raise DependencyMissing(
            f"{name!r}, which {by} needs, is not installed here, so that there is no version to put into the image.",
            hint=f"pip install {name}",
        ) from None
