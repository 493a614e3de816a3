"""Rules of the whole tree: names, sizes, what must not stand in it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "bertie"
MODULES = sorted(SOURCE.rglob("*.py"))
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
LONGEST_FUNCTION, LONGEST_FILE = 60, 330


def too_long(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - (body[0].lineno if body else node.lineno) + 1
            if lines > LONGEST_FUNCTION:
                found.append(f"{node.name}: {lines} lines")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_has_a_telling_name_and_fits_a_reader(module: Path) -> None:
    source = module.read_text(encoding="utf-8")
    assert module.stem not in VAGUE
    assert len(source.splitlines()) <= LONGEST_FILE
    assert not too_long(source)
    assert not [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)], "no assert outside tests"


def test_the_rule_sees_a_long_function() -> None:
    body = "\n".join(f"    x{number} = {number}" for number in range(LONGEST_FUNCTION + 1))
    assert too_long(f"def f():\n{body}\n") == [f"f: {LONGEST_FUNCTION + 1} lines"]
