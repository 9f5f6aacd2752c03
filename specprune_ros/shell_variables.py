"""What this package takes over from the shell that started it: the one place where that is decided.

`cleaned` is for what runs on a ROS graph of our own: `make`, the `specprune` commands, the nodes that demo and
benchmark start, the tests. There the variables of RULES must not matter. A variable that no rule names stays as it is,
among them PATH, HOME, locale, proxies, CUDA_VISIBLE_DEVICES, the hub's variables, which driver renders (LIBGL_*).

`mistakes` is for nodes that a user starts with `ros2 run` or `ros2 launch`. Their ROS settings are the user's and stay;
one that cannot work is refused in one line, before ROS ends the process with less.

The Makefile runs this file as a program, before anything is installed: it imports nothing but the standard library.
`python -I -S specprune_ros/shell_variables.py PREFIX COMMAND ...` runs COMMAND in the cleaned environment.
"""

from __future__ import annotations

import fnmatch
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

DOMAIN_IDS = range(233)
"""What DDS has port numbers for (RTPS 2.2, 9.6.1.1, with the default gains)."""
PRIVATE_DOMAINS = range(1, 102)
"""Domains that need no port setting of the operating system (ROS 2, "The ROS_DOMAIN_ID")."""
DISCOVERY_PORT = 11811


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
    Rule("MUJOCO_GL PYOPENGL_PLATFORM", "egl", "nothing opens a window, and set-up has seen to EGL"),
    Rule("MUJOCO_EGL_DEVICE_ID", None, "the first device that starts is taken"),
    Rule(
        "OMP_* GOMP_* KMP_* MKL_NUM_THREADS MKL_DYNAMIC OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS",
        None,
        "how many threads the model has is the parameter policy.threads",
    ),
    Rule("PYTHONUTF8", "1", "files and names of folders are UTF-8 in every locale"),
    Rule("PYTHONSAFEPATH", "1", "the folder a command is typed in holds no modules of ours"),
    Rule("PYTHONUNBUFFERED", "1", "log lines come when they are written"),
    Rule(
        "PYTHONHOME PYTHONOPTIMIZE PYTHONWARNINGS PYTHONINSPECT PYTHONDEVMODE PYTHONHASHSEED PYTHONSTARTUP"
        " PYTHONVERBOSE PYTHONDEBUG PYTHONPLATLIBDIR PYTHONIOENCODING",
        None,
        "another standard library, no assertions, warnings as errors, a prompt at the end",
    ),
    Rule("PYTHONPATH", None, "packages of another Python or ROS, a foreign rclpy among them", own_ros_only=True),
    Rule("AMENT_PREFIX_PATH", "{prefix}", "ROS is the virtual environment's", own_ros_only=True),
    Rule("RMW_IMPLEMENTATION", None, "the wheels bring one: Fast DDS", own_ros_only=True),
    Rule(
        "CMAKE_* COLCON_* ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION ROS_PACKAGE_PATH ROS_ROOT ROS_MASTER_URI",
        None,
        "name another ROS, or how other software is built",
        own_ros_only=True,
    ),
    Rule(
        "PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_REQUIRE_VIRTUALENV PIP_PYTHON PIP_DRY_RUN PIP_NO_DEPS"
        " PIP_NO_BUILD_ISOLATION PIP_IGNORE_INSTALLED PIP_PRE",
        None,
        "would install elsewhere, or something else; which index and which proxy pip uses stays",
        own_ros_only=True,
    ),
)

LIBRARY_PATH, BOOTSTRAPPED = "LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"
"""The ROS wheels start Python a second time, with their folders on the first, and mark that by the second."""
CLASHING = ("librcl.so", "librmw.so", "libfastrtps.so", "libfastrtps.so.*", "libddsc.so*", "libstdc++.so.6")
"""A folder that holds one of these is another ROS or another C++ run time. Others stay: a driver may be in them."""
BEFORE_START = ("PYTHONPATH", "PYTHONWARNINGS", "PYTHONOPTIMIZE", LIBRARY_PATH)
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
        for pattern in rule.names.split():
            for name in [name for name in result if fnmatch.fnmatchcase(name, pattern)]:
                del result[name]
            if rule.value is not None:
                result[pattern] = rule.value.format(prefix=prefix)
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
    late = any(os.environ.get(name) != after.get(name) for name in BEFORE_START)
    if late and _RESTARTED not in os.environ:
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, after | {_RESTARTED: "1"})
    os.environ.clear()
    os.environ.update(after)


def mistakes(environ: Mapping[str, str], prefixes: Iterable[Path] = ()) -> list[str]:
    """One line for each setting with which no node can start, or would start alone: name, value, bound, remedy.

    prefixes: more folders than AMENT_PREFIX_PATH in which middlewares may be installed.
    """
    found = [
        domain_mistake(environ),
        _choice_mistake(environ, "ROS_AUTOMATIC_DISCOVERY_RANGE", ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")),
        _choice_mistake(environ, "ROS_LOCALHOST_ONLY", ("0", "1")),
        *(
            _choice_mistake(environ, f"RCUTILS_{name}", ("0", "1"))
            for name in ("LOGGING_USE_STDOUT", "LOGGING_BUFFERED_STREAM", "COLORIZED_OUTPUT")
        ),
        _middleware_mistake(environ, prefixes),
        *(
            _profile_mistake(environ, name)
            for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
        ),
        *(_server_mistake(environ, server) for server in environ.get("ROS_DISCOVERY_SERVER", "").split(";")),
    ]
    return [text for text in found if text]


def check_for_node() -> None:
    """Before a node that a user starts: ends the process, with a line for each, when there are `mistakes`.

    Where ROS cannot write its log, the log goes to a temporary folder, and a line says so.
    """
    wrong = mistakes(os.environ, [Path(sys.prefix)])
    for text in wrong:
        print(f"error: {text}", file=sys.stderr)
    if wrong:
        raise SystemExit(1)
    folders = writable_folders(os.environ)
    if "ROS_LOG_DIR" in folders:
        wanted = os.environ.get("ROS_LOG_DIR") or "the home folder"
        print(f"warning: ROS cannot write its log in {wanted}; it is in {folders['ROS_LOG_DIR']}", file=sys.stderr)
    os.environ.update(folders)


def neighbourhood(environ: Mapping[str, str]) -> str:
    """Which nodes can be met, where that is not everybody's: "" or "ROS_DOMAIN_ID=7, ..."."""
    names = (
        *("ROS_DOMAIN_ID", "ROS_DISCOVERY_SERVER", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"),
        *("ROS_STATIC_PEERS", "RMW_IMPLEMENTATION", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"),
        *("ROS_SECURITY_ENABLE", "CYCLONEDDS_URI"),
    )
    return ", ".join(f"{name}={environ[name]}" for name in names if environ.get(name))


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


def _choice_mistake(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str | None:
    text = environ.get(name, "")
    if not text or text.upper() in choices:
        return None
    return f"{name}={text}: not one of {', '.join(choices)}; give one, or `unset {name}`"


def _middleware_mistake(environ: Mapping[str, str], prefixes: Iterable[Path]) -> str | None:
    wanted = environ.get("RMW_IMPLEMENTATION", "")
    search = [*map(Path, filter(None, environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))), *prefixes]
    index = Path("share", "ament_index", "resource_index", "rmw_typesupport")
    installed = {path.name for prefix in search for path in (prefix / index).glob("rmw_*_cpp")}
    if not wanted or not installed or wanted in installed:
        return None
    return (
        f"RMW_IMPLEMENTATION={wanted}: this middleware is not installed; installed: {', '.join(sorted(installed))}; "
        "set one of these in every shell of the graph, or `unset RMW_IMPLEMENTATION`"
    )


def _profile_mistake(environ: Mapping[str, str], name: str) -> str | None:
    path = environ.get(name, "")
    if not path or os.path.isfile(path):
        return None
    return (
        f"{name}={path}: there is no such file, and Fast DDS would go on with its defaults; "
        f"correct the path, or `unset {name}`"
    )


def _server_mistake(environ: Mapping[str, str], server: str) -> str | None:
    if not (server := server.strip()):
        return None
    whole, remedy = f"ROS_DISCOVERY_SERVER={environ['ROS_DISCOVERY_SERVER']}", "`unset ROS_DISCOVERY_SERVER`"
    form = re.fullmatch(r"(?:(?:UDP|TCP)v[46]:)?(?:\[([^]]+)\]|([^:\[\]]+))(?::(\d+))?", server)
    if not form or not 0 < int(form[3] or DISCOVERY_PORT) < 65536:
        return f"{whole}: {server!r} is not host:port with a port in 1 .. 65535; correct it, or {remedy}"
    host = form[1] or form[2]
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        return f"{whole}: the host {host!r} is not known ({error}); correct it, or {remedy}"
    return None


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
