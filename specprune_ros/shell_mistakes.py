"""What the shell has set and no node can start with: one line for each before a node that a user starts.

For nodes that a user starts with `ros2 run` or `ros2 launch`. Their ROS settings are the user's and stay; one that
cannot work is refused in one line, before ROS ends the process with less.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from specprune_ros.shell_variables import domain_mistake, writable_folders

DISCOVERY_PORT = 11811


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
