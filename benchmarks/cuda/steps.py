"""The steps of ``python benchmarks/cuda``; that runs each one in a process of its own.

A step yields lines of what it found, each with the numbers behind it. Whatever is not installed
skips the steps that need it, and no others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import menu
import scores
import torch
import uses
from plan import Plan, Skipped, Step

STEPS: dict[str, Step] = {
    "tests": uses.tests,
    "agreement": scores.agreement,
    "indicators": menu.indicators,
    "speed": scores.speed,
    "memory": scores.memory,
    "profile": scores.profile,
    "search": uses.search,
    "workers": uses.workers,
    "retrain": uses.retrain,
    "shared": uses.shared,
    "latency": uses.latency,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    result: dict[str, Any] = {"status": "passed", "found": [], "data": []}

    def keep() -> None:
        args.out.write_text(json.dumps(result))

    device = args.device
    if device != "cpu":
        # Some functions of torch want an index, others take the current device.
        torch.cuda.set_device(torch.device(device).index or 0)
        device = f"cuda:{torch.cuda.current_device()}"
    try:
        for found in STEPS[args.step](Plan(device, args.quick)):
            print(found.line, flush=True)
            result["found"].append(found.line if found.right else f"WRONG: {found.line}")
            result["data"].append(found.data)
            if not found.right:
                result["status"] = "failed"
            keep()
    except Skipped as reason:
        result |= {"status": "skipped", "found": [str(reason)]}
    except ModuleNotFoundError as error:
        result["status"] = "skipped"
        result["found"].append(f"needs {error.name}, which is not installed")
    keep()


if __name__ == "__main__":
    main()
