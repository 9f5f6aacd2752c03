"""Starts ROS nodes as processes of their own, notices when one dies, and ends all of them in every case."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from specprune_ros import shell_variables
from specprune_ros.config import Config
from specprune_ros.eval.pool import die_with_parent
from specprune_ros.eval.results import changed_parameters

NODE_NAME = "policy_node"
"""A parameter file may hold sections for several nodes; ours and the wildcards apply here."""

LOG_TAIL_LINES = 15
GRACE_S = 4.0


class NodeDied(RuntimeError):
    """A node process ended by itself; the text ends with the last lines of its log."""


class NodeProcesses:
    """Named node processes that log into a folder. A context manager: leaving it ends them, newest first."""

    def __init__(self, log_folder: Path, environment: Mapping[str, str]):
        log_folder.mkdir(parents=True, exist_ok=True)
        self._folder = log_folder
        self._environment = dict(environment)
        self._processes: dict[str, subprocess.Popen] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self, name: str, command: Sequence[str]) -> None:
        """Run `command`; its output goes to <folder>/<name>.log."""
        with self._log(name).open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,  # `python -m` looks in the working folder first: not in a source tree
                start_new_session=True,  # Ctrl-C reaches only us, and we end the nodes in order
                preexec_fn=_begin,
            )

    def check(self) -> None:
        """NodeDied if a process is no longer there."""
        for name, process in self._processes.items():
            if (status := process.poll()) is not None:
                tail = "\n".join(self._lines(name)[-LOG_TAIL_LINES:])
                raise NodeDied(f"{name} ended with status {status}; the end of {self._log(name)}:\n{tail}")

    def pid(self, name: str) -> int | None:
        """Of a process that runs; None when it has ended or was never started."""
        process = self._processes.get(name)
        return process.pid if process is not None and process.poll() is None else None

    def last_lines(self) -> dict[str, str]:
        """Node name -> the last thing it said."""
        return {name: (self._lines(name) or ["nothing"])[-1] for name in self._processes}

    def stop(self) -> None:
        """SIGINT, then SIGTERM, then SIGKILL, with time to say goodbye in between; the policy stops before the arm."""
        for process in reversed(self._processes.values()):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                if process.poll() is not None:
                    break
                process.send_signal(number)
                try:
                    process.wait(GRACE_S)
                except subprocess.TimeoutExpired:
                    continue
        self._processes.clear()

    def _lines(self, name: str) -> list[str]:
        return self._log(name).read_text(errors="replace").splitlines()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


def _begin() -> None:
    """What a node does before it is one: it ends with whoever started it, and hears a SIGHUP although nohup ignores it
    for its own children."""
    die_with_parent()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def local_environment() -> dict[str, str]:
    """The environment of a private ROS graph on this machine, whatever the shell has set."""
    return shell_variables.cleaned(os.environ, shell_variables.own_prefix())


def sim_command(config: Config) -> list[str]:
    """The simulator at the control rate, without which it refuses actions: each is meant for one control period."""
    command = [sys.executable, "-m", "specprune_ros.ros.sim_node"]
    return [*command, "--ros-args", "-p", f"control_rate:={float(config.control.rate)}"]


def node_parameters(config: Config, folder: Path) -> list[str]:
    """Arguments that give the policy node `config`: what differs from the defaults, in a file in `folder`."""
    import yaml

    values = {name: list(v) if isinstance(v, tuple) else v for name, v in changed_parameters(config).items()}
    if "policy.checkpoint" in values and (local := Path(values["policy.checkpoint"]).expanduser()).is_dir():
        values["policy.checkpoint"] = str(local.resolve())  # the node runs in a folder of its own
    if not values:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "parameters.yaml"
    path.write_text(yaml.safe_dump({NODE_NAME: {"ros__parameters": values}}))
    return ["--ros-args", "--params-file", str(path)]
