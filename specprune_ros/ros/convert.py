"""Messages to observations and results to messages, as mirrored pairs. BadInput names what is wrong, and the topic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, TwistStamped, Vector3
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from specprune_ros.msg import Action, ActionChunk, PruningStatus
from specprune_ros.observe.motion import check_pose
from specprune_ros.rotation import to_rotvec_x_positive
from specprune_ros.types import ActionChunk as Chunk
from specprune_ros.types import STAGES, BadInput, Command, Displacement, EndEffector, Motion, PruningReport

NANOSECONDS = 1_000_000_000
CHANNELS = {
    # encoding: (bytes per pixel, which of them are red, green, blue)
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
}
PERIOD_TOLERANCE = 0.01
PROPRIO_DIMS = 8


def stamp_ns(header: Header, topic: str) -> int:
    """The header's stamp [ns]; BadInput when the publisher left it out."""
    nanoseconds = header.stamp.sec * NANOSECONDS + header.stamp.nanosec
    if nanoseconds == 0:
        raise BadInput(
            f"{topic}: the header has no time stamp, so its age is unknown; let the publisher fill header.stamp"
        )
    return nanoseconds


def header(stamp_ns: int, frame_id: str) -> Header:
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)


def rgb(message: Image, topic: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image message; rows may be padded."""
    if message.encoding not in CHANNELS:
        raise BadInput(
            f"{topic}: image encoding {message.encoding!r} is not supported; use one of {', '.join(CHANNELS)}"
        )
    size, order = CHANNELS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise BadInput(f"{topic}: the image is empty ({width} x {height} pixels)")
    if step < width * size:
        raise BadInput(f"{topic}: a row step of {step} bytes is too small for {width} pixels of {message.encoding}")
    data = np.frombuffer(message.data, dtype=np.uint8)
    if data.size != step * height:
        raise BadInput(f"{topic}: the image has {data.size} bytes; {height} rows of {step} bytes need {step * height}")
    pixels = data.reshape(height, step)[:, : width * size].reshape(height, width, size)
    return np.ascontiguousarray(pixels if order == tuple(range(size)) else pixels[:, :, order])


def image(pixels: np.ndarray, stamp: Header) -> Image:
    """An rgb8 message of (H, W, 3) uint8 RGB."""
    height, width, channels = pixels.shape
    message = Image(header=stamp, height=height, width=width, encoding="rgb8", step=width * channels)
    message.data.frombytes(np.ascontiguousarray(pixels).data)
    return message


def end_effector(message: PoseStamped, base_frame: str, topic: str) -> EndEffector:
    """The measured pose; BadInput unless it is a finite pose in the base frame."""
    if message.header.frame_id != base_frame:
        raise BadInput(
            f"{topic}: the pose is in frame {message.header.frame_id!r}, expected {base_frame!r}; "
            "change the publisher or set robot.base_frame"
        )
    at, turned = message.pose.position, message.pose.orientation
    pose = EndEffector(
        stamp_ns=stamp_ns(message.header, topic),
        position_m=np.array([at.x, at.y, at.z]),
        quaternion_xyzw=np.array([turned.x, turned.y, turned.z, turned.w]),
    )
    try:
        check_pose(pose)
    except BadInput as error:
        raise BadInput(f"{topic}: {error}") from None
    return pose


def pose(measured: EndEffector, frame: str) -> PoseStamped:
    message = PoseStamped(header=header(measured.stamp_ns, frame))
    at, turned = message.pose.position, message.pose.orientation
    at.x, at.y, at.z = map(float, measured.position_m)
    turned.x, turned.y, turned.z, turned.w = map(float, measured.quaternion_xyzw)
    return message


def joint_positions(message: JointState, names: Sequence[str], topic: str) -> np.ndarray:
    """(len(names),) positions [rad or m] of the named joints; BadInput when one is missing or not finite."""
    if len(message.position) != len(message.name):
        raise BadInput(f"{topic}: {len(message.name)} joint names but {len(message.position)} positions")
    at = {name: position for name, position in zip(message.name, message.position, strict=True)}
    missing = [name for name in names if name not in at]
    if missing:
        raise BadInput(f"{topic}: no joint {', '.join(missing)}; the message has {', '.join(message.name) or 'none'}")
    for name in names:
        if not np.isfinite(at[name]):
            raise BadInput(f"{topic}: the position of {name} is {at[name]}, not finite; check the robot driver")
    return np.array([at[name] for name in names])


def proprio(measured: EndEffector, fingers_m: Sequence[float]) -> np.ndarray:
    """(8,) float32: position [m], rotation vector [rad], left finger and minus right finger [m], as the policy was trained."""
    left, right = fingers_m
    turned = to_rotvec_x_positive(measured.quaternion_xyzw)
    return np.concatenate([measured.position_m, turned, [left, -right]]).astype(np.float32)


def action(motion: Displacement, period: float, stamp: Header, chunk_id: int = 0, step: int = 0) -> Action:
    """What the end effector is to do in one period."""
    return Action(
        header=stamp,
        translation=_vector(motion.translation_m),
        rotation=_vector(motion.rotation_rad),
        gripper=float(motion.gripper),
        period=period,
        chunk_id=chunk_id,
        step=step,
    )


def command(given: Command, period: float, stamp: Header) -> Action:
    return action(given.displacement, period, stamp, given.chunk_id, given.step)


def stop(gripper: float, period: float, stamp: Header) -> Action:
    """No motion, gripper as it is."""
    return action(Displacement(np.zeros(3), np.zeros(3), gripper), period, stamp)


def twist(linear: np.ndarray, angular: np.ndarray, stamp: Header) -> TwistStamped:
    """Velocities (3,) [m/s] and (3,) [rad/s] in the stamp's frame."""
    message = TwistStamped(header=stamp)
    message.twist.linear, message.twist.angular = _vector(linear), _vector(angular)
    return message


def displacement(message: Action, period: float, frame: str, topic: str) -> Displacement:
    """What an action message asks for; BadInput unless it is finite, for this frame and this control period."""
    if message.header.frame_id != frame:
        raise BadInput(f"{topic}: the action is in frame {message.header.frame_id!r}, expected {frame!r}")
    if abs(message.period - period) > PERIOD_TOLERANCE * period:
        raise BadInput(f"{topic}: the action is for {message.period} s, expected {period} s; check control.rate")
    moved, turned = message.translation, message.rotation
    physical = np.array([moved.x, moved.y, moved.z, turned.x, turned.y, turned.z, message.gripper])
    if not np.isfinite(physical).all():
        raise BadInput(f"{topic}: the action is not finite: {physical.tolist()}")
    return Displacement(physical[:3], physical[3:6], float(physical[6]))


def chunk(predicted: Chunk, motions: Sequence[Displacement], period: float, frame: str) -> ActionChunk:
    """A chunk and what each of its steps means in the base frame."""
    period_ns = round(period * NANOSECONDS)
    actions = [
        action(motion, period, header(predicted.stamp_ns + i * period_ns, frame), predicted.chunk_id, i)
        for i, motion in enumerate(motions)
    ]
    return ActionChunk(
        header=header(predicted.stamp_ns, frame),
        chunk_id=predicted.chunk_id,
        instruction=predicted.instruction,
        mode=predicted.mode.value,
        period=period,
        actions=actions,
    )


PER_VIEW = (
    # (field of PruningStatus, field of PruningReport)
    ("tokens_total_per_view", "total_per_view"),
    ("kept_static_per_view", "kept_static_per_view"),
    ("kept_dynamic_per_view", "kept_dynamic_per_view"),
    ("from_global_per_view", "from_global_per_view"),
    ("from_dynamic_per_view", "from_dynamic_per_view"),
    ("from_local_per_view", "from_local_per_view"),
    ("from_fill_per_view", "from_fill_per_view"),
)


def status(report: PruningReport, motion: Motion | None, views: Sequence[str], stamp: Header) -> PruningStatus:
    """How one inference pruned; chunk and deadline fields are the caller's."""
    message = PruningStatus(
        header=stamp,
        mode=report.mode.value,
        aggressiveness=float(report.aggressiveness),
        views=list(views),
        tokens_total=report.tokens_total,
        tokens_kept=report.tokens_kept,
        frame_offset=report.frame_offset,
        reused_global=report.reused_global,
    )
    for ours, theirs in PER_VIEW:
        setattr(message, ours, [int(count) for count in getattr(report, theirs)])
    for stage in (*STAGES, "total"):
        setattr(message, f"{stage}_ms", float(report.stage_ms.get(stage, 0.0)))
    for part in ("linear", "angular", "dz"):
        setattr(message, f"ee_{part}", float(getattr(motion, part)) if motion else float("nan"))
    return message


def _vector(xyz: np.ndarray) -> Vector3:
    x, y, z = map(float, xyz)
    return Vector3(x=x, y=y, z=z)
