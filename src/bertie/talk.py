"""What Bertie says to people: on stderr, readable without colour, with bars only in a terminal or a notebook.

Data goes to stdout and never passes through here. In a notebook, which shows what comes on stderr as if it were an
error, Bertie speaks on stdout: there a cell's data is its value.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

LINE_SECONDS = 10.0
"""Without a terminal a long job prints one line of progress in this time."""

DRAW_SECONDS = 0.1
"""A bar in a notebook is drawn no more often: each drawing is a message to the browser."""


def in_notebook() -> bool:
    """Return whether this code runs in a Jupyter kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class Talk:
    """Says, warns and shows progress. A quiet one is for library use: it says nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.notebook = in_notebook()
        self.console = Console(
            stderr=not self.notebook, force_jupyter=False, highlight=False, soft_wrap=True, quiet=quiet
        )

    def say(self, message: str) -> None:
        """Print one line."""
        self.console.print(message, markup=False)

    def warn(self, message: str) -> None:
        """Print one line that begins with `warning:`."""
        self.console.print(f"[yellow]warning:[/yellow] {message.replace('[', chr(92) + '[')}")

    def measured(self, values: Mapping[str, float]) -> None:
        """Hear numbers of a training by name, as log.jsonl has them. People are told them in other lines."""

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Bar]:
        """Show a bar with a count, the latest note and the time left; lines of text where nothing can be drawn."""
        if self.notebook and not self.quiet:
            drawn = Drawn(title, total)
            yield drawn
            drawn.draw()
            return
        if self.quiet or not self.console.is_terminal:
            yield Lines(self, title, total)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console) as progress:
            yield Bar(progress, progress.add_task(title, total=total, note=""))

    def track(self, title: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """Yield the items, with a progress bar."""
        with self.progress(title, total) as bar:
            for item in items:
                yield item
                bar.advance()


class Bar:
    """A bar in a terminal."""

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Move on, and show a note (loss, metric) if there is a new one."""
        if self._progress is None:
            return
        self._progress.update(self._task, advance=steps)
        if note is not None:
            self._progress.update(self._task, note=note)

    def finish(self) -> None:
        """Let the bar stand full: the work ended early and well."""
        if self._progress is not None:
            self._progress.update(self._task, total=self._progress.tasks[self._task].completed)


class Lines(Bar):
    """The same without a terminal: a line now and then, so that a log shows that the work goes on."""

    def __init__(self, talk: Talk, title: str, total: int) -> None:
        super().__init__(None, TaskID(0))
        self._talk, self._title, self._total = talk, title, total
        self._done, self._note, self._last = 0, "", time.monotonic()

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count, and print if the last line is old enough."""
        self._done += steps
        self._note = self._note if note is None else note
        if time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            self._talk.say(f"{self._title}: {self._done} of {self._total}  {self._note}".rstrip())


class Drawn(Bar):
    """A bar in a notebook: a `<progress>` that is drawn again in its place, with no widget to install."""

    def __init__(self, title: str, total: int) -> None:
        from IPython.display import HTML, display  # noqa: PLC0415 - there is one where this is called, and only there

        super().__init__(None, TaskID(0))
        self._title, self._total, self._done, self._note = title, total, 0, ""
        self._started = self._last = time.monotonic()
        self._html: Any = HTML
        self._shown: Any = display(self._html(self.markup()), display_id=True)

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count, and draw if the last drawing is old enough."""
        self._done += steps
        self._note = self._note if note is None else note
        if time.monotonic() - self._last >= DRAW_SECONDS:
            self._last = time.monotonic()
            self.draw()

    def finish(self) -> None:
        """Let the bar stand full: the work ended early and well."""
        self._total = self._done

    def draw(self) -> None:
        """Draw the bar as it stands now, in its place."""
        self._shown.update(self._html(self.markup()))

    def markup(self) -> str:
        """Return the bar as HTML, with the seconds taken and, until it is full, those that are left."""
        taken = time.monotonic() - self._started
        left = f", {taken / self._done * (self._total - self._done):.0f} s left" if 0 < self._done < self._total else ""
        words = f"{self._done} of {self._total}, {taken:.0f} s{left}  {self._note}".rstrip()
        return (
            '<div style="font-family: monospace">'
            f"{html.escape(self._title)} "
            f'<progress value="{self._done}" max="{max(self._total, 1)}" '
            'style="width: 18em; vertical-align: middle"></progress> '
            f"{html.escape(words)}</div>"
        )
