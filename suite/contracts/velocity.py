"""The velocity that a subject predicts, read off its losses.

With noise x + (1 - t) u and actions x - t u, what is denoised at time t is x whatever u is, and the loss of an action
is the mean of (v - u)^2 over its dimensions. So the loss at u = 0 and at each unit vector gives every component of v,
from nothing but the definition of the loss.
"""

from typing import Any

import numpy as np

from fixtures.params import Params
from suite.subjects.protocol import Subject


def velocity(subject: Subject, spec: Any, params: Params, batch: Params, x: np.ndarray, time: float) -> np.ndarray:
    """The velocity float[b, horizon, action_dim] at x and one time."""
    dim = x.shape[-1]

    def mean_square(u: np.ndarray) -> np.ndarray:
        noise, actions = (np.asarray(x + share * u, np.float32) for share in (1 - time, -time))
        times = np.full(len(x), time, np.float32)
        return np.asarray(subject.loss(spec, params, batch | {"actions": actions}, noise, times, seed=0), np.float64)

    origin = mean_square(np.zeros(dim))
    components = [(dim * (origin - mean_square(unit)) + 1) / 2 for unit in np.eye(dim)]
    return np.stack(components, axis=-1)
