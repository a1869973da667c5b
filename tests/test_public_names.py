"""Public functions are functions, though rooms of the package have the same names."""

from __future__ import annotations

import inspect
import pickle
import pydoc
import subprocess
import sys

import pytest

import tftas_optuna

# Public functions that share their name with a room.
NAMESAKES = ("correlate", "retrain", "search")

IMPORTS = {
    "the function alone": "from tftas_optuna import {0} as function",
    "the package": "import tftas_optuna; function = tftas_optuna.{0}",
    "the room first": "import tftas_optuna.{0}; function = tftas_optuna.{0}",
    "a module of the room": "import tftas_optuna.{0}.api; function = tftas_optuna.{0}",
    "a module by a name of its own": "import tftas_optuna.{0}.api as api; function = api.{0}",
    "from the room": "from tftas_optuna.{0} import {0} as function, api",
    "the function before the room": (
        "import tftas_optuna; function = tftas_optuna.{0}\n"
        "import tftas_optuna.{0}.api as api\n"
        "assert tftas_optuna.{0} is function is api.{0}"
    ),
}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", NAMESAKES)
def test_a_public_function_is_plain(name: str) -> None:
    function = getattr(tftas_optuna, name)
    assert inspect.isfunction(function)
    assert pickle.loads(pickle.dumps(function)) is function
    text = pydoc.render_doc(function, renderer=pydoc.plaintext)
    assert text.startswith(f"Python Library Documentation: function {name} in module tftas_optuna")


@pytest.mark.parametrize(
    ("name", "first"), [("correlate", "table"), ("retrain", "network"), ("search", "space")]
)
def test_a_signature_has_every_parameter(name: str, first: str) -> None:
    parameters = inspect.signature(getattr(tftas_optuna, name)).parameters
    assert next(iter(parameters)) == first


@pytest.mark.parametrize("how", IMPORTS)
def test_however_it_is_imported(how: str) -> None:
    # The light room: the others load PyTorch, and take the same way.
    code = f"{IMPORTS[how].format('retrain')}\nprint(type(function), function.__module__)"
    assert run(code) == "<class 'function'> tftas_optuna.retrain.api\n"


def test_a_room_is_found_behind_its_function() -> None:
    from tftas_optuna.retrain import Recipe

    assert tftas_optuna.retrain.Recipe is Recipe


def test_a_public_function_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tftas_optuna, "search", len)
    assert tftas_optuna.search([1]) == 1


def test_no_public_name_loads_pytorch_before_it_is_used() -> None:
    assert run("import sys, tftas_optuna; print('torch' in sys.modules)") == "False\n"


def test_a_function_shows_all_of_its_parameters() -> None:
    for name in ("search", "retrain", "correlate"):
        parameters = inspect.signature(getattr(tftas_optuna, name)).parameters
        assert "kwargs" not in parameters and "kwds" not in parameters
        assert len(parameters) > 5
