"""The rooms of the package import as CONTRIBUTING.md says, without circles.

A module that is named by a string counts as imported: ``"package.module:Name"`` anywhere, and what
a file that loads modules by name may load.
"""

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
LEAVES = {"errors", "devices", "ranks", "_reading", "_writing", "_registry", "_given", "_html"}
# The lazy table of public names, and the way to the command line.
FRONT_DOORS = {"tftas_optuna", "tftas_optuna.__main__"}
# What loads or finds modules by name.
LOADERS = re.compile(r"\b(import_module|__import__|find_spec|resources\.files|sys\.modules)\b")


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
    """List the modules of the package that a module imports at run time, or loads by name."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    found = named(tree)
    for node in running(tree):
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


def named(tree: ast.Module) -> set[str]:
    """List the modules that the strings of a file name.

    In a file that loads modules by name, strings may be parts of names that it makes: the path or
    the bare name of a room or folder stands for all that lies in it.
    """
    texts = {
        node.value
        for node in running(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    found = {text.partition(":")[0] for text in texts if ":" in text}
    ours = {text for text in texts if text.split(".")[0] == "tftas_optuna"}
    if ours and LOADERS.search(ast.unparse(tree)):
        # The package alone is the name of its logger; with a dot it is the beginning of a path.
        folders = {text.removesuffix(".") for text in ours - {"tftas_optuna"}}
        folders |= {f"tftas_optuna.{text}" for text in texts if text}
        found |= {
            name for name in FILES for folder in folders if f"{name}.".startswith(f"{folder}.")
        }
    return found & FILES.keys() - {"tftas_optuna"}


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


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("PART = 'tftas_optuna.spaces:PiTSpace'", "tftas_optuna.spaces"),
        ("import_module('tftas_optuna.costs.macs')", "tftas_optuna.costs.macs"),
        ("import_module(f'tftas_optuna.costs.{name}')", "tftas_optuna.costs.macs"),
        (
            "ROOT = 'tftas_optuna'\nimport_module('.'.join((ROOT, 'costs', name)))",
            "tftas_optuna.costs.macs",
        ),
        ("import_module(f'tftas_optuna.{name}')", "tftas_optuna.costs.macs"),
        ("resources.files('tftas_optuna.spaces') / 'data'", "tftas_optuna.spaces"),
        ("sys.modules.get('tftas_optuna.models')", "tftas_optuna.models"),
    ],
)
def test_modules_named_by_strings_are_seen(source: str, target: str) -> None:
    assert target in named(ast.parse(source))
    assert not named(ast.parse("GROUP = 'tftas_optuna.costs'"))
