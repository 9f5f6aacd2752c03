"""A node ends with the launch that started it: is that process there, and is it the same?"""

import os
import subprocess
import sys

import pytest

from specprune_ros.ros import launcher
from specprune_ros.ros.launcher import LAUNCHED_BY, Launcher


@pytest.fixture(params=["handle", "id"])
def system(request, monkeypatch):
    """With and without handles on processes."""
    if request.param == "id":
        monkeypatch.delattr(launcher.os, "pidfd_open", raising=False)


def started():
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_a_process_is_there_until_it_ends(system):
    process = started()
    watched = Launcher({LAUNCHED_BY: str(process.pid)})
    assert watched.pid == process.pid and not watched.gone()
    process.kill()
    process.wait()
    assert watched.gone() and watched.gone()


def test_one_that_ended_before_is_gone_at_once(system):
    process = started()
    process.kill()
    process.wait()
    assert Launcher({LAUNCHED_BY: str(process.pid)}).gone()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no handles on processes")
def test_one_that_nobody_waited_for_yet_is_gone_as_well():
    process = started()
    watched = Launcher({LAUNCHED_BY: str(process.pid)})
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert watched.gone()
    process.wait()


@pytest.mark.parametrize("environment", [{}, {LAUNCHED_BY: ""}, {LAUNCHED_BY: "init"}, {LAUNCHED_BY: "-1"}])
def test_without_a_launch_nothing_is_waited_for(environment):
    assert not Launcher(environment).gone()
