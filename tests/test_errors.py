"""What messages say about names that nobody knows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tftas_optuna.errors import TftasError, did_you_mean
from tftas_optuna.metrics import get_cost, get_indicator
from tftas_optuna.metrics.bounds import check_objectives
from tftas_optuna.retrain.network import resolve_network
from tftas_optuna.retrain.recipe import load_recipe
from tftas_optuna.samplers.named import make_sampler
from tftas_optuna.spaces import find_architecture, get_space, space_from_dict


@pytest.mark.parametrize(
    ("look_up", "meant"),
    [
        (lambda: get_space("autoformer-tny"), "autoformer-tiny"),
        (lambda: space_from_dict({"family": "Pitt", "name": "x"}), "pit"),
        (lambda: space_from_dict({"family": "pit", "name": "x", "dept": [1]}), "depth"),
        (lambda: find_architecture("tf-tas-tny"), "tf-tas-tiny"),
        (lambda: get_indicator("nazwot"), "naswot"),
        (lambda: get_indicator("dss").with_options(haed_weight=1.0), "head_weight"),
        (lambda: get_cost("param"), "n_params"),
        (lambda: check_objectives(("dds", "n_params"), "pit"), "dss"),
        (lambda: make_sampler("nsga-ii", 8, 0), "nsgaii"),
        (lambda: load_recipe("dit"), "deit"),
        (lambda: load_recipe("quick", {"epoch": 1}), "epochs"),
        (lambda: resolve_network("vit_tny_patch16_224"), "vit_tiny_patch16_224"),
    ],
)
def test_a_close_name_is_suggested(look_up: Callable[[], object], meant: str) -> None:
    with pytest.raises(TftasError, match=rf"; did you mean '{meant}'\?"):
        look_up()


def test_names_are_listed_unless_they_are_too_many() -> None:
    names = ["Mine", "other", "third"]
    assert did_you_mean("mien", names) == "; did you mean 'Mine'? known: Mine, other, third"
    assert did_you_mean("x", names, most=1) == "; known: Mine and 2 more"
    assert did_you_mean("x", names, most=0) == ""
    assert did_you_mean("x", []) == "; known: none"
