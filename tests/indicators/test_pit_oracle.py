from __future__ import annotations

import math
from typing import Any

import pit_oracle_cases
import pytest
import torch

from tftas_optuna import explain_model
from tftas_optuna.indicators import Layer, LayerScore
from tftas_optuna.indicators.measures.dss import DSS
from tftas_optuna.passes.gradient import ProductGradients

CASES = pytest.mark.parametrize(
    "case", pit_oracle_cases.CASES.values(), ids=pit_oracle_cases.CASES
)


def supernet_rows(case: dict[str, Any], dtype: torch.dtype) -> list[LayerScore]:
    arch = pit_oracle_cases.architecture(case)
    rows = []
    for trace in pit_oracle_cases.supernet(case, dtype).run([arch]):
        gradients = ProductGradients(trace.delta, trace.x, rank=24)
        layer = Layer(trace.names, trace.role, trace.shapes, trace.weights, gradients)
        rows.extend(LayerScore.of(layer, DSS().fold(layer, {})))
    return rows[::-1]


def model_rows(case: dict[str, Any], dtype: torch.dtype) -> list[LayerScore]:
    arch = pit_oracle_cases.architecture(case)
    return explain_model(pit_oracle_cases.supernet(case, dtype).subnet(arch))


@CASES
def test_forward_pass_of_the_ordinary_network(case: dict[str, Any]) -> None:
    model = pit_oracle_cases.supernet(case).subnet(pit_oracle_cases.architecture(case))
    side = case["kwargs"]["image_size"]
    image = torch.linspace(-1, 1, 3 * side * side, dtype=torch.float64)
    with torch.no_grad():
        logits = model(image.reshape(1, 3, side, side))[0, :8]
    expected = torch.tensor(case["signed_forward_linspace_first8"], dtype=torch.float64)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-9)


@CASES
@pytest.mark.parametrize("route", [supernet_rows, model_rows])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-3)], ids=["f64", "f32"]
)
def test_every_layer_and_the_totals(
    case: dict[str, Any], route: Any, dtype: torch.dtype, tolerance: float
) -> None:
    rows = {row.name: row for row in route(case, dtype)}
    counted = [layer for layer in case["layers"] if "NOT counted" not in layer["kind"]]
    assert rows.keys() == {pit_oracle_cases.layer_name(layer["name"]) for layer in counted}
    for layer in counted:
        row = rows[pit_oracle_cases.layer_name(layer["name"])]
        assert list(row.shape) == layer["shape"]
        assert row.value == pytest.approx(layer["value"], rel=tolerance)
        if layer["kind"] == "nuc_product":
            assert row.weight_norm == pytest.approx(layer["nuc_w"], rel=tolerance)
            assert row.grad_norm == pytest.approx(layer["nuc_g"], rel=tolerance)
    total = math.fsum(row.value for row in rows.values())
    assert total == pytest.approx(case["total_head_once"], rel=tolerance)
    body = math.fsum(row.value for row in rows.values() if row.role != "head")
    assert body == pytest.approx(case["total_no_head"], rel=tolerance)


@CASES
def test_parameters_are_counted_exactly(case: dict[str, Any]) -> None:
    kwargs = case["kwargs"]
    costs = pit_oracle_cases.architecture(case).costs(
        img_size=kwargs["image_size"], num_classes=kwargs["num_classes"]
    )
    assert costs.n_params == case["params"]
