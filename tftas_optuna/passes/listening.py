"""A forward pass through a network that hands what it sees to tallies."""

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

    from tftas_optuna.passes.anatomy import Anatomy, WatchedBlock
    from tftas_optuna.passes.tally import Event, Tally

Listeners = dict["Event", list["Tally"]]


class Forward:
    """A forward pass of one batch of images.

    Args:
        model: The network, in eval mode.
        anatomy: The parts to watch.
        parameters: The weights by name; gradients are taken by those with ``requires_grad``.
        images: Shape (n, channels, height, width).
        listeners: The tallies to call for each event; empty for none.
        keep: Whether to keep the tensors that a backward pass needs.

    Attributes:
        parameters: The weights.
        logits: The output of the network, shape (n, classes).
        activated: The outputs of the activations, each with its block; empty unless kept.
        ends: Each block with its input and output; empty unless kept.
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
        self.activated: list[tuple[WatchedBlock, Tensor]] = []
        self.ends: list[tuple[WatchedBlock, Tensor, Tensor]] = []
        self._listeners = listeners
        self._keep = keep
        self._n = len(images)
        # The input of each block, and the input and output of the latest normalisation.
        self._block_inputs: dict[str, Tensor] = {}
        self._normalised: tuple[Tensor, Tensor] | None = None
        with contextlib.ExitStack() as watching:
            watching.enter_context(self._hooks(anatomy.blocks))
            if tallies := listeners.get("outputs"):
                watching.enter_context(_Outputs(anatomy, parameters, self._n, tallies))
            self.logits = run_with(model, parameters, images)

    @contextlib.contextmanager
    def _hooks(self, blocks: Sequence[WatchedBlock]) -> Iterator[None]:
        handles: list[RemovableHandle] = []
        try:
            for block in blocks:
                handles += self._watch(block)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _watch(self, block: WatchedBlock) -> Iterator[RemovableHandle]:
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

    def _enter(self, block: WatchedBlock, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._block_inputs[block.name] = inputs[0]

    def _leave(
        self, block: WatchedBlock, module: nn.Module, inputs: tuple[Any, ...], output: Any
    ) -> None:
        if not isinstance(output, Tensor):
            if not self._listeners.keys() & {"features", "blocks"}:
                return
            raise TftasError(
                f"block {block.name} gives a {type(output).__name__}, not one tensor of tokens;"
                " take an indicator that looks at no blocks (not expressivity, not trainability)"
            )
        if self._keep:
            self.ends.append((block, self._block_inputs[block.name], output))
        self._hand_on_feature(block, output)

    def _normalise(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._normalised = inputs[0], output

    def _begin_mlp(self, block: WatchedBlock, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Hand on the residual stream behind the attention, before the MLP's normalisation."""
        x = inputs[0]
        if self._normalised is not None and x is self._normalised[1]:
            x = self._normalised[0]
        # If attention and MLP run in parallel, there is nothing between them.
        if x is not self._block_inputs[block.name]:
            self._hand_on_feature(block, x)

    def _hand_on_feature(self, block: WatchedBlock, x: Tensor) -> None:
        for tally in self._listeners.get("features", ()):
            tally.feature(block.tokens(x.detach(), self._n).flatten(0, 1))

    def _activate(
        self, block: WatchedBlock, module: nn.Module, inputs: tuple[Any, ...], output: Tensor
    ) -> None:
        for tally in self._listeners.get("activations", ()):
            tally.activation(block.tokens(inputs[0].detach(), self._n))
        if self._keep:
            self.activated.append((block, output))


class _Outputs(TorchFunctionMode):
    """Hands on the outputs of the linear layers that count, which it knows by their weights.

    Hooks would miss layers whose weights are used by another module.
    """

    def __init__(
        self,
        anatomy: Anatomy,
        parameters: Mapping[str, Tensor],
        batch_size: int,
        tallies: Sequence[Tally],
    ) -> None:
        super().__init__()
        self._matrices = anatomy.matrices
        self._tallies = tallies
        self._n = batch_size
        self._names = {
            id(parameters[piece.parameter]): piece.parameter
            for matrix, _ in self._matrices
            for piece in matrix.pieces
        }
        self._outputs: dict[str, Tensor] = {}

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
            channels_first = func is not F.linear and output.ndim == 4
            tokens = output.flatten(2).transpose(1, 2) if channels_first else output
            first = tokens.detach().reshape(self._n, -1, tokens.shape[-1])[0]
            self._outputs[self._names[id(weight)]] = first
        return output

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        for matrix, weight in self._matrices:
            # Queries may have fewer tokens than the keys and values they are stacked with.
            by_tokens: dict[int, list[Tensor]] = {}
            for piece in matrix.pieces:
                if (outputs := self._outputs.get(piece.parameter)) is not None:
                    by_tokens.setdefault(len(outputs), []).append(outputs[:, piece.rows])
            for parts in by_tokens.values():
                stacked = torch.cat(parts, dim=1)
                for tally in self._tallies:
                    tally.output(weight, stacked)
