"""Generation by generation: proposed, scored at once, stored as a whole."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from tftas_optuna.errors import UnavailableError
from tftas_optuna.search.progress import RunningFront, SearchProgress
from tftas_optuna.storage import TrialWriter
from tftas_optuna.study.evaluations import Evaluations
from tftas_optuna.study.front import as_candidate
from tftas_optuna.study.place import PLACE_KEY, Place, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.search.executors import ScoringPool
    from tftas_optuna.search.proposals import Proposal, Proposer
    from tftas_optuna.storage import Append, Claim
    from tftas_optuna.study.settings import StudySettings

# A front whose hypervolume grows by less than this has stalled.
_STALLED = 1e-3
_STORAGE_PATIENCE = 60.0


class Coordinator:
    """Runs the generations of one search.

    Args:
        study: The study.
        append: Writes to it.
        storage_name: How the storage is known to the next run.
        settings: The settings of the study.
        proposer: What to try.
        pool: Where to score it.
        claim: The number of this search in the study.
        n_trials: Trials to add.
        callback: Told where the search stands; what it raises ends the search.
    """

    def __init__(
        self,
        study: Study,
        append: Append,
        storage_name: str,
        settings: StudySettings,
        proposer: Proposer,
        pool: ScoringPool,
        claim: Claim,
        n_trials: int,
        callback: Callable[[SearchProgress], None] | None,
    ) -> None:
        assert settings.population_size is not None
        self._study = study
        self._append = append
        self._storage_name = storage_name
        self._settings = settings
        self._population_size = settings.population_size
        self._distributions: dict[str, BaseDistribution] = dict(settings.space.distributions())
        self._proposer = proposer
        self._pool = pool
        self._claim = claim
        self._n_trials = n_trials
        self._callback = callback
        self._evaluations = Evaluations(settings)
        self._known: set[Architecture] = set()
        self._front = RunningFront(settings)
        self._origins: Counter[str] = Counter()
        self._arrived: list[FrozenTrial] = []
        self._volumes: list[float] = []
        self._n_scored = 0
        self._n_elsewhere = 0
        self._scoring_seconds = 0.0
        self._generation = 0
        self._start = time.monotonic()

    def go(self, deadline: float | None, patience: int | None) -> None:
        """Run generations until the trials are done, time is up, or the front stalls."""
        partial, last_number = self._resume()
        self._writer = TrialWriter(
            self._study,
            self._append,
            self._settings,
            self._claim,
            storage_name=self._storage_name,
            last_number=last_number,
            taken=map(self._architecture, self._arrived),
            patience=_STORAGE_PATIENCE,
            meanwhile=self._report,
        )
        self._start = time.monotonic()
        try:
            self._report()
            while self._is_short() and not self._over(deadline, patience):
                self._one_generation(partial, deadline)
                partial = []
                self._report()
        except BaseException:
            self._writer.hurry()
            self._writer.close()
            raise
        self._writer.close()
        self._report()

    def _n_done(self) -> int:
        return self._n_scored - self._writer.n_doubled

    def _is_short(self) -> bool:
        """Tell whether trials are missing; of the last generation, only once it is stored."""
        if self._n_done() >= self._n_trials:
            self._take(self._writer.wait())
        return self._n_done() < self._n_trials

    def _take(self, arrived: Sequence[FrozenTrial]) -> None:
        """Keep what others published until the generation in hand ends."""
        for trial in arrived:
            self._remember(trial)
        self._arrived.extend(arrived)
        self._n_elsewhere += sum(trial.number >= self._n_at_start for trial in arrived)

    def _resume(self) -> tuple[list[FrozenTrial], int]:
        """Learn the stored trials as if they had just been run.

        Returns:
            The trials so far of the generation to go on with, and the number of the last trial
            of the generations before.
        """
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        self._n_elsewhere = len(trials)
        self._n_at_start = trials[-1].number + 1 if trials else 0
        for trial in trials:
            self._remember(trial)
        generations, others = self._sort(trials)
        begins = [own[0].number for own in generations if own]
        began = begins[0] if begins else self._n_at_start
        n_generations = len(generations)
        partial: list[FrozenTrial] = []
        if generations and len(generations[-1]) < self._population_size:
            partial = generations.pop()
        ends = [began - 1]
        for generation, own in enumerate(generations):
            if not own:
                # Only others can have been first to store all of it, since it was proposed.
                since = ends[generation - 1] if generation else -1
                until = next(begin for begin in begins if begin > ends[-1])
                if not any(since < trial.number < until for trial in others):
                    raise UnavailableError(
                        f"study {self._study.study_name!r} lacks generation {generation} of"
                        f" {n_generations}; give another --study-name"
                    )
            ends.append(own[-1].number if own else ends[-1])
        self._learn([trial for trial in others if trial.number < began])
        for generation, own in enumerate(generations):
            self._proposer.begin(generation)
            self._end_generation(own)
            # What others published along a generation is known one generation later.
            self._arrived = [
                trial for trial in others if ends[generation] < trial.number < ends[generation + 1]
            ]
        self._front.add(partial)
        return partial, ends[-1]

    def _sort(
        self, trials: Sequence[FrozenTrial]
    ) -> tuple[list[list[FrozenTrial]], list[FrozenTrial]]:
        """Tell the generations of this search from what came from elsewhere."""
        generations: list[list[FrozenTrial]] = []
        others = []
        for trial in trials:
            place = place_of(trial)
            if place is None or place.island != self._claim.island:
                others.append(trial)
                continue
            while len(generations) <= place.generation:
                generations.append([])
            generations[place.generation].append(trial)
        return generations, others

    def _remember(self, trial: FrozenTrial) -> None:
        found = as_candidate(trial, self._settings)
        spread = trial.user_attrs.get("dss_sd")
        self._evaluations.remember(found.architecture, found.dss, spread, found.others)

    def _architecture(self, trial: FrozenTrial) -> Architecture:
        return self._settings.space.decode(trial.params)

    def _learn(self, trials: Sequence[FrozenTrial]) -> None:
        self._proposer.learn(trials)
        self._front.add(trials)
        self._known.update(map(self._architecture, trials))

    def _end_generation(self, own: Sequence[FrozenTrial]) -> None:
        self._learn([*own, *self._arrived])
        self._arrived = []
        self._generation += 1
        self._volumes.append(self._front.hypervolume)

    def _one_generation(self, partial: list[FrozenTrial], deadline: float | None) -> None:
        """Propose, score and hand over a generation, of which some may be stored already."""
        self._proposer.begin(self._generation)
        proposals = self._proposer.propose(self._generation, self._known)
        new = [p.architecture for p in proposals if p.architecture not in self._known]
        if [trial.params for trial in partial] == [p.params for p in proposals[: len(partial)]]:
            todo = proposals[len(partial) :]
        else:
            # Another version drew the first ones, or others were given to start from.
            stored = set(map(self._architecture, partial))
            todo = [p for p in proposals if p.architecture not in stored]
            todo = todo[: self._population_size - len(partial)]
        todo = todo[: self._n_trials - self._n_done()]
        taken = [place.position for place in map(place_of, partial) if place is not None]
        scored: list[FrozenTrial] = []
        try:
            self._score(new, todo, max(taken, default=-1) + 1, scored, deadline)
        except BaseException:
            self._writer.hurry()
            if scored:
                self._writer.submit(scored, generation_size=len(partial) + len(scored))
            raise
        if scored:
            own = [*partial, *scored]
            self._take(self._writer.submit(scored, generation_size=len(own)))
            self._end_generation(own)

    def _score(
        self,
        new: Sequence[Architecture],
        todo: Sequence[Proposal],
        position: int,
        scored: list[FrozenTrial],
        deadline: float | None,
    ) -> None:
        """Score proposals; append their trials, in order, as far as they are done.

        Args:
            new: New architectures of the whole generation.
            todo: The proposals.
            position: The position in the generation of the first.
            scored: Where to append the trials.
            deadline: When to stop.
        """
        wanted = {p.architecture for p in todo if p.architecture not in self._evaluations}
        began, start = datetime.datetime.now(), time.monotonic()
        for part in self._pool.scores(new, wanted) if wanted else [{}]:
            for arch, scores in part.items():
                self._evaluations.add(arch, scores)
            seconds = time.monotonic() - start
            # A clock that is set meanwhile must not give a trial a negative duration.
            ended = began + datetime.timedelta(seconds=seconds)
            while len(scored) < len(todo) and todo[len(scored)].architecture in self._evaluations:
                place = Place(self._claim.island, self._generation, position + len(scored))
                scored.append(self._trial(todo[len(scored)], place, began, ended))
                self._n_scored += 1
            self._scoring_seconds += seconds
            began, start = ended, time.monotonic()
            self._report()
            if _passed(deadline):
                return

    def _trial(
        self,
        proposal: Proposal,
        place: Place,
        began: datetime.datetime,
        ended: datetime.datetime,
    ) -> FrozenTrial:
        evaluation = self._evaluations[proposal.architecture]
        attributes: dict[str, Any] = {**proposal.labels, PLACE_KEY: list(place)}
        if evaluation.violations:
            # optuna-dashboard reads the form that Optuna 4 wrote; Optuna 5 understands both.
            attributes["constraints"] = list(evaluation.violations.values())
        trial = optuna.create_trial(
            params=proposal.params,
            distributions=self._distributions,
            values=evaluation.values,
            user_attrs=evaluation.attributes,
            system_attrs=attributes,
            constraints=evaluation.violations,
        )
        trial.datetime_start, trial.datetime_complete = began, ended
        self._origins[proposal.origin] += 1
        return trial

    def _over(self, deadline: float | None, patience: int | None) -> bool:
        if patience is not None and len(self._volumes) > patience:
            before, now = self._volumes[-1 - patience], self._volumes[-1]
            if now - before < _STALLED * now:
                return True
        return _passed(deadline)

    def _report(self) -> None:
        if self._callback is not None:
            self._callback(
                SearchProgress(
                    n_done=self._n_done(),
                    n_trials=self._n_trials,
                    n_study=self._n_elsewhere + self._writer.n_stored,
                    generation=self._generation,
                    seconds=time.monotonic() - self._start,
                    scoring_seconds=self._scoring_seconds,
                    front_size=len(self._front),
                    hypervolume=self._front.hypervolume,
                    n_replaced=self._origins["replaced"],
                    n_repeated=self._origins["repeat"],
                )
            )


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
