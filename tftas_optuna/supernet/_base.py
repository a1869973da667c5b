"""What every supernet offers, and how its weights are drawn."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Generic

import torch
from typing_extensions import TypeVar

from tftas_optuna.architecture import Architecture
from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from tftas_optuna.supernet.trace import LinearTrace


A = TypeVar("A", bound=Architecture, default=Architecture)


class Supernet(ABC, Generic[A]):
    """One set of weights that every candidate of a study is cut from.

    A family's supernet says what its weights are (``_shapes``, ``_draw``), what a candidate
    sees of them (``_limits``, ``_slices``), and runs it (``_traces``).

    Attributes:
        fidelities: How :meth:`traces` can run: ``"exact"``, and ``"collapsed"`` where all patches
            can be one token.
        traits: Fields of the architecture in which every candidate equals the supernet.

    Args:
        largest: The supernet itself; no candidate is larger in any dimension.
        seed: Seed of the weights. Every tensor has a generator of its own, derived from the seed
            and the tensor's name, so the class count does not change the blocks.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        in_chans: Channels of the input.
        state_dict: Weights to use instead of drawing them from the seed.
        device: Where scoring runs.
        dtype: Floating-point type of the scoring.

    Raises:
        TftasError: A given weight is missing or of another shape.
    """

    fidelities: ClassVar[tuple[str, ...]] = ("exact",)
    traits: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        largest: A,
        *,
        seed: int = 0,
        img_size: int = 224,
        num_classes: int = 1000,
        in_chans: int = 3,
        state_dict: Mapping[str, Tensor] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.largest = largest
        self.img_size = img_size
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.device = torch.device(device)
        self.dtype = dtype
        shapes = self._shapes()
        if state_dict is None:
            state_dict = {
                name: self._draw(name, torch.empty(shape), generator_of(seed, name))
                for name, shape in shapes.items()
            }
        for name, shape in shapes.items():
            if name not in state_dict or tuple(state_dict[name].shape) != shape:
                found = tuple(state_dict[name].shape) if name in state_dict else "missing"
                raise TftasError(f"supernet weight {name} is {found}, expected shape {shape}")
        self.state_dict = {name: state_dict[name] for name in shapes}
        self._absolute = {
            name: weight.to(device=self.device, dtype=dtype).abs()
            for name, weight in self.state_dict.items()
        }

    def check(self, arch: A) -> None:
        """Check that a candidate can be cut from this supernet.

        Raises:
            TftasError: It is of another kind, or larger; says in what.
        """
        for name in ("family", *self.traits):
            theirs, ours = getattr(arch, name), getattr(self.largest, name)
            if theirs != ours:
                raise TftasError(f"{name} is {theirs}, the supernet has {ours}")
        for name, (values, most) in self._limits(arch).items():
            if any(value > limit for value, limit in zip(values, most, strict=True)):
                found, limits = (_plainly(each) for each in (values, most))
                raise TftasError(f"{name} is {found}, the supernet holds at most {limits}")

    def subnet(self, arch: A) -> nn.Module:
        """Build the stand-alone network that holds a candidate's slices, signs kept.

        Returns:
            A network in eval mode, on the device and in the type of the scoring.

        Raises:
            TftasError: The candidate does not fit.
        """
        # timm takes longer to load than all candidates of a generation take to be scored.
        from tftas_optuna.models import build_model

        self.check(arch)
        model = build_model(
            arch, num_classes=self.num_classes, img_size=self.img_size, in_chans=self.in_chans
        )
        model.to(dtype=self.dtype).load_state_dict(self._slices(arch, self.state_dict))
        return model.to(device=self.device).eval()

    @staticmethod
    def groups(archs: Sequence[A]) -> list[list[int]]:
        """Sort candidates, by index, into lists that run together; here each runs alone."""
        return [[i] for i in range(len(archs))]

    def traces(self, archs: Sequence[A], *, fidelity: str = "exact") -> Iterable[LinearTrace]:
        """Feed the all-ones image through the absolute slices and back-propagate the logits.

        Args:
            archs: Candidates of one of the :meth:`groups`.
            fidelity: One of :attr:`fidelities`.

        Returns:
            The counted layers, from the last to the first; each covers those first candidates
            that are deep enough to have it.

        Raises:
            TftasError: A candidate does not fit, or the family has no such fidelity.
        """
        if fidelity not in self.fidelities:
            raise TftasError(
                f"family {self.largest.family} has no fidelity {fidelity!r}; known:"
                f" {', '.join(self.fidelities)}"
            )
        for arch in archs:
            self.check(arch)
        return self._traces(archs, fidelity)

    def pass_bytes(self, fidelity: str) -> int:
        """Estimate the memory that one candidate takes in :meth:`traces`, in bytes.

        It limits how many run together; where each runs alone, the size of the weights will do.
        """
        return sum(weight.numel() for weight in self._absolute.values()) * self.dtype.itemsize

    @abstractmethod
    def _limits(self, arch: A) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
        """Return sizes of a candidate by name, each with the most that fits, one by one."""

    @abstractmethod
    def _traces(self, archs: Sequence[A], fidelity: str) -> Iterable[LinearTrace]:
        """See :meth:`traces`; the arguments are checked."""

    @abstractmethod
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight by name."""

    @abstractmethod
    def _draw(self, name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Fill a weight in place, on the CPU in float32, as its family's training starts."""

    @abstractmethod
    def _slices(self, arch: A, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cut a candidate's weights, by the names of the stand-alone network."""


def generator_of(seed: int, name: str) -> torch.Generator:
    """Make a generator for one tensor, so that no tensor's draw depends on another's shape."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _plainly(sizes: Sequence[float]) -> str:
    return f"{sizes[0]:g}" if len(sizes) == 1 else str(list(sizes))
