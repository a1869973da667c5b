"""The scorer of candidates of a space on shared supernets."""

from __future__ import annotations

import contextlib
import logging
import math
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, overload

import torch

from tftas_optuna._given import is_several, shown, whole
from tftas_optuna.architecture import ArchitectureLike, architecture_of, architectures_of
from tftas_optuna.devices import limit_threads, threads_for
from tftas_optuna.errors import TftasError
from tftas_optuna.metrics import get_indicator
from tftas_optuna.scoring.basis import Basis
from tftas_optuna.scoring.conditions import (
    Conditions,
    EvaluationSource,
    ImageSource,
    SupernetSource,
)
from tftas_optuna.scoring.fidelity import check_family_fidelity
from tftas_optuna.scoring.panel import Panel
from tftas_optuna.spaces import SpaceLike, get_space

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from torch import Tensor, nn

    from tftas_optuna.architecture import Architecture, Costs
    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.metrics import Indicator
    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.passes.precision import MatmulPrecision
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.supernet import Supernet

_logger = logging.getLogger("tftas_optuna")
_PRECISIONS = ("highest", "high", "medium")


class Scorer:
    """Scores the candidates of a search space.

    All candidates are slices of one supernet, drawn from one seed. This makes their ranking far
    more stable than weights of their own would, but the scores of two seeds differ by some 10 %:
    compare scores of one seed only, or average over several.

    On a CPU the scorer uses as many threads as pay off for networks of this size, and never more
    than PyTorch has (``OMP_NUM_THREADS``): small layers are slower on several threads than on one.

    A scorer can be pickled; the supernets are not stored but drawn or read again.

    Args:
        space: The search space, as :func:`tftas_optuna.get_space` takes it; its supernet bounds
            the candidates that can be scored. Or the ``basis`` of another scorer, to share its
            supernets and images; the arguments from ``supernet`` to ``data_dir``, except
            ``matmul_precision``, are then ignored.
        indicator: Name of the indicator, or the indicator itself; see
            :func:`tftas_optuna.register_indicator`.
        fidelity: ``"exact"``, or ``"collapsed"`` if the indicator and the family support it: an
            approximation with all patches as one token, which ranks candidates alike and is some
            90 times faster (PiT: some five times).
        supernet: The weights that candidates are cut from: ``"drawn"`` from the seed, or the path
            of a trained supernet (a directory that shared training left, or a checkpoint of
            AutoFormer), or ``timm:NAME``, a larger network with its pretrained weights. By
            default they are drawn.
        seed: Seed of the supernet's weights, and of the images.
        n_seeds: Supernets to average over, with the seeds ``seed``, ``seed + 1``, ...
        device: ``"auto"`` (CUDA if available), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        img_size: Height and width of the input, in pixels; by default those of the trained
            supernet or the space.
        num_classes: Outputs of the classifier; likewise.
        dtype: Floating-point type of the passes.
        matmul_precision: Precision of float32 matrix products, as in
            ``torch.set_float32_matmul_precision``; below ``"highest"`` ranks change slightly.
            Only for indicators that are sums over the layers of one pass.
        n_images: Images in one batch, for indicators that see images, by default 8; and the
            number of labelled images, for indicators that see those, by default all.
        data_dir: A folder of pictures, one folder for each class, to use in place of noise, or
            as labelled images.
        reference: The reference sample's values for a relative indicator, if another scorer has
            computed them; see :class:`tftas_optuna.indicators.FusionIndicator`.
        **options: Options of the indicator, such as ``head_weight`` of DSS.

    Attributes:
        indicator: The indicator, with its options.
        fidelity: The fidelity of the indicator.
        matmul_precision: Precision of float32 matrix products; None for the highest.
        basis: The supernets and images.

    Raises:
        TftasError: The indicator, an option, the fidelity or the device does not exist, or an
            argument does not apply to this indicator.
        UnavailableError: The pictures or the supernet cannot be read.

    Example:
        >>> from tftas_optuna import Scorer
        >>> scorer = Scorer("autoformer-tiny", fidelity="collapsed")
        >>> score = scorer(scorer.space.smallest())
        >>> scores = scorer([scorer.space.sample(seed) for seed in range(3)])
    """

    def __init__(
        self,
        space: SpaceLike | Basis,
        *,
        indicator: str | Indicator = "dss",
        fidelity: str = "exact",
        supernet: str | os.PathLike[str] | None = None,
        seed: int = 0,
        n_seeds: int = 1,
        device: str | torch.device = "auto",
        img_size: int | None = None,
        num_classes: int | None = None,
        dtype: torch.dtype = torch.float32,
        matmul_precision: MatmulPrecision | None = None,
        n_images: int | None = None,
        data_dir: str | None = None,
        reference: Reference | None = None,
        **options: Any,
    ) -> None:
        self.indicator = get_indicator(indicator).with_options(**options)
        self.fidelity = fidelity
        self.matmul_precision = matmul_precision
        if isinstance(space, Basis):
            self._check(space.conditions.space.family)
            self.basis = space
        else:
            space = get_space(space)
            self._check(space.family)
            conditions = Conditions.of(
                space,
                img_size=img_size,
                num_classes=num_classes,
                supernet=SupernetSource.of(supernet, whole("seed", seed, 0)),
                n_seeds=n_seeds,
                images=ImageSource.of(n_images, data_dir),
                dtype=_dtype_name(dtype),
                evaluation=EvaluationSource.of(n_images, data_dir),
            )
            if self.indicator.labelled:
                self.indicator.check_conditions(conditions)
            self.basis = Basis(conditions, device)
        self._panel = Panel(
            self.basis,
            [(self.indicator, fidelity)],
            precision=matmul_precision or "highest",
            reference=reference,
        )

    def sharing(self, indicator: str, fidelity: str = "exact") -> Scorer:
        """Return a scorer of another indicator on the same supernets and images.

        Args:
            indicator: Name of the indicator.
            fidelity: Its fidelity.

        Raises:
            TftasError: The indicator or the fidelity does not exist.
        """
        if get_indicator(indicator).labelled:
            get_indicator(indicator).check_conditions(self.conditions)
        precision = self.matmul_precision if get_indicator(indicator).sums_layers else None
        return Scorer(
            self.basis, indicator=indicator, fidelity=fidelity, matmul_precision=precision
        )

    def _check(self, family: str) -> None:
        """Check that the fidelity and the precision apply to the indicator and the family."""
        self.indicator.check_fidelity(self.fidelity)
        check_family_fidelity(family, self.fidelity)
        if self.matmul_precision is None:
            return
        if not self.indicator.sums_layers:
            raise TftasError(
                f"matmul_precision does not apply to indicator {self.indicator.name!r}, which is"
                " no sum over the layers of one pass; leave it out"
            )
        if self.matmul_precision not in _PRECISIONS:
            raise TftasError(
                f"matmul_precision is {self.matmul_precision!r}, allowed: {', '.join(_PRECISIONS)}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = partial(
            _rebuild,
            self.basis.conditions,
            str(self.device),
            indicator=self.indicator,
            fidelity=self.fidelity,
            matmul_precision=self.matmul_precision,
            reference=self.known_reference,
        )
        return rebuild, ()

    @property
    def conditions(self) -> Conditions:
        """Everything that scores depend on besides the candidate and the indicator."""
        return self.basis.conditions

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.conditions.space

    @property
    def seed(self) -> int:
        """Seed of the first supernet."""
        return self.conditions.supernet.seed

    @property
    def n_seeds(self) -> int:
        """Number of supernets that scores are averaged over."""
        return self.conditions.n_seeds

    @property
    def device(self) -> torch.device:
        """The device that scores are computed on."""
        return self.basis.device

    @property
    def img_size(self) -> int:
        """Height and width of the input, in pixels."""
        return self.conditions.img_size

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier."""
        return self.conditions.num_classes

    @property
    def known_reference(self) -> Reference | None:
        """The reference sample's values, if they were given or computed, else None."""
        return self._panel.known_reference

    @property
    def images(self) -> Tensor:
        """The images that the first supernet sees, shape (images, channels, height, width).

        One image of ones if the indicator sees no others. Several batches are concatenated.
        """
        if self._sees_labelled_alone:
            labelled = self.basis.labelled()
            return labelled.normalised(0, len(labelled.labels), self.basis.dtype)
        if not self._panel.batches:
            shape = (1, self.space.in_chans, self.img_size, self.img_size)
            return torch.ones(shape, dtype=self.basis.dtype, device=self.device)
        seen = self.basis.images(0, self._panel.batches)
        return torch.cat([images for images, _ in seen.batches])

    @property
    def labels(self) -> Tensor | None:
        """The labels of the images, shape (images,); None for the image of ones."""
        if self._sees_labelled_alone:
            return self.basis.labelled().labels
        if not self._panel.batches:
            return None
        seen = self.basis.images(0, self._panel.batches)
        return torch.cat([labels for _, labels in seen.batches])

    @property
    def _sees_labelled_alone(self) -> bool:
        return self.indicator.labelled and not self._panel.batches

    @property
    def supernet(self) -> Supernet:
        """The supernet of the first seed."""
        return self.basis.grounds[0].supernet

    @property
    def batch_size(self) -> int:
        """Most candidates in one pass; scoring more at once is not faster."""
        return self._panel.batch_size

    @overload
    def __call__(self, arch: ArchitectureLike) -> float: ...
    @overload
    def __call__(self, arch: Iterable[ArchitectureLike]) -> list[float]: ...
    def __call__(self, arch: ArchitectureLike | Iterable[ArchitectureLike]) -> float | list[float]:
        """Score one candidate, or several.

        Args:
            arch: An architecture, or a candidate of a front; or several, as for :meth:`batch`.

        Returns:
            The score; of several a list, in their order.

        Raises:
            TftasError: A candidate does not fit the supernet, or a score is not finite.
        """
        scores = self.batch(arch)
        return scores if is_several(arch) else scores[0]

    def batch(self, archs: ArchitectureLike | Iterable[ArchitectureLike]) -> list[float]:
        """Score several candidates, many of them in one pass if that is faster.

        They are architectures, or candidates of a front. If memory runs out the batch is halved,
        with a warning on the logger ``tftas_optuna``.

        Returns:
            The scores, in the order of the candidates: means over the seeds.

        Raises:
            TftasError: A candidate does not fit the supernet, or a score is not finite.
        """
        return [math.fsum(scores) / self.n_seeds for scores in self.by_seed(archs)]

    def by_seed(
        self, archs: ArchitectureLike | Iterable[ArchitectureLike]
    ) -> list[tuple[float, ...]]:
        """Return the scores of several candidates, one per seed."""
        archs = architectures_of(archs)
        with self._threads(len(archs)):
            scores = self._panel.by_seed(archs)[self.indicator.name]
        self._warn_of_other_sizes(archs)
        return scores

    def _warn_of_other_sizes(self, archs: list[Architecture]) -> None:
        """Warn of candidates that training could not draw, although their slices exist."""
        source = self.conditions.supernet
        others = [] if source.path is None else [a for a in archs if a not in self.space]
        if others:
            _logger.warning(
                "%s lists no such sizes as %s, so %s was not trained for them; their scores may"
                " be too low",
                self.space.name,
                others[0].summary(),
                source.path,
            )

    def explain(self, arch: ArchitectureLike) -> list[LayerScore]:
        """Return what each layer adds to a candidate's score, in forward order, on the first seed.

        Raises:
            TftasError: The indicator is not a sum over layers.
        """
        with self._threads(1):
            return self._panel.explain(architecture_of(arch))

    def _threads(self, count: int) -> contextlib.AbstractContextManager[None]:
        """Limit the threads to what pays off for ``count`` of the largest candidates."""
        costs, share = self._typical
        if self.fidelity == "collapsed":
            # Two tokens: one for all patches and the class token.
            macs = 2.0 * costs.n_params * min(count, self.batch_size)
        else:
            per_pass = self.basis.grounds[0].per_batch if self._panel.batches else 1
            if self.indicator.labelled:
                per_pass = max(per_pass, len(self.basis.labelled().labels))
            macs = costs.macs * per_pass
        return limit_threads(threads_for(macs * share, self.device))

    @cached_property
    def _typical(self) -> tuple[Costs, float]:
        """The costs of the largest candidate, and the share of them in a typical layer.

        Layers are weighted by size, as most multiply-adds are in large ones.
        """
        largest = self.space.supernet
        weights = self.supernet.outline(largest).values()
        sizes = [weight.numel() for weight in weights if weight.ndim > 1]
        share = sum(size * size for size in sizes) / sum(sizes) ** 2
        return largest.costs(**self.conditions.target.input), share

    def subnet(self, arch: ArchitectureLike) -> nn.Module:
        """Build a stand-alone network with the candidate's signed weights, in eval mode."""
        return self.supernet.subnet(architecture_of(arch))

    def __repr__(self) -> str:
        conditions = self.conditions
        seeds = f", mean over {self.n_seeds} seeds" if self.n_seeds > 1 else ""
        return (
            f"<Scorer of {self.indicator.name} ({self.fidelity}) in {self.space.name}:"
            f" {self.img_size} pixels, {self.num_classes:,} classes, supernet"
            f" {conditions.supernet}{seeds}, {self.device}>"
        )


def _rebuild(conditions: Conditions, device: str, **arguments: Any) -> Scorer:
    return Scorer(Basis(conditions, device), **arguments)


def _dtype_name(dtype: Any) -> str:
    """Return the name of a floating-point type, given as such or as text."""
    name = str(dtype).removeprefix("torch.")
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise TftasError(
            f"dtype is {shown(dtype)}, allowed are floating-point types, such as torch.float32"
        )
    return name
