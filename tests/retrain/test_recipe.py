from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from tftas_optuna import TftasError
from tftas_optuna.retrain import Recipe, load_recipe, recipe_names
from tftas_optuna.retrain.recipe import parse_overrides


@pytest.mark.parametrize(
    "name, epochs, lr, warmup",
    [("autoformer", 300, 1e-3, 20), ("az-nas", 500, 2e-3, 20), ("deit", 300, 1e-3, 5)],
)
def test_published_recipes(name: str, epochs: int, lr: float, warmup: int) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert (recipe.epochs, recipe.scaled_lr, recipe.warmup_epochs) == (epochs, lr, warmup)
    assert (recipe.mixup, recipe.cutmix, recipe.reprob, recipe.drop_path) == (0.8, 1.0, 0.25, 0.1)


def test_the_quick_one_is_for_a_cpu() -> None:
    recipe = load_recipe("quick")
    assert recipe_names() == ("autoformer", "az-nas", "deit", "quick", "small-data")
    assert recipe.epochs <= 30 and recipe.amp == "none" and not recipe.mixing
    assert recipe.scaled_lr == recipe.lr


def test_every_value_can_be_overridden() -> None:
    plain = Recipe()
    other: dict[str, object] = {
        name: None if value is not None and name in ("lr_base_size", "color_jitter") else value
        for name, value in plain.to_dict().items()
    }
    assert load_recipe("deit", other) == Recipe(**other)
    given = parse_overrides(["mixup=0.2", "lr=1e-4", "crop-pct=null", "opt_betas=[0.9, 0.99]"])
    recipe = load_recipe("deit", given)
    assert (recipe.mixup, recipe.lr, recipe.crop_pct, recipe.opt_betas) == (
        0.2,
        1e-4,
        None,
        (0.9, 0.99),
    )


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: deit\nepochs: 50\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert (recipe.name, recipe.epochs, recipe.mixup) == ("mine", 50, 0.8)
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    assert load_recipe(tmp_path / "again.yaml") == recipe


@pytest.mark.parametrize(
    "values, message",
    [
        ({"epochs": 0}, "epochs is 0, allowed: a whole number, 1 to 1,000,000"),
        ({"epochs": True}, "epochs is True"),
        ({"lr": "fast"}, "lr is 'fast', allowed: a number, 0 or more"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"amp": "fp8"}, "amp is 'fp8', allowed: one of none, bfloat16, float16"),
        ({"lr": math.inf}, "lr is inf, allowed: a number, 0 or more"),
        ({"mixup": None}, "mixup is None, allowed: a number, 0 or more"),
        ({"scale": [0.1]}, "scale is [0.1], allowed: a list of 2 numbers from 0 to 1"),
        ({"model_ema": "yes"}, "model_ema is 'yes', allowed: true or false"),
        ({"learning_rate": 1}, "a recipe has no 'learning_rate'; known: epochs, batch_size"),
        ({"epochs": 5, "warmup_epochs": 20}, "warmup_epochs is 20 of 5 epochs"),
        ({"batch_size": 7, "mixup": 0.1}, "batch_size is 7, mixup and cutmix need an even one"),
    ],
)
def test_what_a_recipe_refuses(values: dict[str, object], message: str) -> None:
    with pytest.raises(TftasError, match=re.escape(message)):
        load_recipe("quick", values)


def test_a_recipe_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(TftasError, match="unknown recipe 'slow'; known: autoformer, az-nas"):
        load_recipe("slow")
    path = tmp_path / "list.yaml"
    path.write_text("- epochs\n")
    with pytest.raises(TftasError, match="a recipe is a mapping"):
        load_recipe(path)
    path.write_text(f"base: {path}\n")
    with pytest.raises(TftasError, match="base is"):
        load_recipe(path)
    with pytest.raises(TftasError, match="write it KEY=VALUE"):
        parse_overrides(["mixup"])


def test_a_mapping_changes_the_usual_recipe_or_its_base() -> None:
    assert load_recipe({"mixup": 0.2}) == load_recipe("autoformer", {"mixup": 0.2})
    assert load_recipe({"base": "deit", "lr": 1e-4}) == load_recipe("deit", {"lr": 1e-4})
    assert load_recipe({"epochs": 90}, {"epochs": 80}).epochs == 80
    with pytest.raises(TftasError, match="a recipe has no 'epocs'"):
        load_recipe({"epocs": 1})


def test_numbers_of_numpy_are_numbers() -> None:
    recipe = load_recipe(
        "autoformer", {"epochs": np.int64(30), "seed": np.int64(3), "lr": np.float32(0.25)}
    )
    assert (recipe.epochs, recipe.warmup_epochs, recipe.seed, recipe.lr) == (30, 2, 3, 0.25)
    assert {type(recipe.seed), type(recipe.lr)} == {int, float}
