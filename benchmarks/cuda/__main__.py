"""Everything that is to be known of CUDA, in one command.

Eleven steps (``steps.py``), each in a process of its own, so that one that fails, crashes or takes
too long loses nothing of the others: the tests that need a GPU, agreement with float64 on the CPU
(DSS, then the other indicators), milliseconds per score with recorded passes and without, memory
and what happens when it runs out, where the time goes, whole searches, one that is killed, one on
two GPUs, retraining in mixed precision, a step of shared training, and the latency table.
Some eight minutes on a GPU; what is done is in the file after every step.

    python benchmarks/cuda                          # results in benchmarks/results/cuda.json
    python benchmarks/cuda --only speed memory --out speed.json
    python benchmarks/cuda --device cpu --quick     # rehearses it without a GPU
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STEPS = (
    "tests",
    "agreement",
    "indicators",
    "speed",
    "memory",
    "profile",
    "search",
    "workers",
    "retrain",
    "shared",
    "latency",
)
PACKAGES = (
    *("torch", "timm", "optuna", "sqlalchemy", "numpy", "click", "rich", "pyyaml", "safetensors"),
    *("optuna-dashboard", "typing-extensions", "pytest", "tftas-optuna"),
)
LONGEST_STEP = 240
LAST_LINES = 12


def describe_machine(device: str) -> dict[str, Any]:
    """Say on what and with what is measured."""
    import torch

    found: dict[str, Any] = {"device": device, "python": platform.python_version()}
    if device != "cpu":
        found["device"] = torch.cuda.get_device_name(device)
        found["memory_mb"] = torch.cuda.get_device_properties(device).total_memory // 2**20
        found["cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()
        found["driver"] = driver_version()
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return {**found, "processor": platform.machine(), "cores": os.cpu_count(), "with": versions}


def driver_version() -> str:
    """Ask the driver, which torch does not do."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.split("\n")[0]


def run_step(name: str, args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Run one step in a process of its own; return what it left, whatever became of it."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        left = Path(folder) / "result.json"
        command = [sys.executable, str(HERE / "steps.py"), name, "--out", str(left)]
        command += ["--device", args.device] + ["--quick"] * args.quick
        with (Path(folder) / "output").open("w+", encoding="utf-8", errors="replace") as output:
            try:
                done = subprocess.run(
                    command, stdout=output, stderr=output, env=env, cwd=ROOT, timeout=seconds
                )
                failure = f"exit code {done.returncode}" if done.returncode else None
            except subprocess.TimeoutExpired:
                failure = f"stopped after {seconds:.0f} s"
            output.seek(0)
            said = output.read().strip().splitlines()
        result = {"status": "failed", "found": [], "data": []}
        if left.exists():
            result = json.loads(left.read_text())
    result["seconds"] = round(time.monotonic() - start, 1)
    if failure is not None:
        result["status"] = "failed"
        result["found"].append(": ".join([failure, *said[-1:]]))
        result["last_lines"] = said[-LAST_LINES:]
    return result


def markdown(report: dict[str, Any]) -> str:
    """Write the report as tables for a README."""
    lines = ["| step | status | seconds | found |", "|---|---|---|---|"]
    for name, step in report["steps"].items():
        found = [line.replace("|", "\\|") for line in step["found"]] or [""]
        lines.append(f"| {name} | {step['status']} | {step['seconds']:.0f} | {found[0]} |")
        lines += [f"| | | | {line} |" for line in found[1:]]
    speed = [row for row in report["steps"].get("speed", {}).get("data", []) if "exact_ms" in row]
    if speed:
        columns = ("floor", "exact", "collapsed", "model", "textbook")
        ratios = ("exact / floor", "textbook / exact", "exact / collapsed", "peak memory")
        lines += ["", f"| space | {' | '.join(columns + ratios)} |"]
        lines.append("|---" * (1 + len(columns + ratios)) + "|")
        for row in speed:
            cells = [figure(row[f"{column}_ms"]) for column in columns]
            for over, under in (("exact", "floor"), ("textbook", "exact_middle")):
                cells.append(figure(row[f"{over}_ms"] / row[f"{under}_ms"]))
            cells.append(figure(row["exact_ms"] / row["collapsed_ms"]))
            cells.append(f"{row['peak_mb'] / 1024:.1f} GB")
            lines.append(f"| {row['space']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(value: float) -> str:
    """Write a number with some three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def show(report: dict[str, Any]) -> None:
    """Print the table of the steps, and the same as Markdown."""
    if importlib.util.find_spec("rich") is not None:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table("step", "status", "seconds", "found", title=report["machine"]["device"])
        for name, step in report["steps"].items():
            found = escape("\n".join(step["found"]))
            table.add_row(name, step["status"], f"{step['seconds']:.0f}", found)
        Console(width=max(100, Console().width)).print(table)
    print(f"\n{markdown(report)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks/cuda", description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ...; cpu to rehearse")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, metavar="STEP")
    parser.add_argument("--quick", action="store_true", help="little of everything")
    parser.add_argument("--minutes", type=float, default=8.0, help="all steps end by then")
    parser.add_argument("--out", type=Path, help="by default benchmarks/results/cuda.json on CUDA")
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        print("benchmarks/cuda: torch is not installed", file=sys.stderr)
        return 2
    if args.device != "cpu" and not torch.cuda.is_available():
        print(
            f"benchmarks/cuda: torch {torch.__version__} sees no CUDA GPU; give --device cpu"
            " --quick to rehearse",
            file=sys.stderr,
        )
        return 2
    out = args.out or (ROOT / "benchmarks/results/cuda.json" if args.device != "cpu" else None)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * args.minutes
    report: dict[str, Any] = {"machine": describe_machine(args.device), "quick": args.quick}
    missing = [name for name, version in report["machine"]["with"].items() if version == "missing"]
    if missing:
        print(f"not installed here: {', '.join(missing)}", flush=True)
    report["steps"] = {}
    for name in args.only:
        seconds = min(LONGEST_STEP, end - time.monotonic())
        step: dict[str, Any] = {"status": "skipped", "found": ["no time left"], "seconds": 0.0}
        if seconds > 0:
            step = run_step(name, args, seconds)
        report["steps"][name] = step
        print(f"{name}: {step['status']}, {step['seconds']:.0f} s", flush=True)
        for line in step.get("last_lines", ()):
            print(f"    {line}", flush=True)
        if out is not None:
            out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)
    return int(any(step["status"] == "failed" for step in report["steps"].values()))


if __name__ == "__main__":
    sys.exit(main())
