"""Generation by generation: proposed, scored at once, stored as a whole."""

from __future__ import annotations

import datetime
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from tftas_optuna.samplers import WINDOW, agreement
from tftas_optuna.search.progress import RunningFront, SearchProgress
from tftas_optuna.search.scorable import Scorable
from tftas_optuna.storage import TrialWriter
from tftas_optuna.study.evaluations import Evaluations
from tftas_optuna.study.front import known_values
from tftas_optuna.study.own import FAILURE_KEY, failure_of, said_numbers
from tftas_optuna.study.place import PLACE_KEY, Place, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Meters
    from tftas_optuna.scoring.pool import ScoresOf
    from tftas_optuna.search.proposals import NewTrial, Proposer
    from tftas_optuna.search.resume import Past
    from tftas_optuna.storage import Append, Claim
    from tftas_optuna.study.settings import StudySettings

# Scores architectures, and of them at least those that are wanted, part by part.
ScoringOf = Callable[["Sequence[Architecture]", "set[Architecture]"], "Iterator[ScoresOf]"]

# A front whose hypervolume grows by less than this has stalled.
_STALLED = 1e-3
_STORAGE_PATIENCE = 60.0


class Coordinator:
    """Runs the generations of one search.

    Args:
        study: The study.
        settings: Its settings.
        meters: Its costs.
        past: What it holds already.
        append: Writes to it.
        storage_name: How the storage is known to the next run.
        claim: The number of this search in the study.
        proposer: What to try.
        scores: Scores those among the new architectures of a generation that are wanted.
        n_trials: Trials to add.
        callback: Told where the search stands; what it raises ends the search.
    """

    def __init__(
        self,
        study: Study,
        settings: StudySettings,
        meters: Meters,
        past: Past,
        *,
        append: Append,
        storage_name: str,
        claim: Claim,
        proposer: Proposer,
        scores: ScoringOf,
        n_trials: int,
        callback: Callable[[SearchProgress], None] | None,
    ) -> None:
        self._settings = settings
        self._scorable = Scorable(study.study_name)
        self._distributions: dict[str, BaseDistribution] = dict(settings.space.distributions())
        self._proposer = proposer
        self._scores = scores
        self._claim = claim
        self._n_trials = n_trials
        self._callback = callback
        self._evaluations = Evaluations(settings, meters)
        self._known: set[Architecture] = set()
        self._front = RunningFront(settings, meters)
        self._origins: Counter[str] = Counter()
        # Trials from elsewhere, to be learned when the generation in hand ends.
        self._arrived: list[FrozenTrial] = []
        self._volumes: list[float] = []
        self._recent: deque[FrozenTrial] = deque(maxlen=WINDOW)
        self._screen: float | None = None
        self._n_at_start = past.next_number
        self._n_elsewhere = len(past.trials)
        self._n_scored = 0
        self._scoring_seconds = 0.0
        self._generation = 0
        self._partial = past.partial
        self._live_through(past)
        self._writer = TrialWriter(
            study,
            append,
            settings,
            claim,
            storage_name=storage_name,
            last_number=past.last_number,
            taken=map(self._architecture, self._arrived),
            patience=_STORAGE_PATIENCE,
            meanwhile=self._report,
        )
        self._start = time.monotonic()
        self._end: float | None = None

    def _live_through(self, past: Past) -> None:
        """Learn the stored trials as if they had just been run."""
        decode = self._settings.space.decode
        self._decoded = {trial.number: decode(trial.params) for trial in past.trials}
        for trial in past.trials:
            self._remember(trial)
        self._learn(past.before)
        for generation in past.generations:
            self._proposer.next_generation()
            self._end_generation(generation.trials)
            self._arrived = generation.arrived
        self._front.add(past.partial)

    def run(self, deadline: float | None, patience: int | None) -> None:
        """Run generations until the trials are done, time is up, or the front stalls."""
        try:
            self._report()
            self._scorable.check()
            while self._is_short() and not self._over(deadline, patience):
                self._one_generation(self._partial, deadline)
                self._partial = []
                self._report()
        except BaseException:
            self._writer.hurry()
            self._writer.close()
            raise
        self._writer.close()
        self._end = time.monotonic()
        self._report()
        self._scorable.check(at_end=True)

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

    def _remember(self, trial: FrozenTrial) -> None:
        failure = failure_of(trial)
        known = said_numbers(trial) if failure else known_values(trial, self._settings)
        self._evaluations.remember(self._architecture(trial), known, failure)
        self._scorable.count(trial)

    def _architecture(self, trial: FrozenTrial) -> Architecture:
        known = self._decoded.get(trial.number)
        return self._settings.space.decode(trial.params) if known is None else known

    def _learn(self, trials: Iterable[FrozenTrial]) -> None:
        trials = list(trials)
        self._proposer.learn(trials)
        self._front.add(trials)
        self._known.update(map(self._architecture, trials))
        self._recent.extend(trials)

    def _end_generation(self, trials: Sequence[FrozenTrial]) -> None:
        self._learn([*trials, *self._arrived])
        self._arrived = []
        self._generation += 1
        self._volumes.append(self._front.hypervolume)
        self._screen = agreement(self._recent)

    def _one_generation(self, partial: list[FrozenTrial], deadline: float | None) -> None:
        """Propose, score and hand over a generation, of which some may be stored already."""
        proposals = self._proposer.next_generation().propose(self._known)
        new = [p.architecture for p in proposals if p.architecture not in self._known]
        if [trial.params for trial in partial] == [p.params for p in proposals[: len(partial)]]:
            todo = proposals[len(partial) :]
        else:
            # Another version drew the first ones, or others were given to start from.
            stored = set(map(self._architecture, partial))
            todo = [p for p in proposals if p.architecture not in stored]
            todo = todo[: len(proposals) - len(partial)]
        if len(todo) > self._n_trials - self._n_done():
            # The run ends within this generation. Where, depends on what others were first to
            # store of the one before.
            self._take(self._writer.wait())
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
            whole = [*partial, *scored]
            self._take(self._writer.submit(scored, generation_size=len(whole)))
            self._end_generation(whole)

    def _score(
        self,
        new: Sequence[Architecture],
        todo: Sequence[NewTrial],
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
        archs = dict.fromkeys(p.architecture for p in todo)
        wanted = [arch for arch in archs if arch not in self._evaluations]
        # Each once, though a generation may repeat it; and what a foreign trial made known without
        # all of its scores.
        together = dict.fromkeys((*new, *wanted))
        began, start = datetime.datetime.now(), time.monotonic()
        for part in self._scores(list(together), set(wanted)) if wanted else [{}]:
            for arch, scores in part.items():
                self._evaluations.add(arch, scores)
            seconds = time.monotonic() - start
            # A clock that is set meanwhile must not give a trial a negative duration.
            ended = began + datetime.timedelta(seconds=seconds)
            while len(scored) < len(todo) and todo[len(scored)].architecture in self._evaluations:
                place = Place(self._claim.island, self._generation, position + len(scored))
                scored.append(self._trial(todo[len(scored)], place, began, ended))
                self._n_scored += 1
                self._scorable.count(scored[-1])
                self._scorable.check()
            self._scoring_seconds += seconds
            began, start = ended, time.monotonic()
            self._report()
            if _passed(deadline):
                return

    def _trial(
        self,
        proposal: NewTrial,
        place: Place,
        began: datetime.datetime,
        ended: datetime.datetime,
    ) -> FrozenTrial:
        evaluation = self._evaluations[proposal.architecture]
        attributes: dict[str, Any] = {**proposal.labels, PLACE_KEY: list(place)}
        if evaluation.violations:
            # optuna-dashboard reads the form that Optuna 4 wrote; Optuna 5 understands both.
            attributes["constraints"] = list(evaluation.violations.values())
        failure = evaluation.failure
        trial = optuna.create_trial(
            state=TrialState.COMPLETE if failure is None else TrialState.FAIL,
            params=proposal.params,
            distributions=self._distributions,
            values=evaluation.values if failure is None else None,
            user_attrs={
                **evaluation.attributes,
                **({} if failure is None else {FAILURE_KEY: failure}),
            },
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

    def report_exact(self, n_exact: int, n_exact_wanted: int) -> None:
        """Tell the callback how much of the final front is scored exactly."""
        if self._callback is not None:
            progress = self._progress()
            self._callback(progress._replace(n_exact=n_exact, n_exact_wanted=n_exact_wanted))

    def _report(self) -> None:
        if self._callback is not None:
            self._callback(self._progress())

    def _progress(self) -> SearchProgress:
        return SearchProgress(
            n_done=self._n_done(),
            n_trials=self._n_trials,
            n_study=self._n_elsewhere + self._writer.n_stored,
            generation=self._generation,
            seconds=(self._end or time.monotonic()) - self._start,
            scoring_seconds=self._scoring_seconds,
            front_size=len(self._front),
            hypervolume=self._front.hypervolume,
            n_replaced=self._origins["replaced"],
            n_repeated=self._origins["repeat"],
            screen=self._screen,
        )


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
