from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.deploy.aws.cloud import Cloud, running


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """A moto server for the whole session."""
    with running(tmp_path_factory.mktemp("moto") / "log") as cloud:
        yield cloud


@pytest.fixture
def cloud(moto: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An empty AWS, with a role, that boto3 in this process talks to."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in moto.environment().items():
        monkeypatch.setenv(name, value)
    moto.reset()
    return moto
