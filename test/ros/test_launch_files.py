"""The launch files as they can be read without launch, and what they share: what is checked before anything starts, and
which names move with a namespace."""

from pathlib import Path

import pytest
from launched import FILES, ROOT, defaults_of, loaded

from specprune_ros.config import Config, ConfigError, lookup, parameters
from specprune_ros.ros import launching


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_launch_file_has_the_arguments_that_users_expect(path):
    own = [name for name, default, text in loaded(path).ARGUMENTS if isinstance(default, str) and text]
    shared = [name for name, _, _ in loaded(ROOT / "launch" / "bringup.launch.py").ARGUMENTS]
    expected = {"params_file", "namespace", "relative_topics", "use_sim_time", "clock", "log_level"}
    expected |= {"checkpoint", "instruction", "command_interface", "auto_activate"}
    if path.name == "franka.launch.py":
        expected |= {"robot_ip", "robot_type", "bringup"}
    assert expected <= {*own, *shared}
    assert len(own) == len(set(own)) == len(loaded(path).ARGUMENTS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_that_are_named_as_defaults_are_there(path):
    named = [default for name, default, _ in loaded(path).ARGUMENTS if name in ("params_file", "world")]
    assert named
    for default in named:
        assert Path(default).is_file()


def test_the_arguments_that_override_the_yaml_are_parameters_of_that_type():
    module = loaded(ROOT / "launch" / "bringup.launch.py")
    defaults = {name: default for name, default, _ in module.ARGUMENTS}
    for argument, parameter, kind in module.OVERRIDES:
        assert type(lookup(parameter).default) is kind
        assert defaults[argument] == "", "the YAML is the truth"
    text = next(text for name, _, text in module.ARGUMENTS if name == "command_interface")
    assert all(choice in text for choice in lookup("output.interface").choices)


# What is checked before anything starts.


def written(folder, text):
    path = folder / "own.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "node", "why"),
    [
        ("", "/policy_node", "it is empty"),
        ("- 1", "/policy_node", "holds a list"),
        ("control: {rate: 10.0}", "/policy_node", "is a value before|has no 'ros__parameters:'"),
        (
            "policy-node: {ros__parameters: {control: {rate: 10.0}}}",
            "/policy_node",
            "nothing in it is for /policy_node",
        ),
        (
            "/right/policy_node: {ros__parameters: {instruction: x}}",
            "/left/policy_node",
            "nothing .* /left/policy_node",
        ),
        (
            "/**: {ros__parameters: {limits: {linear_spede: 0.1}}}",
            "/policy_node",
            "unknown parameter 'limits.linear_spede'",
        ),
        (
            "/**: {ros__parameters: {instruction: x}}\n/policy_nod: {ros__parameters: {limits.linear_speed: 0.02}}",
            "/policy_node",
            "section '/policy_nod' sets limits.linear_speed, but is not for /policy_node",
        ),
        (
            "/**: {ros__parameters: {limits: {linear_speed: 9.0}}}",
            "/policy_node",
            "limits.linear_speed: 9.0 is out of range",
        ),
    ],
)
def test_a_parameter_file_that_cannot_be_meant_is_refused(tmp_path, text, node, why):
    pytest.importorskip("rclpy")
    with pytest.raises(ConfigError, match=why):
        launching.given(written(tmp_path, text), node)
    with pytest.raises(ConfigError, match="No such file or directory; give the path of a YAML file"):
        launching.given(tmp_path / "mistyped.yaml", node)


def test_later_sections_win_and_ros_own_parameters_are_no_mistake(tmp_path):
    pytest.importorskip("rclpy")
    text = """
/**: {ros__parameters: {instruction: all, use_sim_time: true, control: {rate: 10.0}}}
/left/policy_node: {ros__parameters: {instruction: left}}
/right/policy_node: {ros__parameters: {instruction: right}}
"""
    values = launching.given(written(tmp_path, text), "/left/policy_node")
    assert values == {"instruction": "left", "use_sim_time": True, "control.rate": 10.0}


@pytest.mark.parametrize(
    ("namespaces", "name"),
    [
        ((None, ""), "/policy_node"),
        ((None, "left"), "/left/policy_node"),
        (("/cell", "/left/"), "/cell/left/policy_node"),
        (("/cell", ""), "/cell/policy_node"),
    ],
)
def test_the_nodes_full_name_stands_below_all_namespaces(namespaces, name):
    assert launching.node_name(*namespaces) == name


# What moves with a namespace.


@pytest.mark.parametrize("file", [None, "franka.yaml", "mujoco.yaml"])
def test_no_topic_stays_outside_the_namespace(file):
    values = defaults_of(file) if file else {}
    config = Config.from_mapping({**values, **launching.relative_topics(values)})
    before = Config.from_mapping(values)
    for parameter in parameters():
        value, was = config.get(parameter.name), before.get(parameter.name)
        named = isinstance(value, str) or (isinstance(value, tuple) and all(isinstance(v, str) for v in value))
        if parameter.name.startswith("topics.") and named:
            names, were = ([v] if isinstance(v, str) else v for v in (value, was))
            assert not any(name.startswith("/") for name in names), parameter.name
            assert [name.lstrip("/") for name in were] == list(names), "the same names"
        else:
            assert value == was


def test_names_that_are_relative_already_are_left_alone():
    moved = launching.relative_topics({"topics.instruction": "sim_node/instruction", "topics.images": ["a/b", "/c"]})
    assert "topics.instruction" not in moved and moved["topics.images"] == ["a/b", "c"]
    assert "topics.image_transport" not in moved


# What everything that is started finds in its environment.


def test_our_dds_profile_is_set_unless_the_user_has_chosen_one(tmp_path):
    assert launching.environment(tmp_path, {}) == {}, "there is none"
    profile = tmp_path / "fastdds.xml"
    profile.touch()
    assert launching.environment(tmp_path, {}) == dict.fromkeys(launching.PROFILES, str(profile))
    for name in launching.PROFILES:
        assert launching.environment(tmp_path, {name: "/home/user/own.xml"}) == {}
    assert Path(ROOT / "config").is_dir()
