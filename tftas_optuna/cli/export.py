"""``tftas-optuna export``: chosen architectures as files that train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tftas_optuna.cli._options import budget_options, storage_options, verbosity_options

if TYPE_CHECKING:
    from tftas_optuna.study.metrics import CostName


@click.command()
@storage_options
@click.option("--trial", "trials", type=int, multiple=True, help="This trial; repeatable.")
@click.option("--best", is_flag=True, help="The best DSS of the front, within the budgets.")
@click.option("--knee", is_flag=True, help="The knee of the front, within the budgets.")
@budget_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("front"),
    show_default=True,
    help="Directory to write to.",
)
@click.option("--prefix", metavar="NAME", help="First part of the file names; the space's name.")
@click.option(
    "-f",
    "--format",
    "formats",
    type=click.Choice(["yaml", "json", "retrain"]),
    multiple=True,
    help="What to write; repeatable. Default: all. 'retrain' is the training configuration of "
    "AutoFormer and TF-TAS.",
)
@click.option("--force", is_flag=True, help="Replace files that hold something else.")
@verbosity_options
def export(
    storage: str,
    study_name: str | None,
    trials: tuple[int, ...],
    best: bool,
    knee: bool,
    params_max: float | None,
    macs_max: float | None,
    out: Path,
    prefix: str | None,
    formats: tuple[str, ...],
    force: bool,
) -> None:
    """Write architectures of a study to files; by default its whole Pareto front.

    \b
    Build one with timm:
      import timm, tftas_optuna.models
      model = timm.create_model("tftas_autoformer", arch="front/...yaml")
    """
    from tftas_optuna.export import export_candidates
    from tftas_optuna.export.files import check_prefix
    from tftas_optuna.study import front
    from tftas_optuna.study.storage import load_study

    if sum((bool(trials), best, knee)) > 1:
        raise click.UsageError("--trial, --best and --knee exclude each other; give one of them")
    if trials and (params_max or macs_max):
        raise click.UsageError(
            "--trial names its trials; --params-max and --macs-max do not apply"
        )
    if prefix is not None:
        check_prefix(prefix)
    limits: dict[CostName, float | None] = {"n_params": params_max, "macs": macs_max}
    budgets = {name: limit for name, limit in limits.items() if limit is not None}
    study = load_study(storage, study_name)
    if trials:
        chosen = [front.get_candidate(study, number) for number in trials]
    else:
        chosen = front.within(front.pareto_front(study), budgets)
        if best:
            chosen = [max(chosen, key=lambda candidate: candidate.dss)]
        elif knee:
            chosen = [front.knee(chosen)]
    paths = export_candidates(
        study, chosen, out, formats=formats or None, prefix=prefix, force=force
    )
    for path in paths:
        click.echo(path)
