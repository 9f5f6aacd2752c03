"""Environments that the tests of a module share; every test resets them."""

import pytest

pytest.importorskip("mujoco")

from specprune_ros.sim.env import TabletopEnv


@pytest.fixture(scope="module")
def env():
    """An environment without pictures."""
    with TabletopEnv(render=False) as env:
        yield env


@pytest.fixture(scope="module")
def camera_env():
    with TabletopEnv() as env:
        yield env


@pytest.fixture(scope="module")
def tabletop():
    """An environment whose limits a test may change."""
    with TabletopEnv() as env:
        yield env
