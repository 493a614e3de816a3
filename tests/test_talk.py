from __future__ import annotations

import re
import subprocess
import sys

import pytest

from bertie import talk
from bertie.talk import Drawn, Talk, in_notebook


def test_a_process_without_a_kernel_speaks_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert not in_notebook()
    Talk().say("hello")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "hello\n")


def test_a_bar_in_a_notebook_counts_escapes_and_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Drawn("read <b>", 10)
    monkeypatch.setattr(talk, "DRAW_SECONDS", 1000.0)
    drawn.advance(4, note="loss < 1")
    shown = drawn.markup()
    assert 'value="4" max="10"' in shown
    assert "read &lt;b&gt;" in shown
    assert "loss &lt; 1" in shown
    assert re.search(r"4 of 10, \d+ s, \d+ s left", shown)
    drawn.finish()
    assert 'value="4" max="4"' in drawn.markup()
    assert "left" not in drawn.markup()


def test_a_bar_of_nothing_can_be_drawn() -> None:
    assert 'value="0" max="1"' in Drawn("nothing", 0).markup()


def test_without_a_notebook_ipython_is_not_imported() -> None:
    program = "import sys\nfrom bertie.talk import Talk\nTalk().say('x')\nassert 'IPython' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
