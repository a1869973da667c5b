"""``tftas-optuna front``: the Pareto front of a study."""

from __future__ import annotations

import click

from tftas_optuna.cli._options import format_option, study_options, verbosity_options


@click.command()
@study_options
@click.option(
    "--exact",
    is_flag=True,
    help="Score in full what the search has approximated, and keep it in the study.",
)
@format_option
@verbosity_options
def front(storage: str, study_name: str | None, exact: bool, output: str) -> None:
    """Print the Pareto front of a study, cheapest first."""
    from tftas_optuna.cli import _tables
    from tftas_optuna.cli._exact import with_exact_scores
    from tftas_optuna.storage import load_study
    from tftas_optuna.study.front import pareto_front

    study = load_study(storage, study_name)
    candidates = pareto_front(study)
    if exact:
        candidates = with_exact_scores(study, candidates)
        _tables.say_agreement(study, len(candidates))
    if output != "table":
        _tables.print_rows(_tables.candidate_rows(candidates), output)
        return
    n_trials = len(study.get_trials(deepcopy=False))
    title = f"Pareto front of {study.study_name}: {len(candidates)} of {n_trials} trials"
    _tables.stdout().print(_tables.candidate_table(candidates, title))
