"""Print the lowest versions that pyproject.toml declares, as constraints for pip.

A `name>=version` of the dependencies and of every extra becomes `name==version`; pip then takes
from them what an installation needs. A requirement without a lower bound is refused, so that
none goes untried.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+) (?:\[[\w.,-]+\])? >= (?P<version>[\w.]+) (?:,[^;]+)? \s* (?P<marker>;.+)?",
    re.VERBOSE,
)


def lowest(requirement: str) -> str:
    """Return the constraint that holds a requirement at its lower bound.

    Raises:
        SystemExit: the requirement has no lower bound.
    """
    match = REQUIREMENT.fullmatch(requirement)
    if match is None:
        sys.exit(
            f"pyproject.toml: {requirement!r} has no lower bound: write it as 'name>=version'"
        )
    return f"{match['name']}=={match['version']}{match['marker'] or ''}"


def main() -> None:
    """Read pyproject.toml beside this folder and print a constraint a line."""
    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        requirements += extra
    itself = f"{project['name']}["
    for constraint in sorted({lowest(r) for r in requirements if not r.startswith(itself)}):
        print(constraint)


if __name__ == "__main__":
    main()
