"""Messages to observations and results to messages, as mirrored pairs. BadInput names what is wrong, and the topic."""

from __future__ import annotations

import importlib
import logging
import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, PoseStamped, Quaternion, TransformStamped, TwistStamped, Vector3
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from specprune_ros.config import Config
from specprune_ros.msg import Action, ActionChunk, PruningStatus
from specprune_ros.observe import compressed, pixels
from specprune_ros.observe.inputs import view_names
from specprune_ros.observe.motion import speed
from specprune_ros.types import (
    NANOSECONDS,
    STAGES,
    BadInput,
    Command,
    Displacement,
    EndEffector,
    InferenceResult,
    Motion,
)
from specprune_ros.types import ActionChunk as Chunk

logger = logging.getLogger(__name__)

UNKNOWN = Motion(*[float("nan")] * 3)
PERIOD_TOLERANCE = 0.01


def stamp_ns(header: Header, topic: str) -> int:
    """The header's stamp [ns]; BadInput when the publisher left it out."""
    nanoseconds = header.stamp.sec * NANOSECONDS + header.stamp.nanosec
    if nanoseconds == 0:
        raise BadInput(
            f"{topic}: the header has no time stamp, so its age is unknown; let the publisher fill header.stamp"
        )
    return nanoseconds


def peeked_stamp_ns(serialized: bytes) -> int:
    """The stamp [ns] of a serialized message that begins with a header, without reading the rest.

    CDR: four bytes of encapsulation, the second odd for little endian, then seconds and nanoseconds (OMG DDSI-RTPS,
    10.2)."""
    seconds, nanoseconds = struct.unpack_from("<iI" if serialized[1] & 1 else ">iI", serialized, 4)
    return seconds * NANOSECONDS + nanoseconds


def header(stamp_ns: int, frame_id: str) -> Header:
    seconds, nanoseconds = divmod(stamp_ns, NANOSECONDS)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)


def rgb(message: Image | CompressedImage, topic: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image message, raw or compressed. Raw ones by cv_bridge where it is installed."""
    try:
        if isinstance(message, CompressedImage):
            return compressed.from_file(bytes(message.data), message.format)
        layout = message.encoding, message.height, message.width, message.step
        pixels.checked_rows(message.data, *layout)
        bridged = _bridged(message)
        if bridged is not None:
            return bridged
        return pixels.from_raw(message.data, *layout, bigendian=bool(message.is_bigendian))
    except BadInput as error:
        raise BadInput(f"{topic}: {error}") from None


BRIDGED = {name: layout.channels * layout.depth for name, layout in pixels.PACKED.items()} | dict.fromkeys(
    ("yuv422", "yuv422_yuy2"), 2
)
"""What cv_bridge converts: encoding -> bytes per pixel."""


def _bridged(message: Image) -> np.ndarray | None:
    """The image as cv_bridge converts it; None where OpenCV has to.

    cv_bridge 3.4 takes a row for a whole number of pixels, and fails on big endian with NumPy 2."""
    bridge, pixel_bytes = cv_bridge(), BRIDGED.get(message.encoding)
    if bridge is None or pixel_bytes is None or message.step % pixel_bytes or message.is_bigendian:
        return None
    try:
        return bridge.imgmsg_to_cv2(message, "rgb8")
    except Exception as error:  # whatever it is, the image was found sound before
        logger.warning("cv_bridge fails on %s, OpenCV converts it: %r", message.encoding, error)
        return None


@lru_cache(maxsize=1)
def cv_bridge():
    """ROS's CvBridge, where it is installed and works; else None. It comes with ROS and not from PyPI."""
    try:
        bridge = importlib.import_module("cv_bridge").CvBridge()
        bridge.imgmsg_to_cv2(Image(height=1, width=1, encoding="bgr8", step=3, data=bytes(3)), "rgb8")
    except ImportError as error:
        logger.info("images are converted by OpenCV; cv_bridge is not installed (%s)", error)
        return None
    except Exception as error:  # e.g. built for another version of NumPy
        logger.warning("images are converted by OpenCV; cv_bridge is installed, but fails: %r", error)
        return None
    return bridge


def image(picture: np.ndarray, stamp: Header) -> Image:
    """An rgb8 message of (H, W, 3) uint8 RGB."""
    height, width, channels = picture.shape
    message = Image(header=stamp, height=height, width=width, encoding="rgb8", step=width * channels)
    message.data.frombytes(np.ascontiguousarray(picture).data)
    return message


def end_effector(message: PoseStamped, base_frame: str, topic: str, same: Sequence[str] = ()) -> EndEffector:
    """The measured pose, unchecked but for its frame: BadInput unless that is the base frame. same: other names of
    it."""
    frames = (base_frame, *same)
    if message.header.frame_id not in frames:
        raise BadInput(
            f"{topic}: the pose is in frame {message.header.frame_id!r}, expected {' or '.join(map(repr, frames))}; "
            "change the publisher or robot.base_frame, or, only if it is the same frame by another name, set "
            "robot.pose_frame"
        )
    return _end_effector(message.header, message.pose.position, message.pose.orientation, topic)


def transformed(message: TransformStamped, source: str) -> EndEffector:
    """The pose of the transform's child frame in its header's frame, the base frame that was asked for."""
    return _end_effector(message.header, message.transform.translation, message.transform.rotation, source)


def _end_effector(stamp: Header, at: Point | Vector3, turned: Quaternion, source: str) -> EndEffector:
    return EndEffector(
        stamp_ns=stamp_ns(stamp, source),
        position_m=np.array([at.x, at.y, at.z]),
        quaternion_xyzw=np.array([turned.x, turned.y, turned.z, turned.w]),
    )


def pose(measured: EndEffector, frame: str) -> PoseStamped:
    message = PoseStamped(header=header(measured.stamp_ns, frame))
    at, turned = message.pose.position, message.pose.orientation
    at.x, at.y, at.z = map(float, measured.position_m)
    turned.x, turned.y, turned.z, turned.w = map(float, measured.quaternion_xyzw)
    return message


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


def twist_displacement(message: TwistStamped, period: float, frame: str, topic: str) -> Displacement:
    """What a twist means for one period, the gripper left open; BadInput unless it is finite and in this frame."""
    if message.header.frame_id != frame:
        raise BadInput(f"{topic}: the twist is in frame {message.header.frame_id!r}, expected {frame!r}")
    linear, angular = message.twist.linear, message.twist.angular
    velocity = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
    if not np.isfinite(velocity).all():
        raise BadInput(f"{topic}: the twist is not finite: {velocity.tolist()}")
    return Displacement(velocity[:3] * period, velocity[3:] * period, 1.0)


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


def status(result: InferenceResult, config: Config, deadline_misses: int, now_ns: int) -> PruningStatus:
    """How one inference pruned, under the settings that it was asked with. deadline_misses: counted until now."""
    request, report, stamp_ns = result.request, result.report, result.chunk.stamp_ns
    message = PruningStatus(
        header=header(stamp_ns, config.robot.base_frame),
        chunk_id=result.chunk.chunk_id,
        mode=report.mode.value,
        aggressiveness=float(report.aggressiveness),
        preset=request.pruning.preset,
        views=list(view_names(config.topics.images)),
        tokens_total=report.tokens_total,
        tokens_kept=report.tokens_kept,
        frame_offset=report.frame_offset,
        used_last_attention=report.used_last_attention,
        chunk_age=(now_ns - stamp_ns) / NANOSECONDS,
        deadline_misses=deadline_misses,
        deadline_missed=deadline_misses > request.misses_before,
    )
    for ours, theirs in PER_VIEW:
        setattr(message, ours, [int(count) for count in getattr(report, theirs)])
    for stage in (*STAGES, "total"):
        setattr(message, f"{stage}_ms", float(report.stage_ms.get(stage, 0.0)))
    motion = request.observation.motion or UNKNOWN
    for part in ("linear", "angular", "dz"):
        setattr(message, f"ee_{part}", float(getattr(motion, part)))
    for part, value in speed(motion, config.action, config.control.rate)._asdict().items():
        setattr(message, f"ee_{part}_speed", float(value))
    return message


def _vector(xyz: np.ndarray) -> Vector3:
    x, y, z = map(float, xyz)
    return Vector3(x=x, y=y, z=z)
