"""How Sphinx builds these pages; ``make docs`` runs it. Nothing is fetched from the network."""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import tftas_optuna  # noqa: E402
from tftas_optuna.metrics import indicator_names, metric_names  # noqa: E402

if TYPE_CHECKING:
    from click import Context
    from sphinx.application import Sphinx

# Some rooms are called like their main function; here the function is meant.
for room in ("correlate", "retrain", "search"):
    setattr(tftas_optuna, room, getattr(import_module(f"tftas_optuna.{room}.api"), room))

project = "tftas-optuna"
author = "The tftas-optuna authors"
copyright = author
version = release = metadata.version("tftas-optuna")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser", "sphinx_click"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
# Two dashes are an option.
smartquotes = False
napoleon_use_ivar = True

# Types of other packages would be looked up over the network, and types that only type checkers
# import cannot be told from them. What pages and docstrings refer to by its full name has to be
# there.
nitpick_ignore_regex = [
    ("py:class", r"[^.]+"),
    ("py:class", r"(click|collections|dataclasses|np|numpy|nn|optuna|os|pathlib|torch)\..+"),
    ("py:class", r"tftas_optuna\.(metrics\.registry\.Function|supernet\._base\.A)"),
    # Fields are listed with their class, and are no targets of their own.
    ("py:attr", r".+"),
]

html_theme = "furo"
html_title = f"tftas-optuna {release}"
html_show_copyright = False


def name_metrics(app: Sphinx, context: Context, lines: list[str]) -> None:
    """List all metrics and indicators where ``--help`` looks them up."""
    for word, names in (("{metrics}", metric_names()), ("{indicators}", indicator_names())):
        lines[:] = [line.replace(word, ", ".join(names)) for line in lines]


def setup(app: Sphinx) -> None:
    """Connect what Sphinx calls on its way."""
    app.connect("sphinx-click-process-options", name_metrics)
