"""The loop over generations, each proposed, scored and stored as a whole."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from tftas_optuna.search.progress import SearchProgress
from tftas_optuna.search.proposals import make_trial
from tftas_optuna.study.place import Place, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.scoring.pool import ScoresOf
    from tftas_optuna.search.history import History
    from tftas_optuna.search.progress import StopRules
    from tftas_optuna.search.proposals import Proposal, Proposer
    from tftas_optuna.storage import TrialWriter
    from tftas_optuna.study.settings import StudySettings

# Yields the scores of architectures in parts; the second argument is the ones that are needed.
ScoringOf = Callable[["Sequence[Architecture]", "set[Architecture]"], "Iterator[ScoresOf]"]

_STORAGE_PATIENCE = 60.0


class Coordinator:
    """Runs the generations of one search.

    Args:
        settings: The settings of the study.
        history: What the search has learned from its trials.
        proposer: Proposes the generations.
        scores: Scores the new architectures of a generation.
        open_writer: Makes the writer of the trials from ``taken``, ``patience`` and ``meanwhile``.
        stop: When to stop.
        callback: Receives the progress; an exception from it ends the search.
    """

    def __init__(
        self,
        settings: StudySettings,
        history: History,
        proposer: Proposer,
        scores: ScoringOf,
        *,
        open_writer: Callable[..., TrialWriter],
        stop: StopRules,
        callback: Callable[[SearchProgress], None] | None,
    ) -> None:
        self._distributions: dict[str, BaseDistribution] = dict(settings.space.distributions())
        self._history = history
        self._proposer = proposer
        self._scores = scores
        self._stop = stop
        self._callback = callback
        self._origins: Counter[str] = Counter()
        self._scoring_seconds = 0.0
        self._writer = open_writer(
            taken=map(history.architecture, history.arrived),
            patience=_STORAGE_PATIENCE,
            meanwhile=self._report,
        )
        self._start = time.monotonic()

    def run(self, partial: list[FrozenTrial]) -> SearchProgress:
        """Run generations until the search stops, and return its progress.

        Args:
            partial: Trials of the first generation that are stored already.
        """
        try:
            self._report()
            self._history.scorable.check()
            while self._is_short() and not self._stop.is_over(self._history.volumes):
                self._one_generation(partial)
                partial = []
                self._report()
        except BaseException:
            self._writer.hurry()
            self._writer.close()
            raise
        self._writer.close()
        progress = self._report()
        self._history.scorable.check(at_end=True)
        return progress

    def _n_done(self) -> int:
        return self._origins.total() - self._writer.n_doubled

    def _is_short(self) -> bool:
        """Return whether more trials are needed, once the last generation is stored."""
        if self._n_done() >= self._stop.n_trials:
            self._history.arrive(self._writer.wait())
        return self._n_done() < self._stop.n_trials

    def _one_generation(self, partial: list[FrozenTrial]) -> None:
        """Propose, score and store a generation, some trials of which may be stored already."""
        history = self._history
        proposals = self._proposer.next_generation().propose(history.tried)
        new = [p.architecture for p in proposals if p.architecture not in history.tried]
        todo = history.not_stored(proposals, partial)
        if len(todo) > self._stop.n_trials - self._n_done():
            # The run ends within this generation. How many trials it needs depends on how many of
            # the generation before were already stored by other searches.
            history.arrive(self._writer.wait())
        todo = todo[: self._stop.n_trials - self._n_done()]
        taken = [place.position for place in map(place_of, partial) if place is not None]
        first = Place(self._proposer.island, history.generation, max(taken, default=-1) + 1)
        scored: list[FrozenTrial] = []
        try:
            self._score(new, todo, first, scored)
        except BaseException:
            self._writer.hurry()
            if scored:
                self._writer.submit(scored, generation_size=len(partial) + len(scored))
            raise
        if scored:
            whole = [*partial, *scored]
            archs = [*map(history.architecture, partial), *(p.architecture for p in todo)]
            history.arrive(self._writer.submit(scored, generation_size=len(whole)))
            history.end_generation(whole, archs[: len(whole)])

    def _score(
        self,
        new: Sequence[Architecture],
        todo: Sequence[Proposal],
        first: Place,
        scored: list[FrozenTrial],
    ) -> None:
        """Score ``todo`` and append its trials to ``scored``, with places from ``first`` on.

        All new architectures of the generation decide which ones are scored together, so this
        does not depend on what is stored already.
        """
        evaluations, scorable = self._history.evaluations, self._history.scorable
        archs = dict.fromkeys(p.architecture for p in todo)
        needed = [arch for arch in archs if arch not in evaluations]
        # Without repeats, and with architectures for which another program stored some scores but
        # not all.
        together = list(dict.fromkeys((*new, *needed)))
        parts = self._scores(together, set(needed)) if needed else iter([{}])
        began, start = datetime.datetime.now(), time.monotonic()
        for part in parts:
            for arch, scores in part.items():
                evaluations.add(arch, scores)
            seconds = time.monotonic() - start
            # Not from the clock, which may be set meanwhile: durations must not be negative.
            ended = began + datetime.timedelta(seconds=seconds)
            while len(scored) < len(todo) and todo[len(scored)].architecture in evaluations:
                proposal = todo[len(scored)]
                evaluation = evaluations[proposal.architecture]
                place = first._replace(position=first.position + len(scored))
                trial = make_trial(proposal, evaluation, place, self._distributions)
                trial.datetime_start, trial.datetime_complete = began, ended
                scored.append(trial)
                self._origins[proposal.origin] += 1
                scorable.count(trial)
                scorable.check()
            self._scoring_seconds += seconds
            began, start = ended, time.monotonic()
            self._report()
            if self._stop.is_late():
                return

    def _report(self) -> SearchProgress:
        """Return the progress, after passing it to the callback."""
        history = self._history
        progress = SearchProgress(
            n_done=self._n_done(),
            n_trials=self._stop.n_trials,
            n_study=history.n_elsewhere + self._writer.n_stored,
            generation=history.generation,
            seconds=time.monotonic() - self._start,
            scoring_seconds=self._scoring_seconds,
            front_size=len(history.front),
            hypervolume=history.front.hypervolume,
            n_replaced=self._origins["replaced"],
            n_repeated=self._origins["repeat"],
            screen=history.screen,
        )
        if self._callback is not None:
            self._callback(progress)
        return progress
