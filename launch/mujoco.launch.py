"""The closed loop on our simulator: sim_node and policy_node. `ros2 launch specprune_ros mujoco.launch.py`"""

ARGUMENTS = (
    # (name, default, what it does); None: set in generate_launch_description
    ("params_file", None, "YAML with the policy node's parameters"),
    ("namespace", "", "Namespace of both nodes; cameras and robot keep their absolute names"),
    ("use_sim_time", "false", "Let the simulator publish /clock and the policy follow it"),
    ("realtime_factor", "1.0", "Speed of the simulator with use_sim_time"),
    ("seed", "0", "Episode at the start; later ones: ros2 service call /sim_node/reset"),
    ("log_level", "info", "debug, info, warn, error"),
)


def generate_launch_description():
    # Lazily, so that the arguments above can be read where launch is not installed.
    from ament_index_python.packages import get_package_share_directory
    from launch import LaunchDescription
    from launch.actions import DeclareLaunchArgument, Shutdown
    from launch.substitutions import LaunchConfiguration
    from launch_ros.actions import Node
    from launch_ros.parameter_descriptions import ParameterValue

    defaults = {"params_file": f"{get_package_share_directory('specprune_ros')}/config/mujoco.yaml"}
    declared = [
        DeclareLaunchArgument(name, default_value=defaults.get(name, default), description=text)
        for name, default, text in ARGUMENTS
    ]

    def given(name, kind):
        return ParameterValue(LaunchConfiguration(name), value_type=kind)

    def node(executable, parameters):
        return Node(
            package="specprune_ros",
            executable=executable,
            name=executable,
            namespace=LaunchConfiguration("namespace"),
            parameters=parameters,
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            output="screen",
            on_exit=Shutdown(),  # neither is of use without the other
        )

    simulator = {
        "seed": given("seed", int),
        "publish_clock": given("use_sim_time", bool),
        "realtime_factor": given("realtime_factor", float),
    }
    policy = {"use_sim_time": given("use_sim_time", bool)}
    return LaunchDescription(
        [*declared, node("sim_node", [simulator]), node("policy_node", [LaunchConfiguration("params_file"), policy])]
    )
