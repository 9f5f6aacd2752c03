"""What every test stands on: which package is tested, an environment that no shell disturbs, markers by folder.

The package under test is the one that is installed: after `make venv` that is this folder's source with the compiled
messages beside it, so an edit counts at once. A copied tree in which nothing is installed is tested all the same, apart
from what needs the messages.
"""

import importlib.util
import os
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("ros", "sim")
"""Folders whose tests get a marker of the same name."""

# `python -m pytest` puts the working directory first; its folders launch/ and test/ would pass for packages. What
# PYTHONPATH names is another ROS or another copy of this package.
foreign = {str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))}
sys.path[:] = [entry for entry in sys.path if str(Path(entry).resolve()) not in foreign and entry not in foreign]

installed = importlib.util.find_spec("specprune_ros") is not None
if not installed:
    sys.path.insert(0, str(ROOT))
from specprune_ros import shell_variables  # noqa: E402

if not installed:
    sys.path.remove(str(ROOT))  # the package is imported, and finds its own modules

environment = shell_variables.cleaned(os.environ, shell_variables.own_prefix())
if not installed:
    environment["PYTHONPATH"] = str(ROOT)  # for processes that tests start
environment["OMP_NUM_THREADS"] = "1"  # models in tests are tiny: with two threads, each mostly waits for the other
os.environ.clear()
os.environ.update(environment)
if sys.flags.optimize:
    pytest.exit("PYTHONOPTIMIZE is set: Python would skip every assertion; unset it, or use `make test`", returncode=2)


@pytest.fixture(scope="module")
def tiny_towers():
    """Vision towers small enough for a test, known by name as the published ones are."""
    from tiny_checkpoints import TINY_TOWERS

    from specprune_ros.model import towers

    with pytest.MonkeyPatch.context() as patch:
        for name, dims in TINY_TOWERS.items():
            patch.setitem(towers.KNOWN_TOWERS, name, dims)
        yield


def pytest_collection_modifyitems(items):
    for item in items:
        tier = Path(item.path).relative_to(ROOT / "test").parts[0]
        if tier in TIERS:
            item.add_marker(tier)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n 3`, two workers have the tests on ROS graphs, which mostly wait, and one has the rest: more graphs than
    that beside each other would take each other's time. The rest is distributed by files, whose fixtures are then made
    once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByTier(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.split("::")[0]
            return f"ros {zlib.crc32(file.encode()) % 2}" if file.startswith("test/ros/") else file

    return ByTier(config, log)


def pytest_ignore_collect(collection_path):
    """Without ROS there is nothing to collect of what needs it, nor without the compiled messages."""
    needs_ros = (ROOT / "test" / "ros") in Path(collection_path).parents
    lacking = not installed or importlib.util.find_spec("rclpy") is None
    return True if needs_ros and lacking else None
