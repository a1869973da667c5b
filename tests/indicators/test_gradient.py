from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tftas_optuna.passes import gradient
from tftas_optuna.passes.gradient import DenseGradient, ProductGradients, nuclear_norms
from tftas_optuna.supernet import PlainWeights


def norm_of(weight: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Return what gives the Frobenius norm of a single layer."""
    return lambda: torch.linalg.vector_norm(weight)[None]


@pytest.fixture(params=["one by one", "together"])
def factorised(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How sketches are factorised: as on a CPU, or as on a GPU."""
    basis, one_by_one = gradient.orthonormal_basis, request.param == "one by one"
    monkeypatch.setattr(
        gradient, "orthonormal_basis", lambda sketch, **_: basis(sketch, one_by_one=one_by_one)
    )
    return str(request.param)


@pytest.mark.usefixtures("factorised")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [1e-3, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(197, 576, 192), (10, 64, 48), (197, 40, 300)])
def test_the_norm_of_a_product_whatever_its_spectrum(
    dtype: torch.dtype, decay: float, shape: tuple[int, int, int]
) -> None:
    tokens, out, into = shape
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(tokens, out, generator=generator, dtype=torch.float64)
    x = torch.randn(tokens, into, generator=generator, dtype=torch.float64)
    delta *= decay ** torch.arange(tokens, dtype=torch.float64)[:, None]
    exact = float(torch.linalg.svdvals(delta.T @ x).sum())
    pair = (delta.to(dtype)[None, None], x.to(dtype)[None, None])
    for rank in (4, 12, 24, 200):
        norm, error = map(float, ProductGradients(*pair, rank).nuclear_norms())
        rounding = (1e-5 if dtype == torch.float32 else 1e-12) * exact
        assert norm <= exact + rounding
        assert exact - norm <= error + rounding
        if decay < 0.5 and rank >= 24:
            assert error <= 2e-5 * exact


def test_a_sketch_of_less_than_its_rank_has_a_basis() -> None:
    columns = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    columns[1] = 0
    sketch = columns @ torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    basis = gradient.orthonormal_basis(sketch, one_by_one=False)
    assert torch.allclose(basis @ (basis.mT @ sketch), sketch, atol=1e-5)
    assert torch.linalg.matrix_rank(basis).tolist() == [3, 0]


def test_saliency_needs_the_absolute_value_of_every_entry() -> None:
    generator = torch.Generator().manual_seed(0)
    delta, x = torch.randn(5, 7, generator=generator), torch.randn(5, 3, generator=generator)
    weight = torch.rand(7, 3, generator=generator)
    expected = sum(
        abs(float(delta[:, i] @ x[:, j] * weight[i, j])) for i in range(7) for j in range(3)
    )
    product = ProductGradients(delta[None, None], x[None, None], 24)
    for gradients in (product, DenseGradient(delta.T @ x)):
        found = gradients.saliencies(PlainWeights(weight[None]), [[(7, 3)]], norm_of(weight))
        assert float(found.values) == pytest.approx(expected, rel=1e-5)
        assert float(found.errors) == 0


@pytest.mark.usefixtures("factorised")
@pytest.mark.parametrize("decay", [1e-3, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(197, 240, 90), (60, 90, 240)])
def test_saliency_by_a_few_tokens_is_within_its_bound(
    decay: float, shape: tuple[int, int, int]
) -> None:
    tokens, out, into = shape
    generator = torch.Generator().manual_seed(0)
    # Two candidates; tokens differ, and the second candidate is narrower than the arrays.
    delta = torch.randn(2, tokens, out, generator=generator, dtype=torch.float64)
    x = torch.rand(2, tokens, into, generator=generator, dtype=torch.float64)
    delta *= decay ** torch.arange(tokens, dtype=torch.float64)[:, None]
    delta[1, :, out // 2 :] = 0
    weight = torch.rand(out, into, generator=generator, dtype=torch.float64)
    exact = (delta.mT @ x * weight).abs().sum((1, 2))
    shapes = [[(out, into), (out // 2, into)]]
    for rank in (12, 24, 300):
        gradients = ProductGradients(delta.float()[None], x.float()[None], rank)
        weights = PlainWeights(weight.float()[None])
        found = gradients.saliencies(weights, shapes, norm_of(weight))
        assert ((found.values - exact).abs() <= found.errors + 1e-5 * exact).all()
        if rank == 300 or (decay < 0.5 and rank == 24):
            assert (found.errors <= 2e-5 * exact).all()
        if decay == 1 and rank < 300:
            assert (found.errors > 1e-2 * exact).all()
    # In float64 nothing is left out.
    gradients = ProductGradients(delta[None], x[None], 12)
    found = gradients.saliencies(PlainWeights(weight[None]), shapes, norm_of(weight))
    assert torch.allclose(found.values, exact[None], rtol=1e-12) and not found.errors.any()


@pytest.mark.parametrize("shape", [(60, 20), (20, 60), (40, 40)])
def test_the_norm_of_weights(shape: tuple[int, int]) -> None:
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).abs()
    exact = float(torch.linalg.svdvals(weight.double()).sum())
    assert float(nuclear_norms(weight)) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("shape", [(200, 180), (180, 200), (200, 100)])
def test_the_norm_of_a_whole_gradient_of_full_rank(shape: tuple[int, int]) -> None:
    """Its spectrum does not fall off, so that a sketch of it misses much."""
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    exact = float(torch.linalg.svdvals(matrix.double()).sum())
    found = DenseGradient(matrix).nuclear_norms()
    assert float(found.values) == pytest.approx(exact, rel=1e-5)
    assert float(found.errors) <= 1e-6 * exact


def test_saliency_of_one_token_ignores_its_signs() -> None:
    generator = torch.Generator().manual_seed(0)
    delta, x = torch.randn(1, 7, generator=generator), torch.randn(1, 3, generator=generator)
    weight = torch.rand(7, 3, generator=generator)
    expected = float((delta.T @ x * weight).abs().sum())
    gradients = ProductGradients(delta[None, None], x[None, None], 1)
    found = gradients.saliencies(PlainWeights(weight[None]), [[(7, 3)]], norm_of(weight))
    assert float(found.values) == pytest.approx(expected, rel=1e-5)
