"""``tftas-optuna export``: writes architectures and networks to files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.cli._options import (
    Choice,
    budget_options,
    budgets,
    members_options,
    slices_option,
    study_options,
    trained_option,
    verbosity_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from torch import nn

    from tftas_optuna.retrain.network import Network
    from tftas_optuna.scoring.conditions import SupernetSource
    from tftas_optuna.study.front import Candidate

_DOCUMENTS = ("yaml", "json", "retrain")
_NETWORKS = ("onnx", "torchscript", "timm")


@click.command()
@click.argument("source", required=False, metavar="[DIRECTORY|FILE|NAME]")
@study_options
@click.option("--trial", "trials", type=int, multiple=True, help="Trial to export; repeatable.")
@click.option("--best", is_flag=True, help="Export the best of the front, within the budgets.")
@click.option("--knee", is_flag=True, help="Export the knee of the front, within the budgets.")
@members_options("export, best first")
@budget_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="front",
    show_default=True,
    help="Directory to write to.",
)
@click.option(
    "--prefix", metavar="NAME", help="First part of the file names; by default the space's name."
)
@click.option(
    "-f",
    "--format",
    "formats",
    type=Choice([*_DOCUMENTS, *_NETWORKS]),
    multiple=True,
    help="Format to write; repeatable. Default: yaml, json and, where possible, retrain "
    "(the training configuration of AutoFormer and TF-TAS). onnx, torchscript and timm "
    "(a directory for local-dir:) contain the weights.",
)
@click.option(
    "--weights",
    metavar="START|PATH",
    help="Weights to use instead of those recorded in the study: a directory of `retrain`, a "
    "checkpoint or a trained supernet; supernet (slices of --supernet); for an untrained network "
    "scratch; for a timm model also pretrained.",
)
@slices_option
@trained_option
@click.option(
    "--exact",
    is_flag=True,
    help="Compute exact scores of all of them where the search approximated them, not only of up "
    "to 20, spread over them; they are stored in the study.",
)
@click.option("--force", is_flag=True, help="Replace files with other contents.")
@verbosity_options
def export(
    source: str | None,
    storage: str,
    study_name: str | None,
    trials: tuple[int, ...],
    best: bool,
    knee: bool,
    top: int | None,
    spread: int | None,
    params_max: float | None,
    macs_max: float | None,
    latency_max: float | None,
    more_bounds: tuple[tuple[str, str, float], ...],
    out: Path,
    prefix: str | None,
    formats: tuple[str, ...],
    weights: str | None,
    supernet: str | None,
    trained: str | None,
    exact: bool,
    force: bool,
) -> None:
    """Write architectures of a study to files; by default its whole Pareto front.

    Given a directory of `retrain`, an exported file or a timm model, write that network instead.
    A trial gets the weights of its training; untrained networks have "untrained" in their names.

    \b
    Build one with timm; a directory of a plain ViT or PiT needs no second import:
      import timm, tftas_optuna.models
      model = timm.create_model("tftas_autoformer", arch="front/...yaml")
      model = timm.create_model("local-dir:trained/...", pretrained=True)
    """
    if (weights or supernet) is not None and trained is not None:
        clashing = "--supernet" if weights is None else "--weights"
        raise click.UsageError(f"{clashing} and --trained exclude each other; give one of them")
    if source is not None:
        study_options = (
            trained,
            study_name,
            trials,
            best,
            knee,
            top,
            spread,
            params_max,
            macs_max,
            latency_max,
            more_bounds,
            exact,
        )
        if any(study_options):
            raise click.UsageError(
                f"{source} is exported by itself; leave out the options of a study"
            )
        _export_source(source, out, prefix, formats, weights, supernet, force)
        return
    documents = [name for name in formats if name in _DOCUMENTS]
    networks = [name for name in formats if name in _NETWORKS]
    options = {"--weights": weights, "--supernet": supernet, "--trained": trained}
    option = next((name for name, value in options.items() if value is not None), None)
    if option is not None and not networks:
        raise click.UsageError(f"{option} needs a format that holds them: {', '.join(_NETWORKS)}")
    if exact and networks and not documents:
        raise click.UsageError(
            f"--exact needs a format that holds scores: {', '.join(_DOCUMENTS)}"
        )
    from tftas_optuna._writing import file_stem
    from tftas_optuna.cli._members import check_picks, pick, with_exact_scores
    from tftas_optuna.export import export_candidates
    from tftas_optuna.export.files import check_directory, check_prefix
    from tftas_optuna.storage import load_study
    from tftas_optuna.study.agreement import inexact_texts
    from tftas_optuna.study.record import read_settings
    from tftas_optuna.study.selection import SHOWN

    limits = budgets(params_max, macs_max, latency_max, more_bounds)
    picks: dict[str, Any] = {
        "trials": trials,
        "best": best,
        "knee": knee,
        "top": top,
        "spread": spread,
        "limits": limits,
    }
    check_picks(**picks)
    if prefix is not None:
        check_prefix(prefix)
    study = load_study(storage, study_name)
    chosen = pick(study, **picks)
    weighted_networks = _weights(study, chosen, weights, supernet, trained) if networks else []
    if documents or not networks:
        check_directory(out)
        chosen = with_exact_scores(study, chosen, None if exact else SHOWN)
        paths = export_candidates(
            study, chosen, out, formats=documents or None, prefix=prefix, force=force
        )
        for path in paths:
            click.echo(path)
        for line in inexact_texts(chosen):
            click.echo(line, err=True)
    if networks:
        from tftas_optuna.cli._progress import StepDisplay
        from tftas_optuna.retrain.trained import weighted

        stem = file_stem(read_settings(study).space.name) if prefix is None else prefix
        with StepDisplay("writing", "networks") as display:
            for i, (candidate, (network, start, note)) in enumerate(
                zip(chosen, weighted_networks, strict=True)
            ):
                display(i, len(chosen))
                model, is_trained = weighted(network, start)
                path = out / f"{stem}-trial{candidate.trial:05d}"
                _write(model, path, networks, force, trained=is_trained, origin=network.origin)
                if note:
                    click.echo(f"  {note}", err=True)


def _weights(
    study: Study,
    chosen: Sequence[Candidate],
    weights: str | None,
    supernet: str | None,
    trained: str | None,
) -> list[tuple[Network, str | SupernetSource, str]]:
    """Return network, weights and a note of each candidate, before anything is written."""
    from tftas_optuna.retrain.network import WEIGHTS, candidate_network
    from tftas_optuna.retrain.slices import resolve_weights
    from tftas_optuna.retrain.trained import check_weighted, chosen_weights
    from tftas_optuna.study.record import read_settings

    settings = read_settings(study)
    networks = [candidate_network(candidate, settings, study.study_name) for candidate in chosen]
    start = resolve_weights(networks[0], weights, supernet) if networks else None
    if start is None:
        return [
            (network, *chosen_weights(study, candidate.trial, network, trained))
            for candidate, network in zip(chosen, networks, strict=True)
        ]
    if isinstance(start, str) and start not in WEIGHTS and len(chosen) > 1:
        raise click.UsageError(
            f"--weights {weights} holds one network, and {len(chosen)} are chosen; pick it with"
            " --trial, --best or --knee"
        )
    check_weighted(networks, start)
    note = "" if isinstance(start, str) else f"slices of the supernet {start}"
    return [(network, start, note) for network in networks]


def _export_source(
    source: str,
    out: Path,
    prefix: str | None,
    formats: tuple[str, ...],
    weights: str | None,
    supernet: str | None,
    force: bool,
) -> None:
    from tftas_optuna._given import LOCAL
    from tftas_optuna.export.files import check_prefix
    from tftas_optuna.retrain.network import origin_of, read_model, resolve_network
    from tftas_optuna.retrain.slices import resolve_weights
    from tftas_optuna.retrain.sources import find_source, read_config
    from tftas_optuna.retrain.trained import is_trained, weighted

    documents = [name for name in formats if name in _DOCUMENTS]
    if documents:
        raise click.UsageError(
            f"{documents[0]} describes an architecture of a study; {source} is written as"
            f" {', '.join(_NETWORKS)}"
        )
    model: nn.Module
    if (weights or supernet) is not None and Path(source.removeprefix(LOCAL)).is_dir():
        option = "--supernet" if weights is None else "--weights"
        raise click.UsageError(f"{source} has weights; {option} does not apply")
    given = find_source(source, kinds=("directory", "architecture", "timm"))
    if given.path is not None and given.kind == "directory":
        model, trained = read_model(given.path), is_trained(given.path)
        # Writing adds this ending again.
        label = given.label if trained else given.label.removesuffix("-untrained")
        origin = origin_of(read_config(given.path))
    else:
        network = resolve_network(source)
        label, origin = network.label, network.origin
        start = resolve_weights(network, weights, supernet)
        if start is None:
            drawn = "pretrained or scratch" if network.architecture is None else "scratch"
            drawn = "supernet or scratch" if network.search else drawn
            raise click.UsageError(
                f"{source} has no weights; give --weights: a directory of `retrain`, a checkpoint,"
                f" or {drawn}"
            )
        model, trained = weighted(network, start)
    path = out / check_prefix(prefix or label)
    _write(model, path, formats or ("timm",), force, trained=trained, origin=origin)


def _write(
    model: nn.Module,
    path: Path,
    formats: Sequence[str],
    force: bool,
    *,
    trained: bool,
    origin: dict[str, Any] | None,
) -> None:
    from tftas_optuna.export.networks import export_network, loads_where

    for form in formats:
        written, worst = export_network(
            model, path, form, trained=trained, origin=origin, force=force
        )
        click.echo(written)
        what = "" if trained else "untrained; "
        where = f"; {loads_where(model)}" if form == "timm" else ""
        click.echo(f"  {what}computes as PyTorch does, within {worst:.1e}{where}", err=True)
