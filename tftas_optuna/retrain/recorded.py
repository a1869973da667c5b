"""One training in a directory of its name, whose accuracy a study remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tftas_optuna.retrain.run import train_network
from tftas_optuna.storage import annotate_finished, check_writable
from tftas_optuna.study._optuna import storage_of
from tftas_optuna.study.accuracy import record_accuracy
from tftas_optuna.study.front import get_candidate
from tftas_optuna.study.notes import write_trial_notes

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
        study: The study that the network comes from; None to record nothing.
        trial: Number of its trial there.
        **options: Passed on to :func:`tftas_optuna.retrain.run.train_network`, which also says
            what is raised.

    Returns:
        Its result, the network's ``name`` before it and the directory, ``out``, after it.
    """
    if study is not None and world.primary:
        check_writable(study, storage_of(study)[0])
    folder = out / network.label
    result = train_network(
        network, recipe, source, folder, world=world, weights=weights, **options
    )
    if study is not None and trial is not None and world.primary:
        how = {
            "recipe": recipe.name,
            "epochs": recipe.epochs,
            "seed": recipe.seed,
            "weights": weights,
            "data": source.dataset or str(source.root),
        }
        record_accuracy(study, trial, {**result, **how})
        annotate_finished(storage_of(study)[0], study.study_name, trial, "top1", result["top1"])
        write_trial_notes(study, [get_candidate(study, trial)])
    return {"name": network.label, **result, "out": str(folder)}
