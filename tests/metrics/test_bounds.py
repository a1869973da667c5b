"""Objectives, bounds and names: what is allowed, what is refused, and by how much one misses."""

from __future__ import annotations

import pytest

from tftas_optuna import TftasError, register_cost, register_indicator
from tftas_optuna.metrics import (
    Bound,
    Meters,
    Target,
    check_bounds,
    check_objectives,
    check_reachable,
    get_cost,
    get_indicator,
    get_metric,
    metric_names,
    registry,
    violations,
)
from tftas_optuna.metrics.units import short
from tftas_optuna.spaces import AutoFormerSpace

SIZES = {"img_size": 32, "num_classes": 10}


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(registry.METRICS, "registered", {})


def test_one_objective_may_be_given_by_its_name_alone() -> None:
    assert check_objectives("dss", "autoformer") == ("dss",)
    assert check_objectives(["n_params", "dss"], "autoformer") == ("n_params", "dss")


@pytest.mark.parametrize("objectives", [(), ("dss", "dss")])
def test_objectives_that_are_none_or_twice_are_refused(objectives: tuple[str]) -> None:
    told = f"objectives are {', '.join(objectives) or 'none'}; allowed: each of .*dss, .*macs"
    with pytest.raises(TftasError, match=told):
        check_objectives(objectives, "autoformer")


@pytest.mark.parametrize(
    ("name", "bound", "message"),
    [
        ("n_params", (None, 0), "a bound on n_params is 0, allowed is above 0"),
        ("macs", (-1.0, None), "a bound on macs is -1, allowed is above 0"),
        ("n_params", (None, True), "a bound on n_params is True, allowed: finite numbers"),
        ("dss", (float("nan"), None), "a bound on dss is nan, allowed: finite numbers"),
        ("n_params", (1e5, 9e4), "n_params from 100.00k to 90.00k: the lower bound is higher"),
        ("n_params", (1e9, None), "n_params of at least 1.00G excludes every architecture: small"),
        ("n_params", (None, 10), "n_params of at most 10 excludes every architecture: small"),
        ("size", (1, 2), "cannot bound 'size'; known: accuracy, auto_prox_a, .*dss, .*macs"),
    ],
)
def test_a_bound_that_nothing_can_meet_is_refused(
    small_space: AutoFormerSpace, name: str, bound: Bound, message: str
) -> None:
    with pytest.raises(TftasError, match=message):
        check_bounds({name: bound}, small_space, **SIZES)


def test_what_can_be_bounded(small_space: AutoFormerSpace) -> None:
    n_params = small_space.smallest().costs(**SIZES).n_params
    # The ends of the space are within it, and so is a single value.
    bounds = {"n_params": (n_params, n_params), "dss": (-3.0, 0.0), "macs": (None, None)}
    assert check_bounds(bounds, small_space, **SIZES) == {
        "n_params": (n_params, n_params),
        "dss": (-3.0, 0.0),
    }
    most = small_space.largest().costs(**SIZES).n_params
    check_bounds({"n_params": (most, None)}, small_space, **SIZES)


def test_bounds_are_held_against_the_network_that_is_searched(
    small_space: AutoFormerSpace,
) -> None:
    """Its classifier and the channels of its images count."""
    arch = small_space.smallest()
    few, many = (arch.costs(img_size=32, num_classes=n).n_params for n in (10, 1000))
    between = {"n_params": (None, (few + many) / 2)}
    check_bounds(between, small_space, img_size=32, num_classes=10)
    with pytest.raises(TftasError, match="excludes every architecture"):
        check_bounds(between, small_space, img_size=32, num_classes=1000)
    grey = AutoFormerSpace.from_dict({**small_space.to_dict(), "in_chans": 1})
    n_params = arch.costs(**SIZES, in_chans=1).n_params
    assert n_params < few
    check_bounds({"n_params": (None, n_params)}, grey, **SIZES)


def test_the_ends_of_a_space_meet_a_bound(small_space: AutoFormerSpace) -> None:
    cost = Meters(["macs"], small_space, Target(**SIZES))
    least, most = (
        cost.cost("macs", arch) for arch in (small_space.smallest(), small_space.largest())
    )
    for bound in ((None, least), (most, None), (least, most)):
        check_reachable("macs", bound, small_space, lambda arch: cost.cost("macs", arch))
    for bound in ((None, least - 1), (most + 1, None)):
        with pytest.raises(TftasError, match="excludes every architecture"):
            check_reachable("macs", bound, small_space, lambda arch: cost.cost("macs", arch))


@pytest.mark.parametrize(
    ("found", "bound", "excess"),
    [
        (12.0, (None, 10.0), {"x_max": 0.2}),
        (8.0, (None, 10.0), {"x_max": -0.2}),
        (8.0, (10.0, None), {"x_min": 0.2}),
        (12.0, (10.0, 16.0), {"x_max": -0.25, "x_min": -0.2}),
        # Indicators may be zero or negative, and so may their bounds.
        (-8.0, (None, -10.0), {"x_max": 0.2}),
        (-12.0, (None, -10.0), {"x_max": -0.2}),
        (-12.0, (-10.0, None), {"x_min": 0.2}),
        (0.5, (None, 0.0), {"x_max": 0.5}),
        (0.5, (0.0, None), {"x_min": -0.5}),
    ],
)
def test_a_violation_is_relative_and_positive_where_a_bound_is_missed(
    found: float, bound: Bound, excess: dict[str, float]
) -> None:
    assert violations(lambda name: found, {"x": bound}) == pytest.approx(excess)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (999.0, "999"),
        (1000.0, "1.00k"),
        (36_400, "36.40k"),
        (1e6, "1.00M"),
        (5_867_944, "5.87M"),
        (1.31e9, "1.31G"),
        (-2e6, "-2.00M"),
        (0.12345, "0.1235"),
    ],
)
def test_counts_are_written_as_people_do(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    "name", ["mine_sd", "mine_exact", "mine_collapsed", "n-heads", "n_heads ", "x" * 65, "2x", 7]
)
def test_names_that_studies_could_not_use_are_refused(name: str) -> None:
    for register in (register_cost, register_indicator):
        with pytest.raises(TftasError, match="cannot be a name"):
            register(name, lambda *_, **__: 1.0)
    register_cost("x" * 64, lambda arch, **_: 1.0)


def test_costs_and_indicators_are_not_mistaken_for_each_other() -> None:
    with pytest.raises(TftasError, match="cost 'dss' does not exist; known: activations"):
        get_cost("dss")
    with pytest.raises(TftasError, match="indicator 'macs' does not exist; known: .*dss"):
        get_indicator("macs")
    with pytest.raises(TftasError, match="metric 'nope' does not exist; known: .*dss"):
        get_metric("nope")
    assert metric_names().index("dss") < metric_names().index("activations")


@pytest.mark.parametrize("found", [3.0, "dss"])
def test_what_is_no_function_is_refused_when_it_is_registered(found: object) -> None:
    with pytest.raises(TftasError, match="cost 'mine' is .* expected a function or a Cost"):
        register_cost("mine", found)  # type: ignore[type-var]
    with pytest.raises(TftasError, match="indicator 'mine' is .* a function or an Indicator"):
        register_indicator("mine", found)  # type: ignore[type-var]
    with pytest.raises(TftasError, match="cost 'mine' is DSS"):
        register_cost("mine", get_indicator("dss"))  # type: ignore[type-var]
    with pytest.raises(TftasError, match="indicator 'mine' is Cost"):
        register_indicator("mine", get_cost("macs"))  # type: ignore[type-var]
    assert "mine" not in metric_names()


def test_an_object_is_registered_under_another_name() -> None:
    register_cost("products", get_cost("macs"))
    register_indicator("heads_twice", get_indicator("dss").with_options(head_weight=2.0))
    assert get_cost("products").name == "products" and get_cost("macs").name == "macs"
    twice = get_indicator("heads_twice")
    assert twice.name == "heads_twice" and twice.options == {"head_weight": 2.0}


def test_a_registered_indicator_keeps_its_unit_and_direction() -> None:
    register_indicator("loss", lambda model, images: 1.0, direction="minimize", unit="nats")
    found = get_indicator("loss")
    assert (found.direction, found.unit) == ("minimize", "nats")


def test_only_measured_costs_leave_a_record(small_space: AutoFormerSpace) -> None:
    table = {"blocks": [[64, 4, 4.0, 2.0]], "rest": [[64, 1.0]], "reference": 1.0}
    meters = Meters(["macs", "latency"], small_space, Target(**SIZES), {"latency": table})
    assert set(meters.records) == {"latency"}
    assert meters.names == ("macs", "latency") and "dss" not in meters
