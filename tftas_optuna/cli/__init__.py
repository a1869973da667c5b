"""The command line: one file for each command."""

from __future__ import annotations

from tftas_optuna.cli._group import Group
from tftas_optuna.cli.correlate import correlate
from tftas_optuna.cli.dashboard import dashboard
from tftas_optuna.cli.evaluate import evaluate
from tftas_optuna.cli.export import export
from tftas_optuna.cli.front import front
from tftas_optuna.cli.predict import predict
from tftas_optuna.cli.report import report
from tftas_optuna.cli.retrain import retrain
from tftas_optuna.cli.run import run
from tftas_optuna.cli.score import score
from tftas_optuna.cli.spaces import spaces
from tftas_optuna.cli.studies import studies

main = Group(
    "tftas-optuna",
    help="Find good Vision Transformer architectures without training any of them.",
    commands=[
        run,
        front,
        export,
        retrain,
        evaluate,
        predict,
        score,
        correlate,
        report,
        spaces,
        studies,
        dashboard,
    ],
)

__all__ = ["main"]
