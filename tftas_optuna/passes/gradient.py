"""Norms of the gradients of weight matrices, whole or as the products they come from."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROBES = 4
_DENSE_RANK = 32
# Entries of gradients that are held at once, on a CPU and elsewhere.
_ENTRIES = {True: 1 << 18, False: 1 << 26}


class Sums(NamedTuple):
    """One sum for each of several gradients, over singular values or over entries.

    Attributes:
        values: The sums, shape (candidates,), float64.
        errors: Bounds on how far each may be off, shape (candidates,), float64.
    """

    values: Tensor
    errors: Tensor


class Gradients(Protocol):
    """Gradients of a loss with respect to one weight matrix of several candidates."""

    def nuclear_norms(self) -> Sums:
        """Sum their singular values."""

    def saliencies(self, weight: Tensor, norm: Callable[[], float]) -> Sums:
        """Sum the absolute values of their products with the weights.

        Args:
            weight: Absolute weights, shape (out, in).
            norm: Gives their Frobenius norm.
        """

    def sums(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Sum a function of their entries, one by one, in float64, (candidates,).

        Args:
            function: Zero at zero: candidates may be narrower than the arrays.
        """


class DenseGradient:
    """One gradient held as a matrix.

    Args:
        matrix: Shape (out, in).
    """

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix

    def nuclear_norms(self) -> Sums:
        """Use a range finder where that is certain to 1e-6, otherwise a full SVD."""
        matrix = self._matrix.double()
        full_rank = min(matrix.shape)
        if full_rank > 4 * _DENSE_RANK:
            test = _test_matrix(
                matrix.shape[1], _DENSE_RANK + _PROBES, matrix.dtype, matrix.device
            )
            sketch = (matrix @ test)[None]
            norms = _sketched(sketch, lambda basis: basis[0].T @ matrix, full_rank)
            if float(norms.errors) <= 1e-6 * float(norms.values):
                return norms
        return _certain(torch.linalg.svdvals(matrix).sum().reshape(1))

    def saliencies(self, weight: Tensor, norm: Callable[[], float]) -> Sums:
        rows = torch.linalg.vector_norm(self._matrix * weight, 1, dim=1)
        return _certain(rows.sum(dtype=torch.float64).reshape(1))

    def sums(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        rows = function(self._matrix).sum(1)
        return rows.sum(dtype=torch.float64).reshape(1)


class ProductGradients:
    """The gradients ``delta.T @ x`` of a linear layer.

    Args:
        delta: Gradients with respect to the layer's output, shape (candidates, tokens, out).
        x: Inputs of the layer, shape (candidates, tokens, in).
        rank: Rank of the range finder.
    """

    def __init__(self, delta: Tensor, x: Tensor, rank: int) -> None:
        self._delta = delta
        self._x = x
        self._rank = rank

    def nuclear_norms(self) -> Sums:
        """Use a randomised range finder, without forming the gradients.

        Halko, Martinsson and Tropp 2011, algorithm 4.1. Probe vectors that the range has not
        seen estimate the Frobenius norm of what it misses (section 4.3), and the nuclear norm of
        that is at most the square root of its rank times as large.
        """
        delta, x, rank = self._delta, self._x, self._rank
        full_rank = min(*delta.shape[1:], x.shape[2])
        if rank + _PROBES >= full_rank:
            return _certain(_whole_norms(delta, x))
        test = _test_matrix(x.shape[2], rank + _PROBES, x.dtype, x.device)
        sketch = delta.transpose(1, 2) @ (x @ test)
        return _sketched(sketch, lambda basis: (delta @ basis).transpose(1, 2) @ x, full_rank)

    def saliencies(self, weight: Tensor, norm: Callable[[], float]) -> Sums:
        delta, x = self._delta, self._x
        # Of many entries with errors of either sign, the sum needs fewer.
        rank = 2 * self._rank // 3
        if delta.shape[1] == 1:
            # One token: every entry is a product of two numbers, and the sum falls apart.
            through = x[:, 0].abs() @ weight.T
            return _certain((through * delta[:, 0].abs()).sum(1))
        if rank + _PROBES >= min(delta.shape[1:]) or delta.dtype == torch.float64:
            # What few tokens leave out is less than a float32 tells, not than a float64 does.
            return _certain(_saliencies(delta, x, weight))
        delta, x, missed = self._few_tokens(rank)
        return Sums(_saliencies(delta, x, weight), missed * norm())

    def _few_tokens(self, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        """Put a few combinations of the tokens in the place of all of them.

        With an orthonormal basis of what the ``delta`` of all tokens have in common, a gradient
        is the product of both factors' components along it, plus that of what is left of both.

        Returns:
            The factors of the gradients, shapes (candidates, rank, out) and (candidates, rank,
            in), and the Frobenius norms of what they miss, by the probes of
            :meth:`nuclear_norms`, shape (candidates,), float64.
        """
        delta, x = self._delta, self._x
        test = _test_matrix(delta.shape[2], rank + _PROBES, delta.dtype, delta.device)
        basis, left = _range(delta @ test)
        x = torch.cat((basis, left), 2).transpose(1, 2) @ x
        return basis.transpose(1, 2) @ delta, x[:, :rank], _frobenius(x[:, rank:])

    def sums(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        return _sums(self._delta, self._x, function)


class CollapsedGradients:
    """The gradients ``delta.T @ x`` of a linear layer that sees two tokens, in closed form.

    Args:
        delta: Gradients with respect to the layer's output, shape (candidates, 2, out).
        x: Inputs of the layer, shape (candidates, 2, in).
    """

    def __init__(self, delta: Tensor, x: Tensor) -> None:
        self._delta = delta
        self._x = x

    def nuclear_norms(self) -> Sums:
        """Use the Gram matrices of the factors: the matrices have rank two.

        With K = x x' and M = delta delta', the squared singular values add up to the sum of the
        entries of K * M and multiply to det K det M.
        """
        gram_x, det_x = _gram(self._x)
        gram_delta, det_delta = _gram(self._delta)
        squares = (gram_x * gram_delta).sum((1, 2))
        return _certain((squares + 2 * (det_x * det_delta).sqrt()).sqrt())

    def saliencies(self, weight: Tensor, norm: Callable[[], float]) -> Sums:
        """Sum with the signs of the patches' part, by far the larger one.

        To first order in the class token's part the sum is then a sum of two products of
        vectors with the weights.
        """
        first_delta, delta = self._delta.unbind(1)
        first_x, x = self._x.unbind(1)
        through = torch.cat((x.abs(), x.sign() * first_x)) @ weight.T
        patches, first = through.chunk(2)
        return _certain((delta.abs() * patches + delta.sign() * first_delta * first).sum(1))

    def sums(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        return _sums(self._delta, self._x, function)


def nuclear_norms(matrices: Tensor) -> Tensor:
    """Compute nuclear norms of matrices, shape (..., m, n), by Gram matrices in float64.

    Squaring costs half of the digits of the smallest singular values; of float64's, that leaves
    eight, and the norm of a random matrix is exact to 1e-14.
    """
    matrices = matrices.double()
    turned = matrices.transpose(-2, -1)
    gram = turned @ matrices if matrices.shape[-2] > matrices.shape[-1] else matrices @ turned
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().sum(-1)


def _certain(sums: Tensor) -> Sums:
    return Sums(sums.double(), torch.zeros_like(sums, dtype=torch.float64))


def _saliencies(delta: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    totals = x.new_zeros(len(x), dtype=torch.float64)
    for gradient, rows in _by_rows(delta, x):
        totals += gradient.mul_(weight[rows]).abs_().flatten(1).sum(1)
    return totals


def _by_rows(delta: Tensor, x: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """Form the gradients ``delta.T @ x`` a few rows at a time, (candidates, rows, in).

    They stay in the processor's caches, and sums over them keep their digits.
    """
    at_once = max(1, _ENTRIES[x.device.type == "cpu"] // (len(x) * x.shape[2]))
    for start in range(0, delta.shape[2], at_once):
        rows = slice(start, start + at_once)
        yield delta[:, :, rows].transpose(1, 2) @ x, rows


def _sums(delta: Tensor, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    totals = x.new_zeros(len(x), dtype=torch.float64)
    for gradient, _ in _by_rows(delta, x):
        totals += function(gradient).flatten(1).sum(1)
    return totals


def _sketched(sketch: Tensor, project: Callable[[Tensor], Tensor], full_rank: int) -> Sums:
    """Compute nuclear norms of matrices whose products with a test matrix are known.

    Args:
        sketch: The products, shape (candidates, out, rank and probes).
        project: Gives the matrices' components along a basis, shape (candidates, rank, in).
        full_rank: The rank that the matrices may have.
    """
    basis, left = _range(sketch)
    errors = _frobenius(left) * (full_rank - basis.shape[2]) ** 0.5
    return Sums(nuclear_norms(project(basis)), errors)


def _range(sketch: Tensor) -> tuple[Tensor, Tensor]:
    """Return a basis of all but the probes of a sketch, and what it leaves of the probes."""
    rank = sketch.shape[2] - _PROBES
    basis = orthonormal_basis(sketch[..., :rank], one_by_one=sketch.device.type == "cpu")
    probes = sketch[..., rank:]
    return basis, probes - basis @ (basis.transpose(1, 2) @ probes)


def _frobenius(left: Tensor) -> Tensor:
    """Estimate Frobenius norms of matrices of which the products with the probes are known."""
    return torch.linalg.vector_norm(left, dim=(1, 2)).double() / _PROBES**0.5


def orthonormal_basis(sketch: Tensor, *, one_by_one: bool) -> Tensor:
    """Return orthonormal columns that span what is more than rounding in sketches.

    GPUs factorise one matrix after the other, but multiply and diagonalise all at once. Squared
    in float64, seven digits of the singular values are left, as many as a float32 has.

    Args:
        sketch: Shape (candidates, out, rank).
        one_by_one: Whether factorising one by one is the faster way.

    Returns:
        The columns, of the shape of the sketch; zero where it is rank-deficient.
    """
    if one_by_one or sketch.dtype == torch.float64:
        return torch.linalg.qr(sketch).Q
    sketch = sketch.double()
    values, vectors = torch.linalg.eigh(sketch.transpose(1, 2) @ sketch)
    told = values > 1e-14 * values[:, -1:]
    inverse = torch.where(told, values, torch.inf).rsqrt()
    return (sketch @ (vectors * inverse.unsqueeze(1))).float()


def _whole_norms(delta: Tensor, x: Tensor) -> Tensor:
    """Compute nuclear norms of ``delta.T @ x`` in float64, whatever their rank."""
    single = delta.dtype == torch.float32
    delta, x = delta.double(), x.double()
    if delta.shape[1] >= min(delta.shape[2], x.shape[2]):
        return torch.linalg.svdvals(delta.transpose(1, 2) @ x).sum(-1)
    # With few tokens, a root R of x x' = R R' turns delta' x into a small matrix with the same
    # singular values.
    if not single:
        left, right = (torch.linalg.qr(each.transpose(1, 2), mode="r").R for each in (delta, x))
        return torch.linalg.svdvals(left @ right.transpose(1, 2)).sum(-1)
    # Squaring leaves eight digits, more than there are in products of float32.
    values, vectors = torch.linalg.eigh(x @ x.transpose(1, 2))
    root = vectors * values.clamp_min(0).sqrt().unsqueeze(1)
    core = root.transpose(1, 2) @ (delta @ delta.transpose(1, 2)) @ root
    return torch.linalg.eigvalsh(core).clamp_min(0).sqrt().sum(-1)


def _gram(pair: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the Gram matrix of two vectors, and its determinant without cancellation."""
    first, second = pair.unbind(1)
    gram = pair @ pair.transpose(1, 2)
    length = gram[:, 1, 1].clamp_min(torch.finfo(pair.dtype).tiny)
    rest = first - (gram[:, 0, 1] / length)[:, None] * second
    return gram, length * rest.square().sum(1)


@lru_cache(maxsize=64)
def _test_matrix(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(device, dtype)
