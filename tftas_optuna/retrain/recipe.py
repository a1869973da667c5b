"""Training recipes: named ones as data, every value of which can be overridden."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import numbers
import os
from collections.abc import Mapping
from dataclasses import field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tftas_optuna._given import expect
from tftas_optuna.architecture import parse_yaml, read_yaml
from tftas_optuna.errors import InputFileError, TftasError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# The recipe of those who name none.
USUAL = "autoformer"

# The learning rate that a range test finds.
AUTO = "auto"


def _number(low: float, high: float = math.inf, *, whole: bool = False) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        # YAML 1.1 reads 5e-4 as text.
        if isinstance(value, str):
            value = float(value)
        # NumPy's numbers are such numbers too.
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ValueError
        number = float(value)
        if not (low <= number <= high and math.isfinite(number)):
            raise ValueError
        if whole and not number.is_integer():
            raise ValueError
        return int(number) if whole else number

    top = f"{high:,.0f}" if high >= 1e4 else f"{high:g}"
    bound = f"{low:g} or more" if high == math.inf else f"{low:g} to {top}"
    check.__doc__ = f"a {'whole ' if whole else ''}number, {bound}"
    return check


def _numbers(low: float, high: float, *counts: int) -> Callable[[Any], Any]:
    check_number = _number(low, high)

    def check(value: Any) -> Any:
        if not isinstance(value, list | tuple) or len(value) not in counts:
            raise ValueError
        return tuple(check_number(item) for item in value)

    lengths = " or ".join(map(str, counts))
    check.__doc__ = f"a list of {lengths} numbers from {low:g} to {high:g}"
    return check


def _choice(*choices: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in choices:
            raise ValueError
        return value

    check.__doc__ = f"one of {', '.join(choices)}"
    return check


def _learning_rate(value: Any) -> Any:
    """a number, 0 or more, or auto"""
    return value if value == AUTO else _number(0)(value)


def _text(value: Any) -> Any:
    """a name"""
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _flag(value: Any) -> Any:
    """true or false"""
    if not isinstance(value, bool):
        raise ValueError
    return value


def _setting(default: Any, check: Callable[[Any], Any], *, optional: bool = False) -> Any:
    return field(default=default, metadata={"check": check, "optional": optional})


# Length, seed and what is kept on the way do not change how a network is trained.
_NOT_IN_DIGEST = ("name", "epochs", "seed", "checkpoint_hist", "log_interval")
_FRACTION = _number(0, 1)
_COUNT = _number(1, 1_000_000, whole=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of a training that belong neither to the network nor to the machine.

    Names and meanings are those of timm's training script, with two exceptions: ``batch_size``
    counts the images of one optimizer step, over all processes and accumulated steps, so that a
    recipe means the same on any number of GPUs; and ``lr`` is for ``lr_base_size`` images, and
    scaled linearly to ``batch_size`` (not scaled if ``lr_base_size`` is None). ``lr: auto`` takes
    the learning rate that a range test finds
    (:func:`tftas_optuna.retrain.learning_rate.range_test`), for this network, batch and data.

    Three settings are for shared training: the number of members that a step trains, the rule that
    draws them, and whether the others learn from the largest one (see
    :func:`tftas_optuna.retrain_shared`).

    Raises:
        TftasError: A value is of the wrong type or out of range; says what is allowed.
    """

    name: str = _setting("custom", _text)
    epochs: int = _setting(300, _COUNT)
    batch_size: int = _setting(1024, _COUNT)
    grad_accum_steps: int = _setting(1, _COUNT)
    seed: int = _setting(0, _number(0, 2**31 - 1, whole=True))

    opt: str = _setting("adamw", _text)
    opt_eps: float | None = _setting(None, _number(0), optional=True)
    opt_betas: tuple[float, ...] | None = _setting(None, _numbers(0, 1, 2, 3), optional=True)
    momentum: float = _setting(0.9, _FRACTION)
    weight_decay: float = _setting(0.05, _number(0))
    layer_decay: float | None = _setting(None, _FRACTION, optional=True)
    clip_grad: float | None = _setting(None, _number(0), optional=True)
    clip_mode: str = _setting("norm", _choice("norm", "value", "agc"))

    lr: float | str = _setting(5e-4, _learning_rate)
    lr_base_size: int | None = _setting(512, _COUNT, optional=True)
    sched: str = _setting("cosine", _choice("cosine", "tanh", "poly", "step", "constant"))
    sched_on_updates: bool = _setting(False, _flag)
    warmup_epochs: int = _setting(5, _number(0, 1_000_000, whole=True))
    warmup_lr: float = _setting(1e-6, _number(0))
    min_lr: float = _setting(1e-5, _number(0))
    decay_epochs: float = _setting(90, _number(0))
    decay_rate: float = _setting(0.1, _number(0))

    drop: float = _setting(0.0, _FRACTION)
    drop_path: float = _setting(0.0, _FRACTION)

    no_aug: bool = _setting(False, _flag)
    scale: tuple[float, ...] = _setting((0.08, 1.0), _numbers(0, 1, 2))
    ratio: tuple[float, ...] = _setting((3 / 4, 4 / 3), _numbers(0.01, 100, 2))
    hflip: float = _setting(0.5, _FRACTION)
    vflip: float = _setting(0.0, _FRACTION)
    color_jitter: float | None = _setting(0.4, _number(0), optional=True)
    aa: str | None = _setting(None, _text, optional=True)
    aug_repeats: int = _setting(0, _number(0, 100, whole=True))
    reprob: float = _setting(0.0, _FRACTION)
    remode: str = _setting("const", _choice("const", "rand", "pixel"))
    recount: int = _setting(1, _COUNT)
    train_interpolation: str = _setting(
        "random", _choice("random", "bilinear", "bicubic", "nearest", "lanczos")
    )
    mixup: float = _setting(0.0, _number(0))
    cutmix: float = _setting(0.0, _number(0))
    cutmix_minmax: tuple[float, ...] | None = _setting(None, _numbers(0, 1, 2), optional=True)
    mixup_prob: float = _setting(1.0, _FRACTION)
    mixup_switch_prob: float = _setting(0.5, _FRACTION)
    mixup_mode: str = _setting("batch", _choice("batch", "pair", "elem"))
    mixup_off_epoch: int = _setting(0, _number(0, 1_000_000, whole=True))

    loss: str = _setting("ce", _choice("ce", "bce"))
    smoothing: float = _setting(0.0, _FRACTION)
    model_ema: bool = _setting(False, _flag)
    model_ema_decay: float = _setting(0.9998, _FRACTION)
    model_ema_warmup: bool = _setting(False, _flag)
    amp: str = _setting("none", _choice("none", "bfloat16", "float16"))

    teacher: str | None = _setting(None, _text, optional=True)
    distillation_alpha: float = _setting(0.5, _FRACTION)
    distillation_tau: float = _setting(1.0, _number(0.01))

    shared_members: int = _setting(1, _COUNT)
    shared_rule: str = _setting("random", _choice("random", "sandwich"))
    shared_distillation: bool = _setting(False, _flag)

    mean: tuple[float, ...] | None = _setting(None, _numbers(0, 1, 1, 3), optional=True)
    std: tuple[float, ...] | None = _setting(None, _numbers(0.001, 1, 1, 3), optional=True)
    interpolation: str | None = _setting(
        None, _choice("bilinear", "bicubic", "nearest", "lanczos"), optional=True
    )
    crop_pct: float | None = _setting(None, _number(0.01, 1), optional=True)

    checkpoint_hist: int = _setting(1, _COUNT)
    log_interval: int = _setting(50, _COUNT)

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            check, optional = setting.metadata["check"], setting.metadata["optional"]
            if value is None and optional:
                continue
            try:
                object.__setattr__(self, setting.name, check(value))
            except (ValueError, TypeError, OverflowError) as error:
                allowed = check.__doc__ + (" or null" if optional else "")
                raise TftasError(
                    f"recipe: {setting.name} is {value!r}, allowed: {allowed}"
                ) from error
        if self.warmup_epochs >= self.epochs:
            raise TftasError(
                f"recipe: warmup_epochs is {self.warmup_epochs} of {self.epochs} epochs; give"
                f" fewer, such as --set warmup_epochs={self.epochs // 10}"
            )
        if self.mixing and self.batch_size % 2:
            raise TftasError(
                f"recipe: batch_size is {self.batch_size}, mixup and cutmix need an even one"
            )

    @property
    def mixing(self) -> bool:
        """Whether images are mixed, so that targets are soft."""
        return self.mixup > 0 or self.cutmix > 0 or self.cutmix_minmax is not None

    @property
    def scaled_lr(self) -> float:
        """The learning rate at ``batch_size``.

        Raises:
            TftasError: It is found by a range test.
        """
        if isinstance(self.lr, str):
            raise TftasError("recipe: lr auto has no value before its range test")
        if self.lr_base_size is None:
            return self.lr
        return self.lr * self.batch_size / self.lr_base_size

    @property
    def digest(self) -> str:
        """Digest of the settings, without name, length and seed."""
        # Defaults are left out: a setting that a later release adds changes no digest.
        settings = {
            setting.name: value
            for setting in dataclasses.fields(self)
            if setting.name not in _NOT_IN_DIGEST
            and (value := getattr(self, setting.name)) != setting.default
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, complete and ready for YAML."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }


def recipe_names() -> tuple[str, ...]:
    """List the recipes that come with the package."""
    folder = resources.files(__package__) / "recipes"
    return tuple(sorted(Path(entry.name).stem for entry in folder.iterdir()))


def load_recipe(
    source: str | Path | Recipe | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Load a recipe by name or from a YAML file, and override some of its values.

    A file lists what differs from the defaults of :class:`Recipe`, or from another recipe that
    it names as ``base``. The ``recipe.yaml`` beside the checkpoints of a training is such a file.

    Fewer ``epochs`` than the recipe's shorten its warm-up in proportion, unless that is given too.

    Args:
        source: ``"autoformer"``, ``"az-nas"``, ``"deit"``, ``"quick"``, ``"small-data"``, a path,
            a loaded recipe, or a mapping of what differs from ``"autoformer"``, or from its
            ``base``.
        overrides: Values by name.

    Raises:
        TftasError: There is no such recipe or value, or a value is out of range.
        UnavailableError: The file cannot be read or holds no recipe.
    """
    if overrides is not None:
        expect("overrides", overrides, Mapping, "values by name, such as {'epochs': 100}")
    changes = dict(overrides or {})
    if isinstance(source, Mapping):
        changes = {**source, **changes}
        source = changes.pop("base", USUAL)
    expect("recipe", source, (str, os.PathLike, Recipe), "a name, a path, a mapping or a Recipe")
    base = source.to_dict() if isinstance(source, Recipe) else _read(str(source))
    fields = {**base, **changes}
    if "epochs" in changes and "warmup_epochs" not in changes:
        fields |= _shorter_warmup(base, changes["epochs"])
    names = [setting.name for setting in dataclasses.fields(Recipe)]
    unknown = [str(name) for name in fields if name not in names]
    if unknown:
        raise TftasError(f"a recipe has no {unknown[0]!r}{did_you_mean(unknown[0], names[1:])}")
    return Recipe(**fields)


def _shorter_warmup(base: Mapping[str, Any], epochs: Any) -> dict[str, Any]:
    """Return the warm-up of fewer epochs, in proportion; nothing where the values are wrong."""
    whole = {"epochs": Recipe.epochs, "warmup_epochs": Recipe.warmup_epochs, **base}
    warmup = whole["warmup_epochs"]
    if not all(isinstance(value, numbers.Integral) for value in (epochs, warmup, whole["epochs"])):
        return {}
    if not 0 < epochs < whole["epochs"]:
        return {}
    return {"warmup_epochs": round(warmup * epochs / whole["epochs"])}


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` pairs; values are written as in YAML.

    Raises:
        TftasError: A pair has no ``=`` or its value is no YAML.
    """
    values = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not separator or not name:
            raise TftasError(f"--set {assignment!r}: write it KEY=VALUE, such as mixup=0.2")
        try:
            values[name.strip().replace("-", "_")] = parse_yaml(text)
        except yaml.YAMLError as error:
            raise TftasError(f"--set {assignment!r}: the value cannot be read") from error
    return values


def _read(name_or_path: str, depth: int = 0) -> dict[str, Any]:
    if name_or_path in recipe_names():
        entry = resources.files(__package__) / "recipes" / f"{name_or_path}.yaml"
        with resources.as_file(entry) as path:
            return {**_mapping(path), "name": name_or_path}
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        raise TftasError(
            f"unknown recipe {name_or_path!r}{did_you_mean(name_or_path, recipe_names())}, or the"
            " path of a YAML file"
        )
    fields = {"name": path.stem, **_mapping(path)}
    base = fields.pop("base", None)
    if base is None:
        return fields
    if not isinstance(base, str) or depth > 8:
        raise InputFileError(f"{path}: base is {base!r}, expected the name of another recipe")
    return {**_read(base, depth + 1), **fields}


def _mapping(path: Path) -> dict[str, Any]:
    data = read_yaml(path)
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise InputFileError(f"{path}: a recipe is a mapping of settings, such as epochs: 100")
    return data
