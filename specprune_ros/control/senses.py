"""What a control loop is told of the world: images and the state of the arm, checked, and what follows from them."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np

from specprune_ros.config import Config
from specprune_ros.observe.continuity import CALM_S, Continuity, Reach
from specprune_ros.observe.history import FrameHistory
from specprune_ros.observe.inputs import STATE, Inputs, state_origin
from specprune_ros.observe.motion import MotionEstimator, longest_offset
from specprune_ros.types import EndEffector


class Scope(Enum):
    """How much of what is known a break makes void."""

    MOTION = "measured motion"
    DERIVED = "all that was derived from measurements"
    EVERYTHING = "the measurements as well"


class Break(NamedTuple):
    """A gap or a jump back of the stamps of one stream."""

    scope: Scope
    reason: str


class Senses:
    """Inputs, frame history, measured motion and the plausibility of poses. No threads and no clocks."""

    def __init__(self, config: Config, proprio_dims: int, period_ns: int):
        scale = config.action
        self._period_ns = period_ns
        self.inputs = Inputs(config.topics.images, state_origin(config), proprio_dims, period_ns)
        self.motion = MotionEstimator(scale.scale_translation, scale.scale_rotation, period_ns)
        self.history = FrameHistory(longest_offset(config.pruning.reference), period_ns)
        self._continuity = Continuity(period_ns)

    def set_image(self, view: int, stamp_ns: int, image: np.ndarray, timeout_s: float) -> Break | None:
        """Newest image of a view: (H, W, 3) uint8 RGB. BadInput when it cannot be used; what broke, when it did.

        timeout_s: control.observation_timeout."""
        image = self.inputs.checked_image(view, image)
        rewound = self.inputs.jumped_back(view, stamp_ns)
        if rewound:
            self.clear()
        self.inputs.set_image(view, stamp_ns, image)
        frame_ns = self.inputs.frame_ns
        gap = None if frame_ns is None else self.history.push(frame_ns, self.inputs.images, timeout_s)
        if rewound:
            return Break(Scope.EVERYTHING, rewound)
        if gap:
            self.motion.reset()
            return Break(Scope.DERIVED, f"images: {gap}")
        return None

    def set_state(
        self, state: EndEffector, proprio: np.ndarray | None, reach: Reach, settle: bool, timeout_s: float
    ) -> Break | None:
        """Newest measured state. BadInput when it cannot be used; what broke, when it did.

        reach, settle: as `Continuity.check` wants them; timeout_s: control.observation_timeout."""
        state, proprio = self.inputs.checked_state(state, proprio)
        self._continuity.check(state, reach, settle)
        rewound = self.inputs.jumped_back(STATE, state.stamp_ns)
        if rewound:
            self.clear()
        gap = self.motion.push(state, timeout_s)
        self.inputs.set_state(state, proprio)
        if rewound:
            return Break(Scope.EVERYTHING, rewound)
        return Break(Scope.MOTION, f"robot state, measured motion only: {gap}") if gap else None

    def elsewhere(self) -> str | None:
        """Why the arm cannot be where it has been measured for a while."""
        elsewhere_s = self._continuity.elsewhere_s()
        if elsewhere_s < CALM_S:
            return None
        return f"the pose has not been possible for {elsewhere_s:.2f} s: {self._continuity.jump}"

    def clear(self) -> None:
        """Forget every measurement."""
        self.inputs.clear()
        self.history.reset()
        self.motion.reset()
        self._continuity.reset()
