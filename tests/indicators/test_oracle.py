from __future__ import annotations

import math
from typing import Any

import oracle_cases
import pytest
import torch

from tftas_optuna import explain_model
from tftas_optuna.indicators import Layer, LayerScore
from tftas_optuna.indicators.measures.dss import DSS
from tftas_optuna.passes.gradient import ProductGradients

CASES = pytest.mark.parametrize("case", oracle_cases.CASES.values(), ids=oracle_cases.CASES)


def supernet_rows(case: dict[str, Any], dtype: torch.dtype) -> list[LayerScore]:
    _, arch = oracle_cases.architectures(case)
    rows = []
    for trace in oracle_cases.supernet(case, dtype).run([arch]):
        gradients = ProductGradients(trace.delta, trace.x, rank=24)
        layer = Layer(trace.names, trace.role, trace.shapes, trace.weights, gradients)
        rows.extend(LayerScore.of(layer, DSS().fold(layer, {})))
    return rows[::-1]


def model_rows(case: dict[str, Any], dtype: torch.dtype) -> list[LayerScore]:
    _, arch = oracle_cases.architectures(case)
    return explain_model(oracle_cases.supernet(case, dtype).subnet(arch))


@CASES
def test_forward_pass_of_the_ordinary_network(case: dict[str, Any]) -> None:
    _, arch = oracle_cases.architectures(case)
    model = oracle_cases.supernet(case).subnet(arch)
    side = case["model_kwargs"]["img_size"]
    images = {
        "ones": torch.ones(1, 3, side, side, dtype=torch.float64),
        "linspace": torch.linspace(-1, 1, 3 * side * side, dtype=torch.float64),
    }
    for name, image in images.items():
        with torch.no_grad():
            logits = model(image.reshape(1, 3, side, side))[0, :8]
        expected = torch.tensor(case[f"signed_forward_{name}_first8"], dtype=torch.float64)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


@CASES
@pytest.mark.parametrize("route", [supernet_rows, model_rows])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)], ids=["f64", "f32"]
)
def test_every_layer_and_the_totals(
    case: dict[str, Any], route: Any, dtype: torch.dtype, tolerance: float
) -> None:
    rows = route(case, dtype)
    # With 1000 classes the reference lists the head twice, and by the shape of the supernet's.
    expected = case["layers"][: 4 * case["candidate"]["layer_num"] + 1]
    assert len(rows) == len(expected)
    for row, layer in zip(rows, expected, strict=True):
        assert row.name.replace("mlp.", "") == layer["name"]
        assert row.role == "head" or list(row.shape) == layer["shape"]
        assert row.value == pytest.approx(layer["value"], rel=tolerance)
        if layer["kind"] == "nuc_product":
            assert row.weight_norm == pytest.approx(layer["nuc_w"], rel=tolerance)
            assert row.grad_norm == pytest.approx(layer["nuc_g"], rel=tolerance)
    for role, total in (("attention", "msa_total"), ("mlp", "mlp_total")):
        value = math.fsum(row.value for row in rows if row.role == role)
        assert value == pytest.approx(case[total], rel=tolerance)
    total = math.fsum(row.value for row in rows)
    assert total == pytest.approx(case["head_once_total"], rel=tolerance)


@CASES
def test_counting_the_head_twice_gives_the_repaired_reference(case: dict[str, Any]) -> None:
    _, arch = oracle_cases.architectures(case)
    model = oracle_cases.supernet(case).subnet(arch)
    head_weight = 2.0 if case["model_kwargs"]["num_classes"] == 1000 else 1.0
    twice = math.fsum(row.value for row in explain_model(model, head_weight=head_weight))
    assert twice == pytest.approx(case["total_reference"], rel=1e-8)
    without = math.fsum(row.value for row in explain_model(model, head_weight=0.0))
    assert without == pytest.approx(case["no_head_total"], rel=1e-8)


@CASES
def test_parameters_are_counted_exactly(case: dict[str, Any]) -> None:
    _, arch = oracle_cases.architectures(case)
    kwargs = case["model_kwargs"]
    sizes = dict(img_size=kwargs["img_size"], num_classes=kwargs["num_classes"])
    n_params = arch.costs(**sizes).n_params
    expected = case["params"]
    if not arch.abs_pos:
        # The reference counts the position embedding even where it has none.
        expected -= arch.embed_dim * (arch.grid(sizes["img_size"]) ** 2 + 1)
    assert n_params == expected
    model = oracle_cases.supernet(case).subnet(arch)
    assert n_params == sum(p.numel() for p in model.parameters())
