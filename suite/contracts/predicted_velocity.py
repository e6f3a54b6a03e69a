"""The velocity that a subject predicts, recovered from its losses.

With noise x + (1 - t) u and actions x - t u, the input at time t is x for any u, and the loss of an action is the mean
of (v - u)^2 over its dimensions. So the losses at u = 0 and at each unit vector give every component of v, using
nothing but the definition of the loss.
"""

from typing import Any

import numpy as np

from fixtures.params import Params
from suite.subjects.protocol import Subject


def predicted_velocity(
    subject: Subject, spec: Any, params: Params, batch: Params, x: np.ndarray, time: float
) -> np.ndarray:
    """Return the velocity at ``x`` and ``time``.

    Args:
      x: float[b, horizon, action_dim], noisy actions.
      time: in [0, 1], the same for every sample.

    Returns:
      float64[b, horizon, action_dim].
    """
    dim = x.shape[-1]

    def mean_square(u: np.ndarray) -> np.ndarray:
        noise, actions = (np.asarray(x + share * u, np.float32) for share in (1 - time, -time))
        times = np.full(len(x), time, np.float32)
        return np.asarray(subject.loss(spec, params, batch | {"actions": actions}, noise, times, seed=0), np.float64)

    origin = mean_square(np.zeros(dim))
    components = [(dim * (origin - mean_square(unit)) + 1) / 2 for unit in np.eye(dim)]
    return np.stack(components, axis=-1)
