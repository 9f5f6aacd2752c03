"""The arm of our simulator for Gazebo (gz-sim Harmonic): its URDF with what Gazebo needs besides, and the copy of it
that Gazebo itself gets.

What differs in Gazebo's copy was found by running it (gz-sim 8.14.0; docs/how_to/gazebo.md):

- A velocity servo that reaches its joint's velocity limit is no longer controlled and runs to the end stop (known:
  gz-sim#1684, gz_ros2_control#165, dartsim#2422). So no joint has a limit that it could reach. Limits on what is
  commanded are the policy node's and MoveIt Servo's, which read the true ones from /robot_description.
- Both fingers push with their largest effort. With the same effort on both a grasp slides away; with less on the
  commanded finger than on the one that mimics it, the hand stays centred and holds.
- Ogre2 takes colours as linear light, and a URDF gives them as a screen shows them (sRGB)."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from specprune_ros.sim import panda

UNREACHABLE_VELOCITY = 1000.0
"""rad/s or m/s."""
FINGER_EFFORT_N = {panda.FINGER_JOINTS[0]: 30.0, panda.FINGER_JOINTS[1]: 100.0}


def robot_description(folder: Path) -> str:
    """URDF for everybody: the simulator's arm with the camera frames, the camera's housing and gz_ros2_control.

    folder: of fr3_gazebo.xml and controllers.yaml."""
    robot = ElementTree.fromstring(panda.robot_urdf())
    additions = (folder / "fr3_gazebo.xml").read_text().replace("CONTROLLERS_YAML", str(folder / "controllers.yaml"))
    robot.extend(ElementTree.fromstring(additions))
    return ElementTree.tostring(robot, encoding="unicode")


def spawned_description(urdf: str) -> str:
    """Gazebo's own copy of `robot_description`."""
    robot = ElementTree.fromstring(urdf)
    for joint in robot.findall("joint"):
        if (limit := joint.find("limit")) is not None:
            limit.set("velocity", str(UNREACHABLE_VELOCITY))
            if joint.get("name") in FINGER_EFFORT_N:
                limit.set("effort", str(FINGER_EFFORT_N[joint.get("name")]))
    for colour in robot.iter("color"):
        *screen, alpha = (float(part) for part in colour.get("rgba").split())
        colour.set("rgba", panda.text([*(linear(value) for value in screen), alpha]))
    return ElementTree.tostring(robot, encoding="unicode")


def linear(screen: float) -> float:
    """Linear light of a colour channel as a screen shows it, both 0..1 (sRGB, IEC 61966-2-1)."""
    return screen / 12.92 if screen <= 0.04045 else ((screen + 0.055) / 1.055) ** 2.4
