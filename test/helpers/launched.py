"""`ros2 launch` in a process of its own, on an ament prefix of stand-ins (stand_in.py) or on the real one."""

import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from domains import own_domain

from specprune_ros.config import flattened

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


DRIVER = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

DEFAULTS = {"robot_type": "", "robot_ip": "172.16.0.3", "load_gripper": "false", "namespace": "", "log_level": "loud"}

def generate_launch_description():
    given = [[f"{name}=", LaunchConfiguration(name)] for name in DEFAULTS]
    space = LaunchConfiguration("namespace")
    driver = Node(package="franka_bringup", executable="driver", namespace=space, arguments=given)
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


def stand_in_prefix(prefix):
    """Makes the folder `prefix` an ament prefix with our launch files and stand-ins for everything that they start."""
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
            "ROS_DOMAIN_ID": str(domain or own_domain()),
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

    def refused(self):
        """The launch's only words, when it ends by itself before anything was started."""
        assert self.popen.wait(PATIENCE_S) != 0, self.text()
        assert not self.all_started(), self.text()
        return self.text()

    def ended(self):
        return {path.stem for path in self.records.glob("*.ended")}


def defaults_of(file):
    [content] = yaml.safe_load((ROOT / "config" / file).read_text()).values()
    return dict(flattened(content["ros__parameters"]))


def remapped(record):
    """{name: new name} of the remappings a node was started with."""
    pairs = itertools.pairwise(record["arguments"])
    return dict(argument.split(":=") for flag, argument in pairs if flag == "-r")


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
