"""Ridge regression with the penalty of the smallest leave-one-out error.

The error has a closed form; see Rasmussen and Williams, Gaussian Processes for
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
    """Ridge regression with an unpenalised intercept.

    Args:
        inputs: Inputs with zero mean, shape (rows, inputs).
        targets: Targets, shape (rows,).
        penalties: Penalties to choose from.

    Attributes:
        weights: Weights of the inputs, shape (inputs,).
        left_out: Leave-one-out error of each row, shape (rows,).
    """

    def __init__(self, inputs: Rows, targets: Rows, penalties: Rows) -> None:
        self._mean = float(targets.mean())
        centred = targets - self._mean
        self.weights, self.left_out = np.zeros(inputs.shape[1]), centred
        left, values, right = np.linalg.svd(inputs, full_matrices=False)
        coefficients = left.T @ centred
        # A column for each penalty.
        shrinkages = values[:, None] ** 2 / (values[:, None] ** 2 + penalties)
        leverages = (left**2) @ shrinkages + 1 / len(targets)
        left_out = centred[:, None] - left @ (shrinkages * coefficients[:, None])
        left_out /= np.maximum(1 - leverages, _TINY)
        errors = np.mean(left_out**2, axis=0)
        best = int(errors.argmin())
        if errors[best] < np.inf:
            self.left_out = left_out[:, best]
            self.weights = right.T @ (values / (values**2 + penalties[best]) * coefficients)

    def predict(self, inputs: Rows) -> Rows:
        """Return the predicted targets of new rows, shape (rows,)."""
        targets: Rows = self._mean + inputs @ self.weights
        return targets
