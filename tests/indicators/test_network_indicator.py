"""Indicators of a user's own that fold passes of images: what they are told, in which order."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from menu_cases import SIZES, SPACES, candidates
from torch import Tensor, nn

from tftas_optuna import Scorer, TftasError, explain_model, register_indicator, score_model
from tftas_optuna.indicators import LayerTally, Needs, Network, NetworkIndicator, Tally, Weight
from tftas_optuna.indicators.fusion import FusionIndicator
from tftas_optuna.metrics import registry
from tftas_optuna.models import build_model
from tftas_optuna.passes import recording
from tftas_optuna.passes.networks import inspect_model

SPACE = SPACES["relative"]
EVENTS = (
    "activations",
    "features",
    "outputs",
    "blocks",
    "weight_gradients",
    "activation_gradients",
    "curvatures",
    "image_gradients",
    "gradients_by_image",
)


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(registry.METRICS, "registered", {})


class RangeTally(LayerTally):
    def output(self, weight: Weight, outputs: Tensor) -> None:
        self.add(weight, outputs.max() - outputs.min())


@dataclasses.dataclass(frozen=True)
class Range(NetworkIndicator):
    """How far the outputs of layers reach."""

    name: str = "range"
    power: float = 1.0
    needs: ClassVar[Needs] = Needs.of("outputs")

    def tally(self, network: Network) -> Tally:
        return RangeTally()


class Listener(Tally):
    """Notes what it is told, by the shapes."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.told: list[tuple[Any, ...]] = []

    def activation(self, before: Tensor) -> None:
        self.told.append(("activations", tuple(before.shape)))

    def feature(self, tokens: Tensor) -> None:
        self.told.append(("features", tuple(tokens.shape)))

    def output(self, weight: Weight, outputs: Tensor) -> None:
        self.told.append(("outputs", weight.name, tuple(outputs.shape)))

    def block(self, grad_in: Tensor, grad_out: Tensor) -> None:
        assert set(grad_out.unique().tolist()) == {-1.0, 1.0}
        self.told.append(("blocks", tuple(grad_in.shape), tuple(grad_out.shape)))

    def weight_gradient(self, weight: Weight, values: Tensor, gradient: Tensor) -> None:
        assert values.shape == gradient.shape == weight.shape and not values.requires_grad
        self.told.append(("weight_gradients", weight.name))

    def activation_gradient(self, after: Tensor, gradient: Tensor) -> None:
        self.told.append(("activation_gradients", tuple(after.shape), tuple(gradient.shape)))

    def curvature(self, weight: Weight, values: Tensor, product: Tensor) -> None:
        assert values.shape == product.shape == weight.shape
        self.told.append(("curvatures", weight.name))

    def image_gradients(self, gradients: Tensor) -> None:
        self.told.append(("image_gradients", tuple(gradients.shape)))

    def gradients_by_image(self, gradients: Tensor) -> None:
        self.told.append(("gradients_by_image", tuple(gradients.shape)))

    def value(self) -> float:
        return float(len(self.told))


LISTENERS: list[Listener] = []


@dataclasses.dataclass(frozen=True)
class Listening(NetworkIndicator):
    name: str = "listening"

    def tally(self, network: Network) -> Tally:
        LISTENERS.append(Listener(network))
        return LISTENERS[-1]


def listen(*events: Any, batches: int = 1) -> Listener:
    class Some(Listening):
        needs = Needs.of(*events, batches=batches)

    LISTENERS.clear()
    Scorer(SPACE, indicator=Some(), **SIZES)(SPACE.smallest())
    (listener,) = LISTENERS
    return listener


ARCH = SPACE.smallest()  # of width 32, two blocks of one head of 16, MLPs of 64
LAYERS = [
    *(
        f"blocks.{i}.{n}"
        for i in range(2)
        for n in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    ),
    "head",
]
SHAPES = [(48, 32), (32, 16), (64, 32), (32, 64)] * 2 + [(10, 32)]
ROWS = 4 * 17  # images times tokens


def test_everything_is_told_as_it_is_described() -> None:
    assert listen("activations").told == [("activations", (4, 17, 64))] * 2
    assert listen("features").told == [("features", (ROWS, 32))] * 4
    assert listen("outputs").told == [
        ("outputs", name, (1 if name == "head" else 17, shape[0]))
        for name, shape in zip(LAYERS, SHAPES, strict=True)
    ]
    assert listen("blocks").told == [("blocks", (ROWS, 32), (ROWS, 32))] * 2
    assert listen("weight_gradients").told == [("weight_gradients", n) for n in LAYERS]
    told = listen("activation_gradients").told
    assert told == [("activation_gradients", (4, 17, 64), (4, 17, 64))] * 2
    assert listen("curvatures").told == [("curvatures", n) for n in LAYERS]
    assert listen("image_gradients").told == [("image_gradients", (4, 3 * 32 * 32))]
    assert listen("gradients_by_image").told == [
        ("gradients_by_image", (4, out * into)) for out, into in SHAPES
    ]


@pytest.mark.parametrize("entries", [1, 3000, 20_000])
def test_gradients_by_image_are_the_same_however_many_are_kept_at_a_time(
    monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    sizes = {**SIZES, "n_images": 12}
    whole = Scorer(SPACE, indicator="ntk_cond", **sizes)(ARCH)
    kept: list[int] = []

    def forward(self: Any, *args: Any, by: Sequence[str] = (), **kwargs: Any) -> Any:
        kept.append(sum(self._own[name].numel() for name in by))
        return original(self, *args, by=by, **kwargs)

    original = recording._Passes._forward
    monkeypatch.setattr(recording._Passes, "_forward", forward)
    monkeypatch.setattr(recording, "_ENTRIES", 12 * entries)
    monkeypatch.setattr(recording, "_IMAGES", 0)
    assert Scorer(SPACE, indicator="ntk_cond", **sizes)(ARCH) == whole
    # Each weight once for each image, and no more at a time than there is room for.
    assert sum(kept) == 12 * sum(out * into for out, into in SHAPES)
    assert max(kept) <= max(entries, *(out * into for out, into in SHAPES))


def test_a_weight_that_is_never_used_has_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build_model(ARCH, img_size=32, num_classes=10, in_chans=3)
    plain = score_model(model, indicator="ntk_cond", n_images=4)
    model.blocks[0].mlp.extra = nn.Linear(8, 8)
    assert "blocks.0.mlp.extra.weight" in {
        piece.parameter for m in inspect_model(model).counted for piece in m.pieces
    }
    monkeypatch.setattr(recording, "_ENTRIES", 1)
    monkeypatch.setattr(recording, "_IMAGES", 0)
    assert score_model(model, indicator="ntk_cond", n_images=4) == plain


def test_few_images_take_one_pass_each(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        passes.append(1)
        return original(self, *args, **kwargs)

    original = recording._Passes._forward
    monkeypatch.setattr(recording._Passes, "_forward", forward)
    monkeypatch.setattr(recording, "_ENTRIES", 1)
    Scorer(SPACE, indicator="ntk_cond", **{**SIZES, "n_images": 8})(ARCH)
    assert len(passes) == 8


def test_nothing_is_told_that_was_not_asked_for() -> None:
    for event in EVENTS:
        assert {each[0] for each in listen(event).told} == {event}
    assert {each[0] for each in listen(*EVENTS).told} == set(EVENTS)


def test_batches_come_one_after_the_other() -> None:
    assert listen("weight_gradients", batches=3).told == [
        ("weight_gradients", n) for _ in range(3) for n in LAYERS
    ]


def test_what_is_known_of_a_network_before_its_passes() -> None:
    network = listen("outputs").network
    assert network.n_images == 4
    assert [weight.name for weight in network.weights] == LAYERS
    assert [weight.shape for weight in network.weights] == SHAPES
    roles = ["attention", "attention", "mlp", "mlp"] * 2 + ["head"]
    assert [weight.role for weight in network.weights] == roles
    blocks = ["blocks.0"] * 4 + ["blocks.1"] * 4 + [""]
    assert [weight.block for weight in network.weights] == blocks


def test_a_registered_one_is_taken_by_its_name_everywhere() -> None:
    register_indicator("mine", Range())
    scorer = Scorer(SPACE, indicator="mine", n_seeds=2, **SIZES)
    archs = candidates(SPACE, 4)
    assert scorer.batch(archs) == [scorer(arch) for arch in archs]
    assert len(set(scorer.batch(archs))) == 4
    rows = Scorer(SPACE, indicator="mine", **SIZES).explain(archs[1])
    assert sum(row.value for row in rows) == pytest.approx(scorer.by_seed([archs[1]])[0][0])
    model = scorer.subnet(archs[0])
    assert score_model(model, indicator="mine", n_images=4) == scorer.by_seed([archs[0]])[0][0]
    assert len(explain_model(model, indicator="mine")) == 9
    FusionIndicator("both", parts=("mine", "macs")).check()


def test_fields_are_options() -> None:
    assert Scorer(SPACE, indicator=Range(), power=2.0, **SIZES).indicator.options == {"power": 2.0}
    with pytest.raises(TftasError, match="reach"):
        Scorer(SPACE, indicator=Range(), reach=2.0, **SIZES)


def test_a_value_that_is_no_number_is_told() -> None:
    class Broken(Tally):
        def value(self) -> float:
            return -math.inf

    class Breaking(Range):
        def tally(self, network: Network) -> Tally:
            return Broken()

    with pytest.raises(TftasError, match="indicator 'range' gives -inf, which is not a finite"):
        Scorer(SPACE, indicator=Breaking(), **SIZES)(ARCH)
