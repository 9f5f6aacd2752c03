"""The quality-of-service profiles of our topics, with the reason for each."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

SENSOR_IN = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Only the newest counts; and a reliable subscription hears nothing from a best-effort driver."""

PARTS_IN = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
"""As SENSOR_IN, where several publishers share a topic and each one's newest counts: the arm at 1 kHz must not push the
fingers at 30 Hz out of the queue between two control periods."""

IMAGES_IN = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Deep enough for a 90 Hz camera at 20 Hz. Messages of megabytes come in pieces, of which a newer one must not push out
those of an older one: with depth 1, half of 1280 x 720 images at 30 Hz was lost, also with a reliable publisher."""

SENSOR_OUT = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""Matches best-effort and reliable subscribers alike."""

POSE_OUT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""As Franka's state broadcaster publishes it: who subscribes reliably hears nothing, here as there."""

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""State that late subscribers must learn."""

DESCRIPTIONS_IN = QoSProfile(
    depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""As LATCHED, from all of its publishers: with depth 1, one of two would hide the other."""

EVENTS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Messages of which none may be lost: commands, chunks, statuses, instructions."""


def with_reliability(profile: QoSProfile, reliable: bool) -> QoSProfile:
    """The same profile, reliable or best effort."""
    reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=profile.depth, reliability=reliability, durability=profile.durability)
