"""Presets, and everything that may be changed while the node runs."""

import pytest

pytest.importorskip("rclpy")

import parameter_rig
from parameter_rig import set_one
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from specprune_ros import config as declared
from specprune_ros.config import Config, ConfigError
from specprune_ros.ros.parameters import LiveParameters

context, make = parameter_rig.context, parameter_rig.make


def preset_of(node):
    return tuple(node.get_parameter(name).value for name in ("pruning.preset", "pruning.aggressiveness"))


class WithoutPreSet(Node):
    """A node of Humble, which knows no pre-set callbacks."""

    def __getattribute__(self, name):
        if name == "add_pre_set_parameters_callback":
            raise AttributeError(name)
        return super().__getattribute__(name)


@pytest.fixture(params=[Node, WithoutPreSet], ids=["pre-set callbacks", "no pre-set callbacks"])
def node_and_live(request, context):
    node = request.param("policy_node", context=context, automatically_declare_parameters_from_overrides=True)
    yield node, LiveParameters(node)
    node.destroy_node()


def test_a_preset_shows_in_the_values_it_sets(node_and_live):
    node, live = node_and_live
    assert set_one(node, "pruning.preset", "aggressive").successful
    assert live.config.pruning.aggressiveness == 0.8
    assert preset_of(node) == ("aggressive", 0.8)
    assert set_one(node, "pruning.aggressiveness", 0.3).successful
    assert live.config.pruning.preset == "custom"
    assert preset_of(node) == ("custom", 0.3)
    assert set_one(node, "pruning.dynamic.enabled", False).successful
    assert set_one(node, "pruning.preset", "conservative").successful
    assert live.config.pruning.dynamic.enabled and preset_of(node) == ("conservative", 0.25)
    assert node.get_parameter("pruning.dynamic.enabled").value is True


def test_a_preset_and_its_values_change_at_once(make):
    """Who listens to parameter events never sees a preset without its values."""
    node, live = make()
    seen = []
    node.add_on_set_parameters_callback(
        lambda changes: seen.append({c.name for c in changes}) or SetParametersResult(successful=True)
    )
    assert set_one(node, "pruning.preset", "aggressive").successful
    assert seen == [{"pruning.preset", "pruning.aggressiveness"}]
    assert preset_of(node) == ("aggressive", 0.8)  # before anybody asks for the configuration
    assert live.config.pruning.preset == "aggressive"


def test_a_preset_with_an_explicit_value_is_custom(make):
    node, live = make()
    together = [Parameter("pruning.preset", value="aggressive"), Parameter("pruning.aggressiveness", value=0.1)]
    assert node.set_parameters_atomically(together).successful
    assert preset_of(node) == ("custom", 0.1) and live.config.pruning.preset == "custom"


def test_a_refused_preset_changes_nothing(make):
    node, live = make()
    before = live.config
    result = set_one(node, "pruning.preset", "wild")
    assert not result.successful and "'wild' is not one of conservative, paper, aggressive, custom" in result.reason
    assert live.config is before and preset_of(node) == ("paper", 0.5)


def test_a_preset_may_be_the_start(make):
    node, live = make(pruning__preset="conservative")
    assert preset_of(node) == ("conservative", 0.25) and live.config.pruning.preset == "conservative"
    node, live = make(pruning__preset="conservative", pruning__aggressiveness=0.4)
    assert preset_of(node) == ("custom", 0.4)


TUNABLE = [
    p
    for p in declared.parameters()
    if p.name.startswith(("pruning.", "control.", "limits.")) and p.name != "control.rate"
]


def another_value(parameter):
    """A valid value that is not the default."""
    default = parameter.default
    if isinstance(default, bool):
        return not default
    if parameter.choices:
        return next(choice for choice in parameter.choices if choice != default)
    if isinstance(default, tuple):
        return [value + 0.01 for value in default]
    steps = (-1, 1) if isinstance(default, int) else (-0.01, 0.01)
    for value in (default + step for step in steps):
        try:
            Config().updated({parameter.name: value})
        except ConfigError:
            continue
        return value
    raise AssertionError(parameter)


@pytest.mark.parametrize("parameter", TUNABLE, ids=lambda parameter: parameter.name)
def test_all_that_tunes_pruning_execution_and_limits_is_live_and_keeps_its_bounds(make, parameter):
    node, live = make()
    value = another_value(parameter)
    assert set_one(node, parameter.name, value).successful
    assert live.config.get(parameter.name) == (tuple(value) if isinstance(value, list) else value)
    for bound, beyond in zip(parameter.bounds or (), (-1, 1), strict=False):
        if bound is None:
            continue
        wrong = [bound + beyond] * 3 if isinstance(value, list) else bound + beyond
        result = set_one(node, parameter.name, wrong)
        assert not result.successful and str(bound) in result.reason
        assert live.config.get(parameter.name) != wrong
