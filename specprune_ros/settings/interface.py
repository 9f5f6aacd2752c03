"""How the node meets the robot: real time, outputs, execution of chunks, topics, pictures, names and frames."""

from __future__ import annotations

from dataclasses import dataclass

from specprune_ros.settings.declaration import param


@dataclass(frozen=True)
class RealTime:
    """What the process asks of the operating system; what is refused is reported and not needed."""

    priority: int = param(
        0, "SCHED_FIFO priority of the control thread; 0: ordinary scheduling", bounds=(0, 98), live=False
    )
    lock_memory: bool = param(False, "Keep the process in memory (mlockall)", live=False)


@dataclass(frozen=True)
class Output:
    """How commands leave the node."""

    interface: str = param(
        "action",
        "specprune_ros/Action, MoveIt Servo's TwistStamped, or an absolute target PoseStamped (CRISP)",
        choices=("action", "servo_twist", "target_pose"),
        live=False,
    )
    switch_servo: bool = param(
        True, "Switch MoveIt Servo to twist commands when armed, and obey its status; needs moveit_msgs", live=False
    )
    gripper: str = param(
        "auto",
        "Gripper of servo_twist and target_pose: an action, a topic, or none; auto: the action where control_msgs is "
        "installed, else the topic. Action: Franka's grasp and move where franka_msgs is installed and they are "
        "served, else GripperCommand",
        choices=("auto", "action", "topic", "none"),
        live=False,
    )
    gripper_width: float = param(
        0.04,
        "Position of the open gripper in a gripper command: half its width on a Franka",
        unit="m",
        bounds=(0.001, 0.5),
        live=False,
    )
    gripper_tolerance: float = param(
        0.002,
        "A gripper that cannot open as far as gripper_width is asked for so much less: hands of one model differ",
        unit="m",
        bounds=(0.0, 0.1),
        live=False,
    )
    gripper_effort: float = param(
        20.0, "Largest effort of a gripper command", unit="N", bounds=(0.0, 200.0), live=False
    )
    gripper_speed: float = param(
        0.1, "Speed at which a Franka Hand opens and closes", unit="m/s", bounds=(0.001, 0.5), live=False
    )
    gripper_homing: bool = param(
        False,
        "Home a Franka Hand before the first arming: its fingers move all the way, nothing may be between them",
        live=False,
    )
    gripper_hysteresis: float = param(
        0.1, "A gripper command changes only when the wanted opening is this far beyond the middle", bounds=(0.0, 0.49)
    )


@dataclass(frozen=True)
class Control:
    """Time-indexed execution of action chunks."""

    rate: float = param(
        20.0, "Control rate; the policy was trained at this rate", unit="Hz", bounds=(1.0, 200.0), live=False
    )
    execute_steps: int = param(
        8, "Steps of a chunk to execute before the next one is wanted", unit="periods", bounds=(1, 256)
    )
    lead_steps: int = param(
        4, "Start the next inference this many periods before the steps run out", unit="periods", bounds=(0, 255)
    )
    blend_steps: int = param(
        2, "Periods over which a new chunk is blended with the rest of the old one", unit="periods", bounds=(0, 64)
    )
    observation_timeout: float = param(
        0.3,
        "Oldest acceptable image or state; a longer pause between two of them is a gap, after which plan and memory "
        "start anew",
        unit="s",
        bounds=(0.01, 10.0),
    )
    chunk_timeout: float = param(
        1.0, "Oldest acceptable chunk, measured from its observation", unit="s", bounds=(0.05, 10.0)
    )


@dataclass(frozen=True)
class Robot:
    """Names and frames of the arm."""

    state_source: str = param(
        "ee_pose",
        "Where end-effector pose and motion come from: a pose topic, TF at the stamps of the images, or joint states "
        "and the robot description",
        choices=("ee_pose", "tf", "joints"),
        live=False,
    )
    base_frame: str = param("fr3_link0", "Frame of poses and actions", live=False)
    pose_frame: str = param(
        "",
        "Another name of base_frame that the pose topic may be stamped with; empty: none, apart from `base` where "
        "base_frame is a Franka's <arm>_link0, as franka_ros2 stamps poses with the root of its URDF",
        live=False,
    )
    ee_frame: str = param("fr3_hand_tcp", "End-effector frame, for tf and joints", live=False)
    finger_joints: tuple = param(
        ("fr3_finger_joint1", "fr3_finger_joint2"),
        "Left and right gripper joint; twice the same where one is measured",
        live=False,
    )

    @property
    def same_frames(self) -> tuple[str, ...]:
        """Names other than base_frame that a measured pose may be stamped with, because they mean the same frame."""
        name = self.pose_frame or ("base" if self.base_frame.endswith("_link0") else self.base_frame)
        return () if name == self.base_frame else (name,)
