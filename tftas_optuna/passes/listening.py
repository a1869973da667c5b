"""One forward pass through a network, watched: what flows through it, handed to tallies."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tftas_optuna.errors import TftasError
from tftas_optuna.passes.running import run_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch.utils.hooks import RemovableHandle

    from tftas_optuna.passes.anatomy import Anatomy, Block
    from tftas_optuna.passes.tally import Event, Tally

Listeners = dict["Event", list["Tally"]]


class Forward:
    """A forward pass of some images.

    Args:
        model: The network, in eval mode.
        anatomy: Where it is watched.
        parameters: Its weights by name; those that want gradients say so.
        images: Shape (n, channels, height, width).
        listeners: Who is told what, by event; an empty dictionary for nobody.
        keep: Whether to keep what gradients are taken of afterwards.

    Attributes:
        parameters: The weights.
        logits: What the network gives, shape (n, classes).
        activated: Outputs of the activations, with the blocks they lie in.
        ends: What goes into each block, and what comes out.
    """

    def __init__(
        self,
        model: nn.Module,
        anatomy: Anatomy,
        parameters: Mapping[str, Tensor],
        images: Tensor,
        listeners: Listeners,
        *,
        keep: bool = False,
    ) -> None:
        self.parameters = parameters
        self.activated: list[tuple[Block, Tensor]] = []
        self.ends: list[tuple[Block, Tensor, Tensor]] = []
        self._listeners = listeners
        self._keep = keep
        self._n = len(images)
        # Of each block that runs: what came in, and the normalisation that was run last.
        self._entered: dict[str, Tensor] = {}
        self._normalised: tuple[Tensor, Tensor] | None = None
        with contextlib.ExitStack() as watching:
            watching.enter_context(self._hooks(anatomy.blocks))
            if tallies := listeners.get("outputs"):
                watching.enter_context(_Outputs(anatomy, parameters, self._n, tallies))
            self.logits = run_with(model, parameters, images)

    @contextlib.contextmanager
    def _hooks(self, blocks: Sequence[Block]) -> Iterator[None]:
        handles: list[RemovableHandle] = []
        try:
            for block in blocks:
                handles += self._watch(block)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, block: Block) -> Iterator[RemovableHandle]:
        module = block.module
        if self._keep or "features" in self._listeners:
            yield module.register_forward_pre_hook(partial(self._enter, block))
            yield module.register_forward_hook(partial(self._leave, block))
        if "features" in self._listeners and block.mlp is not None:
            for child in module.children():
                if "Norm" in type(child).__name__:
                    yield child.register_forward_hook(self._normalise)
            yield block.mlp.register_forward_pre_hook(partial(self._begin_mlp, block))
        if self._keep or "activations" in self._listeners:
            for activation in block.activations:
                yield activation.register_forward_hook(partial(self._activate, block))

    def _enter(self, block: Block, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._entered[block.name] = inputs[0]

    def _leave(
        self, block: Block, module: nn.Module, inputs: tuple[Any, ...], output: Any
    ) -> None:
        if not isinstance(output, Tensor):
            if not self._listeners.keys() & {"features", "blocks"}:
                return
            raise TftasError(
                f"block {block.name} gives a {type(output).__name__}, not one tensor of tokens;"
                " take an indicator that looks at no blocks (not expressivity, not trainability)"
            )
        if self._keep:
            self.ends.append((block, self._entered[block.name], output))
        self._tell_feature(block, output)

    def _normalise(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._normalised = inputs[0], output

    def _begin_mlp(self, block: Block, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Find the residual stream behind the attention: before the MLP's normalisation."""
        x = inputs[0]
        if self._normalised is not None and x is self._normalised[1]:
            x = self._normalised[0]
        # Where attention and MLP run side by side, there is nothing between them.
        if x is not self._entered[block.name]:
            self._tell_feature(block, x)

    def _tell_feature(self, block: Block, x: Tensor) -> None:
        for tally in self._listeners.get("features", ()):
            tally.feature(block.tokens(x.detach(), self._n).flatten(0, 1))

    def _activate(
        self, block: Block, module: nn.Module, inputs: tuple[Any, ...], output: Tensor
    ) -> None:
        for tally in self._listeners.get("activations", ()):
            tally.activation(block.tokens(inputs[0].detach(), self._n))
        if self._keep:
            self.activated.append((block, output))


class _Outputs(TorchFunctionMode):
    """Hands on the outputs of the linear layers that count, told by their weights.

    Hooks of modules would miss layers whose weights are used by others.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        parameters: Mapping[str, Tensor],
        n_images: int,
        tallies: Sequence[Tally],
    ) -> None:
        super().__init__()
        self._matrices = anatomy.matrices
        self._tallies = tallies
        self._n = n_images
        self._names = {
            id(parameters[piece.parameter]): piece.parameter
            for matrix, _ in self._matrices
            for piece in matrix.pieces
        }
        self._found: dict[str, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func not in (F.linear, F.conv2d, torch.conv2d):
            return output
        weight = args[1] if len(args) > 1 else (kwargs or {})["weight"]
        if id(weight) in self._names:
            plane = func is not F.linear and output.ndim == 4
            tokens = output.flatten(2).transpose(1, 2) if plane else output
            first = tokens.detach().reshape(self._n, -1, tokens.shape[-1])[0]
            self._found[self._names[id(weight)]] = first
        return output

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        for matrix, weight in self._matrices:
            # Queries may be of fewer tokens than the keys and values they are stacked with.
            by_tokens: dict[int, list[Tensor]] = {}
            for piece in matrix.pieces:
                if (found := self._found.get(piece.parameter)) is not None:
                    by_tokens.setdefault(len(found), []).append(found[:, piece.rows])
            for parts in by_tokens.values():
                outputs = torch.cat(parts, dim=1)
                for tally in self._tallies:
                    tally.output(weight, outputs)
