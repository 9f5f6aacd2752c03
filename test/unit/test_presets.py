"""One parameter for several: what a preset sets, what wins over it, and that its name always tells the truth."""

import argparse

import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.cli.options import build_config
from specprune_ros.config import PRESETS, Config, ConfigError, parameters, with_preset

NAMES = sorted(PRESETS)
GOVERNED = sorted(PRESETS["paper"])


def in_force(config):
    return {name: config.get(name) for name in GOVERNED}


def test_the_defaults_are_the_paper():
    assert Config().pruning.preset == "paper" and in_force(Config()) == PRESETS["paper"]


def test_presets_set_the_same_parameters_within_their_ranges_and_from_soft_to_hard():
    declared = {parameter.name: parameter for parameter in parameters()}
    for values in PRESETS.values():
        assert sorted(values) == GOVERNED
        assert all(declared[name].live and declared[name].check(value) == value for name, value in values.items())
    strengths = [PRESETS[name]["pruning.aggressiveness"] for name in ("conservative", "paper", "aggressive")]
    assert strengths == sorted(set(strengths)) and strengths[0] > 0.0 and strengths[-1] < 1.0
    assert set(declared["pruning.preset"].choices) == {*PRESETS, "custom"}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_brings_its_values(name):
    config = Config().updated({"pruning.static.enabled": False}).updated({"pruning.preset": name})
    assert config.pruning.preset == name and in_force(config) == PRESETS[name]


def test_a_value_set_by_hand_makes_it_custom_and_other_parameters_do_not():
    aggressive = Config().updated({"pruning.preset": "aggressive"})
    assert aggressive.updated({"pruning.aggressiveness": 0.7}).pruning.preset == "custom"
    assert aggressive.updated({"pruning.controller.enabled": False}).pruning.preset == "custom"
    assert aggressive.updated({"pruning.aggressiveness": 0.8}).pruning.preset == "aggressive"
    assert aggressive.updated({"pruning.static.k_global": 5, "control.lead_steps": 1}).pruning.preset == "aggressive"


def test_explicit_values_win_and_custom_changes_nothing():
    config = Config.from_mapping({"pruning": {"preset": "aggressive", "aggressiveness": 0.3}})
    assert (config.pruning.preset, config.pruning.aggressiveness) == ("custom", 0.3)
    hard = Config().updated({"pruning.preset": "aggressive"})
    custom = hard.updated({"pruning.preset": "custom"})
    assert custom.pruning.preset == "custom" and in_force(custom) == in_force(hard)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(
        ConfigError, match="pruning.preset: 'wild' is not one of conservative, paper, aggressive, custom"
    ):
        Config().updated({"pruning.preset": "wild"})
    with pytest.raises(ConfigError, match="pruning.preset: expected str"):
        Config().updated({"pruning.preset": ["paper"]})


change = st.one_of(
    st.sampled_from(["custom", *NAMES]).map(lambda name: {"pruning.preset": name}),
    st.sampled_from([0.25, 0.5, 0.8, 0.1]).map(lambda value: {"pruning.aggressiveness": value}),
    st.booleans().map(lambda value: {"pruning.dynamic.enabled": value}),
)


@given(st.lists(change, max_size=6))
def test_the_name_never_lies(changes):
    config = Config()
    for each in changes:
        config = config.updated(each)
        assert config.pruning.preset == "custom" or in_force(config) == PRESETS[config.pruning.preset]
        assert all(config.get(name) == value for name, value in each.items() if name != "pruning.preset")
    # What a node reads back and what a results file records: the whole configuration makes itself again.
    everything = {parameter.name: config.get(parameter.name) for parameter in parameters()}
    assert Config.from_mapping(everything) == config


def test_with_preset_leaves_explicit_values_alone():
    assert with_preset({"pruning.aggressiveness": 0.1}) == {"pruning.aggressiveness": 0.1}
    both = with_preset({"pruning.preset": "paper", "pruning.aggressiveness": 0.1})
    assert both["pruning.aggressiveness"] == 0.1 and both["pruning.static.enabled"] is True


def test_on_the_command_line_a_later_source_wins(tmp_path):
    def built(yaml, *changes):
        path = tmp_path / "parameters.yaml"
        path.write_text("/**:\n  ros__parameters:\n    pruning:\n" + "".join(f"      {line}\n" for line in yaml))
        return build_config(argparse.Namespace(params=str(path), changes=changes)).pruning

    pruning = built(["aggressiveness: 0.4"], "pruning.preset=aggressive")
    assert (pruning.preset, pruning.aggressiveness) == ("aggressive", 0.8)
    pruning = built(["preset: aggressive"], "pruning.aggressiveness=0.4")
    assert (pruning.preset, pruning.aggressiveness) == ("custom", 0.4)
    pruning = built(["preset: conservative", "aggressiveness: 0.4"])
    assert (pruning.preset, pruning.aggressiveness) == ("custom", 0.4)
