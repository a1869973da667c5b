"""Which releases the tests run on, where that changes what can be asked."""

from __future__ import annotations

import torch

# It rounds otherwise: in another order where tensors lie elsewhere.
ROUNDS_OTHERWISE = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 7)
