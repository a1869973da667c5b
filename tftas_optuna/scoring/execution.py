"""Where a search computes its scores."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tftas_optuna._given import expect, whole
from tftas_optuna.errors import TftasError
from tftas_optuna.scoring.pool import (
    ScoringPool,
    Workforce,
    dask_cluster,
    this_process,
    worker_processes,
)

if TYPE_CHECKING:
    from tftas_optuna.scoring.conditions import Conditions


@dataclasses.dataclass(frozen=True)
class Execution:
    """Where a search computes its scores; its results do not depend on it.

    Attributes:
        device: ``"auto"`` (CUDA if available), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        workers: Number of processes on this machine. 1 is this process, which uses as many CPU
            threads as PyTorch has (``OMP_NUM_THREADS``). Several workers each have a GPU of their
            own or one CPU thread, and a script needs the usual ``if __name__ == "__main__"``.
        cluster: Address of a Dask scheduler to score on instead, such as ``tcp://head:8786``.

    Raises:
        TftasError: ``workers`` is below 1, or is given together with a cluster.
    """

    device: str = "auto"
    workers: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        whole("workers", self.workers)
        if self.cluster is not None:
            expect("cluster", self.cluster, str, "an address, such as 'tcp://head:8786'")
        if self.cluster is not None and self.workers != 1:
            raise TftasError(
                f"workers is {self.workers} and there is a cluster too; give one of them"
            )

    def workforce(self) -> Workforce:
        """Return the workforce, whose processes start when a pool is opened.

        Raises:
            UnavailableError: The cluster cannot be reached, or Dask is not installed.
        """
        if self.cluster is not None:
            return dask_cluster(self.cluster)
        return this_process() if self.workers == 1 else worker_processes(self.workers, self.device)

    def open_pool(self, conditions: Conditions, batches: int = 0) -> ScoringPool:
        """Open a pool that scores under the given conditions.

        Args:
            conditions: The conditions.
            batches: Number of batches of images that the indicators see.

        Raises:
            TftasError: The device does not exist.
            UnavailableError: The workers cannot score.
        """
        return ScoringPool(conditions, batches, self.workforce(), self.device)


def check_execution(execution: Execution | None) -> Execution:
    """Return where to score: as given, or the default for None.

    Raises:
        TftasError: It is something else.
    """
    given = Execution() if execution is None else execution
    return expect("execution", given, Execution, "Execution(device=..., workers=...)")
