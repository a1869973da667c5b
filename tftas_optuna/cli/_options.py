"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import logging
import math
import os
import re
from typing import TYPE_CHECKING, Any

import click

from tftas_optuna.errors import did_you_mean
from tftas_optuna.metrics import indicator_names, metric_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DEFAULT_STORAGE = "sqlite:///tftas.db"

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
_AMOUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([kmgb]?)", re.IGNORECASE)


class Amount(click.ParamType):  # type: ignore[type-arg]
    """A positive count in human units: ``6M``, ``1.3G``, ``600k``, ``5_867_944``."""

    name = "amount"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        match = _AMOUNT.fullmatch(str(value).strip())
        amount = float(match[1].replace("_", "")) * _UNITS[match[2].lower()] if match else 0.0
        if not 0 < amount < math.inf:
            self.fail(
                f"{value!r} is no positive amount; write it like 6M, 1.3G or 5867944", param, ctx
            )
        return amount


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A length of time in seconds: ``20m``, ``1.5h``, ``1h30m``, ``90s``, ``90``."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        try:
            seconds = float(text)
        except ValueError:
            parts = re.findall(r"(\d+(?:\.\d+)?)\s*([dhms])", text)
            whole = re.fullmatch(r"(\d+(\.\d+)?\s*[dhms]\s*)+", text)
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts if whole)
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r} is no length of time; write it like 20m, 1.5h or 90", param, ctx)
        return seconds


class Bound(click.ParamType):  # type: ignore[type-arg]
    """A bound on a cost by name: ``activations<=8M``, ``n_params>=5M``."""

    name = "bound"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str, float]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"\s*([a-z][a-z0-9_]*)\s*(<=|>=)\s*(.+)", str(value))
        if match is None:
            self.fail(f"{value!r} is no bound; write it like 'activations<=8M'", param, ctx)
        return match[1], match[2], Amount().convert(match[3], param, ctx)


class Fusion(click.ParamType):  # type: ignore[type-arg]
    """A fusion of metrics by name: ``mine=snip,naswot,macs``."""

    name = "fusion"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, tuple[str, ...]]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        parts = tuple(part.strip() for part in text.split(","))
        if not (name.strip() and equals and all(parts)):
            self.fail(f"{value!r} is no fusion; write it like mine=snip,naswot,macs", param, ctx)
        return name.strip(), parts


class Choice(click.Choice):  # type: ignore[type-arg]
    """One of some words; for another one the error names the word that is close."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            hint = did_you_mean(value, self.choices, most=0)
            self.fail(error.message.rstrip(".") + hint, param, ctx)


class MetricsOption(click.Option):
    """An option whose help lists all metrics or indicators, also those of installed packages.

    The list replaces ``{metrics}`` or ``{indicators}`` in the help text.
    """

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the help; names are looked up only when it is printed."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        text = record[1]
        for name, names in (("metrics", metric_names), ("indicators", indicator_names)):
            text = text.replace(f"{{{name}}}", ", ".join(names()))
        return record[0], text


def merge_bounds(
    given: Mapping[str, tuple[float | None, float | None]],
    more: Sequence[tuple[str, str, float]],
) -> dict[str, tuple[float | None, float | None]]:
    """Merge the bounds of ``--bound`` with those of other options."""
    bounds = dict(given)
    for name, side, value in more:
        low, high = bounds.get(name, (None, None))
        if (high if side == "<=" else low) is not None:
            raise click.UsageError(f"{name} has two bounds of the kind {side}; give one of them")
        bounds[name] = (low, value) if side == "<=" else (value, high)
    return bounds


def budgets(
    params_max: float | None,
    macs_max: float | None,
    latency_max: float | None,
    more: Sequence[tuple[str, str, float]],
) -> dict[str, float]:
    """Return upper limits by cost name, from the options of :func:`budget_options`."""
    limits = {"n_params": params_max, "macs": macs_max, "latency": latency_max}
    bounds = merge_bounds({name: (None, limit) for name, limit in limits.items()}, more)
    if any(low is not None for low, _ in bounds.values()):
        raise click.UsageError("a budget is an upper limit; write --bound 'COST<=AMOUNT'")
    return {name: high for name, (_, high) in bounds.items() if high is not None}


def storage_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--storage``."""
    return click.option(
        "--storage",
        metavar="URL",
        envvar="OPTUNA_STORAGE",
        show_envvar=True,
        default=DEFAULT_STORAGE,
        show_default=True,
        help="Database URL, or path of a SQLite or journal file.",
    )(command)


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--storage`` and ``--study-name``."""
    command = click.option(
        "--study-name", metavar="NAME", help="Study to use; needed if there are several."
    )(command)
    return storage_option(command)


def trained_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--trained``."""
    return click.option(
        "--trained",
        metavar="KEY",
        help="Key of the trainings whose accuracies to use, also of shared ones; by default those "
        "of the most trials.",
    )(command)


def slices_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--supernet``, whose slices networks start from."""
    return click.option(
        "--supernet",
        metavar="SOURCE",
        help="Supernet whose slices to use: study (the one it was searched on; the default of "
        "--weights supernet), drawn, a trained one (a directory of shared training or a "
        "checkpoint of AutoFormer), or timm:NAME, a larger network.",
    )(command)


def members_options(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--top`` and ``--spread``.

    Args:
        what: What happens to the members that they choose, with a default if there is one.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--spread",
            type=click.IntRange(min=2),
            metavar="N",
            help="Choose N members spread over the front: both ends, and those nearest to even "
            "steps of the logarithm of its cost between them.",
        )(command)
        return click.option(
            "--top",
            type=click.IntRange(min=1),
            metavar="N",
            help=f"Number of members of the front to {what}.",
        )(command)

    return add


def check_members(top: int | None, spread: int | None) -> None:
    """Check that at most one of ``--top`` and ``--spread`` is given."""
    if top and spread:
        raise click.UsageError("--top and --spread exclude each other; give one of them")


def budget_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--params-max``, ``--macs-max``, ``--latency-max`` and ``--bound``."""
    command = click.option(
        "--bound",
        "more_bounds",
        type=Bound(),
        metavar="COST<=AMOUNT",
        multiple=True,
        help="Bound on any cost, with <= or >=, such as 'activations<=8M'. Repeatable.",
    )(command)
    command = click.option(
        "--latency-max",
        type=Amount(),
        help="Maximum latency of a batch in milliseconds, such as 25.",
    )(command)
    command = click.option(
        "--macs-max", type=Amount(), help="Maximum multiply-accumulates, such as 1.3G."
    )(command)
    return click.option(
        "--params-max", type=Amount(), help="Maximum number of parameters, such as 6M."
    )(command)


def device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--device``."""
    return click.option(
        "--device", default="auto", show_default=True, help="Device: auto, cpu, cuda, cuda:1, ..."
    )(command)


def supernet_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--supernet``."""
    return click.option(
        "--supernet",
        metavar="SOURCE",
        help="Weights that candidates are cut from: drawn (the default), a trained supernet (the "
        "directory of `retrain --shared`, or a checkpoint of AutoFormer), or timm:NAME, a larger "
        "network with its pretrained weights.",
    )(command)


def fuse_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--fuse``, as ``fusions``."""
    return click.option(
        "--fuse",
        "fusions",
        type=Fusion(),
        metavar="NAME=PARTS",
        multiple=True,
        help="Metric that combines others by their ranks in a sample of the space, such as "
        "'mine=snip,naswot,macs'. Repeatable.",
    )(command)


def batch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--batch-size`` and ``--workers``, for passes without training."""
    command = click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=min(8, os.cpu_count() or 1),
        show_default="one for each core, 8 at most",
        help="Processes that load images.",
    )(command)
    return click.option(
        "--batch-size",
        type=click.IntRange(1, 65536),
        default=64,
        show_default=True,
        help="Images at a time.",
    )(command)


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-f``, the output format."""
    return click.option(
        "-f",
        "--format",
        "output",
        type=Choice(["table", "json", "yaml", "csv"]),
        default="table",
        show_default=True,
        help="Output format.",
    )(command)


def verbosity_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-v``; without it no traceback is shown."""

    def set_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta["verbose"] = value
        import optuna

        optuna.logging.set_verbosity(logging.INFO if value else logging.WARNING)

    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=set_verbose,
        help="Show logs, and tracebacks of errors.",
    )(command)
