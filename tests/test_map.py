"""The layers of the package, listed in pyproject.toml: everything is in one, and imports point down."""

import ast
import re
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib", reason="Python has it since 3.11")

ROOT = Path(__file__).parents[1]
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["iagraph"]["layers"]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
FILES = [path for path in (ROOT / "iagraph").rglob("*.py") if path != ROOT / "iagraph" / "__init__.py"]


def part(path):
    """The package or module right below `iagraph` that a file belongs to."""
    return path.relative_to(ROOT / "iagraph").parts[0].removesuffix(".py")


def imported(path):
    """The parts that a file imports, within functions, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "iagraph":
            yield from (alias.name for alias in node.names)
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name.split(".")[1] for name in names if name.startswith("iagraph."))


def test_layers_cover_all_existing_modules():
    assert {part(path) for path in FILES} == set(LAYER)
    assert len(LAYER) == sum(map(len, LAYERS))


def test_imports_point_down():
    up = [
        f"{path.relative_to(ROOT)} imports iagraph.{name}"
        for path in FILES
        for name in imported(path)
        if LAYER.get(name, -1) > LAYER[part(path)]  # iagraph itself exports its version and the like
    ]
    assert not up


def names(node):
    """The names that a statement defines."""
    targets = getattr(node, "targets", None) or [getattr(node, "target", node)]
    return {getattr(target, "name", getattr(target, "id", None)) for target in targets}


def test_paths_named_in_contributing_exist():
    places = re.findall(r"`([\w/]+\.py): ([\w.]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(places) > 20
    for file, name in places:
        body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        for part in name.split("."):
            found = [node for node in body if part in names(node)]
            assert found, f"CONTRIBUTING.md names {file}: {name}"
            body = getattr(found[0], "body", [])
