"""The closed loop on our simulator: sim_node and policy_node. `ros2 launch specprune_ros mujoco.launch.py`

Several side by side: `namespace:=left` in one, `namespace:=right` in another.
"""

from pathlib import Path

HERE = Path(__file__).parent

ARGUMENTS = (
    # (name, default, what it does); the rest: bringup.launch.py
    ("params_file", str(HERE.parent / "config" / "mujoco.yaml"), "YAML with the policy node's parameters"),
    ("use_sim_time", "false", "Let the simulator publish the clock and the policy follow it"),
    (
        "clock",
        "auto",
        "Topic of that clock; auto: /clock, or one in the namespace where relative_topics moves the others",
    ),
    (
        "command_interface",
        "action",
        "How the policy moves the arm: action, servo_twist, target_pose; not chosen by params_file, as the simulator "
        "must agree",
    ),
    ("realtime_factor", "1.0", "Speed of the simulator with use_sim_time; 0: as fast as it can"),
    ("seed", "0", "Episode at the start; later ones: ros2 service call /sim_node/reset"),
)


def generate_launch_description():
    # Lazily, so that the arguments above can be read where launch is not installed.
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    # The included file comes first: it declares the arguments that both nodes share, and checks the parameters.
    policy = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / "bringup.launch.py")))
    return LaunchDescription([*declared, policy, OpaqueFunction(function=simulator)])


def simulator(context):
    """[the simulator's action]"""
    from launch.actions import Shutdown
    from launch.substitutions import LaunchConfiguration
    from launch_ros.actions import Node
    from launch_ros.parameter_descriptions import ParameterValue

    from specprune_ros.ros import launching

    def given(argument, kind):
        return ParameterValue(LaunchConfiguration(argument), value_type=kind)

    settings = {
        "seed": given("seed", int),
        "command_interface": given("command_interface", str),
        "publish_clock": given("use_sim_time", bool),
        "realtime_factor": given("realtime_factor", float),
    }
    if launching.moves_topics(context):
        settings["relative_topics"] = True
    node = Node(
        package="specprune_ros",
        executable="sim_node",
        name="sim_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[settings],
        remappings=launching.clock(context),
        additional_env=launching.node_environment(),
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        on_exit=Shutdown(),
    )
    return [node]
