"""Trains in a directory of its own, and records the accuracies in the study."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tftas_optuna.retrain.run import fit_recipe, train, train_network
from tftas_optuna.retrain.slices import weights_text
from tftas_optuna.storage import annotate_finished, check_writable
from tftas_optuna.study._optuna import storage_of
from tftas_optuna.study.accuracy import (
    choose_trainings,
    record_accuracy,
    record_shared,
    training_sets,
)

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study

    from tftas_optuna.retrain.data import DataSource
    from tftas_optuna.retrain.distributed import World
    from tftas_optuna.retrain.network import Network
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.retrain.shared import SharedMembers
    from tftas_optuna.scoring.conditions import SupernetSource


def train_and_record(
    network: Network,
    recipe: Recipe,
    source: DataSource,
    out: Path,
    *,
    world: World,
    weights: str | SupernetSource = "scratch",
    study: Study | None = None,
    trial: int | None = None,
    record: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Train a network, and record its accuracy in the study that it comes from.

    Args:
        network: The network.
        recipe: How to train it.
        source: The data.
        out: Directory of trainings; this one gets a subdirectory with the network's label.
        world: This process among all.
        weights: Weights to start from.
        study: The study that the network comes from.
        trial: Number of its trial there.
        record: Whether to record the accuracy in the study.
        **options: Passed on to :func:`tftas_optuna.retrain.run.train_network`, which also
            lists the errors.

    Returns:
        The result, with the network's ``name`` first and the directory, ``out``, last; after
        that ``trained``, the key of the training conditions, if the study recorded it.
    """
    if study is not None and world.primary:
        check_writable(study, storage_of(study)[0])
    folder = out / network.label
    result = train_network(
        network, recipe, source, folder, world=world, weights=weights, **options
    )
    row = {"name": network.label, **result, "out": str(folder)}
    if record and study is not None and trial is not None and world.primary:
        row["trained"] = record_training(
            study,
            trial,
            result,
            network=network,
            recipe=recipe,
            source=source,
            folder=folder,
            world=world,
            weights=weights,
        )
    return row


def record_training(
    study: Study,
    trial: int,
    result: dict[str, Any],
    *,
    network: Network,
    recipe: Recipe,
    source: DataSource,
    folder: Path,
    world: World,
    weights: str | SupernetSource,
) -> str:
    """Record the accuracy of a finished training in the study that its network comes from.

    Args:
        study: The study.
        trial: Number of the trial.
        result: The result of the training.
        network: What was trained.
        recipe: How it was trained.
        source: The data.
        folder: The directory of the training.
        world: This process among all.
        weights: The weights that it started from.

    Returns:
        The key of the training conditions.
    """
    details = {
        **_details(recipe, source, folder, world),
        "img_size": network.img_size,
        # Checkpoints of different networks may differ in the network's name alone.
        "weights": weights_text(weights).replace(network.label, "NETWORK"),
        # Release 0.2.0 did not record it.
        "data_digest": result.get("data_digest"),
        "model_digest": model_digest(folder),
    }
    key = record_accuracy(study, trial, {**result, **details})
    show_accuracies(study)
    return key


def train_shared_and_record(
    shared: SharedMembers,
    recipe: Recipe,
    source: DataSource,
    out: Path,
    *,
    world: World,
    study: Study | None = None,
    record: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Train members together, and record their accuracies in the study that they come from.

    Args:
        shared: The members.
        recipe: How to train them.
        source: The data.
        out: Directory of trainings; this one gets a subdirectory, ``LABEL-shared``.
        world: This process among all.
        study: The study that the members come from.
        record: Whether to record the accuracies in the study.
        **options: Passed on to :func:`tftas_optuna.retrain.run.train`, which also lists the
            errors.

    Returns:
        The result, with the ``name`` first and the directory, ``out``, last; after that
        ``shared``, the key of the training conditions, if the study recorded it.
    """
    shared.draws(recipe)  # raises an error if the recipe does not apply, before images are read
    if study is not None and world.primary:
        check_writable(study, storage_of(study)[0])
    folder = out / f"{shared.label}-shared"
    result = train(shared, recipe, source, folder, world=world, **options)
    row = {"name": folder.name, **result, "out": str(folder)}
    rows = {member["trial"]: member for member in result["members"]}
    if record and study is not None and None not in rows and world.primary:
        facts = ("num_classes", "n_train", "n_val", "train_split", "val_split", "data_digest")
        details = {
            **_details(recipe, source, folder, world),
            **{name: result[name] for name in facts if name in result},
            "img_size": shared.img_size,
            "weights": shared.weights,
            "members": len(rows),
            "supernet": result["supernet"],
        }
        accuracies = {
            trial: {name: member[name] for name in ("top1", "top5", "loss")}
            for trial, member in rows.items()
        }
        row["shared"] = record_shared(study, accuracies, details)
        show_accuracies(study)
    return row


def _details(recipe: Recipe, source: DataSource, folder: Path, world: World) -> dict[str, Any]:
    """Return what a study records of every training."""
    return {
        "recipe": recipe.name,
        "recipe_digest": fit_recipe(recipe, world).digest,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "data": source.dataset or str(source.root),
        "out": str(folder.resolve()),
        "recorded": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def model_digest(folder: Path) -> str | None:
    """Return a digest of the weights in the directory of a training; None if there are none."""
    path = folder / "model.safetensors"
    if not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def show_accuracies(study: Study) -> None:
    """Write the accuracies that the front shows to the trials, and remove others."""
    storage = storage_of(study)[0]
    for shared, value_name, key_name in (
        (False, "top1", "trained"),
        (True, "shared_top1", "shared"),
    ):
        shown = choose_trainings(study, shared=shared)
        sets = training_sets(study, shared=shared)
        for number in {number for trainings in sets for number in trainings.records}:
            assert shown is not None
            key = shown.key if number in shown.records else None
            for name, value in {value_name: shown.top1(number), key_name: key}.items():
                annotate_finished(storage, study.study_name, number, name, value)
