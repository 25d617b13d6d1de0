"""docs/bad_input.md names tests that exist, one at least for every row."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [
    line.strip("|").split("|")
    for line in (ROOT / "docs" / "bad_input.md").read_text().splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| fault"))
]


@cache
def functions_of(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_names_a_test_that_exists():
    assert len(ROWS) > 30
    for fault, _, cell in ROWS:
        named = re.findall(r"`(test/[\w/]+\.py)::(\w+)`", cell)
        assert named, fault
        for path, name in named:
            assert name in functions_of(path), f"{fault.strip()}: {path}::{name}"
