"""Write the package of the screened sampler for the registry of OptunaHub.

The modules of the sampler are copied from `tftas_optuna`, and with them what they import and use
of other modules there; imports become relative. Everything else lies in the folder `optunahub`
beside this file.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = Path("package/samplers/screened_nsgaii")
SAMPLER = "tftas_optuna.samplers.screened"
# What the package offers, besides the sampler: the types of its argument `knowledge`.
KNOWLEDGE = ("Knowledge", "Known", "KnownTable", "ManyKnown")
PUBLIC = {SAMPLER: ("ScreenedNSGAIISampler",), "tftas_optuna.samplers.knowledge": KNOWLEDGE}
LOADED = """\
        >>> import optunahub
        >>> package = optunahub.load_module(package="samplers/screened_nsgaii")
        >>> ScreenedNSGAIISampler = package.ScreenedNSGAIISampler
"""


class Module:
    """A module of `tftas_optuna`, of which some definitions are wanted.

    Args:
        name: Its full name.
    """

    def __init__(self, name: str) -> None:
        path = ROOT / (name.replace(".", "/") + ".py")
        self._lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        self._nodes = ast.parse("".join(self._lines)).body
        self._wanted: set[str] = set()

    def want(self, names: set[str]) -> bool:
        """Want names, and all that their definitions use; return whether any is new."""
        new = [node for node in self._nodes if names & _defined(node) - self._wanted]
        for node in new:
            self._wanted |= _defined(node)
            self.want(_used(node))
        return bool(new)

    def imported(self) -> dict[str, set[str]]:
        """Return the modules that are imported, and the names of each that are used."""
        used = set().union(*map(_used, filter(self._is_kept, self._nodes)))
        found: dict[str, set[str]] = {}
        for node in (n for kept in filter(self._is_kept, self._nodes) for n in ast.walk(kept)):
            if isinstance(node, ast.Import):
                found |= {alias.name: set() for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {alias.name for alias in node.names}
                found.setdefault(str(node.module), set()).update(names & used)
        return found

    def text(self) -> str:
        """Return the text without definitions that are not wanted, with relative imports."""
        text, end = "", 0
        for node in self._nodes:
            start, end = end, int(node.end_lineno or 0)
            if self._is_kept(node):
                text += "".join(self._lines[start:end])
        text = re.sub(r"from tftas_optuna\.(?:samplers\.)?(\w+) import", r"from .\1 import", text)
        text = re.sub(r" +>>> from tftas_optuna import ScreenedNSGAIISampler\n", LOADED, text)
        return text.replace("tftas_optuna.samplers.", "")

    def _is_kept(self, node: ast.stmt) -> bool:
        return not _defined(node) or bool(_defined(node) & self._wanted)


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement at the top of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return set().union(*map(_used, targets))
    return set()


def _used(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def collect() -> dict[str, Module]:
    """Return the modules that the sampler needs, by name."""
    modules: dict[str, Module] = {}
    asked = [(name, set(names)) for name, names in PUBLIC.items()]
    while asked:
        name, names = asked.pop()
        module = modules.setdefault(name, Module(name))
        if module.want(names):
            asked += [each for each in module.imported().items() if each[0].startswith("tftas_")]
    return modules


def build(root: Path) -> Path:
    """Write the package.

    Args:
        root: Folder that stands for the root of the registry.

    Returns:
        The folder of the package in it.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    modules = collect()
    names = {module: module.rpartition(".")[2] for module in modules} | {SAMPLER: "sampler"}
    package = root / PACKAGE
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(
        Path(__file__).with_suffix(""), package, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "LICENSE", package)
    offered = sorted((names[module], name) for module in PUBLIC for name in PUBLIC[module])
    texts = {
        "__init__": "".join(f"from .{module} import {name}\n" for module, name in offered)
        + f"\n\n__all__ = {[name for _, name in offered]}\n",
        **{names[name]: module.text() for name, module in modules.items()},
    }
    for name, text in texts.items():
        header = f"# Generated from tftas-optuna {project['version']}; changes belong there.\n"
        (package / f"{name}.py").write_text(header + text, encoding="utf-8")
    imported = {name.partition(".")[0] for m in modules.values() for name in m.imported()}
    needed = [each for each in project["dependencies"] if each.partition(">=")[0] in imported]
    (package / "requirements.txt").write_text("\n".join(needed) + "\n", encoding="utf-8")
    return package


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
