"""Ridge regression whose penalty is the one that predicts best what was left out.

The leave-one-out error has a closed form; see Rasmussen and Williams, Gaussian Processes for
Machine Learning, 2006, section 5.4.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float64]

_TINY = 1e-9


class Ridge:
    """Ridge regression with an unpenalised constant.

    Args:
        inputs: Shape (rows, inputs); the mean of each input is zero.
        targets: Shape (rows,).
        penalties: Penalties to choose from.

    Attributes:
        weights: Weights of the inputs, shape (inputs,).
        left_out: For each row, the error of its prediction when it is fitted without that row.
    """

    def __init__(self, inputs: Rows, targets: Rows, penalties: Rows) -> None:
        self._mean = float(targets.mean())
        centred = targets - self._mean
        self.weights, self.left_out = np.zeros(inputs.shape[1]), centred
        left, values, right = np.linalg.svd(inputs, full_matrices=False)
        along = left.T @ centred
        least = np.inf
        for penalty in penalties:
            shrinkage = values**2 / (values**2 + penalty)
            leverage = (left**2) @ shrinkage + 1 / len(targets)
            left_out = (centred - left @ (shrinkage * along)) / np.maximum(1 - leverage, _TINY)
            error = np.mean(left_out**2)
            if error < least:
                least, self.left_out = error, left_out
                self.weights = right.T @ (values / (values**2 + penalty) * along)

    def predict(self, inputs: Rows) -> Rows:
        """Predict the targets of other rows, shape (rows,)."""
        targets: Rows = self._mean + inputs @ self.weights
        return targets
