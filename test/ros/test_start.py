"""How a node starts, or does not: with parameter files and shell variables as people really have them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


@pytest.fixture
def start(tmp_path):
    """(exit status, output) of a node that must end by itself; None as the status when it is still running."""

    def start(name, *ros_arguments, cwd=tmp_path, **variables):
        environment = {key: value for key, value in (os.environ | variables).items() if value is not None}
        command = [sys.executable, SCRIPTS / name, *(["--ros-args", *ros_arguments] if ros_arguments else [])]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=90)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, [line for line in done.stderr.splitlines() if line.startswith(("error", "warning"))]

    return start


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "parameters.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", ["policy_node", "sim_node"])
def test_a_parameter_file_that_sets_nothing_here_ends_the_start(start, file, name):
    """Fault 15: the node ran with its built-in limits."""
    status, [line] = start(name, "--params-file", file("other:\n  ros__parameters:\n    seed: 1\n"))
    assert status == 1 and f"nothing in it is for /{name}; its sections are for '/other'; name the section" in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file or directory"),
        ("/**:\nros__parameters:\n  limits: {linear_speed: 0.2}\n", "indented below it"),
        ("/**:\n  limits: {linear_speed: 0.2}\n", "before 'ros__parameters:'"),
        (
            "policy_node:\n  ros__parameters:\n    limits: {linear_speed: 0.2}\n",
            "nothing in it is for /left/policy_node",
        ),
        (
            "/**:\n  ros__parameters:\n    limits: {workspace_min: []}\n",
            "limits.workspace_min: the list is empty; give",
        ),
        ("/**:\n  ros__parameters:\n    limits: {workspace_min: [0, 0.5, 0]}\n", "whole numbers with a point"),
        ("/**:\n  ros__parameters:\n    limits: {linear_speed: null}\n", "limits.linear_speed has no value"),
        ("/**:\n  ros__parameters:\n    limits: {linear_sped: 1.0}\n", "did you mean limits.linear_speed"),
        (
            "/**:\n  ros__parameters:\n    a: &x 1.0\n    b: *x\n",
            "ROS 2 did not start the node: failed to initialize rcl",
        ),
    ],
)
def test_a_mistake_in_a_parameter_file_is_one_line(start, file, text, message):
    path = file(text) if text else "/nowhere/franka.yaml"
    status, [line] = start("policy_node", "-r", "__ns:=/left", "--params-file", path)
    assert status == 1 and message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "topics.images:=[]"], "topics.images: the list is empty; give values"),
        (["-p", "limits.linear_speed:=true"], "limits.linear_speed: expected float, got bool True"),
        (["-p", "limits.linear_speed:='0.1'"], "limits.linear_speed: expected float, got str '0.1'"),
        (["-p", "debug_image:=1"], "debug_image: expected bool, got int 1"),
        (["-p", "limits.workspace_min:=[.nan, 0.0, 0.0]"], "nan is not finite"),
        (["-p", "no_equals_sign"], "ROS 2 did not start the node: failed to initialize rcl: Couldn't parse"),
        (["--nonsense"], "'--nonsense'] are no ROS arguments"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(start, arguments, message):
    status, [line] = start("policy_node", *arguments)
    assert status == 1 and message in line


@pytest.mark.parametrize("name", ["policy_node", "sim_node"])
@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ROS_DOMAIN_ID", "abc", "ROS_DOMAIN_ID=abc: not a whole number in 0 .. 232; give one"),
        ("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp", "is not installed; installed: rmw_fastrtps_cpp"),
        ("ROS_STATIC_PEERS", "bad host", "Unable to resolve peer bad host ; set in this shell: ROS_"),
    ],
)
def test_a_shell_variable_that_cannot_work_is_one_line(start, name, variable, value, message):
    status, [line] = start(name, "-p", "use_sim_time:=false", **{variable: value})
    assert status == 1 and message in line


@pytest.mark.parametrize(
    "variables", [{"HOME": None}, {"HOME": "/proc/nobody"}, {"ROS_LOG_DIR": "/proc/nowhere"}], ids=str
)
def test_without_a_place_for_its_log_a_node_still_starts(start, variables):
    """It gets as far as its parameters, of which one is wrong, and logs elsewhere."""
    wrong = ("-p", "limits.linear_speed:=99.0")
    status, lines = start("policy_node", *wrong, **({"ROS_LOG_DIR": None} | variables))
    assert status == 1
    assert [line.partition(":")[0] for line in lines] == ["warning", "error"]
    assert "ROS cannot write its log in" in lines[0] and "99.0 is out of range" in lines[1]
