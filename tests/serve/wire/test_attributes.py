from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.errors import RequestInvalid
from bertie.serve.wire.attributes import HEADER, Wishes, read, write


@pytest.mark.parametrize(
    ("header", "wishes"),
    [
        ("", Wishes()),
        ("c000b4f9-df62-4c85-a0bf-7c525f9104a4", Wishes()),
        ("trace=output;other=top_k", Wishes()),
        ("output=logits", Wishes(raw=True)),
        (" Top_K = 3 , trace=7", Wishes(best=True, top_k=3)),
        ("top_k=all; output=LOGITS", Wishes(raw=True, best=True)),
        ("top_k=1;top_k=2", Wishes(best=True, top_k=2)),
    ],
)
def test_known_keys_are_wishes_and_others_are_left_alone(header: str, wishes: Wishes) -> None:
    assert read(header) == wishes


@pytest.mark.parametrize("header", ["output=embedding", "top_k=0", "top_k=-1", "top_k=", "top_k=1e3", "x" * 1025, "é"])
def test_a_known_key_with_another_value_is_refused(header: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        read(header)
    assert len(str(caught.value)) < 200  # a header may be a text


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_any_header_is_read_or_refused(header: str) -> None:
    with contextlib.suppress(RequestInvalid):
        assert isinstance(read(header), Wishes)


def test_an_answer_says_where_it_is_from_if_that_fits() -> None:
    assert write("model/bundle@0a1b") == {HEADER: "model=model/bundle@0a1b"}
    assert write("x" * 1018) == {HEADER: "model=" + "x" * 1018}
    for too_long_or_no_header in ("x" * 1019, "é", "a\r\nset-cookie: b"):
        assert write(too_long_or_no_header) == {}
