"""What a robot says of its own state, where our node can read it: a stopped arm must not be armed, and is disarmed.

One robot is read so far, a Franka (ros/franka.py). Another is one more case in `robot_mode`: a Universal Robots arm,
for example, publishes ur_dashboard_msgs/msg/RobotMode and SafetyMode."""

from __future__ import annotations

from typing import Protocol

from rclpy.node import Node

from specprune_ros.config import Config
from specprune_ros.ros.franka import FrankaMode, robot_state_type


class RobotMode(Protocol):
    """Asked in every control period."""

    def obstacle(self) -> str | None:
        """What speaks against moving the arm now, with the remedy; None while nothing does, or nothing is known."""
        ...


def robot_mode(node: Node, config: Config) -> RobotMode | None:
    """The reader of the robot that the configuration and the installed packages know; None where there is none."""
    topic = config.topics.franka_robot_state
    kind = robot_state_type() if topic else None
    return FrankaMode(node, kind, topic) if kind else None
