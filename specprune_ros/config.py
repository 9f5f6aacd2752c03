"""The one declaration of every run-time parameter: default, unit, range, whether it is live, and what it does.

ROS descriptors, the YAML check and the README table derive from this file. A configuration is frozen and validated
whole; a live change builds a new one (`Config.updated`), which the node swaps in at the next inference.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any


class ConfigError(ValueError):
    """A parameter that cannot be used: the text names it, the value, the bound and the remedy."""


def param(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    bounds: tuple[float | None, float | None] | None = None,
    choices: tuple[str, ...] | None = None,
    live: bool = True,
) -> Any:
    """A dataclass field that carries its own documentation.

    bounds: (low, high) inclusive, either may be None; choices: allowed strings; live: may change while the node runs.
    """
    metadata = dict(doc=doc, unit=unit, bounds=bounds, choices=choices, live=live)
    if isinstance(default, (list, tuple)):
        return field(default=tuple(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Parameter:
    """One declared parameter, as ROS, YAML and the documentation see it."""

    name: str
    default: Any
    doc: str
    unit: str
    bounds: tuple[float | None, float | None] | None
    choices: tuple[str, ...] | None
    live: bool

    def check(self, value: Any) -> Any:
        """`value` converted to the declared type, or ConfigError."""
        value = self._typed(value)
        for item in value if isinstance(value, tuple) else (value,):
            self._check_item(item)
        return value

    def _typed(self, value: Any) -> Any:
        kind = type(self.default)
        if kind is tuple:
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise ConfigError(f"{self.name}: expected a list, got {value!r}")
            element = type(self.default[0]) if self.default else str
            return tuple(self._scalar(item, element) for item in value)
        return self._scalar(value, kind)

    def _scalar(self, value: Any, kind: type) -> Any:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not kind:
            raise ConfigError(f"{self.name}: expected {kind.__name__}, got {type(value).__name__} {value!r}")
        return value

    def _check_item(self, value: Any) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{self.name}: {value} is not finite; give a number {self.range_text()}")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{self.name}: {value!r} is not one of {', '.join(self.choices)}")
        if self.bounds:
            low, high = self.bounds
            if (low is not None and value < low) or (high is not None and value > high):
                raise ConfigError(f"{self.name}: {value} is out of range; give a number {self.range_text()}")

    def range_text(self) -> str:
        if not self.bounds:
            return ""
        low, high = self.bounds
        if high is None:
            return f">= {low}"
        if low is None:
            return f"<= {high}"
        return f"in [{low}, {high}]"


@dataclass(frozen=True)
class Static:
    """Action-level static pruning (method.md 1)."""

    enabled: bool = param(True, "Prune visual tokens once per action chunk, after the first decoder layers")
    k_global: int = param(
        30, "Tokens per view taken from the last chunk's attention (K_G)", unit="tokens", bounds=(0, 4096)
    )
    k_dynamic: int = param(
        20, "Tokens per view taken from patches that changed between frames (K_D)", unit="tokens", bounds=(0, 4096)
    )
    k_local_coarse: int = param(
        24,
        "Tokens per view and layer from local attention in coarse mode, before alpha",
        unit="tokens",
        bounds=(0, 4096),
    )
    k_local_fine: int = param(
        40, "Tokens per view and layer from local attention in fine mode, before alpha", unit="tokens", bounds=(0, 4096)
    )
    alpha: float = param(0.8, "Scale of the local counts", bounds=(0.0, 4.0))
    similarity_threshold: float = param(
        0.99, "Patches below this similarity to the reference frame count as changed (tau)", bounds=(-1.0, 1.0)
    )
    similarity: str = param(
        "rgb_cosine",
        "Patch similarity: cosine of raw RGB as published, or brightness-aware 1 - mean absolute difference",
        choices=("rgb_cosine", "absolute"),
    )
    first_pass: str = param("dense", "What the first pass does, while there is no history", choices=("dense", "local"))


@dataclass(frozen=True)
class ReferenceFrame:
    """Which earlier frame the current one is compared with: T = floor(base + slope * v) + offset (method.md 1)."""

    base: float = param(7.0, "b of T = floor(b + k v) + offset", unit="periods", bounds=(0.0, 100.0))
    slope: float = param(
        -1.0,
        "k of T = floor(b + k v) + offset (the first version of the paper: -0.889 with base 7.333)",
        unit="periods",
        bounds=(-100.0, 100.0),
    )
    offset: int = param(4, "Offset of T", unit="periods", bounds=(0, 100))


@dataclass(frozen=True)
class Dynamic:
    """Layer-level dynamic pruning (method.md 2)."""

    enabled: bool = param(True, "Drop more visual tokens on the way through the decoder")
    keep_ratio: float = param(0.9, "Share of the visual tokens kept at each prune layer", bounds=(0.1, 1.0))
    beta: float = param(0.2, "Weight of the newest layer in the moving average of scores", bounds=(0.0, 1.0))
    rank_slope: float = param(0.1, "k of the rank weight sigmoid(-k rank)", bounds=(0.0001, 100.0))
    confidence: str = param(
        "entropy", "Layer confidence: 1 / entropy (paper v3) or mean / std (v1)", choices=("entropy", "mean_std")
    )
    min_tokens: int = param(32, "Never fewer visual tokens than this", unit="tokens", bounds=(1, 4096))


@dataclass(frozen=True)
class Controller:
    """Action-aware controller (method.md 3); thresholds in normalised action units per control period."""

    enabled: bool = param(True, "Choose coarse or fine mode from the measured motion; off: always fine")
    enter_linear: float = param(0.4, "Fine mode needs translation below this", unit="action units", bounds=(0.0, 10.0))
    enter_angular: float = param(0.2, "Fine mode needs rotation below this", unit="action units", bounds=(0.0, 10.0))
    exit_linear: float = param(0.4, "Translation above this leaves fine mode", unit="action units", bounds=(0.0, 10.0))
    exit_angular: float = param(0.3, "Rotation above this leaves fine mode", unit="action units", bounds=(0.0, 10.0))
    exit_dz: float = param(0.2, "Upward motion above this leaves fine mode", unit="action units", bounds=(0.0, 10.0))
    replan_on_fine: bool = param(
        True, "On coarse -> fine in the middle of a chunk, drop the rest of the chunk and replan"
    )


@dataclass(frozen=True)
class Pruning:
    """How hard visual tokens are pruned."""

    preset: str = param(
        "paper",
        "Sets aggressiveness and switches all parts of the method on; changing one of those makes it custom",
        choices=("conservative", "paper", "aggressive", "custom"),
    )
    aggressiveness: float = param(
        0.5, "0 is exactly the dense model, 0.5 the paper's setting, 1 the hardest", bounds=(0.0, 1.0)
    )
    static: Static = field(default_factory=Static)
    reference: ReferenceFrame = field(default_factory=ReferenceFrame)
    dynamic: Dynamic = field(default_factory=Dynamic)
    controller: Controller = field(default_factory=Controller)


@dataclass(frozen=True)
class ActionScale:
    """What the policy's numbers mean on this robot (`model.units`)."""

    units: str = param(
        "auto",
        "Numbers that the policy was trained on: normalised (1 is one action unit), or metres and radians in one "
        "control period (Bridge, Fractal); auto: as the checkpoint says, else normalised, and refused where its "
        "statistics look like metres",
        choices=("auto", "normalised", "metres"),
        live=False,
    )
    scale_translation: float = param(
        0.05,
        "Translation of one action unit per control period, the most that one action may ask for",
        unit="m",
        bounds=(1e-4, 1.0),
        live=False,
    )
    scale_rotation: float = param(
        0.5,
        "Rotation of one action unit per control period, the most that one action may ask for",
        unit="rad",
        bounds=(1e-3, 3.2),
        live=False,
    )
    frame: str = param(
        "base",
        "Frame of translation and rotation: the robot's base, or the end effector at the moment of the command",
        choices=("base", "ee"),
        live=False,
    )
    rotation: str = param(
        "axis_angle",
        "Rotation dimensions: axis-angle vector, or roll, pitch, yaw about fixed axes",
        choices=("axis_angle", "rpy"),
        live=False,
    )
    gripper: str = param(
        "open_is_one",
        "Gripper dimension: 0 closed .. 1 open, or 0 open .. 1 closed",
        choices=("open_is_one", "open_is_zero"),
        live=False,
    )


@dataclass(frozen=True)
class Limits:
    """What may be commanded, in the order in which it is applied. The defaults are for a first day on a real arm."""

    step_translation: float = param(0.05, "Longest translation in one control period", unit="m", bounds=(0.0, 0.2))
    step_rotation: float = param(0.5, "Largest rotation in one control period", unit="rad", bounds=(0.0, 3.2))
    linear_speed: float = param(0.1, "Highest translational speed", unit="m/s", bounds=(0.0, 3.0))
    angular_speed: float = param(0.5, "Highest rotational speed", unit="rad/s", bounds=(0.0, 20.0))
    linear_acceleration: float = param(
        2.0, "Largest change of the translational velocity", unit="m/s^2", bounds=(0.01, 1000.0)
    )
    angular_acceleration: float = param(
        10.0, "Largest change of the rotational velocity", unit="rad/s^2", bounds=(0.01, 10000.0)
    )
    linear_jerk: float = param(
        40.0,
        "Largest change of the translational acceleration, between chunks as well",
        unit="m/s^3",
        bounds=(0.01, 1e6),
    )
    angular_jerk: float = param(
        200.0,
        "Largest change of the rotational acceleration, between chunks as well",
        unit="rad/s^3",
        bounds=(0.01, 1e7),
    )
    workspace_min: tuple = param(
        (0.2, -0.5, 0.0), "Lowest x, y, z of the end effector in the base frame", unit="m", bounds=(-5.0, 5.0)
    )
    workspace_max: tuple = param(
        (0.8, 0.5, 0.8), "Highest x, y, z of the end effector in the base frame", unit="m", bounds=(-5.0, 5.0)
    )


@dataclass(frozen=True)
class Safety:
    """Arming, and what happens when commands stop."""

    auto_arm: bool = param(
        False, "Arm without being asked, as soon as nothing speaks against it: for simulations only", live=False
    )
    hold_timeout: float = param(
        2.0, "Holding longer than this while armed disarms; 0: never", unit="s", bounds=(0.0, 3600.0)
    )
    stop_cycles: int = param(
        3,
        "Messages of no motion that are sent when commands stop, before silence",
        unit="periods",
        bounds=(1, 100),
        live=False,
    )


@dataclass(frozen=True)
class Supervision:
    """What must be true of an armed arm: it follows its commands, and moves only by them. Otherwise the node disarms."""

    enabled: bool = param(True, "Compare commanded and measured motion while armed, and disarm when they disagree")
    delay: float = param(0.1, "Time that the arm may take before it answers a command", unit="s", bounds=(0.0, 2.0))
    follow_translation: float = param(
        0.01,
        "Commanded translation that must show in the measured pose, apart from that of the last `delay`",
        unit="m",
        bounds=(0.001, 1.0),
    )
    follow_rotation: float = param(
        0.1,
        "Commanded rotation that must show in the measured pose, apart from that of the last `delay`",
        unit="rad",
        bounds=(0.01, 6.0),
    )
    drift_translation: float = param(
        0.025, "Measured translation that no command explains", unit="m", bounds=(0.001, 1.0)
    )
    drift_rotation: float = param(0.15, "Measured rotation that no command explains", unit="rad", bounds=(0.01, 6.0))
    error_translation: float = param(
        0.05, "With target_pose: distance of the measured pose from the target", unit="m", bounds=(0.001, 0.5)
    )
    error_rotation: float = param(
        0.3, "With target_pose: angle between the measured pose and the target", unit="rad", bounds=(0.01, 3.1)
    )


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
        "installed, else the topic. Action: Franka's grasp and move where franka_msgs is installed and they are served, "
        "else GripperCommand",
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


IMAGE_ROTATIONS = (0, 90, 180, 270)
IMAGE_FLIPS = ("none", "horizontal", "vertical")


@dataclass(frozen=True)
class Topics:
    """Where data comes from and goes to; names as a standard Franka publishes them."""

    images: tuple = param(
        ("/camera/third_person/color/image_raw", "/camera/wrist/color/image_raw"),
        "One image topic per view, in the order of the policy's views",
        live=False,
    )
    image_transport: str = param(
        "raw",
        "sensor_msgs/Image on the image topics, or sensor_msgs/CompressedImage (JPEG, PNG) on <topic>/compressed",
        choices=("raw", "compressed"),
        live=False,
    )
    image_qos: str = param(
        "auto",
        "Reliability of the image subscriptions; auto: reliable where every publisher of the topic offers that",
        choices=("auto", "best_effort", "reliable"),
        live=False,
    )
    image_rotations: tuple = param(
        (0, 0),
        "Clockwise rotation of each view before anything else sees it: 0, 90, 180 or 270 (LIBERO policies: 180)",
        unit="deg",
        live=False,
    )
    image_flips: tuple = param(
        ("none", "none"),
        "Flip of each view, after its rotation: none, horizontal (left becomes right) or vertical (top becomes bottom)",
        live=False,
    )
    image_max_side: int = param(
        640,
        "Images with a longer side are halved, by the mean of 2 x 2 pixels, until it fits; 0: never",
        unit="pixels",
        bounds=(0, 8192),
        live=False,
    )
    joint_states: str = param(
        "/joint_states", "sensor_msgs/JointState with arm joints and fingers, from one publisher or several", live=False
    )
    finger_states: str = param(
        "", "sensor_msgs/JointState with the fingers, where they are not in joint_states", live=False
    )
    ee_pose: str = param(
        "/franka_robot_state_broadcaster/current_pose",
        "geometry_msgs/PoseStamped of the end effector in the base frame",
        live=False,
    )
    franka_robot_state: str = param(
        "/franka_robot_state_broadcaster/robot_state",
        "franka_msgs/FrankaRobotState, read where franka_msgs is installed: reflex, user stop and guiding keep the arm "
        "from being armed, and disarm it; empty: not read",
        live=False,
    )
    robot_description: str = param(
        "/robot_description", "URDF, for forward kinematics when motion comes from joints", live=False
    )
    instruction: str = param("~/instruction", "std_msgs/String that sets the instruction", live=False)
    action: str = param("~/action", "specprune_ros/Action out", live=False)
    servo_twist: str = param(
        "/servo_node/delta_twist_cmds", "geometry_msgs/TwistStamped out, for MoveIt Servo", live=False
    )
    servo_node: str = param("/servo_node", "MoveIt Servo's node: its command type service and its status", live=False)
    target_pose: str = param(
        "/target_pose", "geometry_msgs/PoseStamped out, for a Cartesian impedance controller", live=False
    )
    gripper_action: str = param(
        "/franka_gripper/gripper_action", "control_msgs/action/GripperCommand server", live=False
    )
    franka_gripper: str = param(
        "/franka_gripper",
        "Node of Franka's gripper, with the actions grasp, move and homing below it; empty: do not use them",
        live=False,
    )
    gripper: str = param(
        "~/gripper",
        "std_msgs/Float64 out, gripper position on change, where no action server is used",
        unit="m",
        live=False,
    )
    chunk: str = param("~/chunk", "specprune_ros/ActionChunk out", live=False)
    status: str = param("~/status", "specprune_ros/PruningStatus out", live=False)
    debug_image: str = param(
        "~/debug_image",
        "sensor_msgs/Image with the kept tokens of all views; below it one topic per view, e.g. ~/debug_image/wrist",
        live=False,
    )


@dataclass(frozen=True)
class Pictures:
    """What a camera's picture must be like for the arm to move by it."""

    check: bool = param(True, "Hold when a picture is black, white, even, noise or stuck: something is wrong there")
    dark: float = param(12.0, "A mean brightness below this, without contrast, is black", bounds=(0.0, 255.0))
    bright: float = param(243.0, "A mean brightness above this, without contrast, is white", bounds=(0.0, 255.0))
    contrast: float = param(
        6.0, "A black or white picture has less contrast: standard deviation of brightness", bounds=(0.0, 255.0)
    )
    even: float = param(1.0, "A picture with less contrast shows nothing, whatever its colour", bounds=(0.0, 255.0))
    noise: float = param(
        0.25, "A picture whose pixels a few apart correlate less is noise; a scene has 0.5 or more", bounds=(0.0, 1.0)
    )
    stuck_translation: float = param(
        0.02,
        "A camera whose picture has not changed by one bit while the arm moved farther is stuck",
        unit="m",
        bounds=(0.0, 1.0),
    )
    stuck_rotation: float = param(0.1, "As stuck_translation, for rotation", unit="rad", bounds=(0.0, 3.2))


@dataclass(frozen=True)
class Robot:
    """Names and frames of the arm."""

    state_source: str = param(
        "ee_pose",
        "Where end-effector pose and motion come from: a pose topic, TF at the stamps of the images, or joint states and the robot description",
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


@dataclass(frozen=True)
class Policy:
    """Which policy runs and how."""

    checkpoint: str = param(
        "", "Folder or Hugging Face hub id of an OpenVLA-OFT style checkpoint; empty: the bundled policy", live=False
    )
    device: str = param("auto", "Where the model runs", choices=("auto", "cpu", "cuda"), live=False)
    dtype: str = param(
        "auto",
        "Arithmetic of the model; auto: bf16 where the machine is fast at it",
        choices=("auto", "bf16", "fp32"),
        live=False,
    )
    engine: str = param(
        "auto",
        "How passes run; auto: captured CUDA graphs on a GPU, OpenVINO on a CPU where it is installed, else op by op",
        choices=("auto", "eager", "graph", "openvino"),
        live=False,
    )
    cache_dir: str = param(
        "",
        "Folder for models converted by OpenVINO; empty: ~/.cache/specprune_ros, or as XDG_CACHE_HOME says",
        live=False,
    )
    unnorm_key: str = param("", "Dataset in dataset_statistics.json to normalise with; empty: the only one", live=False)
    views: int = param(
        0, "Cameras the policy was trained with; 0: as the checkpoint says, else 2", bounds=(0, 8), live=False
    )
    proprio: str = param(
        "auto",
        "Whether the policy takes a proprio token; auto: as the checkpoint's files say",
        choices=("auto", "on", "off"),
        live=False,
    )
    center_crop: str = param(
        "auto",
        "Crop to the middle 90 % of the area; auto: as the checkpoint says, else on",
        choices=("auto", "on", "off"),
        live=False,
    )
    chunk_steps: int = param(0, "Actions in a chunk; 0: as the checkpoint says, else 8", bounds=(0, 256), live=False)
    normalisation: str = param(
        "auto",
        "Bounds of actions and proprio: q01..q99 or min..max; auto: as the checkpoint says, else quantiles",
        choices=("auto", "quantiles", "min_max"),
        live=False,
    )
    compile: bool = param(False, "torch.compile the stages (slower start)", live=False)
    threads: int = param(
        0,
        "CPU threads of the model; 0: half of the cores, the rest is for control, DDS and drivers",
        bounds=(0, 256),
        live=False,
    )
    nice: int = param(
        5,
        "How far the model's process stands back behind control and drivers when they want the same core (nice value)",
        bounds=(0, 19),
        live=False,
    )
    spare_cores: int = param(
        1,
        "Cores that the model's process leaves to control, DDS and drivers, where it does not need them for its threads",
        bounds=(0, 256),
        live=False,
    )
    inference_timeout: float = param(
        0.0,
        "An inference without an answer for this long hangs: its process is ended and started again; "
        "0: five times control.chunk_timeout",
        unit="s",
        bounds=(0.0, 3600.0),
    )
    restarts: int = param(
        3,
        "How often in a row the model's process is started again after it died, hung or kept failing; 0: never",
        bounds=(0, 100),
        live=False,
    )


@dataclass(frozen=True)
class Config:
    """Everything the node, the evaluation and the benchmark can be told."""

    instruction: str = param("", "What the robot should do; empty: wait for the topic")
    debug_image: bool = param(True, "Publish debug images, each only while somebody subscribes to it")
    auto_activate: bool = param(
        True, "Configure and activate without being asked; false: wait for a lifecycle manager", live=False
    )
    pruning: Pruning = field(default_factory=Pruning)
    control: Control = field(default_factory=Control)
    action: ActionScale = field(default_factory=ActionScale)
    limits: Limits = field(default_factory=Limits)
    safety: Safety = field(default_factory=Safety)
    supervision: Supervision = field(default_factory=Supervision)
    output: Output = field(default_factory=Output)
    realtime: RealTime = field(default_factory=RealTime)
    policy: Policy = field(default_factory=Policy)
    topics: Topics = field(default_factory=Topics)
    pictures: Pictures = field(default_factory=Pictures)
    robot: Robot = field(default_factory=Robot)

    def __post_init__(self) -> None:
        rules(self)

    def get(self, name: str) -> Any:
        """Value of the dotted parameter `name`."""
        value = self
        for part in lookup(name).name.split("."):
            value = getattr(value, part)
        return value

    def updated(self, changes: Mapping[str, Any]) -> Config:
        """A new configuration with dotted names changed, validated whole; ConfigError when anything is wrong.

        A preset among the changes brings its values along, except those that are changed explicitly; the result's preset
        says what is in force: `custom` where a value is not the preset's.
        """
        checked = {name: lookup(name).check(value) for name, value in with_preset(changes).items()}
        changed = _replaced(self, checked)
        values = PRESETS.get(changed.pruning.preset, {})
        if any(changed.get(name) != value for name, value in values.items()):
            changed = _replaced(changed, {PRESET: CUSTOM})
        return changed

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Config:
        """Configuration from nested or dotted names, defaults elsewhere."""
        return cls().updated(dict(flattened(values)))


PRESET, CUSTOM = "pruning.preset", "custom"
_WHOLE_METHOD = {
    "pruning.static.enabled": True,
    "pruning.dynamic.enabled": True,
    "pruning.controller.enabled": True,
}
PRESETS: dict[str, dict[str, Any]] = {
    "conservative": {"pruning.aggressiveness": 0.25} | _WHOLE_METHOD,
    "paper": {"pruning.aggressiveness": 0.5} | _WHOLE_METHOD,
    "aggressive": {"pruning.aggressiveness": 0.8} | _WHOLE_METHOD,
}
"""The values that `pruning.preset` stands for; `custom` stands for none."""

PRESET_NAMES = (PRESET, *PRESETS["paper"])
"""Parameters that change together."""


def with_preset(changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes`, and what a preset among them sets besides what they set explicitly."""
    preset = changes.get(PRESET)
    return {**(PRESETS.get(preset, {}) if isinstance(preset, str) else {}), **changes}


def rules(config: Config) -> None:
    """What must hold between parameters."""
    control, controller = config.control, config.pruning.controller
    if control.lead_steps >= control.execute_steps:
        raise ConfigError(
            f"control.lead_steps: {control.lead_steps} must be below control.execute_steps ({control.execute_steps})"
        )
    hang_s = config.policy.inference_timeout
    if 0.0 < hang_s <= control.chunk_timeout:
        raise ConfigError(
            f"policy.inference_timeout: {hang_s} s must be above control.chunk_timeout ({control.chunk_timeout} s): an "
            "inference that takes less is slow and still useful; or give 0 for five times control.chunk_timeout"
        )
    for axis in ("linear", "angular"):
        enter, leave = getattr(controller, f"enter_{axis}"), getattr(controller, f"exit_{axis}")
        if leave < enter:
            raise ConfigError(
                f"pruning.controller.exit_{axis}: {leave} is below enter_{axis} ({enter}); the mode would flicker"
            )
    limits = config.limits
    for name in ("workspace_min", "workspace_max"):
        if len(getattr(limits, name)) != 3:
            raise ConfigError(f"limits.{name}: {list(getattr(limits, name))} has not the three numbers x, y, z")
    for axis, low, high in zip("xyz", limits.workspace_min, limits.workspace_max, strict=True):
        if low >= high:
            raise ConfigError(f"limits.workspace_max: {axis} {high} is not above limits.workspace_min ({low})")
    fingers = config.robot.finger_joints
    if len(fingers) != 2:
        raise ConfigError(f"robot.finger_joints: {list(fingers)} are not two names; name a single measured joint twice")
    _view_rules(config.topics)


def _view_rules(topics: Topics) -> None:
    """What must hold between the lists that have one entry per view."""
    views = len(topics.images)
    if not views:
        raise ConfigError("topics.images: the list is empty; give one image topic per view")
    for name, values, allowed in (
        ("image_rotations", topics.image_rotations, IMAGE_ROTATIONS),
        ("image_flips", topics.image_flips, IMAGE_FLIPS),
    ):
        for value in values:
            if value not in allowed:
                raise ConfigError(f"topics.{name}: {value!r} is not one of {', '.join(map(str, allowed))}")
        if len(values) != views and set(values) - {allowed[0]}:
            raise ConfigError(
                f"topics.{name}: {len(values)} values for {views} image topics; give one per view, in their order"
            )


def check_views(topics: Topics, views: int) -> None:
    """ConfigError unless there is one image topic per view of the policy."""
    if len(topics.images) != views:
        raise ConfigError(
            f"topics.images: {len(topics.images)} topics for a policy with {views} views; give one per view, "
            "in the policy's order"
        )


def parameters() -> tuple[Parameter, ...]:
    """All declared parameters in the order of declaration."""
    return tuple(_walk(Config(), ""))


def lookup(name: str) -> Parameter:
    """The declaration of a dotted name; ConfigError with the nearest names when there is none."""
    declared = _by_name()
    if name not in declared:
        near = difflib.get_close_matches(name, declared, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see the parameter table in the README"
        raise ConfigError(f"unknown parameter {name!r}; {hint}")
    return declared[name]


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) pairs of a nested mapping, as in a ROS YAML file below `ros__parameters`."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flattened(value, name + ".")
        else:
            yield name, value


def _by_name() -> dict[str, Parameter]:
    global _TABLE
    if _TABLE is None:
        _TABLE = {parameter.name: parameter for parameter in parameters()}
    return _TABLE


_TABLE: dict[str, Parameter] | None = None


def _walk(node: Any, prefix: str) -> Iterator[Parameter]:
    for item in fields(node):
        value = getattr(node, item.name)
        if is_dataclass(value):
            yield from _walk(value, f"{prefix}{item.name}.")
        else:
            yield Parameter(name=prefix + item.name, default=value, **item.metadata)


def _replaced(node: Any, changes: Mapping[str, Any]) -> Any:
    own: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        if rest:
            groups.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    for head, inner in groups.items():
        own[head] = _replaced(getattr(node, head), inner)
    return replace(node, **own)
