"""Which indicators rank trained networks, and from how many trainings on a calibration pays.

    python benchmarks/rank_quality.py TABLE=SPACE [TABLE=SPACE ...] [--accuracy COLUMN ...]
        [--indicators NAME ...] [--workers 2] [--out FILE]

Each table is one that ``tftas-optuna correlate`` reads: CSV or JSON, architectures with
accuracies. All indicators are computed exactly on one supernet with eight images of noise; scores
are kept beside the table, so the command goes on where it was cut off. With --indicators only
these are computed, and their rows take their places in --out, which keeps the others and the
second table.

The first table is Kendall's tau over all and, behind the stroke, inside five bands of equal
parameters. The second is tau with networks that were left out, after so many trainings: means of
30 draws; ``column`` is the single column that ranks the trained ones best, ``calibrated`` what
``correlate --calibrate`` makes with naswot, snip and expressivity.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tftas_optuna import Execution, correlate, get_space
from tftas_optuna.correlate import Correlations
from tftas_optuna.correlate.calibration import COSTS, USUAL, Inputs, fit
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.scoring.calibrated import shape_inputs

TRAINED = (10, 20, 30, 50, 100, 200)
DRAWS = 30
LEFT = 15
BANDS = 3


def curves(found: Correlations, space: Any, accuracy: str) -> list[dict[str, Any]]:
    """Measure how well networks that were left out are ranked after so many trainings."""
    accuracies = found.accuracies[accuracy]
    known = [i for i, value in enumerate(accuracies) if value is not None]
    targets = np.array([accuracies[i] for i in known], dtype=float)
    shapes = np.array([shape_inputs(space, found.architectures[i]) for i in known])
    parts = (*COSTS, *USUAL)
    table = np.array([[found.values[part][i] for part in parts] for i in known])
    columns = np.where(table.min(axis=0) > 0, np.log(np.maximum(table, 1e-300)), table)
    inputs = Inputs(
        shapes[:, :-2], np.hstack((shapes[:, -2:], columns)), ("depth", "width", *parts)
    )
    n_params = table[:, 0]
    rows = []
    for count in (each for each in TRAINED if each <= len(known) - LEFT):
        taus: dict[str, list[tuple[float, float]]] = {}
        rng = np.random.default_rng(0)
        for _ in range(DRAWS):
            order = rng.permutation(len(known))
            trained, left = order[:count], order[count:]
            some, rest = (
                Inputs(inputs.features[rows], inputs.columns[rows], inputs.names)
                for rows in (trained, left)
            )
            best = max(
                range(len(inputs.names)),
                key=lambda i: abs(kendall_tau(some.columns[:, i], targets[trained])),
            )
            sign = np.sign(kendall_tau(some.columns[:, best], targets[trained]))
            predictions = {
                "parameters": n_params[left],
                "column": sign * rest.columns[:, best],
                "calibrated": fit(some, targets[trained]).predict(rest),
            }
            bands = np.array_split(np.argsort(n_params[left]), BANDS)
            for name, predicted in predictions.items():
                of = targets[left]
                inside = [kendall_tau(predicted[band], of[band]) for band in bands]
                taus.setdefault(name, []).append(
                    (kendall_tau(predicted, of), float(np.mean(inside)))
                )
        means = {name: np.mean(values, axis=0).tolist() for name, values in taus.items()}
        rows.append({"trained": count, **means})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", metavar="TABLE=SPACE")
    parser.add_argument("--accuracy", nargs="+")
    parser.add_argument("--indicators", nargs="+")
    parser.add_argument("--n-images", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    report: dict[str, Any] = {}
    if args.indicators and args.out is not None and args.out.exists():
        report = json.loads(args.out.read_text())
    for each in args.tables:
        path, _, name = each.rpartition("=")
        space = get_space(name)
        found = correlate(
            path,
            space,
            accuracy=args.accuracy,
            indicators=args.indicators,
            fidelity="exact",
            n_images=args.n_images,
            execution=Execution("cpu", args.workers),
        )
        kept = report.get(Path(path).stem, {})
        rows = found.to_dicts()
        computed = {row["metric"] for row in rows}
        report[Path(path).stem] = {
            "space": name,
            "rows": [row for row in kept.get("rows", ()) if row["metric"] not in computed] + rows,
            "curves": kept.get("curves", {})
            if args.indicators
            else {a: curves(found, space, a) for a in found.accuracies},
        }
        if args.out is not None:
            args.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def show(report: dict[str, Any]) -> None:
    console = Console(width=200)
    columns = list(
        dict.fromkeys((name, row["accuracy"]) for name, of in report.items() for row in of["rows"])
    )
    table = Table("metric", *(f"{name} {accuracy}" for name, accuracy in columns))
    taus: dict[str, dict[tuple[str, str], str]] = {}
    for name, of in report.items():
        for row in of["rows"]:
            parts = (row["tau"], row["band_tau"])
            text = " / ".join("-" if tau is None else f"{tau:.2f}" for tau in parts)
            taus.setdefault(row["metric"], {})[name, row["accuracy"]] = text
    for metric, by_column in taus.items():
        table.add_row(metric, *(by_column.get(column, "") for column in columns))
    console.print(table)
    learned = Table("table", "accuracy", "trained", "parameters", "column", "calibrated")
    for name, accuracy in columns:
        for row in report[name]["curves"].get(accuracy, ()):
            taus_of = (row["parameters"], row["column"], row["calibrated"])
            texts = (f"{tau:.2f} / {inside:.2f}" for tau, inside in taus_of)
            learned.add_row(name, accuracy, str(row["trained"]), *texts)
    console.print(learned)


if __name__ == "__main__":
    main()
