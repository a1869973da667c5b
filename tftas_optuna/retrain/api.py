"""Retraining from Python, as ``tftas-optuna retrain`` does it for one network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tftas_optuna._given import a_path, check_callback, shown, whole
from tftas_optuna.bars import Bars
from tftas_optuna.errors import TftasError
from tftas_optuna.retrain.recipe import USUAL, load_recipe
from tftas_optuna.storage import told_in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from optuna import Study

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.retrain.network import Network
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.retrain.run import Epoch
    from tftas_optuna.retrain.training import Step
    from tftas_optuna.spaces import SpaceLike
    from tftas_optuna.study.front import Candidate


@told_in_one_line()
def retrain(
    network: str | Path | Architecture | Candidate | Network,
    *,
    data_dir: str | Path,
    dataset: str = "",
    train_split: str = "train",
    val_split: str | None = None,
    val_fraction: float | None = None,
    download: bool = False,
    recipe: str | Path | Recipe | Mapping[str, Any] = USUAL,
    overrides: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    supernet: str | Path | None = None,
    study: Study | None = None,
    record: bool = True,
    img_size: int | None = None,
    num_classes: int | None = None,
    out: str | Path = "trained",
    device: str = "auto",
    workers: int = 0,
    tensorboard: bool = False,
    progress: bool = False,
    callback: Callable[[Step | Epoch], None] | None = None,
) -> dict[str, Any]:
    """Train a network and save it as a model that timm loads.

    :func:`tftas_optuna.retrain.run.train_network` describes the files in ``out/NAME``. The same
    call continues a stopped training after its last whole epoch, and returns the result of a
    finished one at once. Under ``torchrun`` all processes train together.

    Example:
        Search, and train the best architecture of at most six million parameters::

            from tftas_optuna import pareto_front, retrain, search

            study = search("autoformer-tiny", n_trials=1000)
            front = pareto_front(study)
            best = max((c for c in front if c.n_params <= 6e6), key=lambda c: c.values["dss"])
            result = retrain(best, study=study, data_dir="imagenet", recipe="deit", workers=8)
            print(result["top1"], result["out"])

        A plain ViT beside it, shorter::

            retrain("vit_tiny_patch16_224", data_dir="imagenet", recipe="deit",
                    overrides={"epochs": 100, "mixup": 0.2}, workers=8)

    Args:
        network: The path of an exported file, the name of a published architecture
            (``"tf-tas-tiny"``) or of a timm model, an architecture, or a candidate of a study's
            front.
        data_dir: Directory of images, ``train/CLASS/IMAGE`` and ``val/CLASS/IMAGE``, or of
            ``dataset``; with ``val_fraction`` also ``CLASS/IMAGE``.
        dataset: A data set of timm, such as ``"torch/cifar10"``.
        train_split: Split to train on.
        val_split: Split to evaluate on; for folders, by default the first that exists of ``val``,
            ``valid``, ``validation`` and ``test``.
        val_fraction: Fraction of each class to evaluate on, such as 0.1, if one folder holds all
            images; always the same images.
        download: Whether to download the data set if timm can.
        recipe: ``"autoformer"``, ``"az-nas"``, ``"deit"``, ``"quick"``, the path of a YAML file,
            a :class:`tftas_optuna.retrain.Recipe`, or a mapping of what differs from the first,
            such as ``{"epochs": 100}``.
        overrides: Values of the recipe to replace, such as ``{"epochs": 100}``.
        weights: Weights to start from: ``"scratch"`` by default, ``"supernet"`` (slices of
            ``supernet``), ``"pretrained"`` (timm's), the path of a checkpoint or of a trained
            supernet, or ``timm:NAME``, slices of a larger network.
        supernet: The supernet to start from: ``"study"``, the one that the study was searched on;
            ``"drawn"``, from the study's supernet seed; or the path of a trained one, a directory
            of shared training or a checkpoint of AutoFormer; or ``timm:NAME``.
        study: The study of a candidate; its accuracy is recorded there, for
            :func:`tftas_optuna.pareto_front` and the dashboard. Every training is kept with its
            conditions; one with the same conditions and seed replaces the one before.
        record: Whether to record the accuracy in the study.
        img_size: Height and width of the input, in pixels; the network's by default. It is
            needed for an architecture alone, which has none.
        num_classes: Classes that the data must have; those of the data by default.
        out: Directory to write to, with a subdirectory for each network.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        workers: Processes that load images; 0 loads them in this one.
        tensorboard: Whether to write the metrics for TensorBoard as well.
        progress: Whether to show a progress bar.
        callback: Called after every step and every epoch, with a
            :class:`tftas_optuna.retrain.training.Step` or
            :class:`tftas_optuna.retrain.run.Epoch`.

    Returns:
        The network's ``name``; ``top1``, ``top5`` (per cent) and ``loss`` after the last epoch;
        ``best_top1`` and its ``best_epoch``; ``epochs``, ``n_params``, ``num_classes``,
        ``n_train``, ``n_val``, ``train_split``, ``val_split``, ``data_digest``, ``seconds``; the
        directory, ``out``; and ``trained``, the key of the training conditions, if the study
        recorded it.

    Raises:
        TftasError: There is no such network, recipe or device, or they do not fit together.
        UnavailableError: Data, weights or checkpoints cannot be used, or the disk is full.
    """
    recipe = load_recipe(recipe, overrides)
    out, workers = a_path("out", out), whole("workers", workers, 0)
    _check_sizes(img_size=img_size, num_classes=num_classes)
    check_callback(callback)

    # PyTorch is loaded here, not by ``import tftas_optuna`` nor before a recipe is refused.
    from tftas_optuna.retrain.data import DataSource
    from tftas_optuna.retrain.distributed import join_world
    from tftas_optuna.retrain.network import candidate_network, resolve_network
    from tftas_optuna.retrain.recorded import train_and_record
    from tftas_optuna.retrain.run import check_tensorboard
    from tftas_optuna.retrain.slices import check_fit, resolve_weights
    from tftas_optuna.study.front import Candidate
    from tftas_optuna.study.record import read_settings

    trial = None
    if isinstance(network, Candidate):
        if study is None:
            raise TftasError(
                f"trial {network.trial} was given without its study; give study=..., or the"
                " architecture alone with its img_size=..."
            )
        trial = network.trial
        network = candidate_network(network, read_settings(study), study.study_name)
    elif study is not None:
        raise TftasError(
            f"a study was given with {shown(network)}; give a candidate of its front, or no study"
        )
    resolved = resolve_network(network, img_size=img_size)
    source = DataSource(
        a_path("data_dir", data_dir),
        dataset,
        train_split,
        val_split,
        download,
        val_fraction=val_fraction,
    )
    start = resolve_weights(
        resolved,
        None if weights is None else str(a_path("weights", weights)),
        None if supernet is None else str(a_path("supernet", supernet)),
    )
    check_fit([resolved], start)
    if tensorboard:
        check_tensorboard()
    with join_world(device) as world, Bars(progress and world.primary) as bars:
        return train_and_record(
            resolved,
            recipe,
            source,
            out,
            world=world,
            weights=start or "scratch",
            study=study,
            trial=trial,
            record=record,
            num_classes=num_classes,
            workers=workers,
            tensorboard=tensorboard,
            callback=_shown_in(bars, resolved.label, recipe.epochs, callback),
        )


@told_in_one_line()
def retrain_shared(
    members: SpaceLike | Iterable[Candidate | Architecture | str | Path],
    *,
    data_dir: str | Path,
    dataset: str = "",
    train_split: str = "train",
    val_split: str | None = None,
    val_fraction: float | None = None,
    download: bool = False,
    recipe: str | Path | Recipe | Mapping[str, Any] = USUAL,
    overrides: Mapping[str, Any] | None = None,
    space: SpaceLike | None = None,
    supernet: str | Path | None = None,
    study: Study | None = None,
    record: bool = True,
    name: str | None = None,
    img_size: int | None = None,
    num_classes: int | None = None,
    out: str | Path = "trained",
    device: str = "auto",
    workers: int = 0,
    tensorboard: bool = False,
    progress: bool = False,
    callback: Callable[[Step | Epoch], None] | None = None,
) -> dict[str, Any]:
    """Train the members of a front together, as slices of one supernet.

    Every step trains one member that is drawn at random, so all of them share the steps, and most
    of the weights. With the recipe's ``shared_members`` a step trains several;
    ``shared_rule: sandwich`` always takes the largest and the smallest, and
    ``shared_distillation`` lets the others learn from the largest (Yu et al., *BigNAS*, ECCV
    2020). To train the members of a front and not a whole space is the idea of Wang et al.
    (*PreNAS*, ICML 2023).

    The optimizer leaves tensors as they are that no member of a step uses. The unused part of a
    used tensor has a gradient of zero, and is decayed with it, as in AutoFormer.

    ``OUT/NAME-shared`` then holds ``supernet.safetensors`` and ``supernet.yaml``, which
    ``supernet=`` and ``weights=`` take, ``members.csv`` with the accuracy of every member, and the
    files of :func:`tftas_optuna.retrain.run.train`. After an epoch at most three members are
    evaluated, and ``metrics.csv`` has their means. The same call continues a stopped training.

    Example:
        Search, train the front together, fine-tune one::

            from tftas_optuna import pareto_front, retrain, retrain_shared, search

            study = search("autoformer-tiny", n_trials=1000)
            front = pareto_front(study)
            shared = retrain_shared(front, study=study, data_dir="imagenet", recipe="deit")
            best = max(pareto_front(study), key=lambda member: member.shared_top1)
            retrain(best, study=study, data_dir="imagenet", weights=shared["out"],
                    overrides={"epochs": 30})

    Args:
        members: Candidates of a study's front; architectures with their ``space``, or paths of
            exported files; or a whole space, as :func:`tftas_optuna.get_space` takes it, from
            which members are drawn uniformly.
        data_dir: Directory of images; see :func:`retrain`.
        dataset: A data set of timm.
        train_split: Split to train on.
        val_split: Split to evaluate on.
        val_fraction: Fraction of each class to evaluate on, if one folder holds all images.
        download: Whether to download the data set if timm can.
        recipe: The recipe; see :func:`retrain`.
        overrides: Values of the recipe to replace.
        space: The space whose supernet is trained; by default that of the study or of the files.
        supernet: The weights to start from: ``"drawn"`` from the recipe's seed, the default;
            ``"study"``, those that the study was searched on; the path of a trained supernet; or
            ``timm:NAME``, those of a larger network.
        study: The study of the candidates; their accuracies are recorded there.
        record: Whether to record the accuracies in the study.
        name: First part of the directory's name; by default that of the study or the space.
        img_size: Height and width of the input, in pixels; by default the study's or the space's.
        num_classes: Classes that the data must have; those of the data by default.
        out: Directory to write to.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        workers: Processes that load images; 0 loads them in this one.
        tensorboard: Whether to write the metrics for TensorBoard as well.
        progress: Whether to show a progress bar.
        callback: Called after every step and every epoch; see :func:`retrain`.

    Returns:
        As of :func:`retrain`, with the means over all members; ``members``, a list with ``name``,
        ``trial``, ``top1``, ``top5``, ``loss`` and the costs of each; ``supernet``, the SHA-256 of
        the trained tensors; the directory, ``out``; and ``shared``, the key of the training
        conditions, if the study recorded it.

    Raises:
        TftasError: There are less than two members, or they fit no supernet together; or as
            :func:`retrain`.
        UnavailableError: Data, weights or checkpoints cannot be used, or the disk is full.
    """
    recipe = load_recipe(recipe, overrides)
    out, workers = a_path("out", out), whole("workers", workers, 0)
    _check_sizes(img_size=img_size, num_classes=num_classes)
    check_callback(callback)

    from tftas_optuna.retrain.data import DataSource
    from tftas_optuna.retrain.distributed import join_world
    from tftas_optuna.retrain.recorded import train_shared_and_record
    from tftas_optuna.retrain.run import check_tensorboard
    from tftas_optuna.retrain.together import resolve_members

    shared = resolve_members(
        members,
        space=space,
        study=study,
        supernet=None if supernet is None else str(a_path("supernet", supernet)),
        name=name,
        img_size=img_size,
    )
    source = DataSource(
        a_path("data_dir", data_dir),
        dataset,
        train_split,
        val_split,
        download,
        val_fraction=val_fraction,
    )
    if tensorboard:
        check_tensorboard()
    with join_world(device) as world, Bars(progress and world.primary) as bars:
        return train_shared_and_record(
            shared,
            recipe,
            source,
            out,
            world=world,
            study=study,
            record=record,
            num_classes=num_classes,
            workers=workers,
            tensorboard=tensorboard,
            callback=_shown_in(bars, shared.label, recipe.epochs, callback),
        )


def _check_sizes(**sizes: int | None) -> None:
    for name, size in sizes.items():
        if size is not None:
            whole(name, size)


def _shown_in(
    bars: Bars, title: str, epochs: int, callback: Callable[[Step | Epoch], None] | None
) -> Callable[[Step | Epoch], None]:
    """Return a callback that shows a training in a bar of its steps, and calls another one."""
    from tftas_optuna.retrain.run import Epoch

    facts: dict[str, str] = {}
    steps = 0

    def tell(event: Step | Epoch) -> None:
        nonlocal steps
        if isinstance(event, Epoch):
            done = (event.row["epoch"] + 1) * steps
            facts["top-1"] = f"{event.row['top1']:.2f} %"
        else:
            steps = event.steps
            done = event.epoch * steps + event.step + 1
            facts["epoch"] = f"{event.epoch + 1:,}/{epochs:,}"
            if event.loss is not None:
                facts["loss"] = f"{event.loss:.3f}"
        bars.show(title, done, epochs * steps, "step", **facts)
        if callback is not None:
            callback(event)

    return tell
