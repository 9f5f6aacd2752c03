"""What this package takes over from the shell that started it: the one place where that is decided.

`cleaned` is for what runs on a ROS graph of our own: `make`, the `specprune` commands, the nodes that demo and
benchmark start, the tests. There the variables of RULES must not matter. A variable that no rule names stays as it is,
among them PATH, HOME, locale, proxies, CUDA_VISIBLE_DEVICES, the hub's variables, LIBGL_ALWAYS_SOFTWARE. Where a
program reads a whole family of variables, the rule is for the family, and names the few that stay.

Nodes that a user starts with `ros2 run` or `ros2 launch` keep the user's settings: see `shell_mistakes`.

The Makefile runs this file as a program, before anything is installed: it imports nothing but the standard library.
`python -I -S specprune_ros/shell_variables.py PREFIX COMMAND ...` runs COMMAND in the cleaned environment.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
import tempfile
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

DOMAIN_IDS = range(233)
"""What DDS has port numbers for (RTPS 2.2, 9.6.1.1, with the default gains)."""
PRIVATE_DOMAINS = range(1, 102)
"""Domains that need no port setting of the operating system (ROS 2, "The ROS_DOMAIN_ID")."""


@dataclass(frozen=True)
class Rule:
    """What `cleaned` does to variables."""

    names: str
    """Separated by spaces; * stands for any ending."""
    value: str | None
    """None: removed; {prefix}: the virtual environment."""
    why: str
    own_ros_only: bool = False
    """Only where ROS comes from the wheels in our virtual environment: elsewhere the sourced workspace needs these."""
    but: str = ""
    """What stays nevertheless, as `names`."""
    unless_there: bool = False
    """Stays where one of the paths that it lists is there."""

    def concerns(self, environ: Mapping[str, str]) -> list[str]:
        """The variables that are to be removed or replaced."""
        return [
            name
            for name, value in environ.items()
            if _matches(name, self.names)
            and not _matches(name, self.but)
            and not (self.unless_there and any(map(os.path.exists, value.split(os.pathsep))))
        ]


RULES = (
    Rule(
        "ROS_DISCOVERY_SERVER ROS_SUPER_CLIENT ROS_STATIC_PEERS ROS_LOCALHOST_ONLY ROS_SECURITY_* ROS_DISABLE_*",
        None,
        "our graph is on this machine alone; behind a server that does not answer, its nodes would never meet",
    ),
    Rule("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST", "our graph is on this machine alone"),
    Rule(
        "FASTRTPS_* FASTDDS_* RMW_FASTRTPS_* SKIP_DEFAULT_XML CYCLONEDDS_* ZENOH_* RMW_ZENOH_*",
        None,
        "profiles made for another graph: other transports, network interfaces and limits",
    ),
    Rule("RCUTILS_* RCL_*", None, "the format of log lines, which we read; a wrong value ends every node"),
    Rule(
        "SPECPRUNE_LAUNCHED_BY", None, "no launch file starts our nodes here, and with a launch that is gone they end"
    ),
    Rule("MUJOCO_GL PYOPENGL_PLATFORM", "egl", "nothing opens a window, and set-up has seen to EGL"),
    Rule("PYOPENGL_*", None, "how PyOpenGL checks and logs", but="PYOPENGL_PLATFORM"),
    Rule(
        "MUJOCO_EGL_DEVICE_ID EGL_PLATFORM GALLIUM_DRIVER MESA_LOADER_DRIVER_OVERRIDE MESA_GL*_OVERRIDE"
        " MESA_EXTENSION_OVERRIDE",
        None,
        "the first device and driver that start are taken, as they are",
    ),
    Rule(
        "__EGL_*_FILENAMES __EGL_*_DIRS LIBGL_DRIVERS_PATH LIBGL_DRIVERS_DIR GBM_BACKENDS_PATH VK_*_FILES",
        None,
        "drivers that are not there leave no EGL",
        unless_there=True,
    ),
    Rule(
        "OMP_* GOMP_* KMP_* MKL_NUM_THREADS MKL_DYNAMIC OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS",
        None,
        "how many threads the model has is the parameter policy.threads",
    ),
    Rule("PYTHONUTF8", "1", "files and names of folders are UTF-8 in every locale"),
    Rule("PYTHONSAFEPATH", "1", "the folder a command is typed in holds no modules of ours"),
    Rule("PYTHONUNBUFFERED", "1", "log lines come when they are written"),
    Rule(
        "PYTHON?*",
        None,
        "another standard library, no assertions, warnings as errors, traces; a wrong value is the end of every Python",
        but="PYTHONUTF8 PYTHONSAFEPATH PYTHONUNBUFFERED PYTHONPATH PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX"
        " PYTHONNOUSERSITE PYTHONFAULTHANDLER PYTHON_KEYRING_BACKEND",
    ),
    Rule(
        "TORCH_* TORCHDYNAMO_* TORCHINDUCTOR_* PYTORCH_* NPY_* OPENCV_* CV_IO_* MPLBACKEND MATPLOTLIBRC",
        None,
        "logs, limits and switches of the libraries that we use; with a wrong value they cannot be imported",
        but="TORCH_HOME TORCH_CUDA_ARCH_LIST TORCH_EXTENSIONS_DIR TORCHINDUCTOR_CACHE_DIR PYTORCH_KERNEL_CACHE_PATH"
        " PYTORCH_*ALLOC_CONF",
    ),
    Rule("PYTEST_* MYPY* RUFF_*", None, "other tests, plugins and rules than the project's", but="PYTEST_XDIST_*"),
    Rule("PYTHONPATH", None, "packages of another Python or ROS, a foreign rclpy among them", own_ros_only=True),
    Rule("AMENT_PREFIX_PATH", "{prefix}", "ROS is the virtual environment's", own_ros_only=True),
    Rule("RMW_IMPLEMENTATION", None, "the wheels bring one: Fast DDS", own_ros_only=True),
    Rule(
        "CMAKE_* COLCON_* DESTDIR SETUPTOOLS_* DISTUTILS_* ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION"
        " ROS_PACKAGE_PATH ROS_ROOT ROS_MASTER_URI",
        None,
        "name another ROS, or how other software is built",
        own_ros_only=True,
    ),
    Rule(
        "PIP_*",
        None,
        "would install elsewhere, something else or nothing; which index, proxy and cache pip uses stays",
        own_ros_only=True,
        but="PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_TRUSTED_HOST PIP_PROXY PIP_*CERT PIP_KEYRING_PROVIDER"
        " PIP_CONFIG_FILE PIP_CACHE_DIR PIP_NO_CACHE_DIR PIP_*TIMEOUT PIP_RETRIES PIP_ROOT_USER_ACTION",
    ),
)

LIBRARY_PATH, BOOTSTRAPPED = "LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"
"""The ROS wheels start Python a second time, with their folders on the first, and mark that by the second."""
CLASHING = ("librcl.so", "librmw.so", "libfastrtps.so", "libfastrtps.so.*", "libddsc.so*", "libstdc++.so.6")
"""A folder that holds one of these is another ROS or another C++ run time. Others stay: a driver may be in them."""
BEFORE_START = f"PYTHON?* {LIBRARY_PATH}"
"""Have had their effect once Python runs."""
_RESTARTED = "_SPECPRUNE_RESTARTED"


def cleaned(environ: Mapping[str, str], prefix: Path | None) -> dict[str, str]:
    """The environment of a graph of our own.

    prefix: the virtual environment, where it holds ROS itself (see `own_prefix`); None where ROS was sourced.
    """
    result = {name: value for name, value in environ.items() if name != _RESTARTED}
    for rule in RULES:
        if rule.own_ros_only and prefix is None:
            continue
        for name in rule.concerns(result):
            del result[name]
        if rule.value is not None:
            result |= dict.fromkeys(rule.names.split(), rule.value.format(prefix=prefix))
    if prefix is not None:
        result = _with_own_libraries(result, prefix)
    if domain_mistake(result) or not result.get("ROS_DOMAIN_ID"):
        result["ROS_DOMAIN_ID"] = str(PRIVATE_DOMAINS[os.getpid() % len(PRIVATE_DOMAINS)])
    return result | writable_folders(result)


def own_prefix() -> Path | None:
    """This Python's virtual environment, if ROS was installed into it from wheels."""
    prefix = Path(sys.prefix)
    return prefix if (prefix / "lib" / "librcl.so").exists() else None


def enter() -> None:
    """Clean this process's own environment; where a variable has had its effect already, start Python again."""
    after = cleaned(os.environ, own_prefix())
    # What is only set here, as PYTHONUTF8, is for the processes that are started.
    late = any(value != after.get(name, "") for name, value in os.environ.items() if _matches(name, BEFORE_START))
    if late and _RESTARTED not in os.environ:
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, after | {_RESTARTED: "1"})
    os.environ.clear()
    os.environ.update(after)


def render_without_display(environ: MutableMapping[str, str]) -> None:
    """MuJoCo renders into memory and never opens a window: EGL, unless OSMesa is asked for. PyOpenGL must agree."""
    wanted = environ.get("MUJOCO_GL", "").strip().lower()
    environ["MUJOCO_GL"] = environ["PYOPENGL_PLATFORM"] = "osmesa" if wanted == "osmesa" else "egl"


def writable_folders(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that name a temporary folder where the usual one cannot be written: no home, a read-only one."""
    changes = {}
    home = environ.get("HOME", "")
    log: Path | None
    at_home = bool(home) and os.path.isdir(home) and os.access(home, os.W_OK | os.X_OK)
    if given := environ.get("ROS_LOG_DIR"):
        log = Path(given.replace("~", home, 1))
    elif given := environ.get("ROS_HOME"):
        log = Path(given.replace("~", home, 1), "log")
    else:
        log = Path(home, ".ros", "log") if at_home else None
    if log is None or not _can_write(log):
        changes["ROS_LOG_DIR"] = str(_temporary("log"))
    if not at_home and not environ.get("MPLCONFIGDIR"):
        changes["MPLCONFIGDIR"] = str(_temporary("matplotlib"))
    return changes


def domain_mistake(environ: Mapping[str, str]) -> str | None:
    """rcl reads "-1" and "1e2" as some other number, and Fast DDS ends the process above 232."""
    text = environ.get("ROS_DOMAIN_ID", "")
    if not text or (re.fullmatch(r"[0-9]{1,3}", text) and int(text) in DOMAIN_IDS):
        return None
    return (
        f"ROS_DOMAIN_ID={text}: not a whole number in 0 .. {DOMAIN_IDS[-1]}; "
        "give one, e.g. `export ROS_DOMAIN_ID=42`, or `unset ROS_DOMAIN_ID`"
    )


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split())


def _with_own_libraries(environ: dict[str, str], prefix: Path) -> dict[str, str]:
    """LD_LIBRARY_PATH without folders of another ROS; the wheels' mark stays only where their own folders are on it."""
    own = os.path.realpath(prefix)
    folders = [folder for folder in environ.pop(LIBRARY_PATH, "").split(os.pathsep) if folder]
    kept = [folder for folder in folders if _inside(folder, own) or not _clashes(folder)]
    if kept:
        environ[LIBRARY_PATH] = os.pathsep.join(kept)
    if not any(os.path.realpath(folder) == os.path.join(own, "lib") for folder in kept):
        environ.pop(BOOTSTRAPPED, None)
    return environ


def _inside(folder: str, own: str) -> bool:
    return os.path.realpath(folder).startswith(own + os.sep)


def _clashes(folder: str) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:
        return True  # of no use to anybody
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in CLASHING)


def _can_write(folder: Path) -> bool:
    """Whether `folder` is there or can be made, and takes files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _temporary(name: str) -> Path:
    """A folder of this user's alone, the same for all our processes."""
    base = Path(tempfile.gettempdir(), f"specprune_ros-{os.getuid()}")
    try:
        base.mkdir(mode=0o700, exist_ok=True)
        facts = base.lstat()
        if facts.st_uid != os.getuid() or base.is_symlink():
            raise PermissionError(str(base))
        (base / name).mkdir(exist_ok=True)
    except OSError:  # somebody else's
        base = Path(tempfile.mkdtemp(prefix="specprune_ros-"))
        (base / name).mkdir()
    return base / name


def main(arguments: list[str]) -> int:
    """PREFIX COMMAND ARGUMENT...: becomes the command, in the cleaned environment."""
    if len(arguments) < 2:
        print(f"usage: {Path(__file__).name} PREFIX COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    prefix, *command = arguments
    try:
        os.execvpe(command[0], command, cleaned(os.environ, Path(prefix).absolute()))
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
