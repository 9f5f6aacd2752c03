"""The launch files: readable without launch; where `ros2 launch` is installed, run by it on stand-ins, and once for real.

Stand-ins (stand_in.py) take the places of our nodes and of packages of other people: what is checked is what they are started with.
"""

import importlib.util
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from specprune_ros.config import Config, flattened, lookup

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))
PATIENCE_S = 90.0
POLICY, SIMULATOR = "policy_node", "sim_node"

installed = importlib.util.find_spec("ros2launch") and importlib.util.find_spec("launch_ros")
with_launch = pytest.mark.skipif(
    not installed,
    reason="ros2 launch is not on PyPI; it comes with a ROS installation, or from its sources on PYTHONPATH",
)


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.name.split(".")[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Without launch.


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_launch_file_has_the_arguments_that_users_expect(path):
    own = [name for name, default, text in loaded(path).ARGUMENTS if isinstance(default, str) and text]
    shared = [name for name, _, _ in loaded(ROOT / "launch" / "bringup.launch.py").ARGUMENTS]
    expected = {"params_file", "namespace", "use_sim_time", "log_level"}
    expected |= {"checkpoint", "instruction", "command_interface", "auto_activate"}
    if path.name == "franka.launch.py":
        expected |= {"robot_ip", "robot_type", "bringup"}
    assert expected <= {*own, *shared}
    assert len(own) == len(set(own)) == len(loaded(path).ARGUMENTS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_that_are_named_as_defaults_are_there(path):
    named = [default for _, default, _ in loaded(path).ARGUMENTS if default.startswith("/")]
    assert named
    for default in named:
        assert Path(default).is_file()


def test_the_arguments_that_override_the_yaml_are_parameters_of_that_type():
    module = loaded(ROOT / "launch" / "bringup.launch.py")
    defaults = {name: default for name, default, _ in module.ARGUMENTS}
    for argument, parameter, kind in module.OVERRIDES:
        assert type(lookup(parameter).default) is kind
        assert defaults[argument] == "", "the YAML is the truth"
    text = next(text for name, _, text in module.ARGUMENTS if name == "command_interface")
    assert all(choice in text for choice in lookup("output.interface").choices)


# On stand-ins.

DRIVER = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

DEFAULTS = {"robot_type": "", "robot_ip": "172.16.0.3", "load_gripper": "false", "namespace": "", "log_level": "loud"}

def generate_launch_description():
    given = [[f"{name}=", LaunchConfiguration(name)] for name in DEFAULTS]
    driver = Node(package="franka_bringup", executable="driver", namespace=LaunchConfiguration("namespace"), arguments=given)
    return LaunchDescription([*(DeclareLaunchArgument(name, default_value=v) for name, v in DEFAULTS.items()), driver])
"""
"""As franka_ros2's: it has an argument `namespace` of its own, which it would inherit."""

GAZEBO = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

def generate_launch_description():
    gazebo = Node(package="ros_gz_sim", executable="gz", arguments=[LaunchConfiguration("gz_args")])
    return LaunchDescription([DeclareLaunchArgument("gz_args", default_value=""), gazebo])
"""

STAND_INS = {
    "specprune_ros": (POLICY, SIMULATOR),
    "franka_bringup": ("driver",),
    "ros_gz_sim": ("gz", "create"),
    "ros_gz_bridge": ("parameter_bridge",),
    "robot_state_publisher": ("robot_state_publisher",),
    "controller_manager": ("spawner",),
    "moveit_servo": ("servo_node",),
}


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """An ament prefix with our launch files and stand-ins for everything that they start."""
    prefix = tmp_path_factory.mktemp("prefix")
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    for package, executables in STAND_INS.items():
        (index / package).touch()
        (prefix / "share" / package / "launch").mkdir(parents=True)
        (prefix / "lib" / package).mkdir(parents=True)
        for name in executables:
            program = prefix / "lib" / package / name
            program.write_text(f"#!{sys.executable}\n{Path(__file__).with_name('stand_in.py').read_text()}")
            program.chmod(0o755)
    for folder in ("launch", "config"):
        shutil.copytree(ROOT / folder, prefix / "share" / "specprune_ros" / folder, dirs_exist_ok=True)
    (prefix / "share" / "franka_bringup" / "launch" / "franka.launch.py").write_text(DRIVER)
    (prefix / "share" / "ros_gz_sim" / "launch" / "gz_sim.launch.py").write_text(GAZEBO)
    return prefix


class Launched:
    """`ros2 launch` in a process of its own."""

    def __init__(self, prefix, cwd, *arguments, ending="create spawner", domain=None):
        self.records = cwd / "records"
        self.records.mkdir()
        self._log = cwd / "launch.log"
        search = os.pathsep.join([str(prefix), *filter(None, [os.environ.get("AMENT_PREFIX_PATH")])])
        environment = {
            "AMENT_PREFIX_PATH": search,
            "ROS_LOG_DIR": str(cwd),
            "ROS_DOMAIN_ID": str(domain or 1 + os.getpid() % 101),
            "STAND_IN_RECORDS": str(self.records),
            "STAND_IN_ENDING": ending,
        }
        with self._log.open("w") as log:
            self.popen = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "import sys; from ros2cli.cli import main; sys.exit(main())",
                    "launch",
                    *arguments,
                ],
                cwd=cwd,
                env=os.environ | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()

    def text(self):
        return self._log.read_text()

    def until(self, condition, what, seconds=PATIENCE_S):
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end and self.popen.poll() is None, f"{what} did not come\n{self.text()}"
            time.sleep(0.05)
        return value

    def started(self, *names):
        """{name: record} of stand-ins, as soon as all of them run."""
        paths = [self.records / f"{name}.json" for name in names]
        self.until(lambda: all(path.exists() for path in paths), f"the start of {', '.join(names)}")
        return {path.stem: json.loads(path.read_text()) for path in paths}

    def all_started(self):
        return {path.stem for path in self.records.glob("*.json")}

    def interrupt(self):
        """Control-C; the exit status of the launch."""
        self.popen.send_signal(signal.SIGINT)
        return self.popen.wait(PATIENCE_S)

    def ended(self):
        return {path.stem for path in self.records.glob("*.ended")}


def defaults_of(file):
    [content] = yaml.safe_load((ROOT / "config" / file).read_text()).values()
    return dict(flattened(content["ros__parameters"]))


def remapped(record):
    """{name: new name} of the remappings a node was started with."""
    pairs = itertools.pairwise(record["arguments"])
    return dict(argument.split(":=") for flag, argument in pairs if flag == "-r")


@with_launch
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ros2_launch_shows_every_argument(prefix, tmp_path, path):
    with Launched(prefix, tmp_path, "specprune_ros", path.name, "--show-args") as launched:
        assert launched.popen.wait(PATIENCE_S) == 0, launched.text()
        shared = loaded(ROOT / "launch" / "bringup.launch.py").ARGUMENTS
        for name, _, text in {row[0]: row for row in (*shared, *loaded(path).ARGUMENTS)}.values():
            assert f"'{name}':" in launched.text()
            assert text in launched.text()
        assert launched.text().count("'params_file':") == 1


@with_launch
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


@with_launch
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


@with_launch
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
    assert records[SIMULATOR]["parameters"] == settings
    assert records[POLICY]["parameters"]["use_sim_time"] is True
    assert records[POLICY]["parameters"]["output.interface"] == "servo_twist"


@with_launch
def test_an_own_parameter_file_takes_the_place_of_ours(prefix, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("/**: {ros__parameters: {control: {rate: 10.0}}}")
    with Launched(prefix, tmp_path, "specprune_ros", "franka.launch.py", f"params_file:={own}") as launched:
        parameters = launched.started(POLICY)[POLICY]["parameters"]
        assert launched.interrupt() == 0
    assert parameters == {"control.rate": 10.0, "use_sim_time": False}


@with_launch
@pytest.mark.parametrize(("file", "dying"), [("mujoco", POLICY), ("mujoco", SIMULATOR), ("franka", POLICY)])
def test_the_launch_ends_when_a_node_does(prefix, tmp_path, file, dying):
    with Launched(prefix, tmp_path, "specprune_ros", f"{file}.launch.py", ending=dying) as launched:
        launched.popen.wait(PATIENCE_S)
        assert launched.all_started() == launched.ended()


@with_launch
def test_franka_starts_the_driver_in_its_own_namespace(prefix, tmp_path):
    arguments = ["bringup:=true", "robot_ip:=10.0.0.2", "namespace:=left"]
    with Launched(prefix, tmp_path, "specprune_ros", "franka.launch.py", *arguments) as launched:
        records = launched.started("driver", POLICY)
        assert launched.interrupt() == 0
    driver = {"robot_type=fr3", "robot_ip=10.0.0.2", "load_gripper=true", "namespace="}
    assert driver <= set(records["driver"]["arguments"])
    assert remapped(records["driver"])["__ns"] == "/"
    assert remapped(records[POLICY])["__ns"] == "/left"
    assert "--log-level info" in " ".join(records[POLICY]["arguments"]), "the driver's defaults are its own"


@with_launch
def test_franka_does_not_guess_an_address(prefix, tmp_path):
    with Launched(prefix, tmp_path, "specprune_ros", "franka.launch.py", "bringup:=true") as launched:
        assert launched.popen.wait(PATIENCE_S) != 0
        assert "bringup:=true needs the robot's address: add robot_ip:=" in launched.text()
        assert not launched.all_started()


GAZEBO_NODES = ("gz", "create", "parameter_bridge", "robot_state_publisher", "spawner", "servo_node", POLICY)


@with_launch
def test_gazebo_starts_everything_between_policy_and_physics_in_order(prefix, tmp_path):
    with Launched(prefix, tmp_path, "specprune_ros", "gazebo.launch.py", "gui:=false", "namespace:=left") as launched:
        records = launched.started(*GAZEBO_NODES)
        assert launched.interrupt() == 0, launched.text()
        assert launched.all_started() == launched.ended() == set(GAZEBO_NODES)
    gazebo = prefix / "share" / "specprune_ros" / "config" / "gazebo"

    assert f"-r -s --headless-rendering {gazebo}/tabletop.sdf" in records["gz"]["arguments"]
    assert records["create"]["arguments"][:4] == ["-topic", "/robot_description", "-name", "fr3"]
    names = records["spawner"]["arguments"][: records["spawner"]["arguments"].index("--param-file")]
    controllers = yaml.safe_load((gazebo / "controllers.yaml").read_text())
    types = controllers["controller_manager"]["ros__parameters"]
    assert set(names) == {name for name, value in types.items() if isinstance(value, dict)}
    assert records["create"]["time"] < records["spawner"]["time"] < records["servo_node"]["time"]

    expected = loaded(prefix / "share" / "specprune_ros" / "launch" / "gazebo.launch.py").robot_description()
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


# For real.


@with_launch
def test_mujoco_lifts_the_cube_and_ends_cleanly(tmp_path):
    """Both real nodes by `ros2 launch`; the stop is the last action, and nothing is left behind."""
    pytest.importorskip("rclpy")
    pytest.importorskip("torch")
    from ros_helpers import Graph
    from std_msgs.msg import String

    from specprune_ros.infer.load import BUNDLED
    from specprune_ros.msg import Action
    from specprune_ros.ros import qos

    if not (BUNDLED / "config.json").is_file():
        pytest.skip(f"no bundled weights in {BUNDLED}")
    path = ROOT / "launch" / "mujoco.launch.py"
    arguments = [str(path), "use_sim_time:=true", "realtime_factor:=0.3", "seed:=1000"]
    with Graph(tmp_path) as graph, Launched(sys.prefix, tmp_path, *arguments, domain=graph.domain) as launched:
        verdicts = graph.listen(String, "/sim_node/task", qos.LATCHED)
        actions = graph.listen(Action, "/policy_node/action")
        graph.until(lambda: any(verdict.data == "success" for verdict in verdicts), seconds=300, what="a lifted cube")
        launched.popen.send_signal(signal.SIGINT)
        graph.until(lambda: launched.popen.poll() is not None, what="the end of the launch")
        graph.spin(0.5)
        assert launched.popen.returncode == 0, launched.text()
        assert len(re.findall(r"process has finished cleanly", launched.text())) == 2, launched.text()
        assert not processes_of(launched.popen.pid)
    last = actions[-1]
    still = (*vector(last.translation), *vector(last.rotation))
    assert still == (0.0,) * 6, "the stop is the last action"
    assert any(any(vector(action.translation)) for action in actions)


def vector(message):
    return message.x, message.y, message.z


def processes_of(session):
    """Command lines of the processes of a session that still run."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                alive.append(stat.with_name("cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return alive
