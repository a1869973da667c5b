"""Where a search computes its scores."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

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
    """Where a search computes its scores; what it finds does not depend on it.

    Attributes:
        device: ``"auto"`` (CUDA where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
        workers: Processes of this machine to score in. One is this process, on a CPU with as many
            threads as PyTorch has (``OMP_NUM_THREADS``); of several each has a GPU of its own or
            one CPU thread, and a script needs the usual ``if __name__ == "__main__"``.
        cluster: Address of a Dask scheduler to score on instead, such as ``tcp://head:8786``.

    Raises:
        TftasError: ``workers`` is below 1, or given beside a cluster.
    """

    device: str = "auto"
    workers: int = 1
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise TftasError(f"workers is {self.workers}, allowed is 1 or more")
        if self.cluster is not None and self.workers != 1:
            raise TftasError(
                f"workers is {self.workers} and there is a cluster too; give one of them"
            )

    def workforce(self) -> Workforce:
        """Make ready to start the processes.

        Raises:
            UnavailableError: The cluster cannot be reached, or Dask is not installed.
        """
        if self.cluster is not None:
            return dask_cluster(self.cluster)
        return this_process() if self.workers == 1 else worker_processes(self.workers, self.device)

    def open_pool(self, conditions: Conditions, batches: int = 0) -> ScoringPool:
        """Make ready to score under some conditions.

        Args:
            conditions: The conditions.
            batches: Batches of images that are seen.

        Raises:
            TftasError: The device is not there.
            UnavailableError: The workers cannot score.
        """
        return ScoringPool(conditions, batches, self.workforce(), self.device)
