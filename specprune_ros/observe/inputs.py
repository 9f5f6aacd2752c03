"""The newest image of every view and the newest robot state, and what is wrong with them."""

from __future__ import annotations

import numpy as np

from specprune_ros.config import Config
from specprune_ros.observe.history import Images, clock_jumped_back
from specprune_ros.observe.motion import check_pose
from specprune_ros.types import BadInput, EndEffector

STATE = "state"


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
    """A short name for each view: what tells its image topic from the others' (third_person, wrist), else view1, view2, ..

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
    frame exists when every view has moved on.
    """

    def __init__(self, image_topics: tuple[str, ...], state_topic: str, proprio_dims: int, period_ns: int):
        """proprio_dims: length of the proprio vector, 0 for a policy without one."""
        self._names = tuple(f"image of view {i} ({topic})" for i, topic in enumerate(image_topics, start=1))
        self._state_name = f"robot state ({state_topic})"
        self._proprio_dims = proprio_dims
        self._period_ns = period_ns
        self.clear()

    def clear(self) -> None:
        """Forget all values; what the clock said before no longer counts."""
        self._images: list[np.ndarray | None] = [None] * len(self._names)
        self._stamps_ns: list[int | None] = [None] * len(self._names)
        self.state: EndEffector | None = None
        self.proprio: np.ndarray | None = None
        self._arrivals: dict[str, tuple[int, int]] = {}
        """By name, the newest stamp and when it was first looked at, by the clock of `problem`."""
        self._faults: dict[int | str, str] = {}

    @property
    def view_count(self) -> int:
        return len(self._names)

    @property
    def frame_ns(self) -> int | None:
        """Stamp of the newest complete frame; None while a view is missing."""
        return None if None in self._stamps_ns else min(self._stamps_ns)

    @property
    def images(self) -> Images:
        return tuple(self._images)

    def image_jumps_back(self, view: int, stamp_ns: int) -> bool:
        return clock_jumped_back(self._stamps_ns[view], stamp_ns, self._period_ns)

    def state_jumps_back(self, stamp_ns: int) -> bool:
        return self.state is not None and clock_jumped_back(self.state.stamp_ns, stamp_ns, self._period_ns)

    def set_image(self, view: int, stamp_ns: int, image: np.ndarray) -> None:
        """Keep an image if it is newer than the one before."""
        self._faults.pop(view, None)
        previous_ns = self._stamps_ns[view]
        if previous_ns is None or stamp_ns > previous_ns:
            self._images[view], self._stamps_ns[view] = image, stamp_ns

    def set_state(self, state: EndEffector, proprio: np.ndarray | None) -> None:
        """Keep a state if it is newer than the one before."""
        self._faults.pop(STATE, None)
        if self.state is None or state.stamp_ns > self.state.stamp_ns:
            self.state, self.proprio = state, proprio

    def refuse(self, source: int | str, error: object) -> None:
        """Remember that the newest message of a view (index) or of the state was bad, until a good one comes."""
        name = self._state_name if source == STATE else self._names[source]
        self._faults[source] = f"{name} was refused: {error}"

    def check_image(self, view: int, image: np.ndarray) -> None:
        if not 0 <= view < self.view_count:
            raise BadInput(f"there is no view {view + 1}; the policy has {self.view_count} views")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise BadInput(f"expected (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}; convert it to rgb8")

    def check_state(self, state: EndEffector, proprio: np.ndarray | None) -> None:
        check_pose(state)
        if self._proprio_dims == 0:
            return
        if proprio is None or np.shape(proprio) != (self._proprio_dims,):
            shape = None if proprio is None else np.shape(proprio)
            raise BadInput(f"proprio has shape {shape}, the policy needs ({self._proprio_dims},)")
        if not np.isfinite(proprio).all():
            raise BadInput(f"proprio is {np.asarray(proprio).tolist()}, not finite; check the robot driver")

    def problem(self, now_ns: int, timeout_s: float) -> str | None:
        """Why there is nothing to act on: the first stream that is bad, missing, too old or from the future."""
        for fault in self._faults.values():
            return fault
        state_ns = None if self.state is None else self.state.stamp_ns
        streams = [(name, stamp_ns, "the camera") for name, stamp_ns in zip(self._names, self._stamps_ns, strict=True)]
        streams.append((self._state_name, state_ns, "the robot driver"))
        silences_ns = [self._silence_ns(name, stamp_ns, now_ns) for name, stamp_ns, _ in streams]
        for (name, stamp_ns, publisher), silence_ns in zip(streams, silences_ns, strict=True):
            reason = _age_problem(name, stamp_ns, now_ns, timeout_s, publisher)
            if reason:
                return reason
            if silence_ns > timeout_s * 1e9:
                return f"{name}: nothing new for {silence_ns * 1e-9:.2f} s (limit {timeout_s:.2f} s); check that {publisher} publishes"
        return None

    def _silence_ns(self, name: str, stamp_ns: int | None, now_ns: int) -> int:
        """Time since the stream's newest stamp was there: its age does not say, where the publisher's clock is ahead of ours."""
        stamp_before, since_ns = self._arrivals.get(name, (None, now_ns))
        if stamp_ns is None or stamp_ns != stamp_before:
            since_ns = now_ns
            self._arrivals[name] = (stamp_ns, now_ns)
        return now_ns - since_ns


def _age_problem(name: str, stamp_ns: int | None, now_ns: int, timeout_s: float, publisher: str) -> str | None:
    if stamp_ns is None:
        return f"no {name} yet; check that {publisher} publishes"
    age_s = (now_ns - stamp_ns) / 1e9
    if age_s > timeout_s:
        return f"{name} is {age_s:.2f} s old (limit {timeout_s:.2f} s); check that {publisher} publishes"
    if age_s < -timeout_s:
        return (
            f"{name} is stamped {-age_s:.2f} s in the future (limit {timeout_s:.2f} s); check use_sim_time and that "
            "the clocks agree"
        )
    return None
