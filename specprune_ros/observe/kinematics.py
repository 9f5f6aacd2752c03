"""End-effector pose from joint positions: forward kinematics of the robot's URDF, computed by MuJoCo."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

import numpy as np

from specprune_ros.types import BadInput, EndEffector

_COMPILER = {"fusestatic": "false", "boundmass": "0.001", "boundinertia": "0.001"}
"""Fixed links stay bodies with a name; links without mass are allowed, because nothing moves by forces here."""

_JOINT_PARTS = ("parent", "child", "origin", "axis")
_JOINT_TYPES = {"revolute": "continuous", "continuous": "continuous", "prismatic": "prismatic", "fixed": "fixed"}


class ForwardKinematics:
    """Pose of `ee_frame` in `base_frame`; only the joints between the two are needed."""

    def __init__(self, urdf_text: str, ee_frame: str, base_frame: str):
        import mujoco  # lazily: only robots whose motion comes from joints need it

        self._mujoco = mujoco
        try:
            self._model = mujoco.MjModel.from_xml_string(skeleton(urdf_text))
        except ValueError as error:
            raise BadInput(f"robot description cannot be used: {error}; check that it is a complete URDF") from error
        self._data = mujoco.MjData(self._model)
        links = [self._model.body(i).name for i in range(self._model.nbody)]
        self._ee = _index(links, ee_frame, "robot.ee_frame", "link")
        self._base = _index(links, base_frame, "robot.base_frame", "link")
        self.joints = self._joints_between()
        self._address = {name: int(self._model.joint(name).qposadr[0]) for name in self.joints}
        self._layout: tuple[str, ...] = ()
        self._columns: list[tuple[int, int]] = []

    def pose(self, joint_names: Sequence[str], positions: Sequence[float], stamp_ns: int) -> EndEffector:
        """Pose for named joint positions [rad, m] in any order; joints off the chain are ignored. BadInput when names
        and positions differ in number, a joint of the chain is missing, or its position is not finite."""
        if len(positions) != len(joint_names):
            raise BadInput(
                f"joint state has {len(joint_names)} names and {len(positions)} positions; check that the driver "
                "publishes positions"
            )
        if tuple(joint_names) != self._layout:
            self._learn_layout(tuple(joint_names))
        for column, address in self._columns:
            value = positions[column]
            if not math.isfinite(value):
                raise BadInput(f"joint {joint_names[column]} is at {value}, not finite; check the robot driver")
            self._data.qpos[address] = value
        self._mujoco.mj_kinematics(self._model, self._data)
        return self._relative_pose(stamp_ns)

    def _learn_layout(self, joint_names: tuple[str, ...]) -> None:
        """Where each joint of the chain stands in this publisher's messages."""
        self._columns = [(_index(joint_names, name, "joint state", "joint"), at) for name, at in self._address.items()]
        self._layout = joint_names

    def _relative_pose(self, stamp_ns: int) -> EndEffector:
        mujoco, data = self._mujoco, self._data
        to_base, quaternion_wxyz, position_m = np.empty(4), np.empty(4), np.empty(3)
        mujoco.mju_negQuat(to_base, data.xquat[self._base])
        mujoco.mju_rotVecQuat(position_m, data.xpos[self._ee] - data.xpos[self._base], to_base)
        mujoco.mju_mulQuat(quaternion_wxyz, to_base, data.xquat[self._ee])
        return EndEffector(stamp_ns, position_m, np.roll(quaternion_wxyz, -1))

    def _joints_between(self) -> tuple[str, ...]:
        """Joints on one of the two ways to the root but not on both: those that move one frame against the other."""
        moving = set(self._way_to_root(self._ee)) ^ set(self._way_to_root(self._base))
        model = self._model
        return tuple(model.joint(i).name for i in range(model.njnt) if model.jnt_bodyid[i] in moving)

    def _way_to_root(self, body: int) -> Iterable[int]:
        while body != 0:
            yield body
            body = int(self._model.body_parentid[body])


def skeleton(urdf_text: str) -> str:
    """The URDF with links and joints only: no meshes to find, no inertias or limits to reject. BadInput when the text
    is no XML, no URDF, or has a joint of a type that is not in _JOINT_TYPES."""
    try:
        source = ElementTree.fromstring(urdf_text)
    except ElementTree.ParseError as error:
        raise BadInput(f"robot description is not XML ({error}); publish the URDF, after xacro") from error
    if source.tag != "robot":
        raise BadInput(f"robot description is a <{source.tag}> document; publish a URDF (<robot>)")
    robot = ElementTree.Element("robot", name=source.get("name", "robot"))
    ElementTree.SubElement(ElementTree.SubElement(robot, "mujoco"), "compiler", _COMPILER)
    for link in source.findall("link"):
        ElementTree.SubElement(robot, "link", name=link.get("name", ""))
    for joint in source.findall("joint"):
        _add_joint(robot, joint)
    return ElementTree.tostring(robot, encoding="unicode")


def _add_joint(robot: ElementTree.Element, joint: ElementTree.Element) -> None:
    name, kind = joint.get("name", ""), joint.get("type", "")
    if kind not in _JOINT_TYPES:
        raise BadInput(f"joint {name} of the robot description is {kind!r}, expected one of {', '.join(_JOINT_TYPES)}")
    bare = ElementTree.SubElement(robot, "joint", name=name, type=_JOINT_TYPES[kind])
    bare.extend(part for part in joint if part.tag in _JOINT_PARTS)


def _index(names: Sequence[str], wanted: str, source: str, kind: str) -> int:
    if wanted in names:
        return names.index(wanted)
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise BadInput(f"{source}: no {kind} named {wanted!r}; {hint}There are: {', '.join(names) or 'none'}")
