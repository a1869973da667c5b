"""A race of networks: the worse half is dropped, and dropped again; seeds tell the rest apart."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from typing import TYPE_CHECKING, Any

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.study import StudyDirection

from tftas_optuna._writing import replacing
from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.retrain.compared import compare
from tftas_optuna.retrain.data import open_data
from tftas_optuna.retrain.folder import RunFolder, csv_text, writing
from tftas_optuna.retrain.learning_rate import STEPS
from tftas_optuna.retrain.race_plan import HALF, PLAN, SEEDS, Rounds, read_plan, write_plan
from tftas_optuna.retrain.recipe import AUTO, load_recipe
from tftas_optuna.retrain.recorded import record_training
from tftas_optuna.retrain.run import train
from tftas_optuna.retrain.slices import weights_text
from tftas_optuna.retrain.timing import duration, seconds_per_epoch
from tftas_optuna.retrain.trainees import SingleNetwork
from tftas_optuna.retrain.training import DivergedError
from tftas_optuna.storage import check_writable
from tftas_optuna.study._optuna import storage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from optuna import Study

    from tftas_optuna.retrain.data import DataSource
    from tftas_optuna.retrain.distributed import World
    from tftas_optuna.retrain.network import Network
    from tftas_optuna.retrain.recipe import Recipe
    from tftas_optuna.scoring.conditions import SupernetSource

TABLE = "race.csv"
# Part of the time that a plan fills: the time of a few steps says roughly how long all take.
_FILLED = 0.85
_DIVERGED = "all networks diverged; begin again with a lower --lr, and another --out"


@dataclasses.dataclass(frozen=True, eq=False)
class Entrant:
    """A network in a race.

    Attributes:
        network: The network.
        trial: Number of its trial in the study; None if it comes from none.
        weights: Weights to start from.
        baseline: Whether it is there to compare with, and is never dropped.
    """

    network: Network
    trial: int | None = None
    weights: str | SupernetSource = "scratch"
    baseline: bool = False

    @property
    def label(self) -> str:
        """What to call it."""
        return self.network.label


class Race:
    """Trains networks against each other, in rounds of successive halving.

    All are trained for some epochs of the same schedule. Optuna's ``SuccessiveHalvingPruner``
    (Jamieson and Talwalkar, AISTATS 2016) drops the worse half, the others are trained for twice
    as many epochs, and so on until three or fewer are left, which finish. These and the baselines
    are then trained with two more seeds. A network whose loss is not finite is left out.

    ``OUT`` holds a directory for each training, as of :func:`tftas_optuna.retrain.run.train`,
    ``race.yaml`` with the plan and ``race.csv`` with the result. The same race goes on where it
    stopped.

    Args:
        entrants: The networks.
        recipe: How to train them; its epochs are the most that a network is trained for.
        source: The data.
        out: The directory.
        world: This process among all.
        timeout: Seconds that the race may take; None for no limit. They decide on the number of
            epochs, once. What is left of the race when they are over is not trained.
        study: The study to record accuracies of finished trainings in; None to record none.
        began: Called before each training, with its title and the epochs that it is trained for.
        told: Called with lines about the race.
        **options: Passed on to :func:`tftas_optuna.retrain.run.train`.

    Raises:
        TftasError: There are less than two networks besides the baselines, or two of one name.
    """

    def __init__(
        self,
        entrants: Sequence[Entrant],
        recipe: Recipe,
        source: DataSource,
        out: Path,
        *,
        world: World,
        timeout: float | None = None,
        study: Study | None = None,
        began: Callable[[str, int], None] = lambda title, epochs: None,
        told: Callable[[str], None] = lambda _: None,
        **options: Any,
    ) -> None:
        self._entrants = list(entrants)
        self._members = [entrant for entrant in entrants if not entrant.baseline]
        self._baselines = [entrant for entrant in entrants if entrant.baseline]
        if len(self._members) < 2:
            raise TftasError(
                "a race needs two networks or more that are no baseline,"
                f" {len(self._members)} given; name more, or --top 12 of a --study"
            )
        labels = [entrant.label for entrant in entrants]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            raise TftasError(f"{twice} is in the race twice; leave one out")
        # Models of timm may have their own size, which is not known here.
        sizes = sorted({entrant.network.img_size or 0 for entrant in self._members} - {0})
        if len(sizes) > 1:
            raise TftasError(
                f"the networks take images of {' and '.join(map(str, sizes))} pixels, so their"
                " accuracies do not compare; give one --img-size"
            )
        self._recipe, self._source, self._out, self._world = recipe, source, out, world
        self._timeout, self._study = timeout, study
        self._began, self._told, self._options = began, told, options
        self._rounds = Rounds(len(self._members), len(self._baselines))
        self._begin = time.monotonic()
        self._seconds: dict[Entrant, float] = {}
        self._said: set[str] = set()
        # The epochs of every entrant with the first seed, and its metrics after them.
        self._reached: dict[Entrant, tuple[int, dict[str, Any]]] = {}
        # The seeds with which a loss was not finite.
        self._diverged: set[tuple[Entrant, int]] = set()
        # Top-1 of the trainings that are finished, one for each seed.
        self._finished: dict[Entrant, list[float]] = {entrant: [] for entrant in entrants}

    def run(self) -> list[dict[str, Any]]:
        """Run the race, or the rest of it.

        Returns:
            A row for each network, finished ones first, best first: ``name``, ``trial``,
            ``baseline``; ``top1`` in per cent, the mean over its ``seeds`` finished trainings, and
            their standard deviation, ``sd``; ``behind``, by how much the best network is better,
            and whether it ``differs``: whether that is more than ``margin``, two standard errors
            of the difference by what seeds make (the standard deviation over seeds, pooled over
            all networks); ``epochs`` and ``n_params``. For a network that is not finished ``top1``
            is that after its ``epochs``.

        Raises:
            TftasError: The time or the epochs are too few for any race.
            UnavailableError: The directory holds another race, all networks diverged, or the study
                cannot be written; or as of a training.
        """
        if self._study is not None and self._world.primary:
            check_writable(self._study, storage_of(self._study)[0])
        recipe = self._planned()
        racing = self._halve(recipe)
        for number in range(SEEDS if racing else 0):
            seeded = dataclasses.replace(recipe, seed=recipe.seed + number)
            for place, entrant in enumerate(racing):
                left = len(racing) * (SEEDS - number) - place
                already = self._reached[entrant][0] if entrant in self._reached else 0
                already = already if number == 0 else 0
                self._train(
                    entrant,
                    seeded,
                    recipe.epochs,
                    f"seed {number + 1}/{SEEDS}",
                    left * recipe.epochs - already,
                )
        rows = self._rows()
        if self._world.primary:
            with writing(self._out), replacing(self._out / TABLE) as scratch:
                scratch.write_text(csv_text(rows), encoding="utf-8")
        if self._diverged and racing and not any(self._finished.values()) and not self._late():
            raise UnavailableError(_DIVERGED)
        done = sum(len(self._finished[entrant]) for entrant in racing)
        if not racing or done + len(self._diverged_seeds(racing)) < SEEDS * len(racing):
            self._told("the time is over; the same command goes on where it stopped")
        return rows

    def _planned(self) -> Recipe:
        """Return the recipe with the epochs of the race: those of its plan, if it has begun."""
        for baseline in self._baselines:
            # Raises an error if it takes no such images, before anything is trained.
            SingleNetwork(baseline.network, baseline.weights).build(2, None, self._recipe)
        path = self._out / PLAN
        images, _ = open_data(
            self._source,
            in_chans=self._entrants[0].network.in_chans,
            num_classes=self._options.get("num_classes"),
            batch_size=self._recipe.batch_size,
            seed=self._recipe.seed,
        )
        conditions = {
            "networks": sorted(entrant.label for entrant in self._members),
            "baselines": sorted(entrant.label for entrant in self._baselines),
            "weights": weights_text(self._members[0].weights),
            "images": images.about["digest"],
            "recipe": self._recipe.to_dict(),
        }
        least = self._rounds.fewest_epochs
        # The others must not look once it is written.
        if self._world.of_primary(int(path.is_file())):
            epochs = read_plan(path, conditions, least=least)
            return load_recipe(self._recipe, {"epochs": epochs})
        epochs = self._recipe.epochs
        if epochs < least:
            raise TftasError(
                f"{len(self._members)} networks race over {_epochs(least)} or more, not {epochs};"
                f" give --epochs {least}, or fewer networks"
            )
        if self._timeout is not None:
            epochs = self._affordable(epochs, least, self._timeout, images.about["n_train"])
        if self._world.primary:
            write_plan(path, conditions, epochs)
        self._world.barrier()
        return load_recipe(self._recipe, {"epochs": epochs})

    def _affordable(self, most: int, least: int, timeout: float, n_train: int) -> int:
        """Return how many epochs fit into the time, by a few steps of each network."""
        self._told("measuring how long an epoch takes")
        for entrant in self._entrants:
            self._seconds[entrant] = seconds_per_epoch(
                SingleNetwork(entrant.network, entrant.weights),
                self._recipe,
                self._source,
                world=self._world,
                num_classes=self._options.get("num_classes"),
                workers=self._options.get("workers", 0),
            )
        spent = time.monotonic() - self._begin
        tests = 0.0
        if self._recipe.lr == AUTO:
            tests = self._rounds.trainings() * STEPS / max(1, n_train // self._recipe.batch_size)
        needed = {
            n: (self._rounds.epochs(n) + tests) * self._mean_seconds()
            for n in range(least, most + 1)
        }
        fits = [n for n, seconds in needed.items() if seconds <= _FILLED * timeout - spent]
        epochs = self._world.of_primary(fits[-1] if fits else 0)
        if not epochs:
            raise TftasError(
                f"{duration(timeout)} are too short for a race of {len(self._entrants)} networks:"
                f" over {_epochs(least)} it takes up to"
                f" {duration(_next_minute((needed[least] + spent) / _FILLED))}; give more time, or"
                " fewer networks"
            )
        self._told(
            f"{_epochs(epochs)} (of {most}) {'fits' if epochs == 1 else 'fit'} into"
            f" {duration(timeout)}, with"
            f" {self._mean_seconds():.1f} s for one"
        )
        return epochs

    def _halve(self, recipe: Recipe) -> list[Entrant]:
        """Train in rounds, dropping the worse half; return all that finish, or none if late.

        Raises:
            UnavailableError: All networks diverged.
        """
        ends = self._rounds.ends(recipe.epochs)
        alive = self._members
        if ends:
            storage = optuna.storages.InMemoryStorage()
            storage.create_new_study([StudyDirection.MAXIMIZE], "race")
            study = optuna.load_study(study_name="race", storage=storage)
            pruner = SuccessiveHalvingPruner(min_resource=ends[0], reduction_factor=HALF)
            trials = {entrant: study.ask() for entrant in alive}
        for number, end in enumerate(ends):
            for place, entrant in enumerate(alive):
                title = f"round {number + 1}/{len(ends)}"
                left = self._rounds.epochs(recipe.epochs, number, place, len(alive))
                self._train(entrant, recipe, end, title, left)
                epochs, metrics = self._reached.get(entrant, (0, {}))
                merit = -math.inf
                if (entrant, recipe.seed) not in self._diverged:
                    if epochs < end:
                        return []
                    # The loss tells those of equal accuracy apart.
                    merit = metrics["top1"] - 1e-6 * metrics["loss"]
                trials[entrant].report(merit, end)
            frozen = study.get_trials()
            results = [(entrant, frozen[trials[entrant].number]) for entrant in alive]
            # The pruner compares with the results that it was asked about before: ask about all
            # of the round first.
            for _, trial in results:
                pruner.prune(study, trial)
            lost = self._diverged_seeds(alive)
            dropped = [
                entrant
                for entrant, trial in results
                if pruner.prune(study, trial) or (entrant, recipe.seed) in lost
            ]
            alive = [entrant for entrant in alive if entrant not in dropped]
            if not alive:
                raise UnavailableError(_DIVERGED)
            # None is dropped if they are all equal.
            if dropped:
                names = ", ".join(entrant.label for entrant in dropped)
                self._told(f"after {end} of {recipe.epochs} epochs dropped: {names}")
        return [*alive, *self._baselines]

    def _diverged_seeds(self, entrants: Sequence[Entrant]) -> set[tuple[Entrant, int]]:
        return {(entrant, seed) for entrant, seed in self._diverged if entrant in entrants}

    def _train(
        self, entrant: Entrant, recipe: Recipe, until: int, title: str, left: float
    ) -> None:
        """Train up to an epoch, or until the time is over.

        Args:
            entrant: What to train.
            recipe: How to train it.
            until: Number of epochs to train for.
            title: What part of the race it is.
            left: Epochs that are left of the race, all networks together.
        """
        folder = self._out / f"{entrant.label}-seed{recipe.seed}"
        rows = RunFolder(folder).rows(before_epoch=until)
        first = recipe.seed == self._recipe.seed
        if len(rows) < until or until == recipe.epochs:
            if self._late() and len(rows) < until:
                return
            self._began(f"{title}, {entrant.label}", recipe.epochs)
            if len(rows) < until:
                self._told(f"to epoch {until} of {recipe.epochs}{self._estimate(left)}")
            begin, before = time.monotonic(), len(rows)
            try:
                result = train(
                    SingleNetwork(entrant.network, entrant.weights),
                    recipe,
                    self._source,
                    folder,
                    world=self._world,
                    pause=lambda epochs: epochs >= until or self._late(),
                    told=self._tell_once,
                    **self._options,
                )
            except DivergedError as error:
                self._told(f"left out: {error}")
                self._diverged.add((entrant, recipe.seed))
                return
            rows = RunFolder(folder).rows(before_epoch=until)
            if len(rows) > before:
                self._seconds[entrant] = (time.monotonic() - begin) / (len(rows) - before)
            if result["epochs"] == recipe.epochs:
                self._finish(entrant, recipe, result, folder)
        if first and rows:
            self._reached[entrant] = len(rows), rows[-1]

    def _finish(
        self, entrant: Entrant, recipe: Recipe, result: dict[str, Any], folder: Path
    ) -> None:
        self._finished[entrant].append(result["top1"])
        if self._study is not None and entrant.trial is not None and self._world.primary:
            record_training(
                self._study,
                entrant.trial,
                result,
                network=entrant.network,
                recipe=recipe,
                source=self._source,
                folder=folder,
                world=self._world,
                weights=entrant.weights,
            )

    def _tell_once(self, line: str) -> None:
        """Pass on what a training says; all say the same of their images."""
        if line not in self._said:
            self._said.add(line)
            self._told(line)

    def _late(self) -> bool:
        """Return whether the time is over, the same in all processes."""
        if self._timeout is None:
            return False
        return bool(self._world.of_primary(time.monotonic() - self._begin >= self._timeout))

    def _mean_seconds(self) -> float:
        return statistics.fmean(self._seconds.values())

    def _estimate(self, epochs: float) -> str:
        """Say how long the epochs that are left take."""
        if not self._seconds:
            return ""
        seconds = epochs * self._mean_seconds()
        if self._timeout is not None:
            seconds = min(seconds, self._timeout - (time.monotonic() - self._begin))
        return f", about {duration(seconds)} left of the race"

    def _rows(self) -> list[dict[str, Any]]:
        compared = compare(self._finished)

        def row(entrant: Entrant) -> dict[str, Any]:
            epochs, metrics = self._reached.get(entrant, (0, {}))
            return {
                "name": entrant.label,
                "trial": entrant.trial,
                "baseline": entrant.baseline,
                "top1": metrics.get("top1"),
                **compared[entrant],
                "epochs": epochs,
                "n_params": self._n_params(entrant),
            }

        def place(row: dict[str, Any]) -> tuple[bool, int, float]:
            return not row["seeds"], -row["epochs"], -(row["top1"] or 0.0)

        return sorted(map(row, self._entrants), key=place)

    def _n_params(self, entrant: Entrant) -> int | None:
        about = RunFolder(self._out / f"{entrant.label}-seed{self._recipe.seed}").about()
        return about.get("n_params")


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _next_minute(seconds: float) -> float:
    """Round up, so that a length that is advised suffices and differs from one that did not."""
    return 60 * math.ceil(seconds / 60)
