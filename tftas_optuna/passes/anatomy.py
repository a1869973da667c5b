"""Where in a Vision Transformer the passes are watched: its blocks, MLPs and activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch import nn
from torch.nn.modules import activation as torch_activations

from tftas_optuna.passes.tally import Weight

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from tftas_optuna.passes.structure import Matrix, Structure

# By name: timm takes longer to load than AutoFormer networks take to be scored without it.
_TIMM_ACTIVATIONS = "timm.layers.activations"
# Functions of attention and of gates are no activations of an MLP.
_OTHERS = ("Softmax", "Softmin", "LogSoftmax", "Sigmoid", "LogSigmoid", "Tanh", "Attention")


class Block(NamedTuple):
    """One block of a network.

    Attributes:
        name: Its name.
        module: The block.
        mlp: Its part that holds the MLP; None where attention and MLP are one part.
        activations: The activation functions in its MLP; where that is no part of its own, all.
        channels_first: Whether its tokens lie in a plane behind their channels.
    """

    name: str
    module: nn.Module
    mlp: nn.Module | None
    activations: list[nn.Module]
    channels_first: bool

    def tokens(self, x: Tensor, n_images: int) -> Tensor:
        """Bring what flows through it into the shape (n, tokens, width)."""
        if self.channels_first and x.ndim == 4:
            return x.flatten(2).transpose(1, 2)
        return x.reshape(n_images, -1, x.shape[-1])


class Anatomy(NamedTuple):
    """What of a network is watched.

    Attributes:
        blocks: Its blocks, in their order.
        matrices: The matrices that count, and each as a tally sees it.
    """

    blocks: list[Block]
    matrices: list[tuple[Matrix, Weight]]


def read_anatomy(model: nn.Module, structure: Structure) -> Anatomy:
    """Find the blocks of a network, and what lies where."""
    modules = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    names = {module: name for name, module in modules.items()}
    roles: dict[str, str] = {}
    for matrix in structure.counted:
        for piece in matrix.pieces:
            roles[piece.parameter.rpartition(".")[0]] = matrix.role
    blocks = []
    for name in structure.blocks:
        prefix = f"{name}." if name else ""
        inside = [layer for layer in roles if f"{layer}.".startswith(prefix)]
        mlp = _mlp(modules, prefix, {each: roles[each] for each in inside})
        # Some blocks have activations in their attention, its position biases or convolutions.
        home = prefix if mlp is None else f"{names[mlp]}."
        blocks.append(
            Block(
                name,
                modules[name],
                mlp=mlp,
                activations=list(_activations(modules, home, roles)),
                channels_first=any(isinstance(modules[each], nn.Conv2d) for each in inside),
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
    """Return the one child of a block that holds layers of an MLP and nothing of its attention."""
    layers: dict[str, list[str]] = {}
    for layer, role in inside.items():
        layers.setdefault(layer.removeprefix(prefix).split(".")[0], []).append(role)
    # A layer alone widens the tokens.
    mlps = [
        child
        for child, roles in layers.items()
        if len(roles) > 1 and not {"attention", "head"} & set(roles)
    ]
    return modules[prefix + mlps[0]] if len(mlps) == 1 else None


def _activations(
    modules: dict[str, nn.Module], prefix: str, roles: dict[str, str]
) -> Iterator[nn.Module]:
    """List a block's activations that lie beside layers that count."""
    for name, module in modules.items():
        if name.startswith(prefix) and _is_activation(module):
            home = name.rpartition(".")[0]
            if any(f"{layer}.".startswith(f"{home}." if home else "") for layer in roles):
                yield module


def _is_activation(module: nn.Module) -> bool:
    kind = type(module)
    homes = (torch_activations.__name__, _TIMM_ACTIVATIONS)
    return kind.__module__ in homes and not kind.__name__.endswith(_OTHERS)


def weight_of(matrix: Matrix, parameters: Mapping[str, Tensor], blocks: Sequence[str]) -> Weight:
    """Describe a matrix that counts to a tally.

    Args:
        matrix: The matrix.
        parameters: The weights of its network, by name.
        blocks: Names of the blocks.
    """
    pieces = [piece.of(parameters[piece.parameter]) for piece in matrix.pieces]
    shape = (sum(len(piece) for piece in pieces), pieces[0].shape[1])
    around = [block for block in blocks if matrix.name.startswith(f"{block}.")]
    return Weight(matrix.name, matrix.role, shape, max(around, key=len, default=""))
