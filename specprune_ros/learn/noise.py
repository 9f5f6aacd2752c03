"""Noise on executed actions, never on labels (DART): it leads away from the expert's path, and the labels show the way
back."""

import numpy as np

from specprune_ros.types import ACTION_HIGH, ACTION_LOW

QUIET = 0.25
"""Share of the episodes without any."""


class PushNoise:
    """Short pushes in a random direction, a little jitter, false gripper commands. After ``last_step`` there is none,
    so that episodes end."""

    def __init__(self, rng, last_step: int = 80):
        self.last_step = last_step
        self._rng = rng
        self._quiet = rng.random() < QUIET
        self._push, self._push_left, self._flip_left, self._step = np.zeros(6), 0, 0, 0

    def __call__(self, action) -> np.ndarray:
        """The action (7,) to execute instead of the label (7,)."""
        self._step += 1
        executed = np.array(action, dtype=float)
        if self._quiet or self._step > self.last_step:
            return executed
        self._draw()
        if self._push_left:
            executed[:6] += self._push
        executed[:6] += self._rng.normal(0.0, 0.02, 6)
        if self._flip_left:
            executed[6] = 1.0 - executed[6]
        self._push_left, self._flip_left = max(0, self._push_left - 1), max(0, self._flip_left - 1)
        return np.clip(executed, ACTION_LOW, ACTION_HIGH)

    def _draw(self) -> None:
        rng = self._rng
        if not self._push_left and rng.random() < 0.07:
            self._push_left = int(rng.integers(2, 7))
            strength = np.exp(rng.uniform(np.log(0.05), np.log(0.6)))
            self._push = np.concatenate([_direction(rng) * strength, _direction(rng) * rng.uniform(0.0, 0.12)])
        if not self._flip_left and rng.random() < 0.012:
            self._flip_left = int(rng.integers(2, 6))


def _direction(rng) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)
