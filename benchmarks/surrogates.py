"""Which surrogate predicts best what candidates would score, and in what time.

    OMP_NUM_THREADS=1 python benchmarks/surrogates.py --out benchmarks/results/surrogates.json

Random candidates are described by ``space.features``; a surrogate learns from some and predicts
others. Targets are DSS on one supernet, latency (processor time of one thread), and three
indicators that are no sum over layers. All surrogates learn the logarithm of what is positive.
Ours is the one of ``ScreenedNSGAIISampler``, whose kernel takes 300 trials at most (here any);
``ridge`` is its ridge regression alone; the others are scikit-learn's, on standardised features.

For each: the error (standard deviation of the logarithm of predicted over true value; where a
value is not positive, of their difference relative to the mean absolute value), Kendall's tau,
and processor seconds to fit and predict. Up to 200 trials means of three draws of them, then one
draw. Targets that the file has already are left out; what was scored is kept under ``--cache``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import numpy as np
import torch
from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import nn

from tftas_optuna import Scorer, get_space
from tftas_optuna.costs.latency import measure_latency
from tftas_optuna.metrics import Target
from tftas_optuna.ranks import kendall_tau
from tftas_optuna.samplers.surrogate import Surrogate

SIZES = (50, 100, 200, 500, 1000, 2000, 10_000)
TESTED = 500
# Trials from which Gaussian processes take too long.
GP_MOST = 500
NEAREST = 300
Model = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def dss(name: str) -> Callable[[int], tuple[list[Any], list[float]]]:
    def measure(count: int) -> tuple[list[Any], list[float]]:
        archs = candidates(name, count)
        return archs, Scorer(get_space(name), fidelity="collapsed", seed=4).batch(archs)

    return measure


def latency(count: int) -> tuple[list[Any], list[float]]:
    archs = candidates("autoformer-tiny", count)
    # Processor time of the one thread: what runs beside it on the machine matters less.
    with mock.patch.object(time, "perf_counter", time.process_time):
        return archs, [measure_latency(a, Target(img_size=224, threads=1), runs=5) for a in archs]


def indicator(
    function: Callable[[nn.Module], float],
) -> Callable[[int], tuple[list[Any], list[float]]]:
    def measure(count: int) -> tuple[list[Any], list[float]]:
        archs = candidates("autoformer-tiny", count)
        scorer = Scorer(get_space("autoformer-tiny"), seed=4, img_size=64)
        return archs, [function(scorer.subnet(arch)) for arch in archs]

    return measure


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def gradient_norm(model: nn.Module) -> float:
    """Take the norm of the gradient of a loss on random images and labels."""
    model.requires_grad_(True)
    nn.functional.cross_entropy(model(images(4)), torch.arange(4)).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return math.sqrt(sum(float((grad**2).sum()) for grad in grads))


def synaptic_flow(model: nn.Module) -> float:
    """Sum up weights times gradients as SynFlow does, with all weights positive."""
    model.double().requires_grad_(True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.abs_()
    model(torch.ones(1, 3, 64, 64, dtype=torch.float64)).sum().backward()
    found = [p.detach() * p.grad for p in model.parameters() if p.grad is not None]
    return sum(float(flow.abs().sum()) for flow in found)


def activation_patterns(model: nn.Module) -> float:
    """Take NASWOT's log determinant: how differently images switch the hidden units on."""
    kernel = torch.zeros(16, 16, dtype=torch.float64)

    def count(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        codes = (inputs[0] > 0).flatten(1).double()
        kernel.add_(codes @ codes.T + (1 - codes) @ (1 - codes).T)

    for module in model.modules():
        if isinstance(module, nn.GELU):
            module.register_forward_pre_hook(count)
    with torch.no_grad():
        model(images(16))
    return float(torch.linalg.slogdet(kernel)[1])


# Name, space, how it is measured, and how many candidates are, for what they cost.
TARGETS: dict[str, tuple[str, Callable[[int], tuple[list[Any], list[float]]], int]] = {
    "DSS, autoformer-tiny": ("autoformer-tiny", dss("autoformer-tiny"), 10_500),
    "DSS, autoformer-small": ("autoformer-small", dss("autoformer-small"), 2500),
    "DSS, autoformer-base": ("autoformer-base", dss("autoformer-base"), 1200),
    "DSS, pit-tiny": ("pit-tiny", dss("pit-tiny"), 400),
    "DSS, pit-xs": ("pit-xs", dss("pit-xs"), 300),
    "DSS, pit-small": ("pit-small", dss("pit-small"), 300),
    "latency": ("autoformer-tiny", latency, 300),
    "gradient norm": ("autoformer-tiny", indicator(gradient_norm), 300),
    "synaptic flow": ("autoformer-tiny", indicator(synaptic_flow), 300),
    "activation patterns": ("autoformer-tiny", indicator(activation_patterns), 300),
}


def candidates(name: str, count: int) -> list[Any]:
    space, rng = get_space(name), np.random.default_rng(0)
    archs: dict[Any, None] = {}
    while len(archs) < count:
        archs[space.sample(rng)] = None
    return list(archs)


def load(target: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features and values of a target's candidates."""
    path = folder / (target.replace(", ", "-").replace(" ", "-") + ".npz")
    if not path.exists():
        name, measure, count = TARGETS[target]
        archs, values = measure(count)
        folder.mkdir(parents=True, exist_ok=True)
        features = np.array([get_space(name).features(arch) for arch in archs])
        np.savez_compressed(path, features=features, values=np.array(values))
    with np.load(path) as arrays:
        return arrays["features"], arrays["values"]


def ours(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    return Surrogate(x, y, np.arange(min(len(x), NEAREST))).predict(new)


def ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    # Its kernel is made from a few trials and not used.
    model = Surrogate(x, y, np.arange(2))
    found = model._ridge.predict(model._inputs(new))
    return np.exp(found) if model._log else found


def sklearn_model(make: Callable[[], Any]) -> Model:
    def predict(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
        log = y.min() > 0
        # A feature that never changed says nothing, and squares it where it does.
        kept = x.std(axis=0) > 1e-9
        targets = np.log(y) if log else y
        centre, scale = targets.mean(), targets.std()
        model = make_pipeline(StandardScaler(), make())
        found = model.fit(x[:, kept], (targets - centre) / scale).predict(new[:, kept])
        return np.exp(found * scale + centre) if log else found * scale + centre

    return predict


def gaussian_process(kernel: Any) -> Model:
    noise = WhiteKernel(1e-3, (1e-9, 1e1))
    return sklearn_model(
        lambda: GaussianProcessRegressor(ConstantKernel(1.0, (1e-3, 1e6)) * kernel + noise)
    )


PENALTIES = np.logspace(-3, 5, 25)
WIDTHS = (1e-1, 1e4)
MODELS: dict[str, Model] = {
    "ours": ours,
    "ridge": ridge,
    "RidgeCV": sklearn_model(lambda: RidgeCV(PENALTIES)),
    "RidgeCV, degree 2": sklearn_model(
        lambda: make_pipeline(
            PolynomialFeatures(2, include_bias=False), StandardScaler(), RidgeCV(PENALTIES)
        )
    ),
    "hist gradient boosting": sklearn_model(lambda: HistGradientBoostingRegressor(random_state=0)),
    "extra trees": sklearn_model(
        lambda: ExtraTreesRegressor(n_estimators=100, min_samples_leaf=2, random_state=0)
    ),
    "GP, Matern 5/2": gaussian_process(Matern(10.0, WIDTHS, nu=2.5)),
    "GP, RBF": gaussian_process(RBF(10.0, WIDTHS)),
}


def error(predicted: np.ndarray, true: np.ndarray) -> float:
    if true.min() > 0 and predicted.min() > 0:
        return float(np.std(np.log(predicted / true)))
    return float(np.std(predicted - true) / np.abs(true).mean())


def compare(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return error, tau and seconds by model and number of trials."""
    n_tested = min(TESTED, len(y) // 3)
    results: dict[str, Any] = {name: {} for name in MODELS}
    for size in (size for size in SIZES if size + n_tested <= len(y)):
        splits = []
        for draw in range(3 if size <= 200 else 1):
            order = np.random.default_rng(draw).permutation(len(y))
            splits.append((order[:size], order[len(y) - n_tested :]))
        for name, model in MODELS.items():
            if name.startswith("GP") and size > GP_MOST:
                continue
            rows = []
            for learned, tested in splits:
                start = time.process_time()
                predicted = model(x[learned], y[learned], x[tested])
                seconds = time.process_time() - start
                true = y[tested]
                rows.append((error(predicted, true), kendall_tau(predicted, true), seconds))
            keys = ("error", "tau", "seconds")
            means = [mean(map(float, column)) for column in zip(*rows, strict=True)]
            results[name][str(size)] = dict(zip(keys, means, strict=True))
    return {"tested": n_tested, "spread": error(np.full_like(y, y.mean()), y), "models": results}


def table(target: str, found: dict[str, Any]) -> None:
    sizes: Sequence[str] = list(found["models"]["ours"])
    print(
        f"\n{target}: error in % / tau / seconds after so many trials; {found['tested']} unseen,"
        f" spread {100 * found['spread']:.1f} %"
    )
    print(f"{'':24}" + "".join(f"{int(size):>23,}" for size in sizes))
    for name, rows in found["models"].items():
        cells = ""
        for size in sizes:
            r = rows.get(size)
            text = f"{100 * r['error']:.2f} / {r['tau']:.3f} / {r['seconds']:.2f}" if r else "-"
            cells += f"{text:>23}"
        print(f"{name:24}{cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--cache", type=Path, default=Path("surrogates_cache"))
    parser.add_argument("--out", type=Path, help="JSON file of the results, added to")
    parser.add_argument("--table", action="store_true", help="print the file, run nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    results: dict[str, Any] = {}
    if args.out and args.out.exists():
        results = json.loads(args.out.read_text())
    for target in () if args.table else args.targets:
        if target in results:
            continue
        results[target] = compare(*load(target, args.cache))
        if args.out:
            args.out.write_text(json.dumps(results, indent=1) + "\n")
        table(target, results[target])
    if args.table:
        for target, found in results.items():
            table(target, found)


if __name__ == "__main__":
    main()
