"""Packages that are functions too: ``search(...)`` is both a room and its main function."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def make_callable(package: str, function: Callable[..., Any]) -> None:
    """Let a package be called as the public function of the same name.

    Importing ``tftas_optuna.search.api`` binds the name ``search`` in ``tftas_optuna`` to the
    package, whatever stood there before; called, the package does what the function does.

    Args:
        package: Full name of the package, as ``__name__`` gives it.
        function: What a call of it does.
    """

    class CallablePackage(ModuleType):
        __call__ = staticmethod(function)

    module = sys.modules[package]
    module.__class__ = CallablePackage
    module.__doc__ = f"{module.__doc__}\n\n{function.__doc__ or ''}"
