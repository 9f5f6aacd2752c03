"""What leaks in from a shell: the table, the lines for mistakes, and what our commands pass on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import FATAL, HOSTILE
from hypothesis import strategies as st
from properties import given

from specprune_ros import shell_variables
from specprune_ros.shell_mistakes import mistakes, neighbourhood
from specprune_ros.shell_variables import RULES, cleaned, own_prefix, writable_folders

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "specprune_ros" / "shell_variables.py"

KEPT = {"DISPLAY", "LC_ALL"}
REPLACED = {
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    "MUJOCO_GL": "egl",
    "PYOPENGL_PLATFORM": "egl",
    "AMENT_PREFIX_PATH": "/env",
}


def shell(**variables):
    return {"HOME": os.environ.get("HOME", "/"), "PATH": os.environ["PATH"], **variables}


def run_python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, **options)


def test_every_hostile_variable_is_gone_or_replaced():
    result = cleaned(shell(**HOSTILE, **FATAL), Path("/env"))
    for name, value in HOSTILE.items():
        if name in KEPT:
            assert result[name] == value
        elif name in REPLACED:
            assert result[name] == REPLACED[name]
        elif name == "ROS_LOG_DIR":
            assert os.access(result[name], os.W_OK)
        elif name == "ROS_DOMAIN_ID":
            assert int(result[name]) in shell_variables.PRIVATE_DOMAINS
        else:
            assert name not in result, name
    assert not FATAL.keys() & result.keys()


def test_what_no_rule_names_stays():
    useful = {
        "CUDA_VISIBLE_DEVICES": "1",
        "HF_HOME": "/models",
        "https_proxy": "http://proxy:3128",
        "PIP_INDEX_URL": "https://mirror/simple",
        "PIP_EXTRA_INDEX_URL": "https://other/simple",
        "PIP_CACHE_DIR": "/cache",
        "PIP_CERT": "/etc/ssl/own.pem",
        "PIP_DEFAULT_TIMEOUT": "60",
        "PYTHON": "/usr/bin/python3.12",
        "TORCH": "cpu",
        "TORCH_HOME": "/models",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "PYTEST_XDIST_WORKER": "gw1",
        "__EGL_VENDOR_LIBRARY_FILENAMES": f"/nowhere:{PROGRAM}",
        "LANG": "de_DE.UTF-8",
        "OPENBLAS_CORETYPE": "Haswell",
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "CC": "clang",
    }
    result = cleaned(shell(**useful), Path("/env"))
    assert {name: result[name] for name in useful} == useful


def test_a_sourced_ros_keeps_what_makes_it_one():
    sourced = {
        "AMENT_PREFIX_PATH": "/ws/install:/opt/ros/jazzy",
        "PYTHONPATH": "/opt/ros/jazzy/lib/python3.12/site-packages",
        "LD_LIBRARY_PATH": "/opt/ros/jazzy/lib",
        "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
        "ROS_DISTRO": "jazzy",
    }
    result = cleaned(shell(**sourced, ROS_DISCOVERY_SERVER="10.0.0.1:11811"), None)
    assert {name: result[name] for name in sourced} == sourced
    assert "ROS_DISCOVERY_SERVER" not in result, "the graph is ours all the same"


def test_a_domain_that_can_be_is_kept_and_no_other():
    for text in ("0", "42", "232"):
        assert cleaned(shell(ROS_DOMAIN_ID=text), None)["ROS_DOMAIN_ID"] == text
    for text in ("", "abc", "-1", "233", "1e2", "0x10", " 5", "4.0", "99999999999"):
        assert cleaned(shell(ROS_DOMAIN_ID=text), None)["ROS_DOMAIN_ID"] != text


@given(
    st.dictionaries(st.sampled_from(sorted(HOSTILE)), st.text(st.characters(codec="ascii", exclude_characters="\0")))
)
def test_cleaning_twice_is_cleaning_once_and_no_rule_is_forgotten(variables):
    once = cleaned(shell(**variables), Path("/env"))
    assert cleaned(once, Path("/env")) == once
    for rule in RULES:
        for name in rule.names.split():
            if "*" not in name and rule.value is None:
                assert name not in once


def test_libraries_of_another_ros_leave_and_drivers_stay(tmp_path):
    own, ros, cuda = tmp_path / "env", tmp_path / "ros", tmp_path / "cuda"
    for folder, name in ((own / "lib", "librcl.so"), (ros, "librcl.so"), (cuda, "libcuda.so.1")):
        folder.mkdir(parents=True)
        (folder / name).touch()
    before = {"LD_LIBRARY_PATH": f"{ros}::/nowhere:{cuda}", shell_variables.BOOTSTRAPPED: "1"}
    after = cleaned(shell(**before), own)
    assert after["LD_LIBRARY_PATH"] == str(cuda)
    assert shell_variables.BOOTSTRAPPED not in after, "the wheels have to find their libraries themselves"
    ready = {"LD_LIBRARY_PATH": f"{own}/lib:{cuda}", shell_variables.BOOTSTRAPPED: "1"}
    after = cleaned(shell(**ready), own)
    assert {name: after[name] for name in ready} == ready


# Nodes that a user starts.


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("ROS_DOMAIN_ID", "abc", r"ROS_DOMAIN_ID=abc: not a whole number in 0 .. 232; give one, e.g. `export"),
        ("ROS_DOMAIN_ID", "233", "ROS_DOMAIN_ID=233: not a whole number in 0 .. 232"),
        ("ROS_DOMAIN_ID", "-1", "ROS_DOMAIN_ID=-1: not a whole"),
        ("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp", "is not installed; installed: rmw_fastrtps_cpp; set one"),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "subnets", "not one of SUBNET, LOCALHOST, OFF, SYSTEM_DEFAULT; give one"),
        ("RCUTILS_LOGGING_USE_STDOUT", "yes", "not one of 0, 1; give one, or `unset RCUTILS_LOGGING_USE_STDOUT`"),
        ("FASTDDS_DEFAULT_PROFILES_FILE", "/nowhere.xml", "=/nowhere.xml: there is no such file"),
        ("FASTRTPS_DEFAULT_PROFILES_FILE", "/tmp", "=/tmp: there is no such file"),
        ("ROS_DISCOVERY_SERVER", "127.0.0.1:port", "'127.0.0.1:port' is not host:port"),
        ("ROS_DISCOVERY_SERVER", "127.0.0.1:99999", "with a port in 1 .. 65535"),
        ("ROS_DISCOVERY_SERVER", "127.0.0.1;no host.invalid", "the host 'no host.invalid' is not known"),
    ],
)
def test_a_setting_that_cannot_work_is_one_line_with_a_remedy(name, value, text, tmp_path):
    index = tmp_path / "share" / "ament_index" / "resource_index" / "rmw_typesupport"
    index.mkdir(parents=True)
    for middleware in ("rmw_fastrtps_cpp", "rmw_implementation"):
        (index / middleware).touch()
    [line] = mistakes({name: value}, [tmp_path])
    assert text in line and line.startswith(f"{name}={value}: ") and "`unset" in line


@pytest.mark.parametrize(
    "name, value",
    [
        ("ROS_DOMAIN_ID", "0"),
        ("ROS_DOMAIN_ID", ""),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "Subnet"),
        ("ROS_DISCOVERY_SERVER", ";127.0.0.1:11812"),
        ("ROS_DISCOVERY_SERVER", "UDPv6:[::1]:11811"),
        ("ROS_DISCOVERY_SERVER", "127.0.0.1"),
        ("RMW_IMPLEMENTATION", "rmw_anything_cpp"),  # nothing says what is installed: ROS has to judge
        ("FASTDDS_DEFAULT_PROFILES_FILE", str(PROGRAM)),
    ],
)
def test_a_setting_that_can_work_is_the_users(name, value):
    assert mistakes({name: value}) == []
    assert (f"{name}={value}" in neighbourhood({name: value})) is bool(value)


def test_where_ros_cannot_write_there_is_another_folder(tmp_path):
    home = str(tmp_path)
    assert writable_folders({"HOME": home}) == {}
    assert writable_folders({"HOME": home, "ROS_LOG_DIR": "~/logs"}) == {} and (tmp_path / "logs").is_dir()
    assert writable_folders({"HOME": home, "ROS_HOME": f"{home}/ros"}) == {}
    for lacking in ({}, {"HOME": ""}, {"HOME": "/proc/nobody"}, {"HOME": "/etc/passwd"}):
        changes = writable_folders(lacking)
        assert set(changes) == {"ROS_LOG_DIR", "MPLCONFIGDIR"}
        for folder in changes.values():
            Path(folder, "probe").write_text("")
            Path(folder, "probe").unlink()
    for unusable in ("/proc/x", "/etc/passwd", "/dev/null/log"):
        assert set(writable_folders({"HOME": home, "ROS_LOG_DIR": unusable})) == {"ROS_LOG_DIR"}


def test_check_for_node_ends_with_the_lines_and_nothing_else():
    code = "from specprune_ros.shell_mistakes import check_for_node as check; check(); print('went on')"
    done = run_python(code, env=os.environ | {"ROS_DOMAIN_ID": "abc", "RCUTILS_COLORIZED_OUTPUT": "2"})
    assert done.returncode == 1 and done.stdout == ""
    assert [line.partition("=")[0] for line in done.stderr.splitlines()] == [
        "error: ROS_DOMAIN_ID",
        "error: RCUTILS_COLORIZED_OUTPUT",
    ]
    done = run_python(code, env=os.environ | {"ROS_LOG_DIR": "/proc/x"})
    assert done.stdout == "went on\n"
    assert done.stderr.startswith("warning: ROS cannot write its log in /proc/x; it is in /")


# The programs.


def test_the_makefiles_way_runs_a_command_in_the_cleaned_environment(tmp_path):
    """Also with a standard library that is not there, and before anything is installed."""
    command = [sys.executable, "-I", "-S", PROGRAM, tmp_path, "env", "-0"]
    hostile = os.environ | HOSTILE | FATAL
    done = subprocess.run(command, env=hostile, capture_output=True, check=True)
    after = dict(entry.partition("=")[::2] for entry in done.stdout.decode().rstrip("\0").split("\0"))
    expected = cleaned(hostile, tmp_path)
    assert after | {"ROS_DOMAIN_ID": ""} == expected | {"ROS_DOMAIN_ID": ""}  # by process number
    lost = subprocess.run([*command[:5], "/no/such/command"], capture_output=True, text=True)
    assert lost.returncode == 127 and lost.stderr == "/no/such/command: No such file or directory\n"


def test_what_python_reads_at_its_start_is_left_out_by_a_second_start():
    code = (
        "import sys; from specprune_ros import shell_variables; shell_variables.enter()\n"
        "import os, tracemalloc; print(tracemalloc.is_tracing(), sys.flags.dev_mode, 'PYTHONDEVMODE' in os.environ)"
    )
    done = run_python(code, env=os.environ | {"PYTHONTRACEMALLOC": "3", "PYTHONDEVMODE": "1"})
    assert done.stdout == "False False False\n", done.stderr


@pytest.mark.parametrize(
    ("library", "variables"),
    [
        ("torch", {"TORCH_LOGS": "bogus"}),
        ("numpy", {"NPY_DISABLE_CPU_FEATURES": "bogus"}),
        ("OpenGL.GL", {"PYOPENGL_ERROR_CHECKING": "bogus"}),
        ("cv2", {"OPENCV_IO_MAX_IMAGE_PIXELS": "bogus"}),
        ("sys", FATAL),
    ],
)
def test_libraries_can_be_imported_in_the_cleaned_environment(library, variables):
    pytest.importorskip(library.split(".")[0])
    done = run_python(f"import {library}", env=cleaned(os.environ | variables, own_prefix()))
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(own_prefix() is None, reason="ROS is not this virtual environment's")
def test_a_command_starts_again_without_what_had_its_effect_already(tmp_path):
    """Foreign modules are on sys.path, and foreign libraries loaded first, once Python runs."""
    for module in ("rclpy", "yaml"):
        (tmp_path / f"{module}.py").write_text("raise ImportError('the foreign one')")
    (tmp_path / "librcl.so").touch()
    code = (
        "import sys; from specprune_ros import shell_variables; shell_variables.enter()\n"
        "import os, rclpy, yaml; print(rclpy.__file__, sys.flags.optimize, 'PYTHONPATH' in os.environ)"
    )
    foreign = {"PYTHONPATH": str(tmp_path), "LD_LIBRARY_PATH": str(tmp_path), "PYTHONOPTIMIZE": "1"}
    done = run_python(code, env=os.environ | foreign)
    path, *rest = done.stdout.split()
    assert rest == ["0", "False"] and Path(path).is_relative_to(sys.prefix), done.stderr


def test_commands_clean_their_environment_only_when_they_are_one(monkeypatch):
    """A test or a notebook that calls main with arguments keeps its own."""
    from specprune_ros.cli import main as cli

    monkeypatch.setattr(shell_variables, "enter", lambda: pytest.fail("entered"))
    with pytest.raises(SystemExit):
        cli.main(["--help"])
