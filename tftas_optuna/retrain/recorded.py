"""One training in a directory of its name, whose accuracy a study remembers."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from tftas_optuna.retrain.run import fit_recipe, train_network
from tftas_optuna.storage import annotate_finished, check_writable
from tftas_optuna.study._optuna import storage_of
from tftas_optuna.study.accuracy import choose_trainings, record_accuracy, training_sets

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study

    from tftas_optuna.retrain.data import DataSource
    from tftas_optuna.retrain.distributed import World
    from tftas_optuna.retrain.network import Network
    from tftas_optuna.retrain.recipe import Recipe


def train_and_record(
    network: Network,
    recipe: Recipe,
    source: DataSource,
    out: Path,
    *,
    world: World,
    weights: str = "scratch",
    study: Study | None = None,
    trial: int | None = None,
    record: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Train a network, and write what it reaches into the study that it comes from.

    Args:
        network: What to train.
        recipe: How.
        source: On what.
        out: Where directories of networks lie; this one's is called like the network.
        world: This process among all.
        weights: What it starts from.
        study: The study that the network comes from.
        trial: Number of its trial there.
        record: Whether to write into the study.
        **options: Passed on to :func:`tftas_optuna.retrain.run.train_network`, which also says
            what is raised.

    Returns:
        Its result, the network's ``name`` before it and the directory, ``out``, after it; and
        ``trained``, the key of the conditions that the study has it under, where it was written
        there.
    """
    if study is not None and world.primary:
        check_writable(study, storage_of(study)[0])
    folder = out / network.label
    result = train_network(
        network, recipe, source, folder, world=world, weights=weights, **options
    )
    told = {"name": network.label, **result, "out": str(folder)}
    if record and study is not None and trial is not None and world.primary:
        how = {
            "recipe": recipe.name,
            "recipe_digest": fit_recipe(recipe, world).digest,
            "epochs": recipe.epochs,
            "img_size": network.img_size,
            "seed": recipe.seed,
            # Where each network has a checkpoint of its own, they differ in its name alone.
            "weights": weights.replace(network.label, "NETWORK"),
            "data": source.dataset or str(source.root),
            # Release 0.2.0 did not record it.
            "data_digest": result.get("data_digest"),
            "out": str(folder.resolve()),
            "model_digest": model_digest(folder),
            "recorded": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        told["trained"] = record_accuracy(study, trial, {**result, **how})
        _show_accuracies(study)
    return told


def model_digest(folder: Path) -> str | None:
    """Return a digest of the weights in the directory of a training; None if there are none."""
    path = folder / "model.safetensors"
    if not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _show_accuracies(study: Study) -> None:
    """Write the accuracies that the front shows into the trials, and take others away."""
    shown = choose_trainings(study)
    assert shown is not None
    storage = storage_of(study)[0]
    for number in {number for one in training_sets(study) for number in one.records}:
        key = shown.key if number in shown.records else None
        for name, value in {"top1": shown.top1(number), "trained": key}.items():
            annotate_finished(storage, study.study_name, number, name, value)
