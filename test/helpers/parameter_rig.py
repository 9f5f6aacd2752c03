"""Nodes with our parameters, made one by one, for tests."""

import pytest

pytest.importorskip("rclpy")

import rclpy
from domains import own_domain
from rclpy.node import Node
from rclpy.parameter import Parameter

from specprune_ros.ros.parameters import LiveParameters


@pytest.fixture(scope="module")
def context():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=own_domain())
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture
def make(context):
    """A node with its parameters declared, given overrides as a YAML file or command line would give them."""
    nodes = []

    def make(**overrides):
        given = [Parameter(name.replace("__", "."), value=value) for name, value in overrides.items()]
        node = Node(
            "policy_node",
            context=context,
            parameter_overrides=given,
            automatically_declare_parameters_from_overrides=True,
        )
        nodes.append(node)
        return node, LiveParameters(node)

    yield make
    for node in nodes:
        node.destroy_node()


def set_one(node, name, value):
    [result] = node.set_parameters([Parameter(name, value=value)])
    return result
