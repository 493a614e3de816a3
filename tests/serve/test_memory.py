from __future__ import annotations

import pytest

from bertie.errors import Overloaded
from bertie.serve.memory import Memory


def test_one_alone_always_has_room_and_others_only_what_is_left() -> None:
    memory = Memory(10)
    with memory.holding() as hold:
        hold(8)
        hold(8)
        with memory.holding() as other, pytest.raises(Overloaded, match="fill the memory"):
            other(1)
    with memory.holding() as again:
        again(10)


def test_what_others_have_not_read_yet_takes_room_until_they_have() -> None:
    memory = Memory(10)
    memory.unread(8)
    with memory.holding() as hold:
        hold(2)
        with pytest.raises(Overloaded):
            hold(1)
    memory.unread(-8)
    with memory.holding() as hold:
        hold(10)
