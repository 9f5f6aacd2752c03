"""Launch files: readable without launch, and complete where launch is installed."""

import importlib.util
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent.parent / "launch").glob("*.launch.py"))


def loaded(path):
    spec = importlib.util.spec_from_file_location(path.name.split(".")[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_launch_file_declares_what_users_expect_without_launch(path):
    names = [name for name, _, text in loaded(path).ARGUMENTS if text]
    assert {"params_file", "namespace", "use_sim_time", "log_level"} <= set(names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_launch_file_starts_our_nodes(path):
    pytest.importorskip("launch_ros", reason="launch and launch_ros are not on PyPI; they come with a ROS installation")
    from launch.actions import DeclareLaunchArgument
    from launch_ros.actions import Node

    entities = loaded(path).generate_launch_description().entities
    declared = [entity.name for entity in entities if isinstance(entity, DeclareLaunchArgument)]
    assert declared == [name for name, _, _ in loaded(path).ARGUMENTS]
    assert {entity.node_executable for entity in entities if isinstance(entity, Node)} == {"sim_node", "policy_node"}
