"""The sources of a supernet's weights, through the doors that take one."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import optuna
import pytest

from tftas_optuna import ArchitectureObjective, AutoFormerSpace, Execution, Scorer, search
from tftas_optuna.architecture import read_yaml
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.export import export_front
from tftas_optuna.export.sections import read_section
from tftas_optuna.scoring.conditions import SupernetSource
from tftas_optuna.supernet.files import TrainedSupernet, write_supernet


@pytest.fixture
def space(small_space: AutoFormerSpace) -> AutoFormerSpace:
    return dataclasses.replace(small_space, img_size=32, num_classes=10)


def keep(space: AutoFormerSpace, folder: Path, seed: int) -> Path:
    """Write a supernet of a space, drawn from a seed, as if it were trained."""
    folder.mkdir(exist_ok=True)
    drawn = Scorer(space, device="cpu", seed=seed).supernet.state_dict
    members = (space.smallest(), space.largest())
    write_supernet(
        TrainedSupernet(
            path=folder,
            tensors=drawn,
            space=space.to_dict(),
            img_size=space.img_size,
            num_classes=space.num_classes,
            members=members,
        )
    )
    return folder


@pytest.mark.parametrize("indicator", ["dss", "naswot", "snip"])
def test_every_kind_of_indicator_sees_the_weights_of_the_file(
    space: AutoFormerSpace, tmp_path: Path, indicator: str
) -> None:
    folder = keep(space, tmp_path / "shared", seed=7)
    arch = space.smallest()
    shared = {"indicator": indicator, "device": "cpu"}
    if indicator != "dss":
        shared["n_images"] = 4
    drawn, other = (Scorer(space, seed=seed, **shared) for seed in (7, 0))
    trained = Scorer(space, seed=7, supernet=folder, **shared)
    assert trained(arch) == drawn(arch) != other(arch)
    assert pickle.loads(pickle.dumps(trained))(arch) == drawn(arch)


def test_a_study_goes_on_with_the_same_weights_only(
    space: AutoFormerSpace, tmp_path: Path
) -> None:
    folder = keep(space, tmp_path / "shared", seed=7)
    storage = f"sqlite:///{tmp_path}/s.db"

    def run(supernet: Path | str | None, n_trials: int = 6) -> optuna.Study:
        return search(
            space, n_trials=n_trials, storage=storage, supernet=supernet, fidelity="exact"
        )

    study = run(folder)
    scorer = Scorer(space, supernet=folder, device="cpu")
    values = {t.number: t.values[0] for t in study.trials}
    assert study.user_attrs["supernet"] == scorer.conditions.supernet.digest
    moved = folder.rename(tmp_path / "moved")
    study = run(moved, 2)
    assert {t.number: t.values[0] for t in study.trials[:6]} == values
    for supernet in (None, "drawn", keep(space, tmp_path / "other", seed=8)):
        with pytest.raises(UnavailableError, match="was made with supernet"):
            run(supernet)
    assert len(optuna.load_study(study_name=study.study_name, storage=storage).trials) == 8


def test_scores_of_trained_weights_are_exact_unless_asked_otherwise(
    space: AutoFormerSpace, tmp_path: Path
) -> None:
    folder = keep(space, tmp_path / "shared", seed=7)
    assert search(space, n_trials=2, supernet=folder).user_attrs["fidelity"] == "exact"
    collapsed = search(space, n_trials=2, supernet=folder, fidelity="collapsed")
    assert collapsed.metric_names == ["dss_collapsed", "n_params"]
    assert search(space, n_trials=2).metric_names == ["dss_collapsed", "n_params"]


def test_workers_read_the_weights_for_themselves(space: AutoFormerSpace, tmp_path: Path) -> None:
    folder = keep(space, tmp_path / "shared", seed=7)
    alone = search(space, n_trials=6, supernet=folder, fidelity="exact", seed=1)
    workers = search(
        space,
        n_trials=6,
        supernet=folder,
        fidelity="exact",
        seed=1,
        execution=Execution("cpu", workers=2),
    )
    assert [t.values for t in workers.trials] == [t.values for t in alone.trials]


def test_weights_that_change_between_are_refused(space: AutoFormerSpace, tmp_path: Path) -> None:
    folder = keep(space, tmp_path / "shared", seed=7)
    source = SupernetSource.of(folder)
    keep(space, folder, seed=8)
    again = pickle.loads(pickle.dumps(source))
    with pytest.raises(UnavailableError, match="holds other weights than before"):
        _ = again.trained


def test_exported_files_are_scored_on_the_same_weights(
    space: AutoFormerSpace, tmp_path: Path
) -> None:
    folder = keep(space, tmp_path / "shared", seed=7)
    study = search(space, n_trials=4, supernet=folder, fidelity="exact")
    (first, *_) = [p for p in export_front(study, tmp_path / "front") if p.suffix == ".yaml"]
    section = read_section(read_yaml(first)["search"], str(first))
    assert section.conditions.supernet == SupernetSource.of(folder)


def test_objectives_take_a_supernet(space: AutoFormerSpace, tmp_path: Path) -> None:
    folder = keep(space, tmp_path / "shared", seed=7)
    objective = ArchitectureObjective(space, supernet=folder)
    study = optuna.create_study(directions=objective.directions)
    study.enqueue_trial(space.encode(space.smallest()))
    study.optimize(objective, n_trials=1)
    assert study.trials[0].values[0] == Scorer(space, supernet=folder)(space.smallest())
    with pytest.raises(TftasError, match="one of scorer and supernet"):
        ArchitectureObjective(space, supernet=folder, scorer=Scorer(space))


def test_sizes_that_no_choice_has_are_scored_with_a_warning(
    space: AutoFormerSpace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = keep(space, tmp_path / "shared", seed=7)
    scorer = Scorer(space, supernet=folder, device="cpu")
    other = dataclasses.replace(space.smallest(), mlp_ratio=(3.0, 3.0))
    assert scorer(other) > 0
    assert "lists no such sizes" in caplog.text
    caplog.clear()
    assert scorer(space.smallest()) > 0
    assert not caplog.text


def test_what_does_not_fit_is_one_line(space: AutoFormerSpace, tmp_path: Path) -> None:
    folder = keep(space, tmp_path / "shared", seed=7)
    wide = dataclasses.replace(
        space, embed_dim=(32,), supernet=dataclasses.replace(space.supernet, embed_dim=48)
    )
    for refused, fact in (
        (lambda: Scorer(wide, supernet=folder), "cls_token is"),
        (lambda: Scorer(space, supernet=folder, img_size=64), "images of 64 pixels"),
        (lambda: Scorer(space, supernet=folder, num_classes=3), "3 classes"),
        (lambda: Scorer(space, supernet=folder, n_seeds=2), "is one supernet"),
        (lambda: Scorer(space, supernet="timm:resnet18"), "no plain Vision Transformer"),
        (lambda: Scorer(space, supernet="study"), "there is no study"),
    ):
        with pytest.raises(TftasError, match=fact) as error:
            refused()
        assert "\n" not in str(error.value)


def test_a_whole_space_whose_heads_share_the_width(space: AutoFormerSpace, tmp_path: Path) -> None:
    """Its smallest candidate has the most heads, as these take no weights."""
    own = dataclasses.replace(space.supernet, head_dim=None, num_heads=(4,) * 4)
    shared = dataclasses.replace(space, num_heads=(1, 2, 4), supernet=own)
    (tmp_path / "shared").mkdir()
    tensors = Scorer(shared, device="cpu").supernet.state_dict
    write_supernet(
        TrainedSupernet(
            path=tmp_path / "shared",
            tensors=tensors,
            space=shared.to_dict(),
            img_size=32,
            num_classes=10,
        )
    )
    scorer = Scorer(shared, supernet=tmp_path / "shared", device="cpu")
    drawn = Scorer(shared, device="cpu")
    for arch in (shared.smallest(), shared.largest()):
        assert scorer(arch) == drawn(arch)
