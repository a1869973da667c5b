"""The base class of supernets, and the random generators of their weights."""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic

import torch
from torch import nn
from typing_extensions import TypeVar

from tftas_optuna.architecture import Architecture
from tftas_optuna.devices import limit_threads
from tftas_optuna.errors import TftasError, did_you_mean
from tftas_optuna.supernet.by_depth import BlocksByDepth
from tftas_optuna.supernet.slicing import PREFIXES, Slicing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from tftas_optuna.supernet.arranging import LargerWeights
    from tftas_optuna.supernet.replay import FixedPass
    from tftas_optuna.supernet.trace import LinearTrace


A = TypeVar("A", bound=Architecture, default=Architecture)


class Supernet(ABC, Generic[A]):
    """One set of weights that every candidate of a study is cut from.

    A family's supernet defines the weights (``shapes``, ``draw``), which part of them a candidate
    uses (``limits``, ``slices``), and the pass through that part (``traces``).

    Attributes:
        fidelities: The modes of :meth:`run`: ``"exact"``, and ``"collapsed"`` for families that
            can merge all patches into one token.
        traits: Fields of the architecture that must be the same in candidate and supernet.
        at_once: The number of candidates per pass above which a pass gets no more efficient, by
            fidelity and device type. Memory may allow fewer.
        fixed_counts: Numbers of candidates of passes of fixed shape, by fidelity.

    Args:
        largest: The architecture of the supernet; no candidate is larger in any dimension.
        seed: Seed of the weights. Every tensor has its own generator, derived from the seed and
            the tensor's name, so the number of classes does not change the blocks.
        img_size: Height and width of the input, in pixels.
        num_classes: Outputs of the classifier.
        in_chans: Channels of the input.
        state_dict: Weights to use instead of drawing them from the seed.
        trained: The architectures that these weights were trained for; no candidate may be larger
            than all of them in any dimension. Empty if that does not matter.
        slicing: Which of the weights candidates take, where there is a choice.
        device: Where scoring runs.
        dtype: Floating-point type of the scoring.

    Raises:
        TftasError: A weight of ``state_dict`` is missing or has the wrong shape.
    """

    fidelities: ClassVar[tuple[str, ...]] = ("exact",)
    traits: ClassVar[tuple[str, ...]] = ()
    at_once: ClassVar[dict[tuple[str, str], int]] = {
        ("exact", "cpu"): 1,
        ("collapsed", "cpu"): 256,
        ("exact", "cuda"): 64,
        ("collapsed", "cuda"): 1024,
    }
    # Exact passes of more candidates keep a GPU busy anyway, and padding only costs them time.
    fixed_counts: ClassVar[dict[str, tuple[int, ...]]] = {
        "exact": (1, 8),
        "collapsed": (1, 8, 64, 256, 1024),
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
        trained: Sequence[A] = (),
        slicing: Slicing = PREFIXES,
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
        self._user_weights = state_dict
        self._trained = tuple(trained)
        self.slicing = slicing
        self._by_depth = BlocksByDepth(self)
        self._arranging = threading.Lock()
        self._idle: list[nn.Module] = []
        if state_dict is not None:
            for name, shape in self.shapes().items():
                if name not in state_dict or tuple(state_dict[name].shape) != shape:
                    actual = tuple(state_dict[name].shape) if name in state_dict else "missing"
                    raise TftasError(f"supernet weight {name} is {actual}, expected shape {shape}")

    @cached_property
    def state_dict(self) -> dict[str, Tensor]:
        """The weights by name, with their signs; drawn on first access."""
        return {name: self._signed(name) for name in self.shapes()}

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The same weights where scoring runs, in its floating-point type."""
        with torch.inference_mode(False):
            return {n: weight.to(self.device, self.dtype) for n, weight in self.state_dict.items()}

    @cached_property
    def absolute(self) -> dict[str, Tensor]:
        """The absolute weights by name, for families that do not arrange them for the pass."""
        return {name: self.absolute_of(name) for name in self.shapes()}

    def _signed(self, name: str) -> Tensor:
        return self.drawn(name) if self._user_weights is None else self._user_weights[name]

    def drawn(self, name: str) -> Tensor:
        """Draw one weight from the seed, whichever weights the supernet has."""
        # Weights drawn during a pass are used by later passes too, so they must not be inference
        # tensors. Drawing is sequential: more threads would only wait.
        with torch.inference_mode(False), limit_threads(1):
            weight = torch.empty(self.shapes()[name])
            return self.draw(name, weight, generator_of(self._seed, name))

    def absolute_of(self, name: str) -> Tensor:
        """Return the absolute values of one weight, as a new tensor."""
        with torch.inference_mode(False):
            weight = self._signed(name).to(device=self.device, dtype=self.dtype)
            return weight.abs() if self._user_weights is not None else weight.abs_()

    def check(self, arch: A) -> None:
        """Check that a candidate can be cut from this supernet.

        Raises:
            TftasError: A trait differs, a size is larger than the supernet's, or the candidate
                needs weights that were not trained.
        """
        self._check_size(arch)
        for name, (values, _) in self.limits(arch).items() if self._trained else ():
            most = [max(sizes) for sizes in zip(*self._trained_sizes[name], strict=True)]
            if any(value > limit for value, limit in zip(values, most, strict=True)):
                raise TftasError(
                    f"{name} is {_format_sizes(values)}, but the weights of this supernet were"
                    f" trained for at most {_format_sizes(most)}; what lies beyond is untrained"
                )

    @cached_property
    def _trained_sizes(self) -> dict[str, list[Sequence[float]]]:
        """The sizes that were trained, by their name in :meth:`limits`."""
        sizes: dict[str, list[Sequence[float]]] = {}
        for arch in self._trained:
            for name, (values, _) in self.limits(arch).items():
                sizes.setdefault(name, []).append(values)
        return sizes

    def _check_size(self, arch: A) -> None:
        for name in ("family", *self.traits):
            actual, required = getattr(arch, name), getattr(self.largest, name)
            if actual != required:
                raise TftasError(f"{name} is {actual}, the supernet has {required}")
        for name, (values, most) in self.limits(arch).items():
            if any(value > limit for value, limit in zip(values, most, strict=True)):
                raise TftasError(
                    f"{name} is {_format_sizes(values)}, the supernet holds at most"
                    f" {_format_sizes(most)}"
                )

    def subnet(self, arch: A) -> nn.Module:
        """Build the stand-alone network of a candidate with its slices of the weights.

        Returns:
            A network in eval mode, on the supernet's device and in its dtype.

        Raises:
            TftasError: The candidate does not fit.
        """
        self.check(arch)
        model = self.blank(arch).to(dtype=self.dtype)
        model.load_state_dict(self.weights_of(arch, self.state_dict))
        return model.to(device=self.device).eval()

    @contextlib.contextmanager
    def lend(self, arch: A) -> Iterator[tuple[nn.Module, dict[str, Tensor]]]:
        """Lend the stand-alone network of a candidate, in eval mode, and its weights beside it.

        The weights are to be given with every call (``torch.func.functional_call``), and must
        not be changed: they are slices of the supernet's. A network whose class has a ``become``
        of its own, as ``tftas_optuna.models.AutoFormer.become``, is built once, or once for
        each of several threads, and lent to one candidate after the other; that of another family
        is built for each candidate.

        Raises:
            TftasError: The candidate does not fit.
        """
        self.check(arch)
        try:
            network = self._idle.pop()
        except IndexError:
            network = self._without_weights()
        # A subclass may have parts that its parent does not know.
        become = vars(type(network)).get("become")
        try:
            if become is not None and become(network, arch):
                yield network, self.weights_of(arch, self.weights)
            else:
                own = self.subnet(arch)
                yield own, dict(own.named_parameters())
        finally:
            self._idle.append(network)

    def _without_weights(self) -> nn.Module:
        """Build the largest network with the shapes of its weights alone."""
        with torch.inference_mode(False):
            network = self.blank(self.largest).eval()
            for module in network.modules():
                for name, weight in list(module.named_parameters(recurse=False)):
                    setattr(module, name, nn.Parameter(weight.to("meta")))
                for name, buffer in list(module.named_buffers(recurse=False)):
                    setattr(module, name, buffer.to(self.device))
        return network

    def blank(self, arch: A, **kwargs: Any) -> nn.Module:
        """Build the stand-alone network of a candidate, with uninitialised weights.

        It is of the family's own class, whose networks can become one another.

        Args:
            arch: The candidate.
            **kwargs: timm's other model arguments, such as ``drop_path_rate``.

        Raises:
            TftasError: The candidate does not fit.
        """
        # Loading timm takes longer than scoring a generation.
        from tftas_optuna.models import build_undrawn

        self._check_size(arch)
        return build_undrawn(
            arch,
            num_classes=self.num_classes,
            img_size=self.img_size,
            in_chans=self.in_chans,
            stock=False,
            **kwargs,
        )

    def weights_of(self, arch: A, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a candidate's weights, by their names in its stand-alone network.

        Args:
            arch: The candidate, which fits.
            source: Tensors by their names in the supernet, such as :attr:`state_dict`.
        """
        if self.slicing.blocks == "first":
            return self.slices(arch, source)
        return self.slices(arch, self._by_depth.taken(arch, source))

    def outline(self, arch: A) -> dict[str, Tensor]:
        """Return a candidate's weights on the meta device, by their names in its own network.

        Raises:
            TftasError: The candidate does not fit.
        """
        self._check_size(arch)
        return self.weights_of(arch, self._outline)

    @cached_property
    def _outline(self) -> dict[str, Tensor]:
        return {name: torch.empty(s, device="meta") for name, s in self.shapes().items()}

    @staticmethod
    def groups(archs: Sequence[A], device_type: str = "cpu") -> list[list[int]]:
        """Group candidates that run in one pass, as lists of indices; by default each runs alone.

        Args:
            archs: The candidates.
            device_type: Type of the device: ``"cpu"``, ``"cuda"``, ...
        """
        return [[i] for i in range(len(archs))]

    def run(self, archs: Sequence[A], *, fidelity: str = "exact") -> Iterable[LinearTrace]:
        """Feed the all-ones image through the absolute slices and back-propagate the logits.

        Args:
            archs: The candidates of one group, see :meth:`groups`.
            fidelity: One of :attr:`fidelities`.

        Returns:
            The linear layers that indicators count, from the last to the first for every
            candidate. Each trace covers the candidates that share the layer in this pass.

        Raises:
            TftasError: A candidate does not fit, or the family has no such fidelity.
        """
        for arch in archs:
            self.check(arch)
        return self._run(archs, fidelity)

    def _run(self, archs: Sequence[A], fidelity: str) -> Iterable[LinearTrace]:
        if fidelity not in self.fidelities:
            raise TftasError(
                f"family {self.largest.family} has no fidelity {fidelity!r}"
                f"{did_you_mean(fidelity, self.fidelities)}"
            )
        # Threads that score in parallel must not arrange the same weights twice.
        with self._arranging:
            if self.slicing.blocks == "first":
                return self.traces(archs, fidelity)
            return self._by_depth.traces(archs, fidelity)

    def prepare(self, fidelity: str) -> None:
        """Draw and arrange the weights for a fidelity ahead of the first pass.

        Raises:
            TftasError: The family has no such fidelity.
        """
        self._run([self.largest], fidelity)

    def pass_bytes(self, fidelity: str) -> int:
        """Estimate the memory that one candidate takes in :meth:`run`, in bytes.

        The estimate limits how many candidates share a pass. The default is the size of the
        weights, which is enough where each candidate runs alone.
        """
        weights = sum(math.prod(shape) for shape in self.shapes().values())
        return weights * self.dtype.itemsize

    def fixed_pass(self, archs: Sequence[A], fidelity: str, count: int) -> FixedPass | None:
        """Return a pass of fixed shape for candidates; None if the family has none.

        A GPU records it once, for all candidates.

        Args:
            archs: Candidates of one group, see :meth:`groups`.
            fidelity: One of :attr:`fidelities`.
            count: The number of candidates of the pass, at least as many as these.

        Raises:
            TftasError: A candidate does not fit.
        """
        for arch in archs:
            self.check(arch)
        if self.slicing.blocks != "first":
            return None
        with self._arranging:
            return self._fixed_pass([*archs, *[archs[0]] * (count - len(archs))], fidelity)

    def _fixed_pass(self, archs: Sequence[A], fidelity: str) -> FixedPass | None:
        """Return the pass of exactly these candidates, which were checked."""
        return None

    def depths(self, arch: A) -> dict[str, int]:
        """Return the number of blocks of each stage of a candidate, by their names before the dot.

        Raises:
            TftasError: The family cannot take other blocks than the first ones; the default.
        """
        raise TftasError(
            f"candidates of family {arch.family} take the first blocks; give no other"
        )

    def shallower(self, arch: A) -> A:
        """Return the architecture of the supernet with as few blocks as a candidate.

        Raises:
            TftasError: As for :meth:`depths`.
        """
        raise TftasError(
            f"candidates of family {arch.family} take the first blocks; give no other"
        )

    @abstractmethod
    def limits(self, arch: A) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
        """Return, by name, a candidate's sizes and the largest sizes that fit, item by item."""

    @abstractmethod
    def traces(self, archs: Sequence[A], fidelity: str) -> Iterable[LinearTrace]:
        """Run candidates as :meth:`run` does, which has checked the arguments.

        Only one thread at a time calls this method. It must arrange the weights before it
        returns, not while its result is iterated.
        """

    def classifier(self) -> list[str]:
        """Return the names of the weights whose shape depends on the number of classes."""
        other = type(self)(
            self.largest,
            img_size=self.img_size,
            num_classes=self.num_classes + 1,
            in_chans=self.in_chans,
        ).shapes()
        return [name for name, shape in self.shapes().items() if other[name] != shape]

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight by name."""

    @abstractmethod
    def draw(self, name: str, weight: Tensor, generator: torch.Generator) -> Tensor:
        """Initialise a weight in place, on the CPU in float32, as training of the family does."""

    def arranged(self, network: LargerWeights, order: str) -> dict[str, Tensor]:
        """Return the weights of a larger network as those of this supernet.

        Args:
            network: The network.
            order: Which channels, heads and hidden units come first: ``"first"``, as they are,
                ``"even"``, or ``"magnitude"``.

        Raises:
            TftasError: The supernet does not fit into it; by default none does.
        """
        raise TftasError(f"family {self.largest.family} cannot be cut from networks of timm")

    @abstractmethod
    def slices(self, arch: A, source: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a candidate's weights, by their names in its stand-alone network."""


def generator_of(seed: int, name: str) -> torch.Generator:
    """Return the generator of one tensor, so that its draw depends on no other tensor's shape."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _format_sizes(sizes: Sequence[float]) -> str:
    return f"{sizes[0]:g}" if len(sizes) == 1 else str(list(sizes))
