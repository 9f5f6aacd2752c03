"""What tests on a ROS graph share."""

import pytest


@pytest.fixture
def graph(tmp_path):
    """A graph of the test's own, whose nodes end with it."""
    from ros_helpers import Graph

    with Graph(tmp_path) as graph:
        yield graph
