"""The policy node and its parameters: what every other launch file here includes. Of use alone for an arm that runs."""

from pathlib import Path

CONFIG = Path(__file__).parent.parent / "config"  # beside launch/, in the source as in the share folder

ARGUMENTS = (
    # (name, default, what it does)
    ("params_file", str(CONFIG / "franka.yaml"), "YAML with the policy node's parameters"),
    ("namespace", "", "Namespace of the nodes, and of the topics in params_file as relative_topics says"),
    (
        "relative_topics",
        "true",
        "With a namespace: drop the leading / of the topics in params_file, so that cameras, robot and commands are in "
        "the namespace too, several robots side by side; false: they keep their names",
    ),
    ("use_sim_time", "false", "Follow the clock instead of the system's time"),
    ("clock", "/clock", "Topic of that clock"),
    ("checkpoint", "", "Parameter policy.checkpoint: folder or hub id; empty: as in params_file"),
    ("instruction", "", "Parameter instruction, e.g. 'pick up the red cube'; empty: as in params_file"),
    ("command_interface", "", "Parameter output.interface: action, servo_twist, target_pose; empty: as in params_file"),
    ("auto_activate", "", "Parameter auto_activate: true or false; empty: as in params_file"),
    ("log_level", "info", "debug, info, warn, error"),
)

OVERRIDES = (
    # (argument, parameter, its type)
    ("checkpoint", "policy.checkpoint", str),
    ("instruction", "instruction", str),
    ("command_interface", "output.interface", str),
    ("auto_activate", "auto_activate", bool),
)
"""The YAML is the truth: an argument that was left empty overrides nothing."""


def generate_launch_description():
    # Lazily, so that the tables above can be read where launch is not installed.
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument, OpaqueFunction

    from specprune_ros.ros import launching

    declared = [DeclareLaunchArgument(name, default_value=value, description=text) for name, value, text in ARGUMENTS]
    checked = OpaqueFunction(function=launching.prepare, args=[CONFIG])
    return LaunchDescription([*declared, checked, OpaqueFunction(function=policy_node)])


def policy_node(context):
    """[the policy node's action]; which arguments are empty is known only once the launch runs."""
    from launch.actions import Shutdown
    from launch.substitutions import LaunchConfiguration
    from launch_ros.actions import Node
    from launch_ros.parameter_descriptions import ParameterValue

    from specprune_ros.ros import launching

    def given(argument, kind):
        return ParameterValue(LaunchConfiguration(argument), value_type=kind)

    overrides = {
        parameter: given(argument, kind)
        for argument, parameter, kind in OVERRIDES
        if LaunchConfiguration(argument).perform(context)
    }
    if launching.moves_topics(context):
        overrides |= launching.relative_topics(launching.parameters_given(context))
    # The node is a managed one, but not launch_ros' LifecycleNode: with that in it, a launch that is interrupted while
    # another action ends it as well (on_exit=Shutdown here, in Franka's and in Gazebo's launch files) fails with
    # "Cannot shutdown a ROS adapter".
    node = Node(
        package="specprune_ros",
        executable="policy_node",
        name="policy_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), {"use_sim_time": given("use_sim_time", bool), **overrides}],
        remappings=launching.clock(context),
        additional_env=launching.node_environment(),
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        on_exit=Shutdown(),  # nothing that was launched with it is of use without it
    )
    return [node]
