"""The simulated tabletop as a Franka driver and two cameras would show it, moved by actions, twists or target poses.

Everything runs in the executor's one thread, because the OpenGL context belongs to the thread that made it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from specprune_ros.config import ConfigError, Parameter, Robot, Topics
from specprune_ros.ros import convert, parameters, qos
from specprune_ros.ros.failure import Failure
from specprune_ros.ros.run import run
from specprune_ros.ros.sim_commands import COMMANDS, GripperInput
from specprune_ros.sim import panda, verdict
from specprune_ros.sim.env import CONTROL_RATES_HZ, DEFAULT_RATE_HZ, SimState, TabletopEnv
from specprune_ros.sim.suites import SUITES
from specprune_ros.srv import ResetSim
from specprune_ros.types import EndEffector

CLOCK_START_NS = convert.NANOSECONDS
"""Not 0, which means 'no time yet'."""
RESET_PAUSE_S = 0.5
"""A reset leaves a gap in all streams, so that nobody takes the new episode for a very fast movement."""


def _parameter(name, default, doc, unit="", bounds=None, choices=None):
    return Parameter(name, default, doc, unit, bounds, choices, live=False)


TOPICS = (
    _parameter("image_topics", Topics().images, f"sensor_msgs/Image out: {', '.join(TabletopEnv.CAMERAS)}"),
    _parameter("joint_states_topic", Topics().joint_states, "sensor_msgs/JointState out: arm and fingers"),
    _parameter("ee_pose_topic", Topics().ee_pose, "geometry_msgs/PoseStamped out: fr3_hand_tcp in the base frame"),
    _parameter("robot_description_topic", Topics().robot_description, "std_msgs/String out: the URDF, latched"),
    _parameter("instruction_topic", "~/instruction", "std_msgs/String out: the task in words, latched and repeated"),
    _parameter("action_topic", "policy_node/action", "specprune_ros/Action in"),
    _parameter(
        "twist_topic", Topics().servo_twist, "geometry_msgs/TwistStamped in; one moves for 0.1 s, as with MoveIt Servo"
    ),
    _parameter("pose_topic", Topics().target_pose, "geometry_msgs/PoseStamped in; the arm stays at the last one"),
    _parameter(
        "gripper_topic", "policy_node/gripper", "std_msgs/Float64 in, position of one finger; not with actions", "m"
    ),
    _parameter(
        "gripper_action",
        Topics().gripper_action,
        "control_msgs/action/GripperCommand in, where control_msgs is installed",
    ),
)
"""The defaults are the names that a Franka driver and two cameras use."""

PARAMETERS = (
    _parameter("seed", 0, "Episode at the start; later ones come by the service ~/reset", bounds=(0, None)),
    _parameter(
        "suite",
        "pick",
        "Kind of task: pick a cube; which object; which by its place (spatial); which verb (goal); two in a row (long)",
        choices=tuple(SUITES),
    ),
    _parameter(
        "control_rate",
        DEFAULT_RATE_HZ,
        "Periods in a second of simulated time, each with one command and one image per camera; as control.rate of the "
        "policy node",
        "Hz",
        CONTROL_RATES_HZ,
    ),
    _parameter(
        "max_steps",
        0,
        "After so many periods since the first action, ~/task says timeout; 0: as many as the task allows",
        "periods",
        (0, None),
    ),
    _parameter(
        "command_interface",
        "action",
        "What moves the arm; as output.interface of the policy node",
        choices=tuple(COMMANDS),
    ),
    _parameter(
        "relative_topics",
        False,
        "Drop the leading / of every topic that is not named here by a parameter of its own, so that the node's "
        "namespace moves them too: several simulators side by side (/clock stays one for all)",
    ),
    *TOPICS,
    _parameter("publish_clock", False, "Publish /clock and stamp with it, instead of the system's time"),
    _parameter("realtime_factor", 1.0, "Speed with publish_clock; 0: as fast as it can", bounds=(0.0, 100.0)),
)


class SimNode:
    """Publishes what the tabletop shows once per control period, and applies one command in each, or holds."""

    def __init__(self):
        self.node = node = Node("sim_node", automatically_declare_parameters_from_overrides=True)
        self._settings = settings = _settings(node)
        self._env = _environment(settings["control_rate"])
        self._images = [
            (camera, node.create_publisher(Image, topic, qos.SENSOR_OUT), f"{camera}_color_optical_frame")
            for camera, topic in zip(TabletopEnv.CAMERAS, settings["image_topics"], strict=True)
        ]
        self._joints = node.create_publisher(JointState, settings["joint_states_topic"], qos.SENSOR_OUT)
        self._pose = node.create_publisher(PoseStamped, settings["ee_pose_topic"], qos.POSE_OUT)
        self._task = node.create_publisher(String, "~/task", qos.LATCHED)
        self._instruction = node.create_publisher(String, settings["instruction_topic"], qos.LATCHED)
        self._description = node.create_publisher(String, settings["robot_description_topic"], qos.LATCHED)
        self._description.publish(String(data=panda.robot_urdf()))
        self._clock = node.create_publisher(ClockMessage, "/clock", 1) if settings["publish_clock"] else None

        kind = COMMANDS[settings["command_interface"]]
        gripper = GripperInput(node, settings["gripper_topic"], settings["gripper_action"])
        self._commands = kind(node, settings[kind.parameter], self._env.period_s, self._now_ns, gripper)
        node.create_service(ResetSim, "~/reset", self._on_reset)
        self._periods = 0
        self._begin(settings["seed"], settings["suite"])
        factor = settings["realtime_factor"]
        period_s = self._env.period_s / factor if factor else 0.0
        node.create_timer(period_s, self._advance, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> bool:
        self._env.close()
        return True

    def _begin(self, seed: int, suite: str) -> None:
        """A new episode; first the old task ends, so that a policy lets go of it even when the new one reads the
        same."""
        self._publish_instruction("")
        self._task_text = self._env.reset(seed, suite=suite)
        self._pause = self._in_periods(RESET_PAUSE_S)
        self._steps = 0
        self._state = self._env.state()
        self._set_task(verdict.RUNNING)
        self.node.get_logger().info(f"suite {suite}, seed {seed}: {self._task_text}")

    def _advance(self) -> None:
        """One control period."""
        self._periods += 1
        if self._pause:
            self._pause -= 1
            self._commands.clear()
            if not self._pause:
                self._publish_instruction(self._task_text)
        else:
            self._move()
            self._publish(self._now_ns())
        if self._clock:  # last: who wakes up by the clock finds everything else there
            self._clock.publish(ClockMessage(clock=convert.header(self._now_ns(), "").stamp))

    def _move(self) -> None:
        before, moved = self._state, self._commands.step(self._env)
        commanded = moved is not None
        self._state = moved or self._env.hold()
        self._finger_velocities = (self._state.finger_positions_m - before.finger_positions_m) / self._env.period_s
        if self._env.success():
            self._set_task(verdict.SUCCESS)
        elif self._steps == (self._settings["max_steps"] or self._env.max_steps):
            self._set_task(verdict.TIMEOUT)
        self._steps += commanded or self._steps > 0  # the time to act begins with the first action

    def _publish(self, now_ns: int) -> None:
        for camera, publisher, frame in self._images:
            publisher.publish(convert.image(self._env.render(camera), convert.header(now_ns, frame)))
        state = self._state
        pose = EndEffector(now_ns, state.ee_position_m, state.ee_quaternion_xyzw)
        self._pose.publish(convert.pose(pose, Robot().base_frame))
        self._joints.publish(_joint_state(state, self._finger_velocities, now_ns))

    def _on_reset(self, request: ResetSim.Request, response: ResetSim.Response) -> ResetSim.Response:
        if request.seed < 0:
            response.message = f"seed {request.seed} is negative; give one >= 0"
            return response
        suite = request.suite or self._settings["suite"]
        if suite not in SUITES:
            response.message = f"suite {suite!r} is not known; give one of {', '.join(SUITES)}"
            return response
        self._begin(request.seed, suite)
        response.success, response.instruction = True, self._task_text
        response.message = f"episode of seed {request.seed} of suite {suite} begins"
        return response

    def _set_task(self, state: str) -> None:
        """Publish what is known of the episode (`sim.verdict`); its first verdict stands."""
        if state == verdict.RUNNING or self._verdict == verdict.RUNNING:
            self._verdict = state
            self._task.publish(String(data=state))

    def _publish_instruction(self, text: str) -> None:
        """Published once, latched. Publishing it again would count as a new instruction and override a later one from
        somebody else."""
        self._instruction.publish(String(data=text))

    def _in_periods(self, seconds: float) -> int:
        """The least number of control periods that last as long."""
        return math.ceil(seconds * self._env.control_rate)

    def _now_ns(self) -> int:
        if self._clock:
            return CLOCK_START_NS + self._periods * round(self._env.period_s * convert.NANOSECONDS)
        return self.node.get_clock().now().nanoseconds


def _settings(node: Node) -> dict[str, object]:
    """The declared parameters with their values; ConfigError when one is unknown or cannot be used."""
    declared = {parameter.name: parameter for parameter in PARAMETERS}
    given = parameters.take_overrides(node, declared)
    for name in given:
        if name not in declared:
            raise ConfigError(f"unknown parameter {name!r}; sim_node has {', '.join(declared)}")
    values = {name: parameter.check(given.get(name, parameter.default)) for name, parameter in declared.items()}
    if values["relative_topics"]:
        values |= {topic.name: _relative(topic.default) for topic in TOPICS if topic.name not in given}
    names = values["image_topics"]
    if len(names) != len(TabletopEnv.CAMERAS):
        raise ConfigError(
            f"image_topics: {len(names)} names for {len(TabletopEnv.CAMERAS)} cameras; give one each for "
            f"{', '.join(TabletopEnv.CAMERAS)}"
        )
    for name, parameter in declared.items():
        parameters.declare(node, parameter, values[name])
    if values["realtime_factor"] != 1.0 and not values["publish_clock"]:
        raise ConfigError("realtime_factor: the system's time cannot be sped up; set publish_clock to true")
    return values


def _relative(names):
    """The name, or each of a tuple of names, below the node's namespace instead of below /."""
    return names.lstrip("/") if isinstance(names, str) else tuple(name.lstrip("/") for name in names)


def _environment(control_rate: float) -> TabletopEnv:
    try:
        return TabletopEnv(control_rate=control_rate)
    except Exception as error:  # MuJoCo's and OpenGL's errors have no common class
        raise Failure(
            f"the simulator cannot start: {error}; rendering without a display needs EGL "
            "(Debian, Ubuntu: apt install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0)"
        ) from error


def _joint_state(state: SimState, finger_velocities: np.ndarray, now_ns: int) -> JointState:
    return JointState(
        header=convert.header(now_ns, Robot().base_frame),
        name=[*panda.ARM_JOINTS, *panda.FINGER_JOINTS],
        position=[*state.joint_positions_rad, *state.finger_positions_m],
        velocity=[*state.joint_velocities, *finger_velocities],
    )


def main(args: Sequence[str] | None = None) -> int:
    return run(SimNode, args)


if __name__ == "__main__":
    sys.exit(main())
