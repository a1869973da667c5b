"""Where a search computes its scores."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from tftas_optuna.errors import TftasError
from tftas_optuna.indicators.composite import CompositeIndicator
from tftas_optuna.indicators.images import DEFAULT_N_IMAGES
from tftas_optuna.indicators.task import ScoringTask, batches_seen
from tftas_optuna.metrics import get_indicator
from tftas_optuna.search.executors import (
    ScoringPool,
    Workforce,
    dask_cluster,
    this_process,
    worker_processes,
)

if TYPE_CHECKING:
    from tftas_optuna.study.settings import StudySettings


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


def open_pool(settings: StudySettings, execution: Execution) -> ScoringPool | None:
    """Make ready to score what a study scores; None where it scores nothing.

    Args:
        settings: What is scored.
        execution: Where.

    Raises:
        TftasError: The device is not there.
        UnavailableError: The workers cannot score.
    """
    if not settings.indicators:
        return None
    indicators = [get_indicator(name) for name in settings.indicators]
    # Machines may hold other pictures in a folder of this name.
    pictures = None
    if settings.data_dir is not None and settings.pictures is not None:
        pictures = settings.pictures, batches_seen(settings.indicators)
    task = ScoringTask(
        space=json.dumps(settings.space.to_dict()),
        indicators=tuple(i if isinstance(i, CompositeIndicator) else i.name for i in indicators),
        fidelity=settings.fidelity,
        seed=settings.supernet_seed,
        n_seeds=settings.n_seeds,
        img_size=settings.img_size,
        num_classes=settings.num_classes,
        device=execution.device,
        n_images=settings.n_images or DEFAULT_N_IMAGES,
        data_dir=settings.data_dir,
        pictures=pictures,
    )
    return ScoringPool(task, execution.workforce())
