"""One declaration, seen from ROS: descriptors, overrides, live changes and refusals."""

import re
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy")

import parameter_rig
from parameter_rig import set_one
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_dict_from_yaml_file

from specprune_ros import config as declared
from specprune_ros.config import Config, ConfigError
from specprune_ros.ros.parameters import LiveParameters, descriptor

context, make = parameter_rig.context, parameter_rig.make


def test_every_parameter_is_declared_with_its_description(make):
    node, live = make()
    assert live.config == Config()
    for parameter in declared.parameters():
        described = node.describe_parameter(parameter.name)
        assert parameter.doc in described.description
        assert parameter.unit in described.description
        assert described.read_only is not parameter.live
        value = node.get_parameter(parameter.name).value
        assert (tuple(value) if isinstance(parameter.default, tuple) else value) == parameter.default


def test_ranges_and_choices_are_in_the_descriptor():
    table = {parameter.name: parameter for parameter in declared.parameters()}
    [span] = descriptor(table["pruning.aggressiveness"]).floating_point_range
    assert (span.from_value, span.to_value) == (0.0, 1.0)
    [span] = descriptor(table["control.execute_steps"]).integer_range
    assert (span.from_value, span.to_value) == (1, 256)
    assert descriptor(table["pruning.static.similarity"]).additional_constraints == "one of: rgb_cosine, absolute"


def test_open_ranges_stay_open():
    parameter = declared.Parameter("x", 1, "", "", (0, None), None, True)
    [span] = descriptor(parameter).integer_range
    assert (span.from_value, span.to_value) == (0, 2**63 - 1)


def test_overrides_are_the_start_and_an_integer_is_a_fine_double(make):
    node, live = make(pruning__aggressiveness=1, control__lead_steps=3, topics__images=["/a", "/b", "/c"])
    assert live.config.pruning.aggressiveness == 1.0
    assert live.config.control.lead_steps == 3
    assert live.config.topics.images == ("/a", "/b", "/c")
    assert node.get_parameter("pruning.aggressiveness").type_ == Parameter.Type.DOUBLE


def test_what_rclpy_declares_is_left_alone(make):
    node, _ = make(use_sim_time=True)
    assert node.get_parameter("use_sim_time").value is True


def test_an_unknown_override_ends_the_start_with_the_nearest_names(make):
    with pytest.raises(ConfigError, match="'pruning.agressiveness'; did you mean pruning.aggressiveness"):
        make(pruning__agressiveness=0.5)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("pruning__aggressiveness", 1.5, r"1.5 is out of range; give a number in \[0.0, 1.0\]"),
        ("pruning__aggressiveness", "high", "expected float, got str 'high'"),
        ("policy__device", "tpu", "'tpu' is not one of auto, cpu, cuda"),
        ("control__lead_steps", 8, "must be below control.execute_steps"),
    ],
)
def test_an_override_that_cannot_be_used_ends_the_start(make, name, value, text):
    with pytest.raises(ConfigError, match=text):
        make(**{name: value})


def test_a_live_change_is_a_new_configuration(make):
    node, live = make()
    before = live.config
    assert set_one(node, "pruning.aggressiveness", 0.75).successful
    assert before.pruning.aggressiveness == 0.5 and live.config.pruning.aggressiveness == 0.75
    assert live.config is live.config


def test_an_integer_may_be_given_for_a_double(make):
    node, live = make()
    assert set_one(node, "pruning.aggressiveness", 1).successful
    assert live.config.pruning.aggressiveness == 1.0
    assert node.get_parameter("pruning.aggressiveness").type_ == Parameter.Type.DOUBLE


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("pruning.aggressiveness", 1.01, "Min: 0.0, Max: 1.0"),
        ("pruning.aggressiveness", float("nan"), "Min: 0.0, Max: 1.0"),
        ("pruning.aggressiveness", "high", "pruning.aggressiveness: expected float, got str 'high'"),
        ("pruning.dynamic.enabled", 1, "pruning.dynamic.enabled: expected bool, got int 1"),
        ("control.execute_steps", 0, "Min: 1, Max: 256"),
        ("pruning.static.similarity", "ssim", "'ssim' is not one of rgb_cosine, absolute"),
        ("control.lead_steps", 8, r"8 must be below control.execute_steps \(8\)"),
        ("pruning.controller.exit_angular", 0.1, r"0.1 is below enter_angular \(0.2\)"),
        ("control.rate", 30.0, "read-only parameter: control.rate"),
    ],
)
def test_a_refused_change_says_why_and_changes_nothing(make, name, value, text):
    node, live = make()
    before, stored = live.config, node.get_parameter(name).value
    result = set_one(node, name, value)
    assert not result.successful
    assert re.search(text, result.reason), result.reason
    assert live.config is before and node.get_parameter(name).value == stored


def test_changes_that_belong_together_are_judged_together(make):
    node, live = make()
    together = [Parameter("control.lead_steps", value=9), Parameter("control.execute_steps", value=10)]
    assert node.set_parameters_atomically(together).successful
    assert (live.config.control.lead_steps, live.config.control.execute_steps) == (9, 10)


def test_what_another_callback_refuses_never_takes_effect(context):
    node = Node("policy_node", context=context, automatically_declare_parameters_from_overrides=True)
    reason = []
    # Registered first, so asked last: ours has said yes already.
    node.add_on_set_parameters_callback(lambda _: SetParametersResult(successful=not reason, reason="".join(reason)))
    live = LiveParameters(node)
    before = live.config
    reason.append("no")
    assert set_one(node, "pruning.aggressiveness", 0.75).reason == "no"
    assert live.config == before
    node.destroy_node()


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("config/*.yaml")), ids=lambda path: path.name)
def test_every_key_in_the_configuration_files_is_declared(path):
    [(nodes, content)] = yaml.safe_load(path.read_text()).items()
    assert nodes == "/**"  # any namespace
    Config.from_mapping(content["ros__parameters"])


# Lists: what ROS tools send for them is not always what was declared.

BOX = "limits.workspace_min"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([0, -1, 0], (0.0, -1.0, 0.0)),
        ([0.25, -0.5, 0.0], (0.25, -0.5, 0.0)),
        ("[0, -0.5, 1e-1]", (0.0, -0.5, 0.1)),  # `ros2 param set` sends numbers of two types as text
    ],
)
def test_a_list_of_numbers_counts_at_the_start_and_live_alike(make, value, expected):
    node, live = make()
    assert set_one(node, BOX, value).successful
    assert live.config.limits.workspace_min == expected
    assert node.get_parameter(BOX).type_ == Parameter.Type.DOUBLE_ARRAY
    if not isinstance(value, str):
        _, started = make(**{BOX.replace(".", "__"): value})
        assert started.config.limits.workspace_min == expected


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        (Parameter(BOX, value=[]), r"workspace_min: \[\] has not the three numbers x, y, z"),
        (Parameter(BOX, Parameter.Type.STRING_ARRAY, []), r"workspace_min: \[\] has not the three numbers"),
        (Parameter(BOX, value="[]"), r"workspace_min: \[\] has not the three numbers"),
        (Parameter(BOX, value=[0, 0]), r"workspace_min: \[0.0, 0.0\] has not the three numbers"),
        (Parameter(BOX, value=[0, 0, 0, 0]), "has not the three numbers"),
        (Parameter(BOX, value=[0.0, float("nan"), 0.0]), "nan is not finite; give a number in"),
        (Parameter(BOX, value=[0.0, float("-inf"), 0.0]), "-inf is not finite"),
        (Parameter(BOX, value=[0, 9, 0]), r"9.0 is out of range; give a number in \[-5.0, 5.0\]"),
        (Parameter(BOX, value=[2, 0, 0]), "workspace_max: x 0.8 is not above"),
        (Parameter(BOX, value=[True, False, True]), "expected float, got bool True"),
        (Parameter(BOX, value=["0", "0", "0"]), "expected float, got str '0'"),
        (Parameter(BOX, value="0, 0, 0"), "expected a list, got '0, 0, 0'"),
        (Parameter(BOX, value=1), "expected a list, got 1"),
        (Parameter(BOX, Parameter.Type.NOT_SET), "workspace_min: cannot be unset; give a value"),
        (Parameter("limits.linear_speed", value=True), "limits.linear_speed: expected float, got bool True"),
        (Parameter("limits.linear_speed", value="0.1"), "limits.linear_speed: expected float, got str '0.1'"),
        (Parameter("limits.linear_speed", Parameter.Type.NOT_SET), "limits.linear_speed: cannot be unset"),
        (Parameter("limits.linear_speed", value=[0.1]), r"limits.linear_speed: expected float, got list \[0.1\]"),
        (Parameter("debug_image", value="yes"), "debug_image: expected bool, got str 'yes'"),
        (Parameter("control.execute_steps", value=8.0), "control.execute_steps: expected int, got float 8.0"),
        (Parameter("instruction", value=5), "instruction: expected str, got int 5"),
    ],
    ids=lambda given: given if isinstance(given, str) else f"{given.name}={given.value}",
)
def test_a_live_value_of_another_type_is_refused_in_our_words(make, parameter, text):
    node, live = make()
    before = live.config
    [result] = node.set_parameters([parameter])
    assert not result.successful
    assert re.search(text, result.reason), result.reason
    assert live.config is before and live.config.limits.workspace_min == tuple(node.get_parameter(BOX).value)


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("config/pruning_*.yaml")), ids=lambda p: p.name)
def test_ros2_param_load_takes_our_presets(make, path):
    node, live = make()
    messages = parameter_dict_from_yaml_file(str(path), use_wildcard=True)
    results = node.set_parameters([Parameter.from_parameter_msg(message) for message in messages.values()])
    assert all(result.successful for result in results), results
    assert f"pruning_{live.config.pruning.preset}.yaml" == path.name


@pytest.mark.parametrize("name", ["franka.yaml", "gazebo.yaml", "mujoco.yaml"])
def test_ros2_param_load_takes_what_is_live_of_a_whole_file(make, name):
    """It sets one after another; what is not live is refused by its name, unless it is what is in force."""
    node, live = make()
    path = Path(__file__).parents[2] / "config" / name
    for message in parameter_dict_from_yaml_file(str(path), use_wildcard=True).values():
        parameter = Parameter.from_parameter_msg(message)
        [result] = node.set_parameters([parameter])
        if declared.lookup(parameter.name).live:
            assert result.successful, (parameter.name, result.reason)
        else:
            assert f"read-only parameter: {parameter.name}" in result.reason
