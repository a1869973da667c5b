"""``tftas-optuna retrain``: trains the architectures of a study, or any timm model."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna._writing import file_stem
from tftas_optuna.cli._options import (
    Duration,
    budget_options,
    budgets,
    check_members,
    device_option,
    format_option,
    members_options,
    slices_option,
    storage_option,
    verbosity_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study

    from tftas_optuna.retrain.network import Network
    from tftas_optuna.study.front import Candidate

# Members of a race, unless the user says how many.
_RACING = 12


@click.command()
@click.argument("configs", nargs=-1, metavar="[FILE|DIRECTORY|NAME]...")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    required=True,
    help="Directory of images, train/CLASS/IMAGE and val/CLASS/IMAGE, or of the --dataset.",
)
@click.option(
    "--dataset", metavar="NAME", default="", help="Data set of timm, such as torch/cifar10."
)
@click.option("--train-split", default="train", show_default=True, help="Split to train on.")
@click.option(
    "--val-split",
    help="Split to evaluate on; default for folders: the first of val, valid, validation, test.",
)
@click.option(
    "--val-fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Fraction of each class to evaluate on, if one folder holds all images.",
)
@click.option("--download", is_flag=True, help="Download the data set if timm can.")
@click.option(
    "--recipe",
    "recipe_name",
    metavar="NAME|FILE",
    default="autoformer",
    show_default=True,
    help="Training recipe: autoformer, az-nas, deit, quick, small-data, or a YAML file.",
)
@click.option("--epochs", type=int, help="Number of epochs; by default the recipe's.")
@click.option("--batch-size", type=int, help="Images per step, over all processes.")
@click.option(
    "--lr",
    metavar="RATE|auto",
    help="Learning rate, before it is scaled to the batch size; auto finds one by a range test.",
)
@click.option("--seed", type=int, help="Seed of the training; by default the recipe's.")
@click.option("--teacher", metavar="MODEL", help="timm model to distil from, or local-dir:PATH.")
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override any value of the recipe; repeatable.",
)
@click.option(
    "--weights",
    metavar="START|PATH",
    show_default="scratch",
    help="Weights to start from: scratch, supernet (slices of --supernet), pretrained (timm's), a "
    "checkpoint, a trained supernet, or timm:NAME, slices of a larger network.",
)
@slices_option
@click.option(
    "--img-size", type=click.IntRange(1, 4096), help="Input size; by default the network's."
)
@click.option(
    "--num-classes",
    type=click.IntRange(1, 1_000_000),
    help="Number of classes that the data must have.",
)
@click.option(
    "--study",
    "--study-name",
    "study_name",
    metavar="NAME",
    help="Train members of this study's front, and record their accuracies in the study.",
)
@storage_option
@click.option(
    "--shared",
    is_flag=True,
    help="Train all of them together, as slices of one supernet: members of the --study (by "
    "default its whole front), several FILEs, or a whole --space.",
)
@click.option(
    "--space",
    "space_name",
    metavar="NAME|FILE|timm:NAME",
    help="With --shared: the space to train all of, or that the FILEs come from.",
)
@click.option(
    "--race",
    "racing",
    is_flag=True,
    help="Train members of the --study against each other: the worse half is dropped after some "
    "epochs, and again; the last three are trained with three seeds.",
)
@click.option(
    "--timeout",
    type=Duration(),
    help="With --race: the time that it may take, such as 20m or 1.5h, which decides on the "
    "epochs.",
)
@click.option(
    "--baseline",
    "baselines",
    metavar="NAME|smallest",
    multiple=True,
    help="With --race: a network to compare with, such as vit_tiny_patch16_224, or the smallest "
    "member; never dropped. Repeatable.",
)
@click.option("--no-record", is_flag=True, help="Do not record accuracies in the study.")
@members_options("train, best first; by default 1, with --shared all, with --race 12")
@click.option("--trial", "trials", type=int, multiple=True, help="Trial to train; repeatable.")
@budget_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="trained",
    show_default=True,
    help="Directory to write to, with a subdirectory for each network.",
)
@device_option
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=min(8, os.cpu_count() or 1),
    show_default="one for each core, 8 at most",
    help="Processes that load images, for each training process.",
)
@click.option("--tensorboard", is_flag=True, help="Also write the metrics for TensorBoard.")
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@verbosity_options
def retrain(
    configs: tuple[str, ...],
    data_dir: Path,
    dataset: str,
    train_split: str,
    val_split: str | None,
    val_fraction: float | None,
    download: bool,
    recipe_name: str,
    epochs: int | None,
    batch_size: int | None,
    lr: str | None,
    seed: int | None,
    teacher: str | None,
    assignments: tuple[str, ...],
    weights: str | None,
    supernet: str | None,
    img_size: int | None,
    num_classes: int | None,
    study_name: str | None,
    storage: str,
    shared: bool,
    racing: bool,
    timeout: float | None,
    baselines: tuple[str, ...],
    space_name: str | None,
    no_record: bool,
    top: int | None,
    spread: int | None,
    trials: tuple[int, ...],
    params_max: float | None,
    macs_max: float | None,
    latency_max: float | None,
    more_bounds: tuple[tuple[str, str, float], ...],
    out: Path,
    device: str,
    workers: int,
    tensorboard: bool,
    output: str,
    quiet: bool,
) -> None:
    """Train an exported architecture, a published one, a timm model, or members of a front.

    A DIRECTORY of `retrain` or `export -f timm` stands for the architecture in it; with --weights
    DIRECTORY its training starts from those weights.

    Run the same command again to continue a stopped training after its last whole epoch.

    \b
      tftas-optuna retrain front/autoformer-tiny-trial00042.yaml --data-dir imagenet
      tftas-optuna retrain --study autoformer-tiny --top 5 --data-dir imagenet
      tftas-optuna retrain --study autoformer-tiny --shared --data-dir imagenet
      tftas-optuna retrain --study autoformer-tiny --race --data-dir imagenet
      torchrun --nproc-per-node 8 -m tftas_optuna retrain ...
    """
    from tftas_optuna.retrain.recipe import load_recipe, parse_overrides

    if shared and racing:
        raise click.UsageError("--shared trains members together, --race each by itself; give one")
    if not racing and (timeout is not None or baselines):
        option = "--baseline" if baselines else "--timeout"
        raise click.UsageError(f"{option} is for a --race")
    if space_name is not None and not shared:
        raise click.UsageError("--space is for --shared; a network alone needs none")
    if shared and weights is not None:
        raise click.UsageError("--shared starts from a --supernet; leave out --weights")
    whole_space = space_name is not None and not configs
    if (bool(configs) + (study_name is not None) + whole_space) != 1:
        raise click.UsageError("give one of an exported file, a timm model and --study")
    if len(configs) > 1 and not (shared or racing):
        raise click.UsageError(
            f"{len(configs)} networks are given; give one, or --shared or --race"
        )
    limits = budgets(params_max, macs_max, latency_max, more_bounds)
    check_members(top, spread)
    if study_name is None and (top or spread or trials or limits):
        raise click.UsageError("--top, --spread, --trial and budgets choose from a --study")
    if study_name is None and no_record:
        raise click.UsageError("--no-record is for a --study; nothing else is recorded")
    if trials and (top or spread or limits):
        raise click.UsageError(
            "--trial names its trials; --top, --spread and budgets do not apply"
        )
    options = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    overrides = parse_overrides(assignments)
    overrides |= {name: value for name, value in options.items() if value is not None}
    if teacher is not None:
        overrides["teacher"] = teacher
    recipe = load_recipe(recipe_name, overrides)

    from tftas_optuna.cli import _tables
    from tftas_optuna.retrain.data import DataSource
    from tftas_optuna.retrain.distributed import join_world
    from tftas_optuna.retrain.network import resolve_network
    from tftas_optuna.retrain.recorded import train_and_record, train_shared_and_record
    from tftas_optuna.retrain.run import check_tensorboard
    from tftas_optuna.retrain.slices import check_fit, resolve_weights

    source = DataSource(data_dir, dataset, train_split, val_split, download, val_fraction)
    study: Study | None = None
    candidates: list[Candidate] = []
    if study_name is not None:
        most = top if top or spread or shared else _RACING if racing else 1
        study, candidates = _pick(storage, study_name, trials, limits, most, spread)
    if shared:
        from tftas_optuna.retrain.together import resolve_members
        from tftas_optuna.spaces import get_space

        space = None if space_name is None else get_space(space_name)
        together = resolve_members(
            space if space is not None and whole_space else (candidates or configs),
            space=space,
            study=study,
            supernet=supernet,
            img_size=img_size,
        )
        train = partial(train_shared_and_record, together, out=out)
        trainings = [(train, out / f"{together.label}-shared")]
    else:
        if study is not None:
            chosen = _networks(study, candidates, img_size)
        else:
            chosen = [(None, resolve_network(name, img_size=img_size)) for name in configs]
        start = resolve_weights(chosen[0][1], weights, supernet) or "scratch"
        check_fit((network for _, network in chosen), start)
        trainings = [
            (
                partial(train_and_record, network, out=out, trial=trial, weights=start),
                out / network.label,
            )
            for trial, network in chosen
        ]
    if tensorboard:
        check_tensorboard()
    if racing:
        from tftas_optuna.cli import _race

        label = "" if study is None else f"{file_stem(study.study_name)}-"
        entrants = _race.entrants(chosen, start, baselines, study)
        with join_world(device) as world:
            _race.race(
                entrants,
                recipe,
                source,
                out / f"{label}race",
                world=world,
                timeout=timeout,
                study=None if no_record else study,
                num_classes=num_classes,
                workers=workers,
                tensorboard=tensorboard,
                output=output,
                title=f"Raced on {dataset or data_dir}",
                quiet=quiet,
            )
        return
    rows = []
    with join_world(device) as world:
        for train, folder in trainings:
            row = _train(
                train,
                folder,
                quiet=quiet or not world.primary,
                study=study,
                record=not no_record,
                recipe=recipe,
                source=source,
                world=world,
                num_classes=num_classes,
                workers=workers,
                tensorboard=tensorboard,
            )
            rows.append(row)
        if not world.primary:
            return
    if shared:
        _print_together(rows[0], output, f"Trained together on {dataset or data_dir}")
        if not quiet and output == "table" and not dataset:
            from tftas_optuna.report.commands import shared_commands

            click.echo("Next:", err=True)
            directory = rows[0]["out"]
            for line, purpose in shared_commands(directory, str(data_dir), storage, study_name):
                click.echo(f"  {line}    # {purpose}", err=True)
        return
    if output != "table":
        _tables.print_rows(rows, output)
    else:
        columns = _tables.training_columns(rows, rows[0].get("num_classes"))
        _tables.print_table(f"Trained on {dataset or data_dir}", columns)
    if study is not None and "trained" in rows[-1]:
        _tables.say_recorded(study, rows[-1]["trained"], storage)


def _train(
    train: Callable[..., dict[str, Any]], folder: Path, *, quiet: bool, **arguments: Any
) -> dict[str, Any]:
    """Call a function that trains, with its progress on stderr.

    Args:
        train: The function, with what it trains.
        folder: The directory that it writes to.
        quiet: Whether to show nothing.
        **arguments: Its other arguments.
    """
    from tftas_optuna.cli._training import TrainingDisplay

    with TrainingDisplay(folder.name, arguments["recipe"].epochs, quiet=quiet) as display:
        try:
            return train(callback=display.update, told=display.tell, **arguments)
        except KeyboardInterrupt:
            display.close()
            click.echo(
                f"Interrupted; whole epochs are kept in {folder}. Go on with the same command.",
                err=True,
            )
            raise


def _print_together(row: dict[str, Any], output: str, title: str) -> None:
    from tftas_optuna.cli import _tables

    if output == "table":
        columns = _tables.training_columns(row["members"], row.get("num_classes"))
        _tables.print_table(title, columns)
    else:
        _tables.print_rows(row["members"], output)
    click.echo(f"{row['out']}: one supernet, {row['top1']:.2f} % on average", err=True)


def _pick(
    storage: str,
    study_name: str,
    trials: tuple[int, ...],
    limits: dict[str, float],
    top: int | None,
    spread: int | None,
) -> tuple[Study, list[Candidate]]:
    from tftas_optuna.cli._members import best_of
    from tftas_optuna.errors import UnavailableError
    from tftas_optuna.storage import load_study
    from tftas_optuna.study import front, selection

    study = load_study(storage, study_name)
    if trials:
        candidates = [front.get_candidate(study, number) for number in trials]
    else:
        members = selection.within(front.pareto_front(study), limits)
        candidates = best_of(study, members, top, spread)
    if not candidates:
        raise UnavailableError(f"study {study_name!r} has nothing to train: no feasible trial")
    return study, candidates


def _networks(
    study: Study, candidates: list[Candidate], img_size: int | None
) -> list[tuple[int | None, Network]]:
    import dataclasses

    from tftas_optuna.retrain.network import candidate_network
    from tftas_optuna.study.record import read_settings

    settings = read_settings(study)
    chosen: list[tuple[int | None, Network]] = []
    for candidate in candidates:
        network = candidate_network(candidate, settings, study.study_name)
        if img_size is not None:
            network = dataclasses.replace(network, img_size=img_size)
        chosen.append((candidate.trial, network))
    return chosen
