"""What requests hold in memory, counted together: bodies that have arrived, and answers that wait to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bertie.errors import Overloaded


class Memory:
    """Counts bytes, and lets nobody take more while others have taken what there is."""

    def __init__(self, limit: int) -> None:
        """Count up to a limit, in bytes."""
        self._limit, self._held = limit, 0

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], None]]:
        """Give what counts a request's bytes as held, until the block ends; it raises Overloaded where all is full."""
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            held += size
            self._held += size
            # One alone always has room: the longest body has a limit of its own.
            if self._held > self._limit and self._held > held:
                raise Overloaded("the bodies and answers of others fill the memory that is for them.", hint="try again")

        try:
            yield hold
        finally:
            self._held -= held

    def unread(self, size: int) -> None:
        """Count bytes of an answer that its reader has not taken yet; a negative number, that it has.

        It is there already: who asks next is refused, not this one.
        """
        self._held += size
