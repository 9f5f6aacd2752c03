"""An absolute target pose from relative motions: integrated from the measured pose, and never far from it."""

from __future__ import annotations

import numpy as np

from specprune_ros import rotation
from specprune_ros.config import Limits, Output
from specprune_ros.types import Displacement, EndEffector


class TargetPose:
    """The pose to hold. It starts where the arm is; a controller that lags or is blocked cannot be outrun."""

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        """The next motion starts from where the arm is then."""
        self._position_m: np.ndarray | None = None
        self._quaternion_xyzw: np.ndarray | None = None

    def moved(self, motion: Displacement, measured: EndEffector, output: Output, limits: Limits) -> EndEffector:
        """The target after `motion`: on its leash from the measured pose, and in the workspace or on the way back into it."""
        if self._position_m is None:
            self._position_m, self._quaternion_xyzw = measured.position_m, measured.quaternion_xyzw
        position = self._position_m + motion.translation_m
        quaternion = rotation.multiply(rotation.from_rotvec(motion.rotation_rad), self._quaternion_xyzw)
        away = rotation.limited(position - measured.position_m, output.leash_translation)
        turned = rotation.limited(rotation.difference(quaternion, measured.quaternion_xyzw), output.leash_rotation)
        low, high = (
            np.minimum(limits.workspace_min, measured.position_m),
            np.maximum(limits.workspace_max, measured.position_m),
        )
        self._position_m = np.clip(measured.position_m + away, low, high)
        quaternion = rotation.multiply(rotation.from_rotvec(turned), measured.quaternion_xyzw)
        self._quaternion_xyzw = quaternion / np.linalg.norm(quaternion)
        return EndEffector(measured.stamp_ns, self._position_m, self._quaternion_xyzw)
