"""What a tau inside a band of parameters is worth, and what the released code leaves of DSS.

    OMP_NUM_THREADS=1 python benchmarks/paper_bands.py [TABLE=SPACE ...] [--out FILE]

For the bands in which tau is usually given: how many of 20,000 random candidates lie inside, and
of which widths. Then how DSS orders random candidates, compared with parameters, depth and width:
over 1,000 of all, 1,000 inside the band, and ten narrow bands of 100 each (mean of their taus).

For each TABLE, one of trained architectures that ``tftas-optuna correlate`` reads: Kendall's tau-b
with every accuracy, over all, inside the band, and inside four narrower bands of it, with the
bootstrapped intervals of ``correlate``. All indicators are exact, on one supernet; inside the band
those that the paper compares DSS with are computed too.

The released code lets no gradient reach qkv and the classifier, so that proj, fc1 and fc2 alone
count. ``dss_released_terms`` is the sum of these terms of DSS; ``dss_released`` leaves the linear
layers their signs as well, as the released code does. The line before the tables tells how many of
100 random candidates, of up to 10 % fewer parameters, are then above the architecture that the
paper published for AutoFormer-Tiny, on two supernets.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tftas_optuna import Scorer, correlate, get_space, register_indicator
from tftas_optuna.indicators.measures.dss import DSS
from tftas_optuna.passes.layers import LayerTerms
from tftas_optuna.ranks import resampled_tau_b
from tftas_optuna.spaces import published_architectures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from tftas_optuna.passes.layers import Layer, Norms

BANDS = {
    "autoformer-tiny": (5e6, 7e6),
    "autoformer-small": (15e6, 19e6),
    "autoformer-base": (45e6, 47e6),
}
INDICATORS = ("dss", "dss_released_terms", "dss_released")
# Those that the paper compares DSS with; its code for TE-score computes this half of it.
OTHERS = ("naswot", "ntk_cond", "snip")
NARROW = 10
COUNTED = 20_000
SCORED = 1000
COMPARED = 100


@dataclasses.dataclass(frozen=True)
class ReleasedTerms(DSS):
    """The terms of DSS of layers that a gradient reaches in the released code."""

    name: str = "dss_released_terms"
    head_weight: float = 0.0

    def fold(self, layer: Layer, norms: Norms) -> LayerTerms:
        """Leave out qkv; the classifier has no weight."""
        terms = super().fold(layer, norms)
        kept = terms.values.new_tensor([["qkv" not in name] for name in layer.names])
        return LayerTerms(kept * terms.values, kept * terms.errors, *terms[2:])


register_indicator("dss_released_terms", ReleasedTerms())


@register_indicator("dss_released")
def released(model: nn.Module, images: Tensor) -> float:
    """Sum the released code's terms of an AutoFormer, linear layers with their signs."""
    linear = {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    weights = {f"{name}.weight" for name in linear}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in weights:
                parameter.abs_()
    model.zero_grad()
    with torch.enable_grad():
        model(images).sum().backward()
    total = 0.0
    for name, layer in linear.items():
        gradient, weight = layer.weight.grad, layer.weight.detach()
        if gradient is None or "qkv" in name or not name.startswith("blocks."):
            continue
        if name.endswith("proj"):
            nuclear = [torch.linalg.matrix_norm(each, "nuc") for each in (gradient, weight)]
            total += float(nuclear[0] * nuclear[1])
        else:
            total += float((gradient * weight).abs().sum())
    return total


def tau_b(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Kendall's tau-b, which makes up for ties."""
    once = np.ones((1, len(first)))
    return float(resampled_tau_b(np.array(first, float), np.array(second, float), once)[0])


def of_random(name: str) -> dict[str, Any]:
    """Compare DSS with the shape of random candidates."""
    space = get_space(name)
    low, high = BANDS[name]
    rng = np.random.default_rng(0)
    archs = [space.sample(rng) for _ in range(COUNTED)]
    sizes = np.array([space.costs(arch).n_params for arch in archs])
    inside = np.flatnonzero((low <= sizes) & (sizes <= high))
    widths = Counter(archs[i].embed_dim for i in inside)
    scorer = Scorer(space, fidelity="collapsed", device="cpu")
    narrow_at = np.quantile(sizes, (np.arange(NARROW) + 0.5) / NARROW)
    groups = {
        "all": [np.arange(SCORED)],
        "inside": [inside[:SCORED]],
        "narrow": [np.argsort(np.abs(sizes - at))[: SCORED // NARROW] for at in narrow_at],
    }
    found: dict[str, Any] = {
        "low": low,
        "high": high,
        "share": len(inside) / COUNTED,
        "widths": {w: n / len(inside) for w, n in sorted(widths.items())},
        "least": int(sizes.min()),
        "most": int(sizes.max()),
    }
    for group, bands in groups.items():
        taus: dict[str, list[float]] = {}
        for band in bands:
            some = [archs[i] for i in band]
            dss = scorer.batch(some)
            columns = {
                "n_params": [float(sizes[i]) for i in band],
                "depth": [arch.depth for arch in some],
                "width": [arch.embed_dim for arch in some],
                "dss_released_terms": scorer.sharing("dss_released_terms", "collapsed").batch(
                    some
                ),
            }
            for column, values in columns.items():
                taus.setdefault(column, [])
                # A column without two different values orders nothing.
                if min(values) < max(values):
                    taus[column].append(tau_b(dss, values))
        found[group] = {c: float(np.mean(each)) if each else None for c, each in taus.items()}
        spreads = [float(np.ptp(sizes[band]) / np.median(sizes[band])) for band in bands]
        found[group]["spread"] = float(np.mean(spreads))
    return found


def of_published(space_name: str, name: str, supernet: int) -> float:
    """Return the share of random candidates of about its size that are above it as released."""
    space, known = get_space(space_name), published_architectures()[name]
    most = space.costs(known).n_params
    rng = np.random.default_rng(0)
    archs: list[Any] = []
    while len(archs) < COMPARED:
        arch = space.sample(rng)
        if 0.9 * most <= space.costs(arch).n_params <= most:
            archs.append(arch)
    scorer = Scorer(space, indicator="dss_released", seed=supernet, device="cpu")
    value, *others = scorer.batch([known, *archs])
    return sum(other > value for other in others) / len(others)


def of_trained(path: Path, name: str) -> dict[str, Any]:
    """Correlate with accuracies, over all and inside the band."""
    low, high = BANDS[name]
    with tempfile.TemporaryDirectory() as folder:
        every = correlate(
            path,
            name,
            indicators=INDICATORS,
            fidelity="exact",
            cache=Path(folder) / "scores.json",
        )
        sizes = every.values["n_params"]
        inside = [i for i, size in enumerate(sizes) if size is not None and low <= size <= high]
        rows = [
            {"architecture": every.architectures[i].to_dict()}
            | {column: values[i] for column, values in every.accuracies.items()}
            for i in inside
        ]
        some = Path(folder) / "inside.json"
        some.write_text(json.dumps(rows))
        band = correlate(
            some,
            name,
            accuracy=list(every.accuracies),
            indicators=INDICATORS + OTHERS,
            bands=4,
            fidelity="exact",
            cache=Path(folder) / "scores.json",
        )
    between = {
        group: {
            other: tau_b(
                [of.values["dss"][i] for i in places], [of.values[other][i] for i in places]
            )
            for other in ("n_params", "depth", "width", "dss_released_terms", "dss_released")
        }
        for group, of, places in (
            ("all", every, range(len(every.architectures))),
            ("inside", band, range(len(band.architectures))),
        )
    }
    return {
        "n": len(every.architectures),
        "n_inside": len(inside),
        "all": every.to_dicts(),
        "inside": band.to_dicts(),
        "dss_with": between,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE=SPACE")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {
        "random": {name: of_random(name) for name in BANDS},
        "published": [],
        "trained": {},
    }
    for name, found in results["random"].items():
        print(
            f"\n{name}: {found['share']:.1%} of random candidates ({found['least'] / 1e6:.2f} to"
            f" {found['most'] / 1e6:.2f} M) lie inside {found['low'] / 1e6:g} to"
            f" {found['high'] / 1e6:g} M; widths {found['widths']}"
        )
        for group in ("all", "inside", "narrow"):
            taus = dict(found[group])
            spread = taus.pop("spread")
            texts = (f"{c} {'-' if tau is None else f'{tau:.2f}'}" for c, tau in taus.items())
            print(f"  tau of DSS, {group} (sizes spread by {spread:.1%}): {', '.join(texts)}")
    results["published"] = [of_published("autoformer-tiny", "tf-tas-tiny", i) for i in range(2)]
    shares = " and ".join(f"{share:.0%}" for share in results["published"])
    print(f"\nabove tf-tas-tiny as released, on two supernets: {shares}", flush=True)
    for each in args.tables:
        path, _, name = each.rpartition("=")
        found = results["trained"][Path(path).stem] = of_trained(Path(path), name)
        print(f"\n{path}: {found['n']} networks, {found['n_inside']} of them inside")
        print(f"  tau of DSS with others: {found['dss_with']}")
        for group in ("all", "inside"):
            for row in found[group]:
                print(
                    f"  {row['accuracy']:18} {group:7} {row['metric']:20} {row['tau']!s:6.6}"
                    f" [{row['tau_low']!s:5.5}, {row['tau_high']!s:5.5}]"
                    f" in bands {row['band_tau']!s:6.6}"
                )
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
