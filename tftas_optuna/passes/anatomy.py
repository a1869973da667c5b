"""The parts of a Vision Transformer that passes are watched at: blocks, MLPs, activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import nn
from torch.nn.modules import activation as torch_activations

from tftas_optuna.passes.tally import Weight

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from tftas_optuna.passes.structure import Matrix, Structure

# A name, not an import: loading timm takes longer than scoring an AutoFormer network.
_TIMM_ACTIVATIONS = "timm.layers.activations"
# Used in attention and in gates, not as the activation of an MLP.
_NOT_IN_MLPS = ("Softmax", "Softmin", "LogSoftmax", "Sigmoid", "LogSigmoid", "Tanh", "Attention")


class WatchedBlock(NamedTuple):
    """A block of a network that passes are watched at.

    Attributes:
        name: Name of its module.
        module: The module.
        mlp: The child that is the MLP; None if attention and MLP share a child.
        activations: The activation functions of the MLP; all of the block's if ``mlp`` is None.
        channels_first: Whether its outputs have the shape (n, channels, height, width).
    """

    name: str
    module: nn.Module
    mlp: nn.Module | None
    activations: list[nn.Module]
    channels_first: bool

    def tokens(self, x: Tensor, batch_size: int) -> Tensor:
        """Reshape an input or output of the block to (n, tokens, width)."""
        if self.channels_first and x.ndim == 4:
            return x.flatten(2).transpose(1, 2)
        return x.reshape(batch_size, -1, x.shape[-1])


class Anatomy(NamedTuple):
    """The parts of a network that passes are watched at.

    Attributes:
        blocks: The blocks, in their order.
        matrices: The matrices that count, each with its description for tallies.
    """

    blocks: list[WatchedBlock]
    matrices: list[tuple[Matrix, Weight]]


def read_anatomy(
    model: nn.Module, structure: Structure, parameters: Mapping[str, Tensor]
) -> Anatomy:
    """Find the watched parts of a network with given weights."""
    modules = dict(model.named_modules())
    names = {module: name for name, module in modules.items()}
    roles: dict[str, str] = {}
    for matrix in structure.counted:
        for piece in matrix.pieces:
            roles[piece.parameter.rpartition(".")[0]] = matrix.role
    blocks = []
    for name in structure.blocks:
        prefix = f"{name}." if name else ""
        inside = [layer for layer in roles if f"{layer}.".startswith(prefix)]
        mlp = _mlp(modules, prefix, {layer: roles[layer] for layer in inside})
        # Some blocks also have activations in attention, position biases or convolutions.
        mlp_prefix = prefix if mlp is None else f"{names[mlp]}."
        blocks.append(
            WatchedBlock(
                name,
                modules[name],
                mlp=mlp,
                activations=list(_activations(modules, mlp_prefix, roles)),
                channels_first=any(isinstance(modules[layer], nn.Conv2d) for layer in inside),
            )
        )
    return Anatomy(
        blocks,
        [
            (matrix, weight_of(matrix, parameters, structure.blocks))
            for matrix in structure.counted
        ],
    )


def _mlp(modules: dict[str, nn.Module], prefix: str, inside: dict[str, str]) -> nn.Module | None:
    """Return the only child of a block with the layers of an MLP and none of attention."""
    roles_of: dict[str, list[str]] = {}
    for layer, role in inside.items():
        roles_of.setdefault(layer.removeprefix(prefix).split(".")[0], []).append(role)
    # A single layer is not an MLP: it changes the width of the tokens.
    mlps = [
        child
        for child, roles in roles_of.items()
        if len(roles) > 1 and not {"attention", "head"} & set(roles)
    ]
    return modules[prefix + mlps[0]] if len(mlps) == 1 else None


def _activations(
    modules: dict[str, nn.Module], prefix: str, roles: dict[str, str]
) -> Iterator[nn.Module]:
    """Yield the activations under a prefix whose parent module has a layer that counts."""
    for name, module in modules.items():
        if name.startswith(prefix) and _is_activation(module):
            parent = name.rpartition(".")[0]
            if any(f"{layer}.".startswith(f"{parent}." if parent else "") for layer in roles):
                yield module


def _is_activation(module: nn.Module) -> bool:
    kind = type(module)
    sources = (torch_activations.__name__, _TIMM_ACTIVATIONS)
    return kind.__module__ in sources and not kind.__name__.endswith(_NOT_IN_MLPS)


def weight_of(matrix: Matrix, parameters: Mapping[str, Tensor], blocks: Sequence[str]) -> Weight:
    """Describe a matrix that counts, for tallies.

    Args:
        matrix: The matrix.
        parameters: The weights of the network, by name.
        blocks: Names of the blocks of the network.
    """
    pieces = [piece.of(parameters[piece.parameter]) for piece in matrix.pieces]
    shape = (sum(len(piece) for piece in pieces), pieces[0].shape[1])
    enclosing = [block for block in blocks if matrix.name.startswith(f"{block}.")]
    return Weight(matrix.name, matrix.role, shape, max(enclosing, key=len, default=""))
