"""The tests run on the installed package, as only that holds the compiled messages, and on a ROS domain of their own."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# `python -m pytest` puts the working directory first, and the source folder there would hide the installed package.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
os.environ["PYTHONSAFEPATH"] = "1"  # the same for processes that tests start

os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("ROS_DOMAIN_ID", str(os.getpid() % 101 + 1))  # 1..101 need no port setting of the system


@pytest.fixture(scope="module")
def tiny_towers():
    """Vision towers small enough for a test, known by name as the published ones are: config.json stays as upstream ships it."""
    from specprune_ros.model import towers
    from specprune_ros.model.testing import TINY_TOWERS

    with pytest.MonkeyPatch.context() as patch:
        for name, dims in TINY_TOWERS.items():
            patch.setitem(towers.KNOWN_TOWERS, name, dims)
        yield
