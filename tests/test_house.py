"""Rules for all of the runtime's code, in addition to import-linter's layers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[1] / "runtime" / "magvit_runtime"
MODULES = sorted(RUNTIME.rglob("*.py"))
# The only places that know a kind of quantizer by name.
OF_ONE_QUANTIZER = ("quantizers", "agreement", "backends/native", "native_libraries")


def names(tree: ast.AST) -> Iterator[str]:
    """Every name that code gives or uses; texts and comments aren't names."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.alias(name=name, asname=other):
                yield from filter(None, (name, other))
            case ast.ImportFrom(module=str(name)) | ast.keyword(arg=str(name)):
                yield name


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(RUNTIME)))
def test_a_module_knows_no_quantizer_by_name_and_has_room_on_a_screen(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 350
    place = str(module.relative_to(RUNTIME))
    if not place.startswith(OF_ONE_QUANTIZER):
        assert [name for name in names(ast.parse(text)) if "lfq" in name.lower()] == []
