from __future__ import annotations

import pytest

from bertie.pipeline.supervise import _next


@pytest.mark.parametrize(
    ("environment", "left", "told"),
    [
        ({}, 1, "starting again from the last checkpoint"),
        ({}, 0, "giving up; --resume RUN goes on"),
        ({"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none"}, 0, "torchrun starts all again"),
        ({"WORLD_SIZE": "2"}, 0, "start all processes of this training again"),
    ],
)
def test_what_is_told_is_what_can_be_done(
    environment: dict[str, str], left: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert _next(left).startswith(told)
