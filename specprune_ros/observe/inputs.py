"""The newest image of every view and the newest robot state, and what is wrong with them.

This is the boundary of trust: shapes, types and values are checked here, once, and what has passed is frozen. Whatever
comes after (history, motion, policy) relies on it.
"""

from __future__ import annotations

import math

import numpy as np

from specprune_ros.config import Config
from specprune_ros.observe.delivery import Delivery, other_time
from specprune_ros.observe.gaps import clock_jumped_back
from specprune_ros.observe.history import Images
from specprune_ros.types import NANOSECONDS, BadInput, EndEffector

STATE = "state"
QUATERNION_TOLERANCE = 0.01


def state_origin(config: Config) -> str:
    """Where the robot's state comes from, for people to read."""
    topics, robot = config.topics, config.robot
    origins = {
        "ee_pose": topics.ee_pose,
        "joints": topics.joint_states,
        "tf": f"TF {robot.base_frame} -> {robot.ee_frame}",
    }
    return origins[robot.state_source]


def view_names(image_topics: tuple[str, ...]) -> tuple[str, ...]:
    """A short name for each view: what tells its image topic from the others' (third_person, wrist), else view1, ..

    Topics that differ in other ways than in one of their parts, and a single one, are numbered.
    """
    parts = [topic.strip("/").split("/") for topic in image_topics]
    differing = [column for column in zip(*parts, strict=False) if len(set(column)) > 1]
    same_length = len({len(part) for part in parts}) == 1
    if same_length and len(differing) == 1 and len(set(differing[0])) == len(parts):
        return differing[0]
    return tuple(f"view{i}" for i in range(1, len(parts) + 1))


class Inputs:
    """Keeps one newest value per stream; callbacks store, `problem` judges.

    A frame is one image per view. Cameras need not be in step: the frame's stamp is that of its oldest image, so a new
    frame exists when every view has moved on. Streams are named by the index of a view, or STATE.
    """

    def __init__(self, image_topics: tuple[str, ...], state_topic: str, proprio_dims: int, period_ns: int):
        """proprio_dims: length of the proprio vector, 0 for a policy without one."""
        self._topics: dict[int | str, str] = {**dict(enumerate(image_topics)), STATE: state_topic}
        self.view_count = len(image_topics)
        self._proprio_dims = proprio_dims
        self._period_ns = period_ns
        self.deliveries = {
            source: Delivery("the robot driver" if source == STATE else "the camera") for source in self._topics
        }
        """How the messages of each stream get here; whoever receives them tells."""
        self.clear()

    def clear(self) -> None:
        """Forget all values; what the clock said before no longer counts."""
        self._images: list[np.ndarray | None] = [None] * self.view_count
        self._stamps_ns: list[int | None] = [None] * self.view_count
        self.state: EndEffector | None = None
        self.proprio: np.ndarray | None = None
        self._looked_at: dict[int | str, tuple[int | None, int]] = {}
        """By stream, the newest stamp and when it was first looked at, by the clock of `problem`."""
        self._faults: dict[int | str, str] = {}
        for delivery in self.deliveries.values():
            delivery.clear()

    @property
    def frame_ns(self) -> int | None:
        """Stamp of the newest complete frame; None while a view is missing."""
        stamps_ns = [stamp_ns for stamp_ns in self._stamps_ns if stamp_ns is not None]
        return min(stamps_ns) if len(stamps_ns) == self.view_count else None

    @property
    def images(self) -> Images:
        """One per view; only where there is a frame."""
        return tuple(image for image in self._images if image is not None)

    def jumped_back(self, source: int | str, stamp_ns: int) -> str | None:
        """Says so when a stream's stamp went back by a period or more: its clock, or a recording, started over."""
        before_ns = self._stamp_ns(source)
        if before_ns is None or not clock_jumped_back(before_ns, stamp_ns, self._period_ns):
            return None
        return f"{self._name(source)}: the stamps went back by {(before_ns - stamp_ns) / NANOSECONDS:.2f} s"

    def set_image(self, view: int, stamp_ns: int, image: np.ndarray) -> None:
        """Keep an image from `checked_image` if it is newer than the one before. view: index; stamp_ns: [ns] on the
        clock of the camera."""
        self._faults.pop(view, None)
        previous_ns = self._stamps_ns[view]
        if previous_ns is None or stamp_ns > previous_ns:
            self._images[view], self._stamps_ns[view] = image, stamp_ns

    def set_state(self, state: EndEffector, proprio: np.ndarray | None) -> None:
        """Keep pose and proprio from `checked_state` if they are newer than those before. proprio: (P,) float32, or
        None."""
        self._faults.pop(STATE, None)
        if self.state is None or state.stamp_ns > self.state.stamp_ns:
            self.state, self.proprio = state, proprio

    def refuse(self, source: int | str, error: object) -> None:
        """Remember that the newest message of a view (index) or of the state was bad, until a good one comes."""
        self._faults[source] = f"{self._name(source)} was refused: {error}"

    def checked_image(self, view: int, image: np.ndarray) -> np.ndarray:
        """The image, frozen. BadInput unless it is (H, W, 3) uint8 of one of the policy's views."""
        if not 0 <= view < self.view_count:
            raise BadInput(f"there is no view {view + 1}; the policy has {self.view_count} views")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise BadInput(f"expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}; convert it to rgb8")
        return _frozen(image)

    def checked_state(self, state: EndEffector, proprio: np.ndarray | None) -> tuple[EndEffector, np.ndarray | None]:
        """Pose and proprio, frozen; no proprio for a policy without one. BadInput unless they are finite and fit."""
        check_pose(state)
        position, quaternion = (np.asarray(part, np.float64) for part in (state.position_m, state.quaternion_xyzw))
        state = EndEffector(state.stamp_ns, _frozen(position), _frozen(quaternion))
        if self._proprio_dims == 0:
            return state, None
        if proprio is None or np.shape(proprio) != (self._proprio_dims,):
            shape = None if proprio is None else np.shape(proprio)
            raise BadInput(f"proprio has shape {shape}, the policy needs ({self._proprio_dims},)")
        if not np.isfinite(proprio).all():
            raise BadInput(f"proprio is {np.asarray(proprio).tolist()}, not finite; check the robot driver")
        return state, _frozen(np.asarray(proprio, np.float32))

    def problem(self, now_ns: int, timeout_s: float) -> str | None:
        """Why there is nothing to act on: the first stream that is bad, missing, too old or from the future."""
        for fault in self._faults.values():
            return fault
        silences_ns = {source: self._silence_ns(source, now_ns) for source in self._topics}
        for source, silence_ns in silences_ns.items():
            if reason := self._age_problem(source, silence_ns, now_ns, timeout_s):
                return reason
        return None

    def _age_problem(self, source: int | str, silence_ns: int, now_ns: int, timeout_s: float) -> str | None:
        name, stamp_ns, delivery = self._name(source), self._stamp_ns(source), self.deliveries[source]
        if stamp_ns is None:
            return f"no {name} yet; {delivery.why_nothing()}"
        if reason := other_time(stamp_ns, now_ns):
            return f"{name} {reason}"
        age_s, limit = (now_ns - stamp_ns) / NANOSECONDS, f"limit {timeout_s:.2f} s"
        if age_s > timeout_s:
            return f"{name} is {age_s:.2f} s old ({limit}); {delivery.why_old(now_ns, timeout_s)}"
        if age_s < -timeout_s:
            ahead = f"{name} is stamped {-age_s:.2f} s in the future ({limit})"
            return f"{ahead}; check use_sim_time and that the clocks agree"
        if silence_ns > timeout_s * NANOSECONDS:
            silence_s = silence_ns / NANOSECONDS
            return f"{name}: nothing new for {silence_s:.2f} s ({limit}); {delivery.why_old(now_ns, timeout_s)}"
        return None

    def _name(self, source: int | str) -> str:
        """With the full name of the topic, where the middleware has told it."""
        channel = self.deliveries[source].channel
        topic = channel.topic if channel else self._topics[source]
        return f"robot state ({topic})" if source == STATE else f"image of view {int(source) + 1} ({topic})"

    def _stamp_ns(self, source: int | str) -> int | None:
        if isinstance(source, int):
            return self._stamps_ns[source]
        return None if self.state is None else self.state.stamp_ns

    def _silence_ns(self, source: int | str, now_ns: int) -> int:
        """Time since the stream's newest stamp was there: its age does not say, where the publisher's clock is ahead of
        ours."""
        stamp_ns = self._stamp_ns(source)
        stamp_before, since_ns = self._looked_at.get(source, (None, now_ns))
        if stamp_ns is None or stamp_ns != stamp_before:
            since_ns = now_ns
            self._looked_at[source] = (stamp_ns, now_ns)
        return now_ns - since_ns


def check_pose(pose: EndEffector) -> None:
    """BadInput unless the pose is finite with a unit quaternion."""
    for name, array, size in (("position", pose.position_m, 3), ("quaternion", pose.quaternion_xyzw, 4)):
        if np.shape(array) != (size,):
            raise BadInput(f"end-effector {name} has shape {np.shape(array)}, expected ({size},)")
        values = np.asarray(array).tolist()
        if not all(map(math.isfinite, values)):
            raise BadInput(f"end-effector {name} is {values}, not finite; check the robot driver")
    norm = math.hypot(*values)
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        raise BadInput(
            f"end-effector quaternion has norm {norm:.3f}, expected 1; check that the publisher fills the orientation"
        )


def _frozen(array: np.ndarray) -> np.ndarray:
    """A view that nobody can write through."""
    view = array.view()
    view.flags.writeable = False
    return view
