"""What a search learns from the trials of its study."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tftas_optuna.errors import UnavailableError
from tftas_optuna.samplers import WINDOW, agreement
from tftas_optuna.search.progress import RunningFront
from tftas_optuna.search.scorable import Scorable
from tftas_optuna.study.evaluations import Evaluations
from tftas_optuna.study.front import known_values
from tftas_optuna.study.own import failure_of, numeric_attributes, own_trials
from tftas_optuna.study.place import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.metrics import Meters
    from tftas_optuna.search.proposals import Proposal, Proposer
    from tftas_optuna.study.settings import StudySettings


class Past(NamedTuple):
    """The trials in a study when a search starts.

    Attributes:
        trials: All finished trials of architectures, including those without a score.
        before: Trials from elsewhere that are older than this search's first generation.
        generations: The complete generations of this search, each with the trials from elsewhere
            that were stored meanwhile; a search learns those one generation later.
        partial: Trials of a last generation that is not complete yet.
        last_number: Number of the last trial of the complete generations.
        next_number: The lowest number that the next trial of the study can get.
    """

    trials: list[FrozenTrial]
    before: list[FrozenTrial]
    generations: list[tuple[list[FrozenTrial], list[FrozenTrial]]]
    partial: list[FrozenTrial]
    last_number: int
    next_number: int


def read_past(study: Study, settings: StudySettings, island: int, sizes: Iterator[int]) -> Past:
    """Read the trials of a study for a search that starts or continues.

    Args:
        study: The study.
        settings: The settings of the study.
        island: Number of this search within the study.
        sizes: The number of trials in each complete generation.

    Raises:
        UnavailableError: A generation of this search is missing.
    """
    stored = study.get_trials(deepcopy=False)
    trials = own_trials(study, settings, stored, with_failed=True)
    next_number = len(stored)
    generations, elsewhere = _sort(trials, island)
    begins = [own[0].number for own in generations if own]
    began = begins[0] if begins else next_number
    n_generations = len(generations)
    partial: list[FrozenTrial] = []
    size = next(islice(sizes, max(len(generations) - 1, 0), None))
    if generations and len(generations[-1]) < size:
        partial = generations.pop()
    ends = [began - 1]
    for number, own in enumerate(generations):
        if not own:
            # Allowed only if other searches stored the same architectures first.
            since = ends[number - 1] if number else -1
            until = next(begin for begin in begins if begin > ends[-1])
            if not any(since < trial.number < until for trial in elsewhere):
                raise UnavailableError(
                    f"study {study.study_name!r} lacks generation {number} of {n_generations};"
                    " give another --study-name"
                )
        ends.append(own[-1].number if own else ends[-1])
    return Past(
        trials=trials,
        before=[trial for trial in elsewhere if trial.number < began],
        generations=[
            (own, [trial for trial in elsewhere if start < trial.number < end])
            for own, start, end in zip(generations, ends, ends[1:], strict=False)
        ],
        partial=partial,
        last_number=ends[-1],
        next_number=next_number,
    )


def _sort(
    trials: Sequence[FrozenTrial], island: int
) -> tuple[list[list[FrozenTrial]], list[FrozenTrial]]:
    """Separate the generations of this search from trials that came from elsewhere."""
    generations: list[list[FrozenTrial]] = []
    elsewhere = []
    for trial in trials:
        place = place_of(trial)
        if place is None or place.island != island:
            elsewhere.append(trial)
            continue
        while len(generations) <= place.generation:
            generations.append([])
        generations[place.generation].append(trial)
    return generations, elsewhere


class History:
    """Learns the stored trials as if they had just been run, then those of each generation.

    Args:
        study_name: Name of the study.
        settings: Its settings.
        meters: Its costs.
        past: The trials in the study.
        proposer: The proposer, which learns the trials too.

    Attributes:
        evaluations: Scores and costs of the architectures of the study.
        scorable: Counts the architectures without a score.
        tried: Architectures that must not be proposed again.
        arrived: Trials from elsewhere that are learned at the end of the current generation.
        n_elsewhere: Number of stored trials that are not from this run.
        generation: The current generation, from 0.
        front: The front so far.
        volumes: Its hypervolume after each generation.
        screen: See :class:`tftas_optuna.search.progress.SearchProgress`.
    """

    def __init__(
        self,
        study_name: str,
        settings: StudySettings,
        meters: Meters,
        past: Past,
        proposer: Proposer,
    ) -> None:
        self._settings = settings
        self._proposer = proposer
        self._n_at_start = past.next_number
        self._recent: deque[FrozenTrial] = deque(maxlen=WINDOW)
        decode = settings.space.decode
        self._decoded = {trial.number: decode(trial.params) for trial in past.trials}
        self.evaluations = Evaluations(settings, meters)
        self.scorable = Scorable(study_name)
        self.tried: set[Architecture] = set()
        self.arrived: list[FrozenTrial] = []
        self.n_elsewhere = len(past.trials)
        self.generation = 0
        self.front = RunningFront(settings, meters)
        self.volumes: list[float] = []
        self.screen: float | None = None
        for trial in past.trials:
            self._remember(trial)
        self._learn(past.before, map(self.architecture, past.before))
        for trials, arrived in past.generations:
            proposer.next_generation()
            self.end_generation(trials, map(self.architecture, trials))
            self.arrived = arrived
        self.front.add(past.partial)

    def arrive(self, trials: Sequence[FrozenTrial]) -> None:
        """Keep trials of other searches until the current generation ends."""
        for trial in trials:
            self._remember(trial)
        self.arrived.extend(trials)
        self.n_elsewhere += sum(trial.number >= self._n_at_start for trial in trials)

    def end_generation(
        self, trials: Sequence[FrozenTrial], architectures: Iterable[Architecture]
    ) -> None:
        """Learn a complete generation and the trials that arrived meanwhile.

        Args:
            trials: The generation.
            architectures: Its architectures, as decoding takes as long as proposing.
        """
        arrived = map(self.architecture, self.arrived)
        self._learn([*trials, *self.arrived], [*architectures, *arrived])
        self.arrived = []
        self.generation += 1
        self.volumes.append(self.front.hypervolume)
        self.screen = agreement(self._recent)

    def architecture(self, trial: FrozenTrial) -> Architecture:
        """Return the architecture of a trial."""
        decoded = self._decoded.get(trial.number)
        return self._settings.space.decode(trial.params) if decoded is None else decoded

    def not_stored(
        self, proposals: list[Proposal], partial: Sequence[FrozenTrial]
    ) -> list[Proposal]:
        """Return the proposals of a generation that are not stored yet."""
        n = len(partial)
        if [trial.params for trial in partial] == [proposal.params for proposal in proposals[:n]]:
            return proposals[n:]
        # Another release drew the first trials, or the architectures to start from differ.
        stored = set(map(self.architecture, partial))
        new = [proposal for proposal in proposals if proposal.architecture not in stored]
        return new[: len(proposals) - n]

    def _remember(self, trial: FrozenTrial) -> None:
        failure = failure_of(trial)
        values = numeric_attributes(trial) if failure else known_values(trial, self._settings)
        self.evaluations.remember(self.architecture(trial), values, failure)
        self.scorable.count(trial)

    def _learn(self, trials: Sequence[FrozenTrial], architectures: Iterable[Architecture]) -> None:
        self._proposer.learn(trials)
        self.front.add(trials)
        self.tried.update(architectures)
        self._recent.extend(trials)
