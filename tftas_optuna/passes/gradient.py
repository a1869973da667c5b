"""Norms of the gradients of weight matrices, given as matrices or as products of factors."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tftas_optuna.supernet import Weights

    Shapes = Sequence[Sequence[tuple[int, int]]]

_PROBES = 4
_DENSE_RANK = 32
# Most entries of gradients to form at once: on a CPU, and on other devices.
_ENTRIES = {True: 1 << 18, False: 1 << 26}


class Sums(NamedTuple):
    """The sum over the singular values or the entries of each of several gradients.

    Attributes:
        values: The sums, shape (layers, candidates), float64.
        errors: Bounds on their errors, shape (layers, candidates), float64.
    """

    values: Tensor
    errors: Tensor


class Gradients(Protocol):
    """Gradients with respect to the weights of layers of one shape, for several candidates."""

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the gradients with their padding, (out, in)."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    def nuclear_norms(self) -> Sums:
        """Return the sums of the singular values."""

    def saliencies(self, weights: Weights, shapes: Shapes, norms: Callable[[], Tensor]) -> Sums:
        """Return the sums of ``|gradient * weight|`` over the entries.

        Args:
            weights: The absolute weights.
            shapes: For each layer, the shape of each candidate's own weights.
            norms: Returns the Frobenius norm of each layer's, shape (layers,).
        """

    def sums(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the sums of an elementwise function, shape (layers, candidates), float64.

        Args:
            function: The function. It must be zero at zero, as narrow candidates are padded.
        """


class DenseGradient:
    """The gradient of one layer of one candidate as a matrix.

    Args:
        matrix: Shape (out, in).
    """

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix
        self.shape = matrix.shape[0], matrix.shape[1]
        self.device = matrix.device

    def nuclear_norms(self) -> Sums:
        """Return the nuclear norm, by a range finder if that is accurate to 1e-6, else by SVD."""
        matrix = self._matrix.double()
        full_rank = min(matrix.shape)
        if full_rank > 4 * _DENSE_RANK:
            test = _test_matrix(
                matrix.shape[1], _DENSE_RANK + _PROBES, matrix.dtype, matrix.device
            )
            sketch = (matrix @ test)[None, None]
            norms = _sketched(sketch, lambda basis: basis.transpose(2, 3) @ matrix, full_rank)
            if float(norms.errors) <= 1e-6 * float(norms.values):
                return norms
        return _without_errors(torch.linalg.svdvals(matrix).sum().reshape(1, 1))

    def saliencies(self, weights: Weights, shapes: Shapes, norms: Callable[[], Tensor]) -> Sums:
        weight = weights.whole(0, *self._matrix.shape)
        rows = torch.linalg.vector_norm(self._matrix * weight, 1, dim=1)
        return _without_errors(rows.sum(dtype=torch.float64).reshape(1, 1))

    def sums(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        rows = function(self._matrix).sum(1)
        return rows.sum(dtype=torch.float64).reshape(1, 1)


class _Factored:
    """Gradients that are given as the products ``delta.T @ x``."""

    def __init__(self, delta: Tensor, x: Tensor) -> None:
        self._delta = delta
        self._x = x
        self.shape = delta.shape[3], x.shape[3]
        self.device = x.device

    def sums(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        totals = self._x.new_zeros(self._x.shape[:2], dtype=torch.float64)
        for total, *factors in zip(totals, self._delta, self._x, strict=True):
            for gradient, _ in _by_rows(*factors):
                total += function(gradient).flatten(1).sum(1)
        return totals


class ProductGradients(_Factored):
    """The gradients ``delta.T @ x`` of linear layers.

    Args:
        delta: Gradients with respect to the outputs, shape (layers, candidates, tokens, out).
        x: Inputs, shape (layers, candidates, tokens, in).
        rank: Rank of the range finder.
    """

    def __init__(self, delta: Tensor, x: Tensor, rank: int) -> None:
        super().__init__(delta, x)
        self._rank = rank

    def nuclear_norms(self) -> Sums:
        """Return the nuclear norms by a randomised range finder, without forming the gradients.

        Halko, Martinsson and Tropp 2011, algorithm 4.1. Probe vectors estimate the Frobenius norm
        of the part outside the range (section 4.3). The nuclear norm of that part is at most the
        square root of its rank times as large.
        """
        delta, x, rank = self._delta, self._x, self._rank
        full_rank = min(*delta.shape[2:], x.shape[3])
        if rank + _PROBES >= full_rank:
            return _without_errors(_whole_norms(delta, x))
        test = _test_matrix(x.shape[3], rank + _PROBES, x.dtype, x.device)
        sketch = delta.transpose(2, 3) @ (x @ test)
        return _sketched(sketch, lambda basis: (delta @ basis).transpose(2, 3) @ x, full_rank)

    def saliencies(self, weights: Weights, shapes: Shapes, norms: Callable[[], Tensor]) -> Sums:
        delta, x = self._delta, self._x
        # Errors of either sign cancel in a sum over many entries, so a lower rank is enough.
        rank = 2 * self._rank // 3
        if delta.shape[2] == 1:
            # With one token every entry is a product of two numbers, and the sum factorises.
            through = weights.through(delta[:, :, 0].abs(), x.shape[3])
            return _without_errors((through * x[:, :, 0].abs()).sum(2))
        if rank + _PROBES >= min(delta.shape[2:]) or delta.dtype == torch.float64:
            # The error of few tokens is below the precision of float32, but not of float64.
            return _without_errors(_saliencies(delta, x, weights, shapes))
        delta, x, missed = self._few_tokens(rank)
        return Sums(_saliencies(delta, x, weights, shapes), missed * norms()[:, None])

    def _few_tokens(self, rank: int) -> tuple[Tensor, Tensor, Tensor]:
        """Replace the tokens by a few combinations of them.

        Given an orthonormal basis of the main directions of ``delta`` in token space, a gradient
        is the product of the components of both factors along the basis, plus the product of
        their remainders.

        Returns:
            The factors of the gradients, shapes (layers, candidates, rank, out) and (layers,
            candidates, rank, in), and the Frobenius norms of the error, estimated by the probes of
            :meth:`nuclear_norms`, shape (layers, candidates), float64.
        """
        delta, x = self._delta, self._x
        test = _test_matrix(delta.shape[3], rank + _PROBES, delta.dtype, delta.device)
        basis, left = _range(delta @ test)
        x = torch.cat((basis, left), 3).transpose(2, 3) @ x
        return basis.transpose(2, 3) @ delta, x[:, :, :rank], _frobenius(x[:, :, rank:])


class CollapsedGradients(_Factored):
    """The gradients ``delta.T @ x`` of linear layers with two tokens, in closed form.

    Args:
        delta: Gradients with respect to the outputs, shape (layers, candidates, 2, out).
        x: Inputs, shape (layers, candidates, 2, in).
    """

    def nuclear_norms(self) -> Sums:
        """Return the nuclear norms from the Gram matrices of the factors, as the rank is two.

        With K = x x' and M = delta delta', the sum of the squared singular values is the sum of
        the entries of K * M, and their product is det K det M.
        """
        gram_x, det_x = _gram(self._x)
        gram_delta, det_delta = _gram(self._delta)
        squares = (gram_x * gram_delta).sum((2, 3))
        return _without_errors((squares + 2 * (det_x * det_delta).sqrt()).sqrt())

    def saliencies(self, weights: Weights, shapes: Shapes, norms: Callable[[], Tensor]) -> Sums:
        """Return the sums to first order in the part of the class token.

        The part of the patches is by far the larger one, so its signs are used for the sum, which
        then takes two products of vectors with the weights.
        """
        first_delta, delta = self._delta.unbind(2)
        first_x, x = self._x.unbind(2)
        rows = torch.cat((delta.abs(), delta.sign() * first_delta), 1)
        # Of both ways through the weights, this is the one along which they lie in memory.
        patches, first = weights.through(rows, x.shape[2]).chunk(2, 1)
        terms = (x.abs() * patches).addcmul_(x.sign() * first_x, first)
        return _without_errors(terms.sum(2))


class SharedGradients:
    """Gradients whose sums are computed once, however many indicators ask for them.

    Args:
        gradients: The gradients, of which all ask for saliencies with the same weights.
    """

    def __init__(self, gradients: Gradients) -> None:
        self._gradients = gradients
        self._nuclear_norms: Sums | None = None
        self._saliencies: Sums | None = None
        self.shape = gradients.shape
        self.device = gradients.device

    def nuclear_norms(self) -> Sums:
        if self._nuclear_norms is None:
            self._nuclear_norms = self._gradients.nuclear_norms()
        return self._nuclear_norms

    def saliencies(self, weights: Weights, shapes: Shapes, norms: Callable[[], Tensor]) -> Sums:
        if self._saliencies is None:
            self._saliencies = self._gradients.saliencies(weights, shapes, norms)
        return self._saliencies

    def sums(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        return self._gradients.sums(function)


def nuclear_norms(matrices: Tensor) -> Tensor:
    """Return the nuclear norms of matrices, shape (..., m, n), by Gram matrices in float64.

    Squaring halves the number of correct digits of the smallest singular values: eight are left,
    and the norm of a random matrix is exact to 1e-14.
    """
    matrices = matrices.double()
    turned = matrices.transpose(-2, -1)
    gram = turned @ matrices if matrices.shape[-2] > matrices.shape[-1] else matrices @ turned
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().sum(-1)


def _without_errors(sums: Tensor) -> Sums:
    return Sums(sums.double(), torch.zeros_like(sums, dtype=torch.float64))


def _saliencies(delta: Tensor, x: Tensor, weights: Weights, shapes: Shapes) -> Tensor:
    totals = x.new_zeros(x.shape[:2], dtype=torch.float64)
    for layer, (total, *factors) in enumerate(zip(totals, delta, x, strict=True)):
        weight = weights.whole(layer, delta.shape[3], x.shape[3])
        for members, (out, into) in _alike(shapes[layer], by_shape=x.device.type == "cpu"):
            cut = (f[members, :, :size] for f, size in zip(factors, (out, into), strict=True))
            for gradient, rows in _by_rows(*cut):
                sums = gradient.mul_(weight[:out, :into][rows]).abs_().flatten(1).sum(1)
                total[members] += sums
    return totals


def _alike(
    shapes: Sequence[tuple[int, int]], *, by_shape: bool
) -> Iterator[tuple[list[int] | slice, tuple[int, int]]]:
    """Group candidates whose gradients are formed together, each with the size to form.

    A CPU forms those of one shape, as padding would cost it more than further operations do.
    Candidates that lack the layer, with the shape (0, 0), have none.
    """
    distinct = sorted(shape for shape in set(shapes) if all(shape))
    if distinct and not by_shape:
        yield slice(None), (max(out for out, _ in distinct), max(into for _, into in distinct))
        return
    for shape in distinct:
        yield _sliced([i for i, own in enumerate(shapes) if own == shape]), shape


def _sliced(places: list[int]) -> list[int] | slice:
    """Return consecutive places as a slice, which makes no copy when it indexes a tensor."""
    has_gaps = places[-1] - places[0] >= len(places)
    return places if has_gaps else slice(places[0], places[-1] + 1)


def _by_rows(delta: Tensor, x: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """Yield the gradients ``delta.T @ x`` of one layer a few rows at a time.

    Few rows fit into the processor's caches, and short sums lose little precision.

    Args:
        delta: Shape (candidates, tokens, out).
        x: Shape (candidates, tokens, in).

    Yields:
        Shape (candidates, rows, in), and which rows.
    """
    at_once = max(1, _ENTRIES[x.device.type == "cpu"] // (len(x) * x.shape[2]))
    for start in range(0, delta.shape[2], at_once):
        rows = slice(start, start + at_once)
        yield delta[:, :, rows].transpose(1, 2) @ x, rows


def _sketched(sketch: Tensor, project: Callable[[Tensor], Tensor], full_rank: int) -> Sums:
    """Return nuclear norms of matrices, given their products with a test matrix.

    Args:
        sketch: The products, shape (layers, candidates, out, rank + probes).
        project: Returns the components of the matrices along a basis, shape (layers, candidates,
            rank, in).
        full_rank: The largest possible rank of the matrices.
    """
    basis, left = _range(sketch)
    errors = _frobenius(left) * (full_rank - basis.shape[3]) ** 0.5
    return Sums(nuclear_norms(project(basis)), errors)


def _range(sketch: Tensor) -> tuple[Tensor, Tensor]:
    """Return a basis of a sketch without its probes, and the probes' part outside the basis."""
    rank = sketch.shape[3] - _PROBES
    basis = orthonormal_basis(sketch[..., :rank], one_by_one=sketch.device.type == "cpu")
    probes = sketch[..., rank:]
    return basis, probes - basis @ (basis.transpose(2, 3) @ probes)


def _frobenius(left: Tensor) -> Tensor:
    """Estimate the Frobenius norms of matrices from their products with the probes."""
    return torch.linalg.vector_norm(left, dim=(2, 3)).double() / _PROBES**0.5


def orthonormal_basis(sketch: Tensor, *, one_by_one: bool) -> Tensor:
    """Return orthonormal columns that span each sketch up to rounding errors.

    GPUs factorise one matrix after the other, but multiply and diagonalise all at once. Squaring
    in float64 leaves seven digits of the singular values, as many as float32 has.

    Args:
        sketch: Shape (..., out, rank).
        one_by_one: Whether factorising one matrix after the other is faster.

    Returns:
        The columns, in the shape of the sketch; zeros where it is rank-deficient.
    """
    if one_by_one or sketch.dtype == torch.float64:
        return torch.linalg.qr(sketch).Q
    sketch = sketch.double()
    values, vectors = torch.linalg.eigh(sketch.transpose(-2, -1) @ sketch)
    significant = values > 1e-14 * values[..., -1:]
    inverse = torch.where(significant, values, torch.inf).rsqrt()
    return (sketch @ (vectors * inverse.unsqueeze(-2))).float()


def _whole_norms(delta: Tensor, x: Tensor) -> Tensor:
    """Return nuclear norms of ``delta.T @ x`` of any rank, computed in float64."""
    single = delta.dtype == torch.float32
    delta, x = delta.double(), x.double()
    if delta.shape[2] >= min(delta.shape[3], x.shape[3]):
        return torch.linalg.svdvals(delta.transpose(2, 3) @ x).sum(-1)
    # With few tokens there are small matrices with the same singular values as delta' x, made of
    # roots R of the Gram matrices, x x' = R R'.
    if not single:
        left, right = (torch.linalg.qr(m.transpose(2, 3), mode="r").R for m in (delta, x))
        return torch.linalg.svdvals(left @ right.transpose(2, 3)).sum(-1)
    # Squaring leaves eight digits, more than products of float32 have.
    values, vectors = torch.linalg.eigh(x @ x.transpose(2, 3))
    root = vectors * values.clamp_min(0).sqrt().unsqueeze(-2)
    core = root.transpose(2, 3) @ (delta @ delta.transpose(2, 3)) @ root
    return torch.linalg.eigvalsh(core).clamp_min(0).sqrt().sum(-1)


def _gram(pair: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Gram matrix of two vectors, and its determinant without cancellation."""
    first, second = pair.unbind(2)
    gram = pair @ pair.transpose(2, 3)
    length = gram[..., 1, 1].clamp_min(torch.finfo(pair.dtype).tiny)
    rest = torch.addcmul(first, (gram[..., 0, 1] / length)[..., None], second, value=-1)
    return gram, length * torch.linalg.vecdot(rest, rest)


@lru_cache(maxsize=64)
def _test_matrix(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(device, dtype)
