"""How far faster ways to DSS are from DSS itself.

For random candidates of each space: the collapsed score and the reduced matmul precisions against
the exact score (Kendall tau, relative offset and its spread, the worst candidate), and the exact
score in float32 against float64 with full singular value decompositions. What "medium" does is up
to the processor: `--bfloat16 N` rounds the factors of every product to bfloat16, as those do that
multiply such numbers. With `--collapsed NAME ...` only collapsed scores are compared, of these
indicators, which share the passes.

    python benchmarks/dss_fidelity.py --candidates 500 --float64 20 --bfloat16 20
    python benchmarks/dss_fidelity.py --collapsed synaptic_diversity synaptic_saliency
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch.utils._python_dispatch import TorchDispatchMode

SPACES = ("autoformer-tiny", "autoformer-small", "autoformer-base")


def compare(job: tuple[str, int, int, int, str]) -> dict[str, Any]:
    """Compare on one space in this process, on one thread."""
    name, candidates, float64, bfloat16, device = job
    import numpy as np
    import torch

    from tftas_optuna import Scorer, get_space
    from tftas_optuna.indicators import layers as engine

    torch.set_num_threads(1)
    space = get_space(name)
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(candidates)]
    exact = np.array(Scorer(space, device=device).batch(archs))

    def against_exact(scores: list[float]) -> dict[str, float]:
        return against(exact[: len(scores)], np.array(scores))

    result: dict[str, Any] = {"space": name}
    collapsed = Scorer(space, fidelity="collapsed", device=device)
    result["collapsed"] = against_exact(collapsed.batch(archs))
    # "high" is TF32, which only GPUs have.
    for precision in ("medium",) if device == "cpu" else ("high", "medium"):
        reduced = Scorer(space, device=device, matmul_precision=precision)
        result[f"matmul {precision}"] = against_exact(reduced.batch(archs))
    if bfloat16:
        with rounded_products():
            result["bfloat16 products"] = against_exact(
                Scorer(space, device=device).batch(archs[:bfloat16])
            )
    engine._RANK = 1 << 20  # beyond every matrix: full decompositions
    whole = Scorer(space, device=device, dtype=torch.float64).batch(archs[:float64])
    result["float64, full SVD"] = against_exact(whole)
    return result


def against(exact: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Say how far scores are from the exact ones."""
    import numpy as np

    from tftas_optuna.ranks import kendall_tau

    offset = scores / exact - 1
    return {
        "candidates": len(scores),
        "kendall_tau": kendall_tau(list(scores), list(exact)),
        "offset_mean": float(offset.mean()),
        "offset_sd": float(offset.std()),
        "offset_worst": float(offset[np.abs(offset).argmax()]),
    }


def compare_collapsed(job: tuple[str, int, list[str], str]) -> dict[str, Any]:
    """Compare the collapsed scores of several indicators on one space, on one thread."""
    name, candidates, indicators, device = job
    import numpy as np
    import torch

    from tftas_optuna import Scorer, get_space
    from tftas_optuna.metrics import get_indicator
    from tftas_optuna.scoring.panel import Panel

    torch.set_num_threads(1)
    space = get_space(name)
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(candidates)]
    basis = Scorer(space, device=device).basis
    exact, collapsed = (
        Panel(basis, [(get_indicator(each), fidelity) for each in indicators]).by_seed(archs)
        for fidelity in ("exact", "collapsed")
    )
    result: dict[str, Any] = {"space": name}
    for each in indicators:
        known, found = (np.ravel(scores) for scores in (exact[each], collapsed[each]))
        result[each] = against(known, found)
    return result


def rounded_products() -> TorchDispatchMode:
    """Round the factors of float32 products to bfloat16 for a while."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    aten = torch.ops.aten
    # By how many arguments come before the factors.
    products = {
        op: before
        for packet, before in (
            (aten.linear, 0),
            (aten.matmul, 0),
            (aten.mm, 0),
            (aten.bmm, 0),
            (aten.addmm, 1),
            (aten.baddbmm, 1),
            (aten.baddbmm_, 1),
        )
        for op in (getattr(packet, overload) for overload in packet.overloads())
    }

    class Rounded(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            args = list(args)
            if func in products:
                for i in (products[func], products[func] + 1):
                    if args[i].dtype == torch.float32:
                        args[i] = args[i].bfloat16().float()
            return func(*args, **(kwargs or {}))

    return Rounded()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--spaces", nargs="+", default=list(SPACES))
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--float64", type=int, default=20)
    parser.add_argument("--bfloat16", type=int, default=0)
    parser.add_argument("--collapsed", nargs="+", metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()

    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        if args.collapsed:
            results = list(
                pool.map(
                    compare_collapsed,
                    [(name, args.candidates, args.collapsed, args.device) for name in args.spaces],
                )
            )
        else:
            sizes = args.candidates, args.float64, args.bfloat16
            results = list(pool.map(compare, [(n, *sizes, args.device) for n in args.spaces]))
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{'space':18}{'against exact':20}{'candidates':>11}{'tau':>9}"
          f"{'offset':>11}{'sd':>10}{'worst':>11}")  # fmt: skip
    for result in results:
        for way, r in result.items():
            if way != "space":
                print(
                    f"{result['space']:18}{way:20}{r['candidates']:11}{r['kendall_tau']:9.5f}"
                    f"{r['offset_mean']:11.2e}{r['offset_sd']:10.1e}{r['offset_worst']:11.2e}"
                )


if __name__ == "__main__":
    main()
