"""Stores generations while the next one is scored, and survives an outage of the storage."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from tftas_optuna.errors import TftasError, UnavailableError
from tftas_optuna.storage.appending import stored_number, stored_places
from tftas_optuna.storage.opening import reason
from tftas_optuna.storage.rescue import rescue
from tftas_optuna.storage.waiting import say_if_slow
from tftas_optuna.study.own import own_trials
from tftas_optuna.study.place import is_repeat, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from tftas_optuna.architecture import Architecture
    from tftas_optuna.storage.appending import Append
    from tftas_optuna.storage.islands import Claim
    from tftas_optuna.study.settings import StudySettings

_LOG = logging.getLogger("tftas_optuna")
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0
_POLL = 0.2


class TrialWriter:
    """Writes the generations of one search to its study, in order, in a second thread.

    An architecture that another search has stored since it was proposed here is not stored again.

    A failing storage is retried with growing pauses. If it stays away, the trials that it lacks
    are saved to a local journal file; see :mod:`tftas_optuna.storage.rescue`.

    Args:
        study: The study.
        append: Appends trials to it.
        settings: Its settings.
        claim: The number of this search in the study.
        storage_name: Name of its storage, see :func:`tftas_optuna.storage.storage_name`.
        last_number: Number of the last trial of earlier generations.
        taken: Architectures of other searches up to there that this search does not know yet.
        patience: Seconds that a storage may be away.
        meanwhile: Called a few times a second while the search waits for the storage.

    Attributes:
        n_stored: Number of trials stored so far.
        n_doubled: Number of trials not stored, as another search was faster.
    """

    def __init__(
        self,
        study: Study,
        append: Append,
        settings: StudySettings,
        claim: Claim,
        *,
        storage_name: str,
        last_number: int,
        taken: Iterable[Architecture],
        patience: float,
        meanwhile: Callable[[], None],
    ) -> None:
        self.n_stored = 0
        self.n_doubled = 0
        self._study = study
        self._settings = settings
        self._claim = claim
        self._storage_name = storage_name
        self._append = append
        self._last_number = last_number
        self._end = last_number
        self._taken = set(taken)
        self._patience = patience
        self._meanwhile = meanwhile
        self._hurry = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tftas-writer")
        self._job: Future[list[FrozenTrial]] | None = None
        self._unsaved: list[FrozenTrial] = []

    def submit(self, trials: Sequence[FrozenTrial], *, generation_size: int) -> list[FrozenTrial]:
        """Store a generation, after the previous one is stored.

        Args:
            trials: Its trials that are not stored yet, with places.
            generation_size: Trials of the generation so far, including stored ones.

        Returns:
            Trials of other searches stored between the previous generation and the one before it.

        Raises:
            UnavailableError: The storage stays away; the message says where the trials are.
        """
        arrived = self.wait(unsubmitted=trials)
        self._unsaved = list(trials)
        self._job = self._thread.submit(self._store, trials, generation_size)
        return arrived

    def hurry(self) -> None:
        """Stop waiting for a storage that is away, and no longer call ``meanwhile``."""
        self._hurry.set()
        self._meanwhile = lambda: None

    def close(self) -> None:
        """Wait for the last generation.

        Raises:
            UnavailableError: The storage stays away; the message says where the trials are.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def wait(self, unsubmitted: Sequence[FrozenTrial] = ()) -> list[FrozenTrial]:
        """Wait for the last generation.

        Args:
            unsubmitted: Trials to save with it if the storage stays away.

        Returns:
            The same as :meth:`submit`.

        Raises:
            UnavailableError: The storage stays away; the message says where the trials are.
        """
        if self._job is None:
            return []
        while not wait([self._job], _POLL).done:
            self._meanwhile()
        job, self._job = self._job, None
        failure = job.exception()
        if failure is None:
            return job.result()
        if isinstance(failure, TftasError) or not isinstance(failure, Exception):
            raise failure
        unsaved = [*self._unsaved, *unsubmitted]
        path = rescue(unsaved, self._study.study_name, self._storage_name, self._settings)
        raise UnavailableError(
            f"the storage went away ({reason(failure)}); {len(unsaved)} scored trials are safe in"
            f" {path}: run the same command there once it is back, and they are merged"
        ) from failure

    def _store(self, trials: Sequence[FrozenTrial], generation_size: int) -> list[FrozenTrial]:
        last, n_doubled = self._write(list(trials))
        self.n_stored += len(trials) - n_doubled
        self.n_doubled += n_doubled
        expected = generation_size - n_doubled
        before, self._last_number = self._last_number, last
        if last - before == expected:
            return []
        between = self._study.get_trials(deepcopy=False)[before + 1 : last + 1]
        foreign = [trial for trial in between if not self._is_this_search(trial)]
        if len(between) - len(foreign) != expected:
            raise UnavailableError(
                f"another search writes to study {self._study.study_name!r} through a storage"
                " without locks; give one of them another --study-name"
            )
        return own_trials(self._study, self._settings, foreign, with_failed=True)

    def _is_this_search(self, trial: FrozenTrial) -> bool:
        place = place_of(trial)
        return place is not None and place.island == self._claim.island

    def _write(self, trials: list[FrozenTrial]) -> tuple[int, int]:
        """Store trials, with retries; return the same as :meth:`_append_new`."""
        pause, deadline = _FIRST_PAUSE, time.monotonic() + self._patience
        failed = False
        while True:
            try:
                self._claim.renew()
                if failed:
                    # The storage may have stored some or all of them before it failed.
                    stored = stored_places(self._study)
                    missing = [trial for trial in trials if place_of(trial) not in stored]
                    if not missing:
                        return stored_number(self._study, trials[-1]), 0
                    trials = missing
                with say_if_slow("waiting for the storage, which another search may have locked"):
                    return self._append_new(trials)
            except UnavailableError:
                raise
            except Exception as error:
                if self._hurry.is_set() or time.monotonic() + pause > deadline:
                    raise
                if not failed:
                    _LOG.warning(
                        "the storage does not answer (%s); trying again for up to %g s",
                        reason(error),
                        self._patience,
                    )
                failed = True
                self._hurry.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _append_new(self, trials: list[FrozenTrial]) -> tuple[int, int]:
        """Store the trials whose architectures no other search has stored.

        Returns:
            The number of the study's last trial, and the number of trials not stored.
        """
        while True:
            new = [trial for trial in trials if is_repeat(trial) or not self._is_taken(trial)]
            if not new:
                self._read_others()
                return self._end, len(trials)
            # Append only at the known end, so that no trial comes between reading and writing.
            last = self._append(new, after=self._end)
            if last is not None:
                self._end = last
                return last, len(trials) - len(new)
            self._read_others()

    def _is_taken(self, trial: FrozenTrial) -> bool:
        # A search that is alone decodes nothing.
        taken = self._taken
        return bool(taken) and self._settings.space.decode(trial.params) in taken

    def _read_others(self) -> None:
        """Read the trials that other searches have added to the study."""
        stored = self._study.get_trials(deepcopy=False)
        foreign = [t for t in stored[self._end + 1 :] if not self._is_this_search(t)]
        trials = own_trials(self._study, self._settings, foreign, with_failed=True)
        self._taken.update(self._settings.space.decode(trial.params) for trial in trials)
        self._end = len(stored) - 1
