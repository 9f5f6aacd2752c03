"""The files in config/: every key and value that a YAML sets, and every name that a layout shows, is one that
exists."""

import json
from pathlib import Path

import pytest
import yaml

from specprune_ros.config import PRESETS, Config, ConfigError, Topics, flattened
from specprune_ros.sim.settings import SIMULATION

CONFIG = Path(__file__).parents[2] / "config"
NODE = "/policy_node"


def parameters_of(path):
    """{dotted name: value} of a parameter file."""
    [(nodes, content)] = yaml.safe_load(path.read_text()).items()
    assert nodes == "/**", "valid in any namespace"
    assert list(content) == ["ros__parameters"]
    return dict(flattened(content["ros__parameters"]))


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.name)
def test_a_parameter_file_sets_only_what_is_declared_to_allowed_values(path):
    given = parameters_of(path)
    config = Config.from_mapping(given)
    for name, value in given.items():
        expected = tuple(value) if isinstance(value, list) else value
        assert config.get(name) == expected
        assert type(config.get(name)) is type(expected), f"{name}: write {config.get(name)!r}"
    with pytest.raises(ConfigError, match="unknown parameter"):
        Config.from_mapping({**given, "pruning.agressiveness": 0.5})


def test_the_simulators_file_says_what_everything_on_the_simulator_uses():
    given = parameters_of(CONFIG / "mujoco.yaml")
    assert {name: given[name] for name in SIMULATION} == SIMULATION


def test_a_real_arm_starts_slow_disarmed_and_inside_a_box():
    given = parameters_of(CONFIG / "franka.yaml")
    assert given["safety.auto_arm"] is False and given["safety.hold_timeout"] > 0
    assert given["limits.linear_speed"] <= 0.1 and given["limits.angular_speed"] <= 0.5
    for name in Config.from_mapping({}).limits.__dataclass_fields__:
        assert f"limits.{name}" in given, "written out, for who reads it before the first start"
    assert given["output.interface"] != "action", "nothing on a Franka listens to our own message"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_file(name):
    assert parameters_of(CONFIG / f"pruning_{name}.yaml") == {"pruning.preset": name}
    config = Config.from_mapping(parameters_of(CONFIG / f"pruning_{name}.yaml"))
    assert {key: config.get(key) for key in PRESETS[name]} == PRESETS[name]


# RViz and Foxglove.


def known_topics():
    """What the node in the root namespace reads and writes, and ROS's own."""
    topics = Topics()
    named = [value for name in topics.__dataclass_fields__ if isinstance(value := getattr(topics, name), str)]
    private = [name.replace("~", NODE) for name in named if name]
    return {*private, *topics.images, f"{NODE}/safety", "/diagnostics"}


def test_rviz_shows_topics_that_exist():
    rviz = yaml.safe_load((CONFIG / "specprune.rviz").read_text())["Visualization Manager"]
    assert rviz["Global Options"]["Fixed Frame"] == Config().robot.base_frame
    shown = {}
    for display in rviz["Displays"]:
        for key in ("Topic", "Description Topic"):
            if key in display:
                shown[display[key]["Value"]] = display[key]["Reliability Policy"], display[key]["Durability Policy"]
    topics = Topics()
    assert set(shown) <= known_topics()
    assert {*topics.images, topics.ee_pose, topics.robot_description, f"{NODE}/debug_image"} <= set(shown)
    for topic in (*topics.images, topics.ee_pose):
        assert shown[topic] == ("Best Effort", "Volatile"), "a reliable subscription hears nothing from a sensor"
    assert shown[topics.robot_description] == ("Reliable", "Transient Local")


@pytest.fixture(scope="module")
def foxglove():
    return json.loads((CONFIG / "foxglove.json").read_text())


def leaves(layout):
    if isinstance(layout, str):
        return [layout]
    assert layout["direction"] in ("row", "column") and 0 < layout["splitPercentage"] < 100
    return [*leaves(layout["first"]), *leaves(layout["second"])]


def values_under(node, keys):
    """Every string below `node` whose key is one of `keys`."""
    if isinstance(node, list):
        return [found for item in node for found in values_under(item, keys)]
    if not isinstance(node, dict):
        return []
    own = [value for key, value in node.items() if key in keys and isinstance(value, str)]
    return own + [found for value in node.values() for found in values_under(value, keys)]


def test_foxglove_lays_out_every_panel_once(foxglove):
    assert sorted(leaves(foxglove["layout"])) == sorted(foxglove["configById"])


def test_foxglove_shows_topics_fields_and_services_that_exist(foxglove):
    panels = foxglove["configById"]
    images = values_under(panels, {"imageTopic"})
    topics = images + values_under(panels, {"topicPath", "topicToRender"}) + list(panels["3D!arm"]["topics"])
    assert set(topics) <= known_topics()
    assert {*Topics().images, f"{NODE}/debug_image"} == set(images)
    assert {f"{NODE}/status", f"{NODE}/safety", "/diagnostics"} <= set(topics)
    services = values_under(panels, {"serviceName"})
    assert set(services) == {f"{NODE}/{name}" for name in ("arm", "disarm", "estop")}


def test_foxglove_plots_numbers_of_the_status(foxglove):
    messages = pytest.importorskip("specprune_ros.msg", reason="the messages are not compiled")
    fields = messages.PruningStatus.get_fields_and_field_types()
    plotted = [path["value"] for panel in foxglove["configById"].values() for path in panel.get("paths", ())]
    assert plotted
    for path in plotted:
        topic, _, field = path.partition(".")
        assert topic == f"{NODE}/status" and fields[field] in ("float", "uint32"), path
