"""The rooms of the package import as CONTRIBUTING.md says, without circles."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tftas_optuna"
# Imported by everybody, as CONTRIBUTING.md says.
LEAVES = {"errors", "families", "devices", "ranks", "_writing"}
# The lazy table of public names, and the way to the command line.
FRONT_DOORS = {"tftas_optuna", "tftas_optuna.__main__"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    return module.split(".")[1]


def running(node: ast.AST) -> Iterator[ast.AST]:
    """Walk over what runs: inside functions too, not under ``if TYPE_CHECKING``."""
    yield node
    only_typing = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for child in node.orelse if only_typing else ast.iter_child_nodes(node):
        yield from running(child)


def imports(module: str) -> set[str]:
    """List the modules of the package that a module imports at run time."""
    found: set[str] = set()
    for node in running(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute here"
            source = str(node.module)
            parts = {f"{source}.{alias.name}" for alias in node.names}
            submodules = parts & FILES.keys()
            found |= submodules
            if len(submodules) < len(parts):
                found.add(source)
    return {name for name in found if name in FILES and name != module}


def table() -> dict[str, set[str]]:
    """Read who may import whom from CONTRIBUTING.md, in the order of its table."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## The rooms")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", section, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", allowed)) for name, allowed in rows}


ROOMS = table()


def test_the_table_names_every_room_once_and_only_rooms_above() -> None:
    assert set(ROOMS) == {room(module) for module in FILES.keys() - FRONT_DOORS}
    above: set[str] = set()
    for name, allowed in ROOMS.items():
        assert allowed <= above, f"{name} imports from below: {sorted(allowed - above)}"
        above.add(name)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_what_the_table_says(name: str) -> None:
    found: dict[str, list[str]] = {}
    for module in FILES.keys() - FRONT_DOORS:
        if room(module) == name:
            for target in imports(module) - {"tftas_optuna"}:
                found.setdefault(room(target), []).append(f"{module} -> {target}")
            assert "tftas_optuna" not in imports(module), f"{module} imports the package itself"
    found.pop(name, None)
    used = found.keys() - LEAVES
    assert used <= ROOMS[name], [line for other in used - ROOMS[name] for line in found[other]]
    assert ROOMS[name] <= used, f"the table allows {sorted(ROOMS[name] - used)}, which is unused"


def test_modules_import_each_other_without_a_circle() -> None:
    modules = FILES.keys() - FRONT_DOORS
    TopologicalSorter({module: imports(module) - FRONT_DOORS for module in modules}).prepare()
