"""Scores candidates of a space on shared supernets."""

from __future__ import annotations

import contextlib
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from tftas_optuna.devices import limit_threads, threads_for
from tftas_optuna.errors import TftasError
from tftas_optuna.families import get_family
from tftas_optuna.metrics import get_indicator
from tftas_optuna.scoring.basis import Basis
from tftas_optuna.scoring.conditions import (
    DEFAULT_N_IMAGES,
    Conditions,
    ImageSource,
    SupernetSource,
)
from tftas_optuna.scoring.panel import Panel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.indicators.composite import Reference
    from tftas_optuna.metrics import Indicator
    from tftas_optuna.passes.layers import LayerScore
    from tftas_optuna.passes.precision import MatmulPrecision
    from tftas_optuna.spaces import SearchSpace
    from tftas_optuna.supernet import Supernet

_PRECISIONS = ("highest", "high", "medium")


class Scorer:
    """What a candidate is worth, untrained.

    All candidates of one scorer are slices of one supernet, drawn from one seed: their ranking
    is far more stable than with weights of their own, while the scores of two seeds differ by
    some 10 %. Compare scores of one seed only, or average over several.

    On a CPU it computes on as many threads as networks of this size are worth, and never on more
    than PyTorch has (``OMP_NUM_THREADS``): small layers take longer on several than on one.

    A scorer can be pickled: what travels is how it was made, and the supernets are drawn again.

    Args:
        space: The search space; its supernet bounds the candidates that can be scored. Or the
            ``basis`` of another scorer, to share its supernets and images: then all that follows
            from ``seed`` on, up to ``data_dir``, is that scorer's.
        indicator: Name of the indicator, or the indicator itself; see
            :func:`tftas_optuna.register_indicator`.
        fidelity: ``"exact"``, or ``"collapsed"`` where the indicator and the family have it: all
            patches as one token, an approximation that ranks candidates alike and is some 90
            times faster (PiT: some five times).
        seed: Seed of the supernet's weights.
        n_seeds: Supernets to average over, with the seeds ``seed``, ``seed + 1``, ...
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        img_size: Height and width of the input, in pixels; the space's own by default.
        num_classes: Outputs of the classifier; the space's own by default.
        dtype: Floating-point type of the passes.
        matmul_precision: Precision of float32 matrix products, as in
            ``torch.set_float32_matmul_precision``; below ``"highest"`` ranks change slightly.
            Only for indicators that are sums over the layers of one pass.
        n_images: Images of one batch, for indicators that see images.
        data_dir: A folder of pictures, one folder for each class, to see in place of noise.
        reference: What a relative indicator looks at, where it is known from another scorer; see
            :class:`tftas_optuna.indicators.FusionIndicator`.
        **options: Options of the indicator, such as ``head_weight`` of DSS.

    Attributes:
        indicator: The indicator, with its options.
        fidelity: How it is computed.
        matmul_precision: Precision of float32 matrix products; None for the highest.
        basis: Its supernets and images.

    Raises:
        TftasError: The indicator, an option, the fidelity or the device does not exist, or
            something is asked for that does not apply to this indicator.
        UnavailableError: The pictures cannot be read.

    Example:
        >>> from tftas_optuna import Scorer, get_space
        >>> space = get_space("autoformer-tiny")
        >>> scorer = Scorer(space)
        >>> score = scorer(space.supernet)
    """

    def __init__(
        self,
        space: SearchSpace | Basis,
        *,
        indicator: str | Indicator = "dss",
        fidelity: str = "exact",
        seed: int = 0,
        n_seeds: int = 1,
        device: str | torch.device = "auto",
        img_size: int | None = None,
        num_classes: int | None = None,
        dtype: torch.dtype = torch.float32,
        matmul_precision: MatmulPrecision | None = None,
        n_images: int = DEFAULT_N_IMAGES,
        data_dir: str | None = None,
        reference: Reference | None = None,
        **options: Any,
    ) -> None:
        found = get_indicator(indicator) if isinstance(indicator, str) else indicator
        self.indicator = found.with_options(**options)
        self.fidelity = fidelity
        self.matmul_precision = matmul_precision
        if isinstance(space, Basis):
            self._check(space.conditions.space.family)
            self.basis = space
        else:
            self._check(space.family)
            conditions = Conditions.of(
                space,
                img_size=img_size,
                num_classes=num_classes,
                supernet=SupernetSource(seed),
                n_seeds=n_seeds,
                images=ImageSource.of(n_images, data_dir),
                dtype=str(dtype).removeprefix("torch."),
            )
            self.basis = Basis(conditions, device)
        self._panel = Panel(
            self.basis,
            [(self.indicator, fidelity)],
            precision=matmul_precision or "highest",
            reference=reference,
        )

    def sharing(self, indicator: str, fidelity: str = "exact") -> Scorer:
        """Make a scorer of another indicator on the same supernets and images.

        Args:
            indicator: Name of the indicator.
            fidelity: How it is computed.

        Raises:
            TftasError: The indicator or its fidelity does not exist.
        """
        precision = self.matmul_precision if get_indicator(indicator).sums_layers else None
        return Scorer(
            self.basis, indicator=indicator, fidelity=fidelity, matmul_precision=precision
        )

    def _check(self, family: str) -> None:
        """Check that everything that was asked for applies to the indicator."""
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
        made = partial(
            _made_again,
            self.basis.conditions,
            str(self.device),
            indicator=self.indicator,
            fidelity=self.fidelity,
            matmul_precision=self.matmul_precision,
            reference=self.known_reference,
        )
        return made, ()

    @property
    def conditions(self) -> Conditions:
        """All that its scores depend on besides the candidate and the indicator."""
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
        """Number of supernets."""
        return self.conditions.n_seeds

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
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
        """What a relative indicator looks at, if it was given or computed."""
        return self._panel.known_reference

    @property
    def images(self) -> Tensor:
        """Images that the first supernet sees, shape (images, channels, height, width).

        One image of ones where the indicator sees no others; of several batches all, one after
        the other.
        """
        if not self._panel.batches:
            shape = (1, self.space.in_chans, self.img_size, self.img_size)
            return torch.ones(shape, dtype=self.basis.dtype, device=self.device)
        seen = self.basis.images(0, self._panel.batches)
        return torch.cat([images for images, _ in seen.batches])

    @property
    def labels(self) -> Tensor | None:
        """Labels of the images, shape (images,); None of an image of ones."""
        if not self._panel.batches:
            return None
        seen = self.basis.images(0, self._panel.batches)
        return torch.cat([labels for _, labels in seen.batches])

    @property
    def supernet(self) -> Supernet:
        """The weights of the first seed."""
        return self.basis.grounds[0].supernet

    @property
    def batch_size(self) -> int:
        """Candidates that one pass takes; more at once gain nothing."""
        return self._panel.batch_size

    def __call__(self, arch: Architecture) -> float:
        """Score one candidate.

        Raises:
            TftasError: It does not fit the supernet, or its score is not finite.
        """
        return self.batch([arch])[0]

    def batch(self, archs: Sequence[Architecture]) -> list[float]:
        """Score several candidates, many in one pass where that is faster.

        When memory runs out the batch is halved, with a warning on the logger ``tftas_optuna``.

        Returns:
            The scores, in the order of the candidates: means over the seeds.

        Raises:
            TftasError: A candidate does not fit the supernet, or a score is not finite.
        """
        return [math.fsum(scores) / self.n_seeds for scores in self.by_seed(archs)]

    def by_seed(self, archs: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """Score several candidates; return each one's score of every seed."""
        with self._threads(len(archs)):
            return self._panel.by_seed(archs)[self.indicator.name]

    def explain(self, arch: Architecture) -> list[LayerScore]:
        """Score one candidate layer by layer, in forward order, on the first seed.

        Raises:
            TftasError: The indicator is no sum over layers.
        """
        with self._threads(1):
            return self._panel.explain(arch)

    def _threads(self, count: int) -> contextlib.AbstractContextManager[None]:
        """Use as many threads as a pass of so many of the largest candidates is worth."""
        largest = self.space.supernet
        costs = largest.costs(**self.conditions.target.input)
        if self.fidelity == "collapsed":
            # One token stands for all patches, beside that of the class.
            macs = 2.0 * costs.n_params * min(count, self.batch_size)
        else:
            per_pass = self.basis.grounds[0].per_batch if self._panel.batches else 1
            macs = costs.macs * per_pass
        weights = self.supernet.outline(largest).values()
        sizes = [weight.numel() for weight in weights if weight.ndim > 1]
        # In the layer that most multiply-adds are in: tables of positions hardly count.
        share = sum(size * size for size in sizes) / sum(sizes) ** 2
        return limit_threads(threads_for(macs * share, self.device))

    def subnet(self, arch: Architecture) -> nn.Module:
        """Build a stand-alone network with the candidate's slices, signs kept, in eval mode."""
        return self.supernet.subnet(arch)


def _made_again(conditions: Conditions, device: str, **others: Any) -> Scorer:
    return Scorer(Basis(conditions, device), **others)


def check_family_fidelity(family: str, fidelity: str) -> None:
    """Check that the supernets of a family know a fidelity.

    Raises:
        TftasError: They do not.
    """
    known = get_family(family).supernet.fidelities
    if fidelity not in known:
        raise TftasError(
            f"family {family!r} has no fidelity {fidelity!r}; it has: {', '.join(known)}"
        )
