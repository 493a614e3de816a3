from __future__ import annotations

from pathlib import Path

import pytest

from bertie.deploy.naming import LONGEST, name_of, slug


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("Support_2026.v2", "support-2026-v2"), ("42", "bertie-42"), ("--", "bertie"), ("Größe", "gr-e")],
)
def test_a_name_is_one_of_dns(text: str, wanted: str) -> None:
    assert slug(text) == wanted


def test_a_long_name_is_cut_without_a_hyphen_at_its_end() -> None:
    assert slug("a" * (LONGEST - 1) + "-b") == "a" * (LONGEST - 1)


def test_the_bundle_of_a_run_has_the_name_of_the_run() -> None:
    assert name_of(Path("runs/first/bundle")) == name_of(Path("runs/first")) == "first"
    assert name_of(Path("out/tone.tar.gz")) == "tone"
