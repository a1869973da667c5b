"""``tftas-optuna run``: searches a space and prints its Pareto front."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tftas_optuna.cli._options import (
    Amount,
    Choice,
    Duration,
    MetricsOption,
    budget_options,
    device_option,
    fuse_option,
    merge_bounds,
    study_options,
    supernet_option,
    verbosity_options,
)
from tftas_optuna.errors import TftasError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.search.progress import SearchProgress
    from tftas_optuna.spaces import SearchSpace

_SPACE = "autoformer-tiny"
_N_TRIALS = 1000


@click.command()
@click.option(
    "--space",
    "space_name",
    metavar="NAME|FILE|timm:NAME",
    show_default="that of the --supernet, or autoformer-tiny",
    help="Search space; `tftas-optuna spaces` lists them. timm:NAME: networks around one of timm.",
)
@supernet_option
@study_options
@click.option(
    "--n-trials",
    type=click.IntRange(min=1),
    show_default=f"{_N_TRIALS}, or as many as the space has architectures if it has fewer",
    help="Trials to add.",
)
@click.option("--timeout", type=Duration(), help="Stop after this time: 90 (seconds), 20m, 1.5h.")
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    help="Stop when this many generations have added less than 0.1 % to the hypervolume.",
)
@click.option(
    "--sampler",
    type=Choice(["screened-nsgaii", "nsgaii", "nsgaiii", "tpe", "gp", "random"]),
    help="Sampler; by default that of the study, or screened-nsgaii, which predicts the scores of "
    "many candidates and tries the best.",
)
@click.option(
    "--population-size",
    type=click.IntRange(min=1),
    help="Trials per generation; by default as in the study, or 20, growing with the number of "
    "trials (gp: 1, others: 50).",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the sampler.",
)
@click.option(
    "--supernet-seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Seed of a drawn supernet's weights and of images; by default that of the sampler.",
)
@click.option(
    "--fidelity",
    type=Choice(["auto", "exact", "collapsed"]),
    default="auto",
    show_default=True,
    help="How to score candidates: exact, or collapsed, which is far faster as it treats all "
    "patches of the image as one token. auto continues as in the study; a new study is collapsed "
    "if that ranks candidates alike. What is shown at the end is scored exactly.",
)
@click.option(
    "--n-seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of supernets to average scores over.",
)
@click.option(
    "--objectives",
    metavar="NAMES",
    default="dss,n_params",
    show_default=True,
    callback=lambda ctx, param, value: tuple(name.strip() for name in value.split(",")),
    cls=MetricsOption,
    help="One to three objectives, separated by commas: {metrics}.",
)
@fuse_option
@click.option(
    "--n-images",
    type=click.IntRange(2, 1_000_000),
    help="Images per batch, for indicators that see images, by default 8; and labelled images for "
    "accuracy and cross_entropy, by default all.",
)
@click.option(
    "--data-dir",
    metavar="DIR",
    help="Images for these indicators, one folder per class; by default noise. accuracy and "
    "cross_entropy see its folder val, or half of it: the rest is held out.",
)
@budget_options
@click.option("--params-min", type=Amount(), help="Minimum number of parameters, such as 5M.")
@click.option(
    "--start",
    metavar="NAME|PATH",
    multiple=True,
    help="Exported file, directory of a training, or name of a published architecture to start "
    "from. Repeatable.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of processes that score. One uses all CPU threads of PyTorch; several use one "
    "GPU or one CPU thread each.",
)
@click.option(
    "--cluster", metavar="URL", help="Dask scheduler to score on, such as tcp://host:8786."
)
@click.option(
    "--latency-batch-size",
    type=click.IntRange(1, 65536),
    default=1,
    show_default=True,
    help="Batch size for latency and peak memory.",
)
@click.option(
    "--latency-threads",
    type=click.IntRange(1, 4096),
    help="CPU threads for latency; by default PyTorch's.",
)
@device_option
@click.option(
    "--img-size",
    type=click.IntRange(1, 4096),
    help="Input size; by default that of the supernet or the space.",
)
@click.option(
    "--num-classes",
    type=click.IntRange(1, 1_000_000),
    help="Outputs of the classifier; by default likewise.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Export the front to this directory at the end.",
)
@click.option(
    "--exact",
    is_flag=True,
    help="At the end score the whole front exactly, not only the up to 20 members that are shown; "
    "likewise on held-out images.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@verbosity_options
def run(
    space_name: str | None,
    supernet: str | None,
    storage: str,
    study_name: str | None,
    n_trials: int | None,
    timeout: float | None,
    patience: int | None,
    sampler: str | None,
    population_size: int | None,
    seed: int,
    supernet_seed: int | None,
    fidelity: str,
    n_seeds: int,
    objectives: tuple[str, ...],
    fusions: tuple[tuple[str, tuple[str, ...]], ...],
    n_images: int | None,
    data_dir: str | None,
    params_max: float | None,
    params_min: float | None,
    macs_max: float | None,
    latency_max: float | None,
    more_bounds: tuple[tuple[str, str, float], ...],
    start: tuple[str, ...],
    workers: int,
    cluster: str | None,
    latency_batch_size: int,
    latency_threads: int | None,
    device: str,
    img_size: int | None,
    num_classes: int | None,
    out: Path | None,
    exact: bool,
    quiet: bool,
) -> None:
    """Search a space for the best trade-offs between its objectives.

    Latency is measured once before the first trial, block by block, on the device of the search.

    An objective made by `correlate --calibrate` is read from its file in this directory.

    An existing study is continued. Ctrl-C stops the search and keeps all scored trials.
    """
    from tftas_optuna.cli._interrupts import Interrupts
    from tftas_optuna.cli._progress import ProgressDisplay
    from tftas_optuna.export.files import check_directory
    from tftas_optuna.spaces import get_space

    if quiet:
        logging.getLogger("tftas_optuna").setLevel(logging.WARNING)
    if space_name is None and supernet is not None:
        from tftas_optuna.scoring.basis import space_of

        space = space_of(supernet) or get_space(_SPACE)
    else:
        space = get_space(space_name or _SPACE)
    if n_trials is None:
        # More would only try the same ones again.
        n_trials = min(_N_TRIALS, space.cardinality())
    first = [_to_start_from(name, space) for name in start]
    if out is not None:
        check_directory(out)
    if len(objectives) > 3:
        raise click.UsageError(f"--objectives names {len(objectives)}; allowed are one to three")
    bounds = merge_bounds(
        {
            "n_params": (params_min, params_max),
            "macs": (None, macs_max),
            "latency": (None, latency_max),
        },
        more_bounds,
    )
    from tftas_optuna.indicators import register_fusion
    from tftas_optuna.scoring.calibrated import find_calibrations
    from tftas_optuna.scoring.execution import Execution
    from tftas_optuna.search import Deployment, search
    from tftas_optuna.study.selection import SHOWN

    for fused, parts in fusions:
        register_fusion(fused, parts)
    find_calibrations(objectives, Path())

    words = list(click.get_current_context().meta["words"])
    name = study_name or space.name
    title = f"{space.name}, seed {seed}" + (f", {fidelity}" if fidelity != "auto" else "")
    with ProgressDisplay(title, n_trials, quiet=quiet) as display, Interrupts() as interrupts:

        def update(progress: SearchProgress) -> None:
            if progress.n_done == 0 and progress.n_study > 0:
                # The study was begun by something else, which this command does not repeat.
                words.clear()
            display.update(progress)
            interrupts.check()

        try:
            search(
                space,
                n_trials=n_trials,
                storage=storage,
                study_name=name,
                objectives=objectives,
                bounds=bounds,
                sampler=sampler,
                population_size=population_size,
                seed=seed,
                supernet=supernet,
                supernet_seed=supernet_seed,
                n_seeds=n_seeds,
                start=first,
                fidelity=fidelity,
                n_exact=None if exact else SHOWN,
                img_size=img_size,
                num_classes=num_classes,
                n_images=n_images,
                data_dir=data_dir,
                execution=Execution(device, workers, cluster),
                deployment=Deployment(latency_batch_size, latency_threads),
                timeout=timeout,
                patience=patience,
                callback=update,
            )
        except KeyboardInterrupt:
            display.close()
            _say_interrupted(storage, name, words)
            raise SystemExit(interrupts.exit_code) from None
    _finish(storage, name, words, out, quiet)


def _to_start_from(name: str, space: SearchSpace) -> Architecture:
    from tftas_optuna.retrain.network import resolve_architecture

    arch = resolve_architecture(name)
    try:
        space.encode(arch)
    except TftasError as error:
        raise TftasError(f"--start {name}: {error}") from error
    return arch


def _say_interrupted(storage: str, study_name: str, words: Sequence[str]) -> None:
    from tftas_optuna.report.commands import record_command
    from tftas_optuna.storage import load_study, told_in_one_line

    kept = 0
    with contextlib.suppress(UnavailableError), told_in_one_line():
        study = load_study(storage, study_name)
        kept = len(study.get_trials(deepcopy=False))
        record_command(study, words, storage)
    click.echo(f"Interrupted; {kept} trials are kept. Go on with the same command.", err=True)


def _finish(
    storage: str, study_name: str, words: Sequence[str], out: Path | None, quiet: bool
) -> None:
    from tftas_optuna.cli import _tables
    from tftas_optuna.export import export_front
    from tftas_optuna.report.commands import next_commands, record_command
    from tftas_optuna.storage import load_study, told_in_one_line
    from tftas_optuna.study.agreement import inexact_texts
    from tftas_optuna.study.front import pareto_front
    from tftas_optuna.study.record import read_settings
    from tftas_optuna.study.selection import SHOWN, spread

    study = load_study(storage, study_name)
    # The front is shown even if the command cannot be recorded.
    with contextlib.suppress(UnavailableError), told_in_one_line():
        record_command(study, words, storage)
    front, settings = pareto_front(study), read_settings(study)
    n_trials = len(study.get_trials(deepcopy=False))
    shown = spread(front, SHOWN, settings)
    title = f"Pareto front of {study_name}: {len(front)} of {n_trials} trials"
    if len(shown) < len(front):
        title += f" ({len(shown)} shown)"
    _tables.print_table(title, _tables.candidate_columns(shown), complete="`front -f csv`")
    for line in (*_tables.images_texts([study]), *_tables.trainings_texts([study], None)):
        click.echo(line)
    if not front:
        click.echo("No trial met the bounds yet; go on with more --n-trials.", err=True)
        return
    if not quiet:
        for line in _tables.exact_texts([study], [front]):
            click.echo(line, err=True)
    if out is not None:
        paths = export_front(study, out)
        what = "architecture" if len(front) == 1 else "architectures"
        click.echo(f"Exported {len(front)} {what} to {out} ({len(paths)} files).", err=True)
        for line in inexact_texts(front):
            click.echo(f"  {line}", err=True)
    if quiet:
        return
    click.echo("Next:", err=True)
    for command, purpose in next_commands(storage, study_name, front, settings):
        click.echo(f"  {command}    # {purpose}", err=True)
