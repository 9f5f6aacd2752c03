"""The policy on a Franka in Gazebo (gz-sim Harmonic): `ros2 launch specprune_ros gazebo.launch.py`

The way of a command: policy_node (twist) -> MoveIt Servo (joint positions) -> joint_trajectory_controller ->
gz_ros2_control -> Gazebo; the gripper's by its action. This is the usual way on ROS 2 Jazzy, of released packages only,
and the same as on a real arm. Gazebo's own controllers know joints but no Cartesian commands, and ros2_control has no
Cartesian streaming controller. The way back: camera sensors and /clock by ros_gz_bridge, joints by
joint_state_broadcaster, the pose by forward kinematics.
"""

from pathlib import Path

HERE = Path(__file__).parent
GAZEBO = HERE.parent / "config" / "gazebo"

ARGUMENTS = (
    # (name, default, what it does); the rest: bringup.launch.py
    ("params_file", str(HERE.parent / "config" / "gazebo.yaml"), "YAML with the policy node's parameters"),
    ("use_sim_time", "true", "Follow Gazebo's /clock"),
    (
        "relative_topics",
        "false",
        "The bridge's topics are absolute names, as one Gazebo has one robot: not with a namespace",
    ),
    ("gui", "true", "Show Gazebo's window; false: server only, rendering without a display"),
    ("world", str(GAZEBO / "tabletop.sdf"), "SDF of the world"),
)

CONTROLLERS = ("joint_state_broadcaster", "fr3_arm_controller", "franka_gripper")


def generate_launch_description():
    # Lazily, so that the arguments above can be read where launch is not installed.
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, RegisterEventHandler
    from launch.event_handlers import OnProcessExit
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch.substitutions import LaunchConfiguration
    from launch_ros.actions import Node
    from launch_ros.parameter_descriptions import ParameterValue

    from specprune_ros.sim.gazebo import robot_description, spawned_description

    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    time = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    urdf = robot_description(GAZEBO)
    description = {"robot_description": ParameterValue(urdf, value_type=str)}
    spawned = {"spawned_description": ParameterValue(spawned_description(urdf), value_type=str)}
    semantics = {"robot_description_semantic": ParameterValue((GAZEBO / "fr3.srdf").read_text(), value_type=str)}

    # In the root namespace, as a driver would be: the names in the YAML files are absolute.
    state_publisher = Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        name="robot_state_publisher",
        parameters=[description, time],
        output="screen",
    )
    bridge = Node(
        package="ros_gz_bridge",
        executable="parameter_bridge",
        name="gazebo_bridge",
        parameters=[{"config_file": str(GAZEBO / "bridge.yaml")}, time],
        output="screen",
    )
    spawn = Node(
        package="ros_gz_sim",
        executable="create",
        name="spawn_robot",
        parameters=[spawned],
        arguments=["-param", "spawned_description", "-name", "fr3"],
        output="screen",
    )
    controllers = Node(
        package="controller_manager",
        executable="spawner",
        name="spawn_controllers",
        arguments=[*CONTROLLERS, "--param-file", str(GAZEBO / "controllers.yaml")],
        output="screen",
    )
    servo = Node(
        package="moveit_servo",
        executable="servo_node",
        name="servo_node",
        parameters=[str(GAZEBO / "servo.yaml"), description, semantics, time],
        output="screen",
    )
    policy = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / "bringup.launch.py")))
    # The controller manager lives in the robot's plugin, so that it is there once the robot is; Servo wants joint
    # states.
    after_spawning = RegisterEventHandler(OnProcessExit(target_action=spawn, on_exit=[controllers]))
    after_controllers = RegisterEventHandler(OnProcessExit(target_action=controllers, on_exit=[servo]))
    started = [OpaqueFunction(function=gazebo), bridge, state_publisher, after_spawning, after_controllers, spawn]
    return LaunchDescription([*declared, policy, *started])  # the policy's file first: it checks the parameters


def gazebo(context):
    """[Gazebo itself, by ros_gz_sim's launch file]; the launch ends with it."""
    from launch.actions import GroupAction, IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
    from launch_ros.substitutions import FindPackageShare

    gui, world = (LaunchConfiguration(name).perform(context) for name in ("gui", "world"))
    options = "-r" if gui.lower() == "true" else "-r -s --headless-rendering"
    arguments = {"gz_args": f"{options} {world}", "on_exit_shutdown": "true"}
    source = PythonLaunchDescriptionSource(
        PathJoinSubstitution([FindPackageShare("ros_gz_sim"), "launch", "gz_sim.launch.py"])
    )
    return [GroupAction([IncludeLaunchDescription(source, launch_arguments=arguments.items())])]
