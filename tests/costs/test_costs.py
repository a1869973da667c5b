"""Costs by name: what they count, against closed forms and torch's own instruments."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from tftas_optuna import AutoFormerArchitecture, TftasError, build_model, register_cost
from tftas_optuna.costs._trace import trace_forward
from tftas_optuna.metrics import Target, cost_names, get_cost, registry
from tftas_optuna.spaces import AutoFormerSpace

TINY = Target(img_size=32, num_classes=10)


def meter(name: str, space: AutoFormerSpace, target: Target = TINY):
    return get_cost(name).open(space, target, None)


def test_activations_are_what_the_products_put_out(small_space: AutoFormerSpace) -> None:
    """Written out layer by layer, from the shapes alone."""
    count = meter("activations", small_space)
    rng = np.random.default_rng(0)
    for _ in range(2):
        arch = small_space.sample(rng)
        side, width = 32 // arch.patch_size, arch.embed_dim
        patches = side * side
        tokens = patches + 1
        total = patches * width + 10
        for heads, hidden in zip(arch.num_heads, arch.hidden_dim, strict=True):
            inner = heads * arch.head_dim
            total += tokens * (3 * inner + width + hidden + width)  # linear layers
            total += heads * tokens * tokens + tokens * inner  # attention
            total += heads * (2 * patches * side + tokens) + 2 * patches * inner  # offsets
        assert count(arch) == total


def test_activations_are_those_of_one_image(small_space: AutoFormerSpace) -> None:
    many = dataclasses.replace(TINY, batch_size=4)
    arch = small_space.smallest()
    one = meter("activations", small_space)(arch)
    assert meter("activations", small_space, many)(arch) == one


def test_activations_follow_the_convention_of_timms_tables(small_space: AutoFormerSpace) -> None:
    """timm's results list 5.97 M activations for vit_tiny_patch16_224: the same shape here."""
    arch = AutoFormerArchitecture(
        192, (3,) * 12, (4.0,) * 12, relative_position=False, global_pool="token"
    )
    assert meter("activations", small_space, Target())(arch) == pytest.approx(5.97e6, abs=5e3)


def test_peak_memory_is_what_torchs_profiler_sees(small_space: AutoFormerSpace) -> None:
    arch = small_space.sample(np.random.default_rng(1))
    model = build_model(arch, img_size=64, num_classes=10).eval()
    weights = [*model.parameters(), *model.buffers()]
    activities = [ProfilerActivity.CPU]
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), plain, profile(activities=activities, profile_memory=True) as p:
        model(torch.zeros(3, 3, 64, 64))
    events = p.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    alive = np.cumsum([size for _, size in sorted(changes)])
    expected = alive.max() + sum(weight.untyped_storage().nbytes() for weight in weights)
    target = Target(img_size=64, num_classes=10, batch_size=3)
    assert meter("peak_memory", small_space, target)(arch) == pytest.approx(expected, rel=0.03)


def test_peak_memory_by_blocks_is_that_of_the_whole(small_space: AutoFormerSpace) -> None:
    rng = np.random.default_rng(2)
    for _ in range(3):
        arch = small_space.sample(rng)
        whole = trace_forward(arch, TINY)
        assert meter("peak_memory", small_space)(arch) == whole.weight_bytes + whole.peak_bytes


def test_macs_have_two_names(small_space: AutoFormerSpace) -> None:
    arch = small_space.largest()
    assert meter("macs", small_space)(arch) == arch.costs(img_size=32, num_classes=10).macs
    reference = arch.reference_macs(img_size=32, num_classes=10)
    assert meter("reference_macs", small_space)(arch) == reference


def test_a_cost_of_ones_own(small_space: AutoFormerSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.METRICS, "registered", {})
    register_cost("n_heads", lambda arch, *, img_size, **_: sum(arch.num_heads) + img_size)
    arch = small_space.smallest()
    assert meter("n_heads", small_space)(arch) == sum(arch.num_heads) + 32
    assert "n_heads" in cost_names() and get_cost("n_heads").direction == "minimize"
    for name, message in (
        ("macs", "'macs' exists already"),
        ("dss", "'dss' exists already"),
        ("N heads", "cannot be a name; up to 64 lower-case letters"),
    ):
        with pytest.raises(TftasError, match=message):
            register_cost(name, lambda arch, **_: 0.0)
    with pytest.raises(TftasError, match="direction of 'height' is 'up', allowed: minimize"):
        register_cost("height", lambda arch, **_: 0.0, direction="up")  # type: ignore[arg-type]
    with pytest.raises(TftasError, match="cost 'energy' does not exist; known: activations"):
        get_cost("energy")


def test_counting_what_is_free_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "from tftas_optuna import get_space\n"
        "from tftas_optuna.metrics import Target, get_cost\n"
        "space = get_space('autoformer-tiny')\n"
        "for name in ('n_params', 'macs', 'reference_macs'):\n"
        "    assert get_cost(name).open(space, Target(), None)(space.largest()) > 0\n"
        "table = {'blocks': [[240, 4, 4.0, 2.0]], 'rest': [[240, 1.0]], 'reference': 1.0}\n"
        "assert get_cost('latency').open(space, Target(), table)(space.largest()) == 29.0\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
