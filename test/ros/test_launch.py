"""The launch files, run by the real `ros2 launch` on stand-ins for our nodes and for packages of other people: what is
checked is what they are started with. Skipped where launch is not installed."""

import pytest
import yaml
from launched import (
    FILES,
    POLICY,
    ROOT,
    SIMULATOR,
    Launched,
    defaults_of,
    loaded,
    remapped,
    stand_in_prefix,
    with_launch,
)

from specprune_ros.config import Config
from specprune_ros.ros import launching
from specprune_ros.ros.launcher import LAUNCHED_BY
from specprune_ros.sim.gazebo import robot_description, spawned_description

pytestmark = with_launch


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    return stand_in_prefix(tmp_path_factory.mktemp("prefix"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ros2_launch_shows_every_argument(prefix, tmp_path, path):
    with Launched(prefix, tmp_path, "specprune_ros", path.name, "--show-args") as launched:
        assert launched.popen.wait(90) == 0, launched.text()
        shared = loaded(ROOT / "launch" / "bringup.launch.py").ARGUMENTS
        for name, _, text in {row[0]: row for row in (*shared, *loaded(path).ARGUMENTS)}.values():
            assert f"'{name}':" in launched.text()
            assert text in launched.text()
        assert launched.text().count("'params_file':") == 1


@pytest.mark.parametrize(
    ("file", "nodes"),
    [("franka", {POLICY}), ("bringup", {POLICY}), ("mujoco", {POLICY, SIMULATOR})],
)
def test_without_arguments_the_yaml_is_all_there_is(prefix, tmp_path, file, nodes):
    with Launched(prefix, tmp_path, "specprune_ros", f"{file}.launch.py") as launched:
        records = launched.started(*nodes)
        assert launched.interrupt() == 0, launched.text()
        assert launched.all_started() == launched.ended() == nodes
    policy = records[POLICY]
    if file == "mujoco":
        expected = defaults_of("mujoco.yaml") | {"output.interface": "action"}  # as the simulator obeys it
    else:
        expected = defaults_of("franka.yaml")
    assert policy["parameters"] == expected | {"use_sim_time": False}
    assert remapped(policy) == {"__node": POLICY, "__ns": "/"}
    assert "--log-level info" in " ".join(policy["arguments"])
    if SIMULATOR in records:
        settings = {"seed": 0, "command_interface": "action", "publish_clock": False, "realtime_factor": 1.0}
        assert records[SIMULATOR]["parameters"] == settings


def test_arguments_override_the_yaml_in_the_type_of_the_parameter(prefix, tmp_path):
    arguments = [
        "checkpoint:=123",
        "instruction:=pick up: yes",
        "command_interface:=target_pose",
        "auto_activate:=false",
    ]
    with Launched(prefix, tmp_path, "specprune_ros", "franka.launch.py", "use_sim_time:=true", *arguments) as launched:
        parameters = launched.started(POLICY)[POLICY]["parameters"]
        assert launched.interrupt() == 0
    assert parameters.pop("use_sim_time") is True
    changed = {
        "policy.checkpoint": "123",
        "instruction": "pick up: yes",
        "output.interface": "target_pose",
        "auto_activate": False,
    }
    assert parameters == defaults_of("franka.yaml") | changed
    Config.from_mapping(parameters)


def test_what_both_nodes_of_the_simulation_must_agree_on_reaches_both(prefix, tmp_path):
    arguments = ["namespace:=left", "use_sim_time:=true", "realtime_factor:=0", "seed:=7", "log_level:=debug"]
    arguments.append("command_interface:=servo_twist")
    with Launched(prefix, tmp_path, "specprune_ros", "mujoco.launch.py", *arguments) as launched:
        records = launched.started(POLICY, SIMULATOR)
        assert launched.interrupt() == 0
    for record in records.values():
        assert remapped(record)["__ns"] == "/left"
        assert "--log-level debug" in " ".join(record["arguments"])
    settings = {"seed": 7, "command_interface": "servo_twist", "publish_clock": True, "realtime_factor": 0.0}
    assert records[SIMULATOR]["parameters"] == settings | {"relative_topics": True}
    assert records[POLICY]["parameters"]["use_sim_time"] is True
    assert records[POLICY]["parameters"]["output.interface"] == "servo_twist"


def test_an_own_parameter_file_takes_the_place_of_ours(prefix, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("/**: {ros__parameters: {control: {rate: 10.0}}}")
    with Launched(prefix, tmp_path, "specprune_ros", "franka.launch.py", f"params_file:={own}") as launched:
        parameters = launched.started(POLICY)[POLICY]["parameters"]
        assert launched.interrupt() == 0
    assert parameters == {"control.rate": 10.0, "use_sim_time": False}


@pytest.mark.parametrize("file", ["mujoco", "franka"])
@pytest.mark.parametrize(("arguments", "moves"), [((), True), (("relative_topics:=false",), False)])
def test_a_namespace_moves_every_topic_of_a_pair_and_gives_it_a_clock_of_its_own(
    prefix, tmp_path, file, arguments, moves
):
    nodes = (POLICY, SIMULATOR) if file == "mujoco" else (POLICY,)
    with Launched(prefix, tmp_path, "specprune_ros", f"{file}.launch.py", "namespace:=left", *arguments) as launched:
        records = launched.started(*nodes)
        assert launched.interrupt() == 0, launched.text()
    given = defaults_of(f"{file}.yaml")
    topics = {n: v for n, v in records[POLICY]["parameters"].items() if n.startswith("topics.")}
    assert topics == {n: v for n, v in given.items() if n.startswith("topics.")} | (
        launching.relative_topics(given) if moves else {}
    )
    for record in records.values():
        assert remapped(record)["__ns"] == "/left"
        assert remapped(record).get("/clock") == ("clock" if moves and file == "mujoco" else None)
    if file == "mujoco":
        assert records[SIMULATOR]["parameters"].get("relative_topics", False) is moves


def test_a_pushed_namespace_counts_as_well(prefix, tmp_path):
    outer = tmp_path / "outer.launch.py"
    outer.write_text(OUTER.format(path=prefix / "share" / "specprune_ros" / "launch" / "mujoco.launch.py"))
    with Launched(prefix, tmp_path, str(outer)) as launched:
        records = launched.started(POLICY, SIMULATOR)
        assert launched.interrupt() == 0, launched.text()
    assert remapped(records[POLICY])["__ns"] == "/cell"
    assert records[POLICY]["parameters"]["topics.joint_states"] == "joint_states"
    assert records[SIMULATOR]["parameters"]["relative_topics"] is True


OUTER = """
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace

def generate_launch_description():
    pair = IncludeLaunchDescription(PythonLaunchDescriptionSource("{path}"))
    return LaunchDescription([PushRosNamespace("cell"), pair])
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "mistyped.yaml: No such file or directory; give the path of a YAML file"),
        (
            "policynode: {ros__parameters: {control: {rate: 10.0}}}",
            "nothing in it is for /policy_node; its sections are",
        ),
        (
            "/**: {ros__parameters: {control: {rat: 10.0}}}",
            "unknown parameter 'control.rat'; did you mean control.rate",
        ),
    ],
    ids=["missing", "other-node", "other-name"],
)
def test_a_mistyped_parameter_file_is_refused_before_anything_starts(prefix, tmp_path, path, text, why):
    own = tmp_path / "mistyped.yaml"
    if text:
        own.write_text(text)
    arguments = ["bringup:=true", "robot_ip:=10.0.0.2"] if path.name == "franka.launch.py" else []
    with Launched(prefix, tmp_path, "specprune_ros", path.name, f"params_file:={own}", *arguments) as launched:
        assert why in launched.refused()


def test_everything_that_is_started_finds_our_dds_profile_and_our_nodes_who_launched_them(prefix, tmp_path):
    profile = prefix / "share" / "specprune_ros" / "config" / "fastdds.xml"
    profile.touch()
    with Launched(prefix, tmp_path, "specprune_ros", "gazebo.launch.py") as launched:
        records = launched.started(*GAZEBO_NODES)
        assert launched.interrupt() == 0, launched.text()
    for name, record in records.items():
        for variable in launching.PROFILES:
            assert record["environment"][variable] == str(profile), name
        launcher = str(launched.popen.pid) if name == POLICY else None
        assert record["environment"].get(LAUNCHED_BY) == launcher, name


@pytest.mark.parametrize(("file", "dying"), [("mujoco", POLICY), ("mujoco", SIMULATOR), ("franka", POLICY)])
def test_the_launch_ends_when_a_node_does(prefix, tmp_path, file, dying):
    with Launched(prefix, tmp_path, "specprune_ros", f"{file}.launch.py", ending=dying) as launched:
        launched.popen.wait(90)
        assert launched.all_started() == launched.ended()


@pytest.mark.parametrize("relative", ["true", "false"])
def test_franka_starts_the_driver_where_its_topics_are_expected(prefix, tmp_path, relative):
    arguments = ["bringup:=true", "robot_ip:=10.0.0.2", "namespace:=left", f"relative_topics:={relative}"]
    with Launched(prefix, tmp_path, "specprune_ros", "franka.launch.py", *arguments) as launched:
        records = launched.started("driver", POLICY)
        assert launched.interrupt() == 0
    namespace = "left" if relative == "true" else ""
    driver = {"robot_type=fr3", "robot_ip=10.0.0.2", "load_gripper=true", f"namespace={namespace}"}
    assert driver <= set(records["driver"]["arguments"])
    assert remapped(records["driver"])["__ns"] == f"/{namespace}"
    assert remapped(records[POLICY])["__ns"] == "/left"
    assert "--log-level info" in " ".join(records[POLICY]["arguments"]), "the driver's defaults are its own"


def test_franka_does_not_guess_an_address(prefix, tmp_path):
    with Launched(prefix, tmp_path, "specprune_ros", "franka.launch.py", "bringup:=true") as launched:
        assert "bringup:=true needs the robot's address: add robot_ip:=" in launched.refused()


GAZEBO_NODES = ("gz", "create", "parameter_bridge", "robot_state_publisher", "spawner", "servo_node", POLICY)


def test_gazebo_starts_everything_between_policy_and_physics_in_order(prefix, tmp_path):
    with Launched(prefix, tmp_path, "specprune_ros", "gazebo.launch.py", "gui:=false", "namespace:=left") as launched:
        records = launched.started(*GAZEBO_NODES)
        assert launched.interrupt() == 0, launched.text()
        assert launched.all_started() == launched.ended() == set(GAZEBO_NODES)
    gazebo = prefix / "share" / "specprune_ros" / "config" / "gazebo"

    assert f"-r -s --headless-rendering {gazebo}/tabletop.sdf" in records["gz"]["arguments"]
    assert records["create"]["arguments"][:4] == ["-param", "spawned_description", "-name", "fr3"]
    names = records["spawner"]["arguments"][: records["spawner"]["arguments"].index("--param-file")]
    controllers = yaml.safe_load((gazebo / "controllers.yaml").read_text())
    types = controllers["controller_manager"]["ros__parameters"]
    assert set(names) == {name for name, value in types.items() if isinstance(value, dict)}
    assert records["create"]["time"] < records["spawner"]["time"] < records["servo_node"]["time"]

    expected = robot_description(gazebo)
    assert records["create"]["parameters"]["spawned_description"] == spawned_description(expected)
    for name in ("robot_state_publisher", "servo_node"):
        assert records[name]["parameters"]["robot_description"] == expected
    assert f"<parameters>{gazebo}/controllers.yaml</parameters>" in expected
    assert records["servo_node"]["parameters"]["moveit_servo.command_in_type"] == "speed_units"
    assert "<chain" in records["servo_node"]["parameters"]["robot_description_semantic"]
    assert records["parameter_bridge"]["parameters"]["config_file"] == str(gazebo / "bridge.yaml")
    for name in ("robot_state_publisher", "servo_node", "parameter_bridge", POLICY):
        assert records[name]["parameters"]["use_sim_time"] is True
        assert remapped(records[name]).get("__ns", "/") == ("/left" if name == POLICY else "/")
    assert remapped(records["servo_node"])["__node"] == Config().topics.servo_node.removeprefix("/")
    assert records[POLICY]["parameters"] == defaults_of("gazebo.yaml") | {"use_sim_time": True}
