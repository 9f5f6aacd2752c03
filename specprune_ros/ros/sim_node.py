"""The simulated tabletop as a Franka driver and two cameras would show it, moved by actions, twists or target poses.

Everything runs in the executor's one thread, because the OpenGL context belongs to the thread that made it.
"""

from __future__ import annotations

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
from specprune_ros.ros.run import Failure, run
from specprune_ros.ros.sim_commands import COMMANDS, Gripper
from specprune_ros.sim import panda
from specprune_ros.sim.env import PERIOD_S, SimState, TabletopEnv
from specprune_ros.srv import ResetSim
from specprune_ros.types import EndEffector

PERIOD_NS = round(PERIOD_S * convert.NANOSECONDS)
CLOCK_START_NS = convert.NANOSECONDS
"""Not 0, which means 'no time yet'."""
RESET_PAUSE = 5
"""A reset leaves a gap in all streams, so that nobody takes the new episode for a very fast movement."""


def _parameter(name, default, doc, unit="", bounds=None, choices=None):
    return Parameter(name, default, doc, unit, bounds, choices, live=False)


PARAMETERS = (
    _parameter("seed", 0, "Episode at the start; later ones come by the service ~/reset", bounds=(0, None)),
    _parameter(
        "max_steps",
        TabletopEnv.max_steps,
        "After so many periods since the first action, ~/task says timeout",
        "periods",
        (1, None),
    ),
    _parameter(
        "command_interface",
        "action",
        "What moves the arm; as output.interface of the policy node",
        choices=tuple(COMMANDS),
    ),
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
    _parameter("publish_clock", False, "Publish /clock and stamp with it, instead of the system's time"),
    _parameter("realtime_factor", 1.0, "Speed with publish_clock; 0: as fast as it can", bounds=(0.0, 100.0)),
)


class SimNode:
    """Publishes what the tabletop shows at 20 Hz, and applies one command per period, or holds."""

    def __init__(self):
        self.node = node = Node("sim_node", automatically_declare_parameters_from_overrides=True)
        self._settings = _settings(node)
        self._env = _environment()
        self._images = [
            (camera, node.create_publisher(Image, topic, qos.SENSOR_OUT), f"{camera}_color_optical_frame")
            for camera, topic in zip(TabletopEnv.CAMERAS, Topics().images, strict=True)
        ]
        self._joints = node.create_publisher(JointState, Topics().joint_states, qos.SENSOR_OUT)
        self._pose = node.create_publisher(PoseStamped, Topics().ee_pose, qos.POSE_OUT)
        self._task = node.create_publisher(String, "~/task", qos.LATCHED)
        self._instruction = node.create_publisher(String, "~/instruction", qos.LATCHED)
        self._description = node.create_publisher(String, Topics().robot_description, qos.LATCHED)
        self._description.publish(String(data=panda.robot_urdf()))
        self._clock = node.create_publisher(ClockMessage, "/clock", 1) if self._settings["publish_clock"] else None

        kind = COMMANDS[self._settings["command_interface"]]
        gripper = Gripper(node, self._settings["gripper_topic"], self._settings["gripper_action"])
        self._commands = kind(node, self._settings[kind.parameter], self._now_ns, gripper)
        node.create_service(ResetSim, "~/reset", self._on_reset)
        self._periods = 0
        self._begin(self._settings["seed"])
        factor = self._settings["realtime_factor"]
        period_s = PERIOD_S / factor if factor else 0.0
        node.create_timer(period_s, self._advance, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> bool:
        self._env.close()
        return True

    def _begin(self, seed: int) -> None:
        """A new episode; first the old task ends, so that a policy lets go of it even when the new one reads the same."""
        self._publish_instruction("")
        self._task_text = self._env.reset(seed)
        self._pause = RESET_PAUSE
        self._steps = 0
        self._state = self._env.state()
        self._set_task("running")
        self.node.get_logger().info(f"seed {seed}: {self._task_text}")

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
        self._finger_velocities = (self._state.finger_positions_m - before.finger_positions_m) / PERIOD_S
        if self._env.success():
            self._set_task("success")
        elif self._steps == self._settings["max_steps"]:
            self._set_task("timeout")
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
        self._begin(request.seed)
        response.success, response.instruction = True, self._task_text
        response.message = f"episode of seed {request.seed} begins"
        return response

    def _set_task(self, state: str) -> None:
        """running, success or timeout; the first verdict on an episode stands."""
        if state == "running" or self._verdict == "running":
            self._verdict = state
            self._task.publish(String(data=state))

    def _publish_instruction(self, text: str) -> None:
        """Latched, and said once: saying it again would be a new word, which overrules what was said since by others."""
        self._instruction.publish(String(data=text))

    def _now_ns(self) -> int:
        if self._clock:
            return CLOCK_START_NS + self._periods * PERIOD_NS
        return self.node.get_clock().now().nanoseconds


def _settings(node: Node) -> dict[str, object]:
    """The declared parameters with their values; ConfigError when one is unknown or cannot be used."""
    declared = {parameter.name: parameter for parameter in PARAMETERS}
    given = parameters.take_overrides(node)
    for name in given:
        if name not in declared:
            raise ConfigError(f"unknown parameter {name!r}; sim_node has {', '.join(declared)}")
    values = {name: parameter.check(given.get(name, parameter.default)) for name, parameter in declared.items()}
    for name, parameter in declared.items():
        parameters.declare(node, parameter, values[name])
    if values["realtime_factor"] != 1.0 and not values["publish_clock"]:
        raise ConfigError("realtime_factor: the system's time cannot be sped up; set publish_clock to true")
    return values


def _environment() -> TabletopEnv:
    try:
        return TabletopEnv()
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
