"""The table of families, and one that somebody else brings."""

from __future__ import annotations

import sys
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import tower

import tftas_optuna.models  # noqa: F401  (registers the networks)
from tftas_optuna import Architecture, Scorer, TftasError, families, get_space
from tftas_optuna.architecture import PiTArchitecture
from tftas_optuna.architecture.parts import FAMILIES
from tftas_optuna.errors import UnavailableError
from tftas_optuna.families import Family, family_names, get_family, register_family
from tftas_optuna.models import PiT
from tftas_optuna.spaces import PiTSpace, space_from_dict
from tftas_optuna.supernet.autoformer import AutoFormerSupernet
from tftas_optuna.supernet.pit import PiTSupernet

SPACE = {"name": "towers", "family": "tower", "width": [8, 16], "depth": [1, 2, 3]}


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test registers."""
    monkeypatch.setattr(FAMILIES, "registered", {})


def parts(name: str, **changed: Any) -> Family:
    whole = dict(
        architecture_class=PiTArchitecture,
        space_class=PiTSpace,
        network_class=PiT,
        supernet_class=PiTSupernet,
    )
    return Family(name, **{**whole, **changed})


def test_a_family_is_registered_by_a_call_or_as_a_decorator() -> None:
    given = parts("by_call")
    assert register_family(given) is given is get_family("by_call")

    @register_family
    def made() -> Family:
        return parts("by_function")

    @register_family(replace=True)
    def other() -> Family:
        return parts(
            "by_function", supernet_class="tftas_optuna.supernet.autoformer:AutoFormerSupernet"
        )

    assert made().name == "by_function"
    assert get_family("by_function").supernet is AutoFormerSupernet
    assert family_names() == ["autoformer", "pit", "by_call", "by_function"]
    assert timm.is_model("tftas_by_call") and timm.is_model("tftas_by_function")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (parts("pit"), "family 'pit' exists already; give another name, or replace=True"),
        (parts("Not a name"), "family name 'Not a name' is not allowed"),
        (lambda: "tower", "'tower' is not a family; give a tftas_optuna.families.Family, or"),
    ],
)
def test_what_is_no_family_is_refused(given: Any, message: str) -> None:
    with pytest.raises(TftasError, match=message):
        register_family(given)


def test_a_part_that_is_missing_is_named() -> None:
    register_family(parts("holes", network_class="tower:Nothing", space_class="no_such:Space"))
    with pytest.raises(UnavailableError, match="'holes': its network cannot be loaded from tower"):
        get_family("holes").network  # noqa: B018
    with pytest.raises(UnavailableError, match="its space cannot be loaded from no_such:Space"):
        get_family("holes").space  # noqa: B018
    with pytest.raises(TftasError, match="unknown family 'none'; known: autoformer, pit, holes"):
        get_family("none")


def test_blocks_of_a_family_are_its_architectures() -> None:
    for given in ("tftas_optuna.costs:AutoFormerBlocks", object):
        with pytest.raises(TftasError, match="'old' has a blocks_class, which is gone; give its"):
            parts("old", blocks_class=given)


def test_an_installed_family_is_loaded_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    brought = SimpleNamespace(
        family=tower.family, other=lambda: parts("other"), broken=lambda: 1 / 0, nothing=5
    )
    names = {"tower": "family", "called": "other", "broken": "broken", "none": "nothing"}
    group = families.FAMILIES_GROUP
    entries = [metadata.EntryPoint(n, f"brought:{of}", group) for n, of in names.items()]
    monkeypatch.setitem(sys.modules, "brought", brought)  # type: ignore[arg-type]
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: entries)
    for cache in ("_entry_points", "_loaded"):
        monkeypatch.setattr(FAMILIES, cache, {})
    assert family_names() == ["autoformer", "pit", *names]
    arch = tower.Tower(8, 2)
    assert Architecture.from_dict(arch.to_dict()) == arch
    assert space_from_dict(SPACE).encode(arch) == {"width": 8, "depth": 2, "form": "plain"}
    assert get_family("tower").network is tower.TowerNetwork
    installed = "of an installed package:"
    for name, message in {
        "called": f"brought:other {installed} family 'called' calls itself 'other'",
        "broken": f"family 'broken' cannot be loaded from brought:broken {installed} ZeroDivision",
        "none": f"brought:nothing {installed} 5 is not a family",
    }.items():
        with pytest.raises(UnavailableError, match=message):
            get_family(name)


def test_a_fidelity_that_a_family_lacks_is_told_in_one_line() -> None:
    assert PiTSupernet.fidelities == AutoFormerSupernet.fidelities == ("exact", "collapsed")
    assert tower.TowerSupernet.fidelities == ("exact",)
    register_family(tower.family)
    space = tower.TowerSpace.from_dict(SPACE)
    assert Scorer(space, device="cpu")(space.largest()) > 0
    with pytest.raises(TftasError, match="family.* 'collapsed'; it has: exact"):
        Scorer(space, fidelity="collapsed", device="cpu")(space.largest())


@pytest.mark.parametrize("name", ["autoformer-tiny", "pit-tiny"])
def test_what_does_not_fit_a_supernet_is_told(name: str) -> None:
    space = get_space(name)
    supernet = get_family(space.family).supernet(space.smallest(), img_size=32, num_classes=3)
    with pytest.raises(TftasError, match="is .*, the supernet holds at most") as caught:
        supernet.run([space.largest()])
    assert "\n" not in str(caught.value)
    with pytest.raises(TftasError, match="has no fidelity 'rough'; known: exact, collapsed"):
        supernet.run([space.smallest()], fidelity="rough")
    other = get_space("pit-tiny" if name != "pit-tiny" else "autoformer-tiny")
    with pytest.raises(TftasError, match="family is .*, the supernet has"):
        supernet.check(other.smallest())


def test_timm_builds_a_family_of_somebody_elses() -> None:
    register_family(tower.family)
    arch = {"family": "tower", "width": 8, "depth": 2}
    model = timm.create_model("tftas_tower", arch=arch, img_size=8, num_classes=5)
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 5)
    assert model.pretrained_cfg["first_conv"] == "stem"
    assert model.pretrained_cfg["input_size"] == (3, 8, 8)
    with pytest.raises(TftasError, match="tftas_tower needs arch="):
        timm.create_model("tftas_tower")
