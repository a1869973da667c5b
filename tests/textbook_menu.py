"""The indicators as their definitions word them: slow, and sharing no code with the package.

Each takes a stand-alone network as it comes, turns a copy to float64, and looks at one image at a
time: hooks on its modules, autograd on its weights, full decompositions of full matrices.

A network here has layers of ``nn.Linear`` that all count, blocks with an ``attn`` and a ``mlp``
whose activation is ``mlp.act``, and a ``norm2`` that takes the residual stream after attention.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

# (network, images, labels) -> value
Measure = Callable[[nn.Module, Tensor, Tensor], float]


def synflow(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    weights, gradients = _absolute(network, images)
    return math.fsum(float((gradients[k] * weights[k].detach()).abs().sum()) for k in weights)


def auto_prox_a(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    _, gradients = _absolute(network, images)
    total = 0.0
    for name, gradient in gradients.items():
        if name in _attention(gradients):
            total += float(gradient.abs().sum())
        else:
            total += float((1 / (1 + torch.exp(-gradient))).mean())
    return total


def synaptic_diversity(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    weights, gradients = _absolute(network, images)
    total = 0.0
    for name in _attention(weights):
        norms = (torch.linalg.svdvals(m.detach()).sum() for m in (weights[name], gradients[name]))
        total += math.prod(map(float, norms))
    return total


def synaptic_saliency(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    weights, gradients = _absolute(network, images)
    others = weights.keys() - _attention(weights)
    return math.fsum(float((gradients[k] * weights[k].detach()).abs().sum()) for k in others)


def snip(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network = _exact(network)
    weights, gradients = _weights(network), _of_cross_entropy(network, images, labels)
    return math.fsum(float((gradients[k] * weights[k].detach()).abs().sum()) for k in weights)


def grad_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    gradients = _of_cross_entropy(_exact(network), images, labels)
    return math.fsum(float(g.square().sum().sqrt()) for g in gradients.values())


def grasp(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network = _exact(network)
    weights = list(_weights(network).values())
    # Fused attention has no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        loss = F.cross_entropy(network(images.double()), labels)
        first = torch.autograd.grad(loss, weights, create_graph=True)
        along = sum((g * g.detach()).sum() for g in first)
        second = torch.autograd.grad(along, weights)
    return -math.fsum(
        float((w.detach() * hg).sum()) for w, hg in zip(weights, second, strict=True)
    )


def grasp_by_differences(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Step a little along the gradient, forth and back, in place of the second derivative."""
    network = _exact(network)
    weights = _weights(network)
    gradients = _of_cross_entropy(network, images, labels)
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    step = 1e-4 / math.sqrt(math.fsum(float(g.square().sum()) for g in gradients.values()))

    def moved(by: float) -> dict[str, Tensor]:
        for name, weight in weights.items():
            weight.data = kept[name] + by * gradients[name]
        return _of_cross_entropy(network, images, labels)

    forth, back = moved(step), moved(-step)
    return -math.fsum(float((kept[k] * (forth[k] - back[k]) / (2 * step)).sum()) for k in weights)


def fisher(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network = _exact(network)
    units: list[Tensor | float] = [0.0] * len(_blocks(network))
    for image, label in zip(images, labels, strict=True):
        seen: list[Tensor] = []
        _see(network, seen, [block.mlp.act for block in _blocks(network)], of="outputs")
        loss = F.cross_entropy(network(image[None].double()), label[None]) / len(images)
        for i, (a, gradient) in enumerate(zip(seen, torch.autograd.grad(loss, seen), strict=True)):
            units[i] = units[i] + (a * gradient).detach().flatten(0, -2).sum(0)
        _blind(network)
    return math.fsum(float((u**2).sum()) / 2 for u in units) / len(images)


def naswot(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    n = len(images)
    kernel = torch.zeros(n, n, dtype=torch.float64)
    for codes in _codes(network, images):
        for i in range(n):
            for j in range(n):
                kernel[i, j] += float(codes[i] @ codes[j] + (1 - codes[i]) @ (1 - codes[j]))
    return float(torch.linalg.eigvalsh(kernel).abs().log().sum())


def linear_regions(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    pairs = list(itertools.combinations(range(len(images)), 2))
    total = 0.0
    for codes in _codes(network, images):
        total += sum(int((codes[i] != codes[j]).sum()) for i, j in pairs) / len(pairs)
    return total


def jacob_cov(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network = _exact(network)
    rows = []
    for image in images:
        x = image[None].double().requires_grad_()
        (gradient,) = torch.autograd.grad(network(x).sum(), x)
        rows.append(gradient.flatten())
    eigenvalues = torch.linalg.eigvalsh(_correlations(torch.stack(rows))) + 1e-5
    return -float((eigenvalues.log() + 1 / eigenvalues).sum())


def ntk_cond(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network = _exact(network)
    rows = []
    for image in images:
        gradients = _of(network(image[None].double()).sum(), network)
        rows.append(torch.cat([g.flatten() for g in gradients.values()]))
    matrix = torch.stack(rows)
    eigenvalues = torch.linalg.eigvalsh(matrix @ matrix.T)
    return float(eigenvalues[-1] / eigenvalues[0])


def expressivity(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network = _exact(network)
    blocks = _blocks(network)
    total = 0.0
    for modules, of in (([b.norm2 for b in blocks], "inputs"), (blocks, "outputs")):
        for rows in _rows(network, modules, of, images):
            centred = rows - rows.mean(0)
            p = torch.linalg.eigvalsh(centred.T @ centred / len(rows))
            p = p[p > 1e-14 * p[-1]] / p.sum()
            total -= float((p * p.log()).sum())
    return total


def trainability(
    network: nn.Module, images: Tensor, signs: Callable[[int, Tensor], Tensor]
) -> float:
    """Take the random signs as given: of a block by its place and its output of all images."""
    network = _exact(network)
    scores = []
    for place, block in enumerate(_blocks(network)):
        inputs, outputs, gradients = [], [], []
        for image in images:
            seen: list[Tensor] = []
            _see(network, seen, [block], of="inputs")
            _see(network, seen, [block], of="outputs")
            network(image[None].double())
            _blind(network)
            inputs.append(seen[0])
            outputs.append(seen[1])
        drawn = signs(place, torch.cat(outputs).detach())
        for x, out, sign in zip(inputs, outputs, drawn, strict=True):
            gradients.append(torch.autograd.grad(out, x, sign[None])[0])
        g_in, g_out = (g.flatten(0, -2) for g in (torch.cat(gradients), drawn))
        sigma = float(torch.linalg.svdvals(g_in.T @ g_out / len(g_out))[0])
        scores.append(2 - sigma - 1 / sigma)
    return math.fsum(scores) / len(scores)


def meco(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network = _exact(network)
    layers = list(_linears(network).values())
    total = 0.0
    for rows in _rows(network, layers, "outputs", images[:1]):
        total += float(torch.linalg.eigvalsh(_correlations(rows))[0])
    return total


def zico(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Take two batches, one after the other."""
    network = _exact(network)
    batches = [
        _of_cross_entropy(network, *batch)
        for batch in zip(images.chunk(2), labels.chunk(2), strict=True)
    ]
    total = 0.0
    for name in batches[0]:
        gradients = torch.stack([batch[name] for batch in batches])
        spread = gradients.std(0, correction=0)
        ratios = gradients.abs().mean(0)[spread > 0] / spread[spread > 0]
        total += float(ratios.sum().log())
    return total


def swap(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float(len(_patterns(_codes(network, images))))


def l_swag(
    network: nn.Module, images: Tensor, labels: Tensor, begin: float = 0.0, end: float = 1.0
) -> float:
    """Take four batches, one after the other."""
    network = _exact(network)
    batches = [
        _of_cross_entropy(network, *batch)
        for batch in zip(images.chunk(4), labels.chunk(4), strict=True)
    ]
    total = 0.0
    for name in _between(list(batches[0]), begin, end):
        variances = torch.stack([batch[name].abs() for batch in batches]).var(0, correction=0)
        total += float((1 / variances[variances > 0].sqrt()).sum().log())
    return total * len(_patterns(_between(_codes(network, images), begin, end)))


def ffn_capacity(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    shapes = [block.mlp.fc1.weight.shape for block in _blocks(network)]
    return math.fsum(math.log(hidden) + math.log(width) for hidden, width in shapes)


MEASURES: dict[str, Measure] = {
    measure.__name__: measure
    for measure in (
        synflow,
        auto_prox_a,
        synaptic_diversity,
        synaptic_saliency,
        snip,
        grad_norm,
        grasp,
        fisher,
        naswot,
        jacob_cov,
        ntk_cond,
        linear_regions,
        expressivity,
        meco,
        zico,
        swap,
        l_swag,
        ffn_capacity,
    )
}


def place(value: float, sample: list[float]) -> float:
    """Count the values of a sample below one, and half of those that equal it.

    Between two neighbours it is interpolated. Beyond the ends it nears 0 and the whole sample,
    by how far the value is away compared with the width of the sample.
    """
    below = [other for other in sample if other < value]
    above = [other for other in sample if other > value]
    equal = len(sample) - len(below) - len(above)
    if equal:
        return len(below) + equal / 2
    span = (max(sample) - min(sample)) or abs(max(sample)) or 1.0
    if not below:
        return place(min(sample), sample) * span / (span + min(sample) - value)
    if not above:
        missing = len(sample) - place(max(sample), sample)
        return len(sample) - missing * span / (span + value - max(sample))
    lower, upper = max(below), min(above)
    covered = (value - lower) / (upper - lower)
    return (1 - covered) * place(lower, sample) + covered * place(upper, sample)


def fused(values: list[float], samples: list[list[float]]) -> float:
    """Add up the logarithms of ranks from 1 / (n + 1) to 1; higher is better in every part."""
    return math.fsum(
        math.log((1 + place(value, sample)) / (len(sample) + 1))
        for value, sample in zip(values, samples, strict=True)
    )


def _exact(network: nn.Module) -> nn.Module:
    # The arguments of autograd.grad are chosen one by one; nothing is accumulated in ``grad``.
    return copy.deepcopy(network).double().eval()


def _linears(network: nn.Module) -> dict[str, nn.Linear]:
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear)}


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: layer.weight for name, layer in _linears(network).items()}


def _blocks(network: nn.Module) -> list[Any]:
    return [m for m in network.modules() if hasattr(m, "attn") and hasattr(m, "mlp")]


def _of(loss: Tensor, network: nn.Module) -> dict[str, Tensor]:
    weights = _weights(network)
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def _of_cross_entropy(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for image, label in zip(images, labels, strict=True):
        log_p = torch.log_softmax(network(image[None].double())[0], dim=0)
        for name, gradient in _of(-log_p[label] / len(images), network).items():
            total[name] = total[name] + gradient if name in total else gradient
    return total


def _absolute(network: nn.Module, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    network = _exact(network)
    for parameter in network.parameters():
        parameter.data.abs_()
    return _weights(network), _of(network(torch.ones_like(images[:1].double())).sum(), network)


def _see(network: nn.Module, seen: list[Tensor], modules: list[nn.Module], *, of: str) -> None:
    for module in modules:
        if of == "outputs":
            module.register_forward_hook(lambda m, args, output: seen.append(output))
        else:
            module.register_forward_pre_hook(lambda m, args: seen.append(args[0]))


def _blind(network: nn.Module) -> None:
    for module in network.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()


def _rows(network: nn.Module, modules: list[nn.Module], of: str, images: Tensor) -> list[Tensor]:
    """List what passes each module, one row for each image and token."""
    found: list[list[Tensor]] = [[] for _ in modules]
    for image in images:
        seen: list[Tensor] = []
        _see(network, seen, modules, of=of)
        with torch.no_grad():
            network(image[None].double())
        _blind(network)
        for rows, x in zip(found, seen, strict=True):
            rows.append(x.reshape(-1, x.shape[-1]))
    return [torch.cat(rows) for rows in found]


def _codes(network: nn.Module, images: Tensor) -> list[Tensor]:
    """List the signs of each block's GELU inputs as zeros and ones, one row for each image."""
    network = _exact(network)
    activations = [block.mlp.act for block in _blocks(network)]
    return [
        (rows.reshape(len(images), -1) > 0).double()
        for rows in _rows(network, activations, "inputs", images)
    ]


def _patterns(codes: list[Tensor]) -> set[tuple[float, ...]]:
    """Collect what the images make of each input of the activations."""
    return {tuple(pattern) for rows in codes for pattern in rows.T.tolist()}


def _between(layers: list[Any], begin: float, end: float) -> list[Any]:
    """Keep the layers that reach into an interval of shares of their number."""
    n = len(layers)
    return [layer for i, layer in enumerate(layers) if i + 1 > begin * n and i < end * n]


def _attention(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.endswith((".qkv", ".attn.proj"))}


def _correlations(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(1, keepdim=True)
    centred = centred / centred.square().sum(1, keepdim=True).sqrt()
    return centred @ centred.T
