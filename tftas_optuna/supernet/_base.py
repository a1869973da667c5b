"""What every supernet offers, and how its weights are drawn."""

from __future__ import annotations

import hashlib
import math
import threading
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Generic

import torch
from typing_extensions import TypeVar

from tftas_optuna.architecture import Architecture
from tftas_optuna.devices import limit_threads
from tftas_optuna.errors import TftasError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from tftas_optuna.supernet.trace import LinearTrace


A = TypeVar("A", bound=Architecture, default=Architecture)


class Supernet(ABC, Generic[A]):
    """One set of weights that every candidate of a study is cut from.

    A family's supernet says what its weights are (``shapes``, ``draw``), what a candidate
    sees of them (``limits``, ``slices``), and runs it (``traces``).

    Attributes:
        fidelities: How :meth:`run` can run: ``"exact"``, and ``"collapsed"`` where all patches
            can be one token.
        traits: Fields of the architecture in which every candidate equals the supernet.
        at_once: By fidelity and type of the device: candidates of one pass beyond which more
            gain nothing, memory permitting.

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
    at_once: ClassVar[dict[tuple[str, str], int]] = {
        ("exact", "cpu"): 1,
        ("collapsed", "cpu"): 256,
        ("exact", "cuda"): 64,
        ("collapsed", "cuda"): 1024,
    }

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
        self._seed = seed
        self._given = state_dict
        self._arranging = threading.Lock()
        if state_dict is not None:
            for name, shape in self.shapes().items():
                if name not in state_dict or tuple(state_dict[name].shape) != shape:
                    found = tuple(state_dict[name].shape) if name in state_dict else "missing"
                    raise TftasError(f"supernet weight {name} is {found}, expected shape {shape}")

    @cached_property
    def state_dict(self) -> dict[str, Tensor]:
        """The weights by name, signs kept; drawn when they are first asked for."""
        return {name: self._signed(name) for name in self.shapes()}

    @cached_property
    def absolute(self) -> dict[str, Tensor]:
        """Absolute weights by name; a family that arranges them keeps only what it arranged."""
        return {name: self.absolute_of(name) for name in self.shapes()}

    def _signed(self, name: str) -> Tensor:
        if self._given is not None:
            return self._given[name]
        # What is drawn in the middle of a pass serves other passes too. One thread draws, whatever
        # there is: others would only wait for it.
        with torch.inference_mode(False), limit_threads(1):
            weight = torch.empty(self.shapes()[name])
            return self.draw(name, weight, generator_of(self._seed, name))

    def absolute_of(self, name: str) -> Tensor:
        """Make the absolute values of one weight, a tensor that nobody else has."""
        with torch.inference_mode(False):
            weight = self._signed(name).to(device=self.device, dtype=self.dtype)
            return weight.abs() if self._given is not None else weight.abs_()

    def check(self, arch: A) -> None:
        """Check that a candidate can be cut from this supernet.

        Raises:
            TftasError: It is of another kind, or larger; says in what.
        """
        for name in ("family", *self.traits):
            theirs, ours = getattr(arch, name), getattr(self.largest, name)
            if theirs != ours:
                raise TftasError(f"{name} is {theirs}, the supernet has {ours}")
        for name, (values, most) in self.limits(arch).items():
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
        model = self.blank(arch).to(dtype=self.dtype)
        model.load_state_dict(self.slices(arch, self.state_dict))
        return model.to(device=self.device).eval()

    def blank(self, arch: A) -> nn.Module:
        """Build the stand-alone network of a candidate; its weights are whatever memory holds.

        Raises:
            TftasError: The candidate does not fit.
        """
        # timm takes longer to load than all candidates of a generation take to be scored.
        from tftas_optuna.models import build_undrawn

        self.check(arch)
        return build_undrawn(
            arch, num_classes=self.num_classes, img_size=self.img_size, in_chans=self.in_chans
        )

    def outline(self, arch: A) -> dict[str, Tensor]:
        """Cut a candidate's weights without any values, by the names of its stand-alone network.

        Raises:
            TftasError: The candidate does not fit.
        """
        self.check(arch)
        return self.slices(arch, self._outline)

    @cached_property
    def _outline(self) -> dict[str, Tensor]:
        return {name: torch.empty(s, device="meta") for name, s in self.shapes().items()}

    @staticmethod
    def groups(archs: Sequence[A], device_type: str = "cpu") -> list[list[int]]:
        """Sort candidates, by index, into lists that run together; here each runs alone.

        Args:
            archs: The candidates.
            device_type: What they run on: ``"cpu"``, ``"cuda"``, ...
        """
        return [[i] for i in range(len(archs))]

    def run(self, archs: Sequence[A], *, fidelity: str = "exact") -> Iterable[LinearTrace]:
        """Feed the all-ones image through the absolute slices and back-propagate the logits.

        Args:
            archs: Candidates of one of the :meth:`groups`.
            fidelity: One of :attr:`fidelities`.

        Returns:
            The counted layers, those of every candidate from the last to the first; each covers
            the candidates that have it and run together there.

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
        # Threads that score side by side need the same weights at the same moment.
        with self._arranging:
            return self.traces(archs, fidelity)

    def prepare(self, fidelity: str) -> None:
        """Draw and arrange the weights of a fidelity, for which its first pass would wait.

        Raises:
            TftasError: The family has no such fidelity.
        """
        self.run([self.largest], fidelity=fidelity)

    def pass_bytes(self, fidelity: str) -> int:
        """Estimate the memory that one candidate takes in :meth:`run`, in bytes.

        It limits how many run together; where each runs alone, the size of the weights will do.
        """
        weights = sum(math.prod(shape) for shape in self.shapes().values())
        return weights * self.dtype.itemsize

    @abstractmethod
    def limits(self, arch: A) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
        """Return sizes of a candidate by name, each with the most that fits, one by one."""

    @abstractmethod
    def traces(self, archs: Sequence[A], fidelity: str) -> Iterable[LinearTrace]:
        """See :meth:`run`; the arguments are checked.

        Weights are arranged before this returns, and not while its result is iterated: it is
        called by one thread at a time.
        """

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight by name."""

    @abstractmethod
    def draw(self, name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Fill a weight in place, on the CPU in float32, as its family's training starts."""

    @abstractmethod
    def slices(self, arch: A, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cut a candidate's weights, by the names of the stand-alone network."""


def generator_of(seed: int, name: str) -> torch.Generator:
    """Make a generator for one tensor, so that no tensor's draw depends on another's shape."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _plainly(sizes: Sequence[float]) -> str:
    return f"{sizes[0]:g}" if len(sizes) == 1 else str(list(sizes))
