from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.errors import BertieError, Overloaded
from bertie.serve.workers import frames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def through(raw: bytes) -> list[tuple[dict[str, Any], bytes]]:
    async def read() -> list[tuple[dict[str, Any], bytes]]:
        reader = asyncio.StreamReader()
        reader.feed_data(raw)
        reader.feed_eof()
        found = []
        while (frame := await frames.read(reader)) is not None:
            found.append(frame)
        return found

    return asyncio.run(read())


@given(st.lists(st.tuples(st.dictionaries(st.text(), JSON), st.binary()), max_size=4))
def test_what_is_sent_arrives(sent: list[tuple[dict[str, Any], bytes]]) -> None:
    assert through(b"".join(frames.pack(head, blob) for head, blob in sent)) == sent


@given(st.binary(max_size=30), st.integers(1, 60))
def test_what_ends_in_the_midst_is_an_end(blob: bytes, cut: int) -> None:
    whole = frames.pack({"a": 1}, blob)
    assert through(whole + whole[: -min(cut, len(whole))]) == [({"a": 1}, blob)]


def test_errors_are_the_same_on_the_other_side() -> None:
    error = frames.error_from(frames.error_to(Overloaded("too much.", expected="less", hint="wait")))
    assert isinstance(error, Overloaded)
    assert (error.what, error.expected, error.hint) == ("too much.", "less", "wait")


def test_what_is_not_ours_says_nothing_of_the_inside() -> None:
    told = frames.error_to(RuntimeError("secret"))
    assert "secret" not in str(told)
    assert type(frames.error_from(told)) is BertieError


@pytest.mark.parametrize("kind", ["nothing", "annotations", "nearest", "Iterable"])
def test_only_our_errors_are_made(kind: str) -> None:
    assert type(frames.error_from({"kind": kind, "what": "x", "expected": "", "hint": ""})) is BertieError
