"""Every value of a recipe does something: none is read, checked and then forgotten."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from timm.data import create_dataset, create_transform

from tftas_optuna.retrain import Recipe, load_recipe
from tftas_optuna.retrain._timm import mend_posterize

AUGMENTED = {
    "no_aug": False,
    "scale": [1.0, 1.0],
    "ratio": [1.0, 1.0],
    "hflip": 0.0,
    "color_jitter": None,
    "train_interpolation": "bilinear",
}
MIXED = {"mixup": 0.8, "cutmix": 1.0}
ERASED = {**AUGMENTED, "reprob": 1.0}
SGD = {"opt": "sgd", "lr": 0.1}
CROPPED = {"crop_pct": 0.5, "interpolation": "bilinear"}
STEPS = {"sched": "step", "decay_epochs": 1, "decay_rate": 0.5}

# What is trained, and what is changed of it.
TRAINING: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"batch_size": 12}),
    ({}, {"seed": 1}),
    ({}, {"opt": "sgd"}),
    ({}, {"opt_eps": 0.1}),
    ({}, {"opt_betas": [0.5, 0.6]}),
    (SGD, {"momentum": 0.1}),
    ({}, {"weight_decay": 0.9}),
    ({}, {"layer_decay": 0.5}),
    (SGD, {"clip_grad": 0.01}),
    ({**SGD, "clip_grad": 0.01}, {"clip_mode": "value"}),
    ({}, {"lr": 1e-4}),
    ({}, {"lr_base_size": 4}),
    ({}, {"sched": "constant"}),
    ({}, {"sched_on_updates": False}),
    ({}, {"warmup_epochs": 1}),
    ({"warmup_epochs": 1}, {"warmup_lr": 1e-3}),
    ({}, {"min_lr": 1e-3}),
    (STEPS, {"decay_epochs": 2}),
    (STEPS, {"decay_rate": 0.1}),
    ({}, {"drop": 0.5}),
    ({}, {"drop_path": 0.5}),
    ({}, {"no_aug": False, "hflip": 1.0}),
    (AUGMENTED, {"scale": [0.1, 0.2]}),
    (AUGMENTED, {"ratio": [0.2, 0.3]}),
    (AUGMENTED, {"hflip": 1.0}),
    (AUGMENTED, {"vflip": 1.0}),
    (AUGMENTED, {"color_jitter": 0.4}),
    (AUGMENTED, {"aa": "rand-m9"}),
    (AUGMENTED, {"reprob": 1.0}),
    (ERASED, {"remode": "pixel"}),
    (ERASED, {"recount": 3}),
    ({**AUGMENTED, "scale": [0.1, 0.2]}, {"train_interpolation": "nearest"}),
    ({}, {"mixup": 0.8}),
    ({}, {"cutmix": 1.0}),
    ({}, {"cutmix_minmax": [0.2, 0.8]}),
    (MIXED, {"mixup_prob": 0.1}),
    (MIXED, {"mixup_switch_prob": 0.0}),
    (MIXED, {"mixup_mode": "elem"}),
    (MIXED, {"mixup_off_epoch": 1}),
    (MIXED, {"smoothing": 0.1}),
    ({}, {"loss": "bce"}),
    ({}, {"smoothing": 0.1}),
    ({}, {"amp": "bfloat16"}),
    ({}, {"mean": [0.1, 0.2, 0.3]}),
    ({}, {"std": [0.1, 0.2, 0.3]}),
]
EVALUATION: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"model_ema": True}),
    ({"model_ema": True}, {"model_ema_decay": 0.5}),
    ({"model_ema": True}, {"model_ema_warmup": True}),
    (CROPPED, {"crop_pct": 0.6}),
    (CROPPED, {"interpolation": "nearest"}),
]
# Each has a test of its own.
ELSEWHERE = {
    "name": "test_published_recipes",
    "epochs": "test_a_network_learns_and_is_left_as_a_timm_model",
    "grad_accum_steps": "test_accumulated_steps_make_one_batch",
    "aug_repeats": "test_one_process_repeats_no_augmentation",
    "teacher": "test_a_student_that_is_its_teacher_has_nothing_to_learn",
    "distillation_alpha": "test_how_much_a_teacher_counts",
    "distillation_tau": "test_how_much_a_teacher_counts",
    "checkpoint_hist": "test_how_often_things_are_kept",
    "shared_members": "test_members_are_drawn_by_seed_and_rule",
    "shared_rule": "test_members_are_drawn_by_seed_and_rule",
    "shared_distillation": "test_others_learn_what_the_largest_says",
    "log_interval": "test_how_often_things_are_kept",
}

_DONE: dict[str, tuple[list[str], list[str]]] = {}


def label(case: Any) -> str:
    return ",".join(case)


def outcome(train: Any, out: Path, values: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Losses of the steps, and what the evaluations say."""
    key = json.dumps(values, sort_keys=True)
    if key not in _DONE:
        train(out, **values)
        steps, epochs = (
            list(csv.DictReader((out / name).read_text().splitlines()))
            for name in ("steps.csv", "metrics.csv")
        )
        _DONE[key] = [row["loss"] for row in steps], [row["loss"] for row in epochs]
    return _DONE[key]


@pytest.mark.parametrize("base, change", TRAINING, ids=label)
def test_training_changes(
    train: Any, tmp_path: Path, base: dict[str, Any], change: dict[str, Any]
) -> None:
    before = outcome(train, tmp_path / "before", base)
    after = outcome(train, tmp_path / "after", {**base, **change})
    assert before[0] != after[0] and before[1] != after[1]


@pytest.mark.parametrize("base, change", EVALUATION, ids=label)
def test_evaluation_changes_and_training_does_not(
    train: Any, tmp_path: Path, base: dict[str, Any], change: dict[str, Any]
) -> None:
    before = outcome(train, tmp_path / "before", base)
    after = outcome(train, tmp_path / "after", {**base, **change})
    assert before[0] == after[0] and before[1] != after[1]


def test_how_much_a_teacher_counts(train: Any, tmp_path: Path) -> None:
    train(tmp_path / "teacher", seed=3)
    teacher = {"teacher": f"local-dir:{tmp_path / 'teacher'}"}

    def first_loss(name: str, **values: Any) -> float:
        return float(outcome(train, tmp_path / name, {"epochs": 1, **values})[0][0])

    alone = first_loss("alone")
    taught = first_loss("taught", **teacher, distillation_alpha=1.0)
    assert first_loss("unheard", **teacher, distillation_alpha=0.0) == pytest.approx(alone)
    both = first_loss("both", **teacher, distillation_alpha=0.25)
    assert both == pytest.approx(0.75 * alone + 0.25 * taught)
    softer = first_loss("softer", **teacher, distillation_alpha=1.0, distillation_tau=3.0)
    assert softer != pytest.approx(taught)


def test_how_often_things_are_kept(train: Any, tmp_path: Path) -> None:
    train(tmp_path, epochs=3, log_interval=4, checkpoint_hist=2)
    steps = csv.DictReader((tmp_path / "steps.csv").read_text().splitlines())
    assert [int(row["step"]) for row in steps] == list(range(0, 27, 4))
    assert len(list(tmp_path.glob("checkpoint-*.pth.tar"))) == 2


def test_one_process_repeats_no_augmentation(
    train: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = outcome(train, tmp_path / "plain", {})
    assert outcome(train, tmp_path / "repeated", {"aug_repeats": 3}) == plain
    assert "one process trains without repeated augmentation" in caplog.text
    assert load_recipe(tmp_path / "repeated" / "recipe.yaml").aug_repeats == 0


@pytest.mark.parametrize("policy", ["rand-m10-inc1", "original"])
def test_policies_posterize_to_no_bits_at_all(images: Path, policy: str) -> None:
    """Pillow 13 refuses what timm asks for at the highest level; earlier ones return black."""
    dataset = create_dataset("", root=images, split="train")
    dataset.transform = create_transform((3, 8, 8), is_training=True, auto_augment=policy)
    mend_posterize(dataset.transform)
    (part,) = (
        p for p in dataset.transform.transforms if hasattr(p, "ops") or hasattr(p, "policy")
    )
    entries = part.ops if hasattr(part, "ops") else [op for row in part.policy for op in row]
    ops = [op for op in entries if "Posterize" in op.name]
    image = Image.new("RGB", (8, 8), "white")
    assert ops
    for op in ops:
        assert op.aug_fn(image, 0).getextrema() == ((0, 0),) * 3
        assert op.aug_fn(image, 1).getextrema() == ((128, 128),) * 3


def test_nothing_is_left_out() -> None:
    tried = {name for _, change in (*TRAINING, *EVALUATION) for name in change}
    assert tried | set(ELSEWHERE) == {field.name for field in dataclasses.fields(Recipe)}
