"""What every test stands on: which package is tested, a ROS domain of its own, markers by folder.

The package under test is the one that is installed: after `make venv` that is this folder's source with the compiled
messages beside it, so an edit counts at once. A copied tree in which nothing is installed is tested all the same, apart
from what needs the messages.
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TIERS = ("ros", "sim")
"""Folders whose tests get a marker of the same name."""

# `python -m pytest` puts the working directory first; its folders launch/ and test/ would pass for packages.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
os.environ["PYTHONSAFEPATH"] = "1"  # the same for processes that tests start

if importlib.util.find_spec("specprune_ros") is None:
    sys.path.insert(0, str(ROOT))

    sys.path.remove(str(ROOT))

os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))  # 1..101 need no port setting of the system


@pytest.fixture(scope="module")
def tiny_towers():
    """Vision towers small enough for a test, known by name as the published ones are: config.json stays as upstream ships it."""
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


def pytest_ignore_collect(collection_path):
    """Without ROS there is nothing to collect of what needs it."""
    needs_ros = (ROOT / "test" / "ros") in Path(collection_path).parents
    return True if needs_ros and importlib.util.find_spec("rclpy") is None else None
