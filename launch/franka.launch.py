"""The policy on a Franka. `ros2 launch specprune_ros franka.launch.py bringup:=true robot_ip:=172.16.0.2`

Cameras, and MoveIt Servo or a Cartesian controller for the commands, are started apart from this
(docs/how_to/franka.md). Nothing moves before `ros2 service call /policy_node/arm std_srvs/srv/Trigger`.
"""

from pathlib import Path

HERE = Path(__file__).parent

ARGUMENTS = (
    # (name, default, what it does); the rest: bringup.launch.py
    ("params_file", str(HERE.parent / "config" / "franka.yaml"), "YAML with the policy node's parameters"),
    ("bringup", "false", "Start Franka's driver and gripper as well (package franka_bringup of franka_ros2)"),
    ("robot_ip", "", "Address or host name of the robot, for the driver"),
    (
        "robot_type",
        "fr3",
        "Type of the robot, for the driver; other types have other frames: set robot.* in params_file",
    ),
)


def generate_launch_description():
    # Lazily, so that the arguments above can be read where launch is not installed.
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
    from launch.conditions import IfCondition
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch.substitutions import LaunchConfiguration

    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    # The policy comes first: its file declares the arguments that the driver shares, and checks the parameters before
    # the driver is started.
    driver = OpaqueFunction(function=franka_bringup, condition=IfCondition(LaunchConfiguration("bringup")))
    policy = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / "bringup.launch.py")))
    return LaunchDescription([*declared, OpaqueFunction(function=address), policy, driver])


def address(context):
    """[]; RuntimeError when a driver is wanted without the robot's address: its default would be somebody else's."""
    from launch.substitutions import LaunchConfiguration

    wanted, robot_ip = (LaunchConfiguration(name).perform(context) for name in ("bringup", "robot_ip"))
    if wanted.lower() in ("true", "1") and not robot_ip:
        raise RuntimeError("bringup:=true needs the robot's address: add robot_ip:=<address or host name>")
    return []


def franka_bringup(context):
    """[Franka's own launch file]"""
    from launch.actions import GroupAction, IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
    from launch_ros.substitutions import FindPackageShare

    from specprune_ros.ros import launching

    source = PythonLaunchDescriptionSource(
        PathJoinSubstitution([FindPackageShare("franka_bringup"), "launch", "franka.launch.py"])
    )
    robot_type = LaunchConfiguration("robot_type")
    arguments = {
        "robot_ip": LaunchConfiguration("robot_ip"),
        "robot_type": robot_type,
        "arm_id": robot_type,  # its name before franka_ros2 2.0
        "load_gripper": "true",
        # An included file would inherit ours, and with absolute topics the driver is not in it.
        "namespace": LaunchConfiguration("namespace") if launching.moves_topics(context) else "",
    }
    driver = IncludeLaunchDescription(source, launch_arguments=arguments.items())
    return [GroupAction([driver])]  # its arguments end with it, and do not become the policy node's
