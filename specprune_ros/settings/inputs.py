"""Which topics there are, and what is done to the images that come."""

from __future__ import annotations

from dataclasses import dataclass

from specprune_ros.settings.declaration import param

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
