"""The step that asks how right and how fast the indicators that see images are on a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from plan import Found, Plan, sample
from scores import farthest

TOLERANCE = 1e-3


def indicators(plan: Plan) -> Iterator[Found]:
    """Compare float32 on the device with float64 on the CPU, and time each indicator."""
    from tftas_optuna import Scorer, score_model
    from tftas_optuna.indicators.network import NetworkIndicator
    from tftas_optuna.metrics import get_indicator, indicator_names

    seen = [
        name for name in indicator_names() if isinstance(get_indicator(name), NetworkIndicator)
    ]
    for space_name in ("autoformer-tiny", "pit-tiny"):
        space, archs = sample(space_name, plan.of(3, 1))
        exact = Scorer(
            space, indicator=seen[0], device="cpu", dtype=torch.float64, n_images=plan.of(8, 2)
        )
        fast = Scorer(space, indicator=seen[0], device=plan.device, n_images=plan.of(8, 2))
        for name in seen:
            needs = get_indicator(name).needs
            if needs.double:
                # Float64 passes of weights that float32 has rounded, as PiT's rescaled slices
                # are: ZiCo multiplies what rounding changes, so the same weights are asked.
                images = exact.basis.images(0, needs.batches)
                truth = [
                    score_model(fast.subnet(arch).cpu().double(), indicator=name, images=images)
                    for arch in archs
                ]
            else:
                truth = exact.sharing(name).batch(archs)
            scorer = fast.sharing(name)
            scores = scorer.batch(archs)
            start = time.perf_counter()
            scorer.batch(archs)
            if plan.on_cuda:
                torch.cuda.synchronize()
            ms = 1000 * (time.perf_counter() - start) / len(archs)
            worst = farthest(scores, truth)
            data = {"space": space_name, "indicator": name, "worst_error": worst, "ms": ms}
            right = worst <= TOLERANCE
            yield Found(f"{space_name} {name}: worst error {worst:.1e}, {ms:.3g} ms", data, right)
    yield kernel_matrices(plan)


def kernel_matrices(plan: Plan) -> Found:
    """Measure ``ntk_cond``, whose matrices grow with the square of the images, on many of them."""
    from tftas_optuna import Scorer

    n_images = plan.of(64, 2)
    space, archs = sample("autoformer-tiny", 1)
    scorer = Scorer(space, indicator="ntk_cond", device=plan.device, n_images=n_images)
    scorer._panel.prepare()
    if plan.on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    scorer.batch(archs)
    seconds = time.perf_counter() - start
    data = {"indicator": "ntk_cond", "n_images": n_images, "seconds": seconds}
    line = f"ntk_cond of {n_images} images: {seconds:.2f} s"
    if plan.on_cuda:
        data["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
        line += f", peak memory {data['peak_mb']:.0f} MB"
    return Found(line, data)
