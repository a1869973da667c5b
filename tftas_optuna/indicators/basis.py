"""What all indicators of a study are computed on: supernets and images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tftas_optuna.devices import resolve_device
from tftas_optuna.errors import TftasError
from tftas_optuna.families import get_family
from tftas_optuna.indicators.composite import Conditions
from tftas_optuna.indicators.images import noise, pictures
from tftas_optuna.metrics import Target

if TYPE_CHECKING:
    import torch

    from tftas_optuna.indicators.images import Images
    from tftas_optuna.spaces import SearchSpace


class Basis:
    """Supernets of several seeds, and the images that they see.

    Args:
        space: The search space.
        seed: Seed of the first supernet and of its images.
        n_seeds: Supernets, with the seeds ``seed``, ``seed + 1``, ...
        device: Where they are.
        img_size: Height and width of the input, in pixels; None for the space's own.
        num_classes: Outputs of the classifier; None for the space's own.
        dtype: Floating-point type of the passes.
        n_images: Images of one batch.
        data_dir: Folder of pictures; None for noise.

    Raises:
        TftasError: A number is out of range, or the device does not exist.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        n_seeds: int,
        device: str | torch.device,
        img_size: int | None,
        num_classes: int | None,
        dtype: torch.dtype,
        n_images: int,
        data_dir: str | None,
    ) -> None:
        if n_seeds < 1:
            raise TftasError(f"n_seeds is {n_seeds}, allowed is 1 or more")
        if n_images < 2:
            raise TftasError(f"n_images is {n_images}, allowed is 2 or more")
        self.space = space
        self.seed = seed
        self.n_seeds = n_seeds
        self.device = resolve_device(device)
        self.img_size = space.img_size if img_size is None else img_size
        self.num_classes = space.num_classes if num_classes is None else num_classes
        self.dtype = dtype
        self.n_images = n_images
        self.data_dir = data_dir
        make = get_family(space.family).supernet
        self.supernets = [
            make(
                space.supernet,
                seed=seed + offset,
                img_size=self.img_size,
                num_classes=self.num_classes,
                in_chans=space.in_chans,
                device=self.device,
                dtype=dtype,
            )
            for offset in range(n_seeds)
        ]
        self._images: dict[tuple[int, int], Images] = {}

    @property
    def target(self) -> Target:
        """What costs among the parts of an indicator are taken for."""
        return Target(
            img_size=self.img_size, num_classes=self.num_classes, in_chans=self.space.in_chans
        )

    @property
    def conditions(self) -> Conditions:
        """What the values of indicators depend on besides the candidate.

        Which pictures they see is left open: a study knows it, by all that it computes.
        """
        return Conditions(
            self.space,
            self.seed,
            self.n_seeds,
            self.img_size,
            self.num_classes,
            self.n_images,
            "noise" if self.data_dir is None else None,
        )

    def images(self, offset: int = 0, batches: int = 1) -> Images:
        """Return the images of a supernet, drawn or read when they are first asked for.

        Raises:
            TftasError: The pictures do not fit.
            UnavailableError: There are none.
        """
        key = offset, batches
        if key not in self._images:
            shape = (self.space.in_chans, self.img_size, self.img_size)
            seed, classes = self.seed + offset, self.num_classes
            if self.data_dir is None:
                drawn = noise(seed, self.n_images, shape, classes, batches)
            else:
                drawn = pictures(self.data_dir, seed, self.n_images, shape, classes, batches)
            self._images[key] = drawn.to(self.device, self.dtype)
        return self._images[key]
