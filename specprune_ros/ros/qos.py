"""The quality-of-service profiles of our topics, with the reason for each."""

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

SENSOR_IN = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Only the newest counts; and a reliable subscription hears nothing from a best-effort driver."""

PARTS_IN = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
"""As SENSOR_IN, where several publishers share a topic and each one's newest counts."""

SENSOR_OUT = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""Matches best-effort and reliable subscribers alike."""

POSE_OUT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""As Franka's state broadcaster publishes it: who subscribes reliably hears nothing, here as there."""

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""State that late subscribers must learn."""

EVENTS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
"""Messages of which none may be lost: commands, chunks, statuses, instructions."""
