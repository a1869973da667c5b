"""``tftas-optuna export``: architectures as files that train, networks as files that run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tftas_optuna.cli._options import (
    budget_options,
    budgets,
    study_options,
    verbosity_options,
)

if TYPE_CHECKING:
    from torch import nn

_DOCUMENTS = ("yaml", "json", "retrain")
_NETWORKS = ("onnx", "torchscript", "timm")


@click.command()
@click.argument("source", required=False, metavar="[DIRECTORY|FILE|NAME]")
@study_options
@click.option("--trial", "trials", type=int, multiple=True, help="This trial; repeatable.")
@click.option("--best", is_flag=True, help="The best of the front, within the budgets.")
@click.option("--knee", is_flag=True, help="The knee of the front, within the budgets.")
@budget_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="front",
    show_default=True,
    help="Directory to write to.",
)
@click.option("--prefix", metavar="NAME", help="First part of the file names; the space's name.")
@click.option(
    "-f",
    "--format",
    "formats",
    type=click.Choice([*_DOCUMENTS, *_NETWORKS]),
    multiple=True,
    help="What to write; repeatable. Default: yaml, json and, where it fits, retrain "
    "(the training configuration of AutoFormer and TF-TAS). onnx, torchscript and timm "
    "(a directory for local-dir:) hold the weights.",
)
@click.option(
    "--weights",
    metavar="START|PATH",
    help="Weights of an untrained network: supernet (of its study), scratch, or a checkpoint.",
)
@click.option("--force", is_flag=True, help="Replace files that hold something else.")
@verbosity_options
def export(
    source: str | None,
    storage: str,
    study_name: str | None,
    trials: tuple[int, ...],
    best: bool,
    knee: bool,
    params_max: float | None,
    macs_max: float | None,
    latency_max: float | None,
    more_bounds: tuple[tuple[str, str, float], ...],
    out: Path,
    prefix: str | None,
    formats: tuple[str, ...],
    weights: str | None,
    force: bool,
) -> None:
    """Write architectures of a study to files; by default its whole Pareto front.

    Given a directory of `retrain`, an exported file or a timm model, write that network.

    \b
    Build one with timm:
      import timm, tftas_optuna.models
      model = timm.create_model("tftas_autoformer", arch="front/...yaml")
      model = timm.create_model("local-dir:trained/...", pretrained=True)
    """
    if source is not None:
        given = (study_name, trials, best, knee, params_max, macs_max, latency_max, more_bounds)
        if any(given):
            raise click.UsageError(f"{source} is what is exported; no study to choose from")
        _export_source(source, out, prefix, formats, weights, force)
        return
    documents = [name for name in formats if name in _DOCUMENTS]
    networks = [name for name in formats if name in _NETWORKS]
    if weights is not None and not networks:
        raise click.UsageError(f"--weights needs a format that holds them: {', '.join(_NETWORKS)}")
    from tftas_optuna.cli._exact import with_exact_scores
    from tftas_optuna.cli._picking import check_picks, pick
    from tftas_optuna.export import export_candidates
    from tftas_optuna.export.files import check_directory, check_prefix
    from tftas_optuna.storage import load_study
    from tftas_optuna.study.record import read_settings

    limits = budgets(params_max, macs_max, latency_max, more_bounds)
    check_picks(trials=trials, best=best, knee=knee, limits=limits)
    if prefix is not None:
        check_prefix(prefix)
    study = load_study(storage, study_name)
    settings = read_settings(study)
    chosen = pick(study, trials=trials, best=best, knee=knee, limits=limits)
    if documents or not networks:
        check_directory(out)
        chosen = with_exact_scores(study, chosen)
        paths = export_candidates(
            study, chosen, out, formats=documents or None, prefix=prefix, force=force
        )
        for path in paths:
            click.echo(path)
    if networks:
        from tftas_optuna.cli._progress import StepDisplay
        from tftas_optuna.retrain.network import build_network, candidate_network

        stem = check_prefix(settings.space.name if prefix is None else prefix)
        with StepDisplay("writing", "networks") as display:
            for i, candidate in enumerate(chosen):
                display(i, len(chosen))
                model = build_network(
                    candidate_network(candidate, settings),
                    num_classes=settings.num_classes,
                    weights=weights or "supernet",
                )
                _write(model, out / f"{stem}-trial{candidate.trial:05d}", networks, force)


def _export_source(
    source: str,
    out: Path,
    prefix: str | None,
    formats: tuple[str, ...],
    weights: str | None,
    force: bool,
) -> None:
    from tftas_optuna.export.files import check_prefix
    from tftas_optuna.retrain.network import build_network, read_model, resolve_network

    documents = [name for name in formats if name in _DOCUMENTS]
    if documents:
        raise click.UsageError(
            f"{documents[0]} describes an architecture of a study; {source} is written as"
            f" {', '.join(_NETWORKS)}"
        )
    model: nn.Module
    if Path(source).is_dir():
        if weights is not None:
            raise click.UsageError(f"{source} has weights; --weights does not apply")
        label, model = Path(source).resolve().name, read_model(Path(source))
    else:
        network = resolve_network(source)
        label = network.label
        model = build_network(
            network,
            num_classes=network.num_classes or 1000,
            weights=weights or ("supernet" if network.search else "scratch"),
        )
    _write(model, out / check_prefix(prefix or label), formats or ("timm",), force)


def _write(
    model: nn.Module, path: Path, formats: tuple[str, ...] | list[str], force: bool
) -> None:
    from tftas_optuna.export.networks import export_network

    for form in formats:
        written, worst = export_network(model, path, form, force=force)
        click.echo(written)
        click.echo(f"  computes as PyTorch does, within {worst:.1e}", err=True)
