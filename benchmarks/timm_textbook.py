"""Checks ``score_model`` on timm's attention models against the textbook version of the tests.

Each model has fresh weights and a small image. ``score_model`` runs as it is; the textbook takes
autograd on absolute weights and full SVDs in float64, and tells what counts by parameter names.
Then it lists what of timm is refused, and why: one model of each kind.

    python benchmarks/timm_textbook.py --out benchmarks/results/timm_textbook.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import timm

from tftas_optuna import TftasError, score_model

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import textbook_timm

# Attention of a kind that is not recognised, fresh weights that let no gradient through, no
# normalisation that works untrained, or no attention.
REFUSED = (
    "botnet26t_256", "halonet26t", "lambda_resnet26t", "resnet50_clip", "cpubone_b0_bfrobust",
    "lowformer_b0", "efficientvit_b0", "efficientvit_m0", "shvit_s1", "nextvit_small",
    "visformer_tiny", "hiera_tiny_224", "sam2_hiera_tiny",
    "swinv2_tiny_window8_256", "swinv2_cr_tiny_224", "fastvit_t8", "poolformer_s12",
    "mixer_s16_224", "focalnet_tiny_srf", "efficientvim_m1", "repvit_m0_9", "sequencer2d_s",
    "convnext_atto", "resnet18",
)  # fmt: skip


def check(name: str) -> dict[str, Any]:
    case = textbook_timm.CASES[name]
    model = textbook_timm.build(name)
    start = time.perf_counter()
    score = score_model(model, img_size=case.img_size)
    middle = time.perf_counter()
    truth = textbook_timm.dss(model, case)
    return {
        "model": name,
        "img_size": case.img_size,
        "dss": score,
        "textbook": truth,
        "relative_error": abs(score / truth - 1),
        "score_seconds": middle - start,
        "textbook_seconds": time.perf_counter() - middle,
    }


def refusal(name: str) -> str:
    try:
        score_model(timm.create_model(name, num_classes=10))
    except TftasError as error:
        return str(error)
    return "not refused"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(textbook_timm.CASES))
    parser.add_argument("--no-refused", action="store_true")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()

    rows = []
    for name in args.models:
        try:
            row = check(name)
        except (TftasError, RuntimeError, AssertionError) as error:
            row = {"model": name, "relative_error": float("inf"), "error": str(error)}
        rows.append(row)
        print(
            f"{name:40} {row['relative_error']:8.1e}  {row.get('score_seconds', 0):6.1f} s"
            f" {row.get('textbook_seconds', 0):6.1f} s  {row.get('error', '')}",
            flush=True,
        )
    worst = max(row["relative_error"] for row in rows)
    within = sum(row["relative_error"] <= 1e-4 for row in rows)
    print(f"{within} of {len(rows)} models within 1e-4 of the textbook; worst {worst:.1e}")
    refused = {} if args.no_refused else {name: refusal(name) for name in REFUSED}
    for name, reason in refused.items():
        print(f"{name:26} {reason}")
    if args.out:
        args.out.write_text(json.dumps({"checked": rows, "refused": refused}, indent=1) + "\n")


if __name__ == "__main__":
    main()
