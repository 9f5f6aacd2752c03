"""Configuration: every declared parameter has a usable default, is checked, and explains itself."""

import dataclasses
import math

import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.config import Config, ConfigError, flattened, lookup, parameters

ALL = parameters()
BOUNDED = [p for p in ALL if p.bounds]


@pytest.mark.parametrize("parameter", ALL, ids=lambda p: p.name)
def test_declarations(parameter):
    assert parameter.check(parameter.default) == parameter.default
    assert Config().get(parameter.name) == parameter.default
    assert parameter.doc and not parameter.doc.endswith(".")
    if type(parameter.default) in (int, float):
        assert parameter.bounds, "a number needs a range"


def test_names_are_unique():
    assert len({p.name for p in ALL}) == len(ALL)


@pytest.mark.parametrize("parameter", BOUNDED, ids=lambda p: p.name)
def test_bounds_are_inclusive_and_held(parameter):
    low, high = parameter.bounds
    kind = type(parameter.default)
    for bound, outward in ((low, -1), (high, 1)):
        if bound is None:
            continue
        inside, outside = (_as(parameter.default, kind, value) for value in (bound, bound + outward))
        assert parameter.check(inside) == inside
        with pytest.raises(ConfigError, match=f"{parameter.name}: .* is out of range; give a number"):
            parameter.check(outside)


def _as(default, kind, value):
    """`value` in the parameter's type: for a list, in its last place."""
    return (*default[:-1], float(value)) if kind is tuple else kind(value)


def test_the_papers_constants_are_the_defaults():
    pruning = Config().pruning
    static, dynamic = pruning.static, pruning.dynamic
    assert pruning.aggressiveness == 0.5
    assert (static.k_global, static.k_dynamic, static.k_local_coarse, static.k_local_fine) == (30, 20, 24, 40)
    assert (dynamic.beta, dynamic.keep_ratio, dynamic.confidence) == (0.2, 0.9, "entropy")


@pytest.mark.parametrize(
    "changes, text",
    [
        (
            {"pruning.aggresiveness": 0.1},
            "unknown parameter 'pruning.aggresiveness'; did you mean pruning.aggressiveness",
        ),
        ({"zzz": 1}, "unknown parameter 'zzz'; see docs/reference/parameters.md"),
        ({"pruning": 1}, "unknown parameter 'pruning'"),
        (
            {"pruning.aggressiveness": 1.5},
            r"pruning.aggressiveness: 1.5 is out of range; give a number in \[0.0, 1.0\]",
        ),
        ({"pruning.aggressiveness": math.nan}, "nan is not finite"),
        ({"pruning.aggressiveness": "much"}, "expected float, got str 'much'"),
        ({"pruning.aggressiveness": True}, "expected float, got bool True"),
        ({"control.lead_steps": 1.0}, "expected int, got float"),
        ({"control.lead_steps": True}, "expected int, got bool"),
        ({"debug_image": 1}, "expected bool, got int 1"),
        ({"policy.device": "tpu"}, "policy.device: 'tpu' is not one of auto, cpu, cuda"),
        ({"topics.images": "/camera"}, "topics.images: expected a list, got '/camera'"),
        ({"topics.images": ["/a", 3]}, "topics.images: expected str, got int 3"),
        ({"topics.images": []}, "topics.images: the list is empty"),
        ({"control.lead_steps": 8}, r"control.lead_steps: 8 must be below control.execute_steps \(8\)"),
        ({"pruning.controller.exit_linear": 0.3}, r"exit_linear: 0.3 is below enter_linear \(0.4\); .*flicker"),
        ({"pruning.controller.enter_angular": 0.4}, "exit_angular: 0.3 is below enter_angular"),
    ],
)
def test_refusals_name_the_thing_the_value_and_the_remedy(changes, text):
    with pytest.raises(ConfigError, match=text):
        Config().updated(changes)


def test_an_update_changes_only_what_it_names():
    before = Config()
    after = before.updated({"pruning.static.k_global": 7, "control.lead_steps": 1, "control.chunk_timeout": 2})
    changed = {p.name for p in ALL if before.get(p.name) != after.get(p.name)}
    assert changed == {"pruning.static.k_global", "control.lead_steps", "control.chunk_timeout"}
    assert type(after.control.chunk_timeout) is float
    assert before == Config()


def test_values_that_only_fit_together_are_accepted_together():
    config = Config().updated({"control.execute_steps": 4, "control.lead_steps": 3})
    assert config.control.lead_steps == 3


def test_nested_and_dotted_names_mean_the_same():
    nested = {"pruning": {"aggressiveness": 0.2, "static": {"alpha": 1.0}}, "instruction": "wave"}
    assert dict(flattened(nested))["pruning.static.alpha"] == 1.0
    assert Config.from_mapping(nested) == Config.from_mapping(dict(flattened(nested)))


def test_lists_become_tuples_and_configurations_are_frozen():
    config = Config.from_mapping({"topics": {"images": ["/one"]}})
    assert config.topics.images == ("/one",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.instruction = "x"


ODD_VALUES = (None, True, False, -1, 0, 1, 7, 0.0, 0.5, -2.5, 1e9, math.inf, math.nan, "", "cpu", (), ("/a",), [1], {})


@given(st.dictionaries(st.sampled_from([p.name for p in ALL]), st.sampled_from(ODD_VALUES), max_size=5))
def test_any_values_give_a_valid_configuration_or_a_config_error(changes):
    try:
        config = Config().updated(changes)
    except ConfigError:
        return
    for parameter in ALL:
        assert parameter.check(config.get(parameter.name)) == config.get(parameter.name)


def test_lookup_finds_every_declaration():
    for parameter in ALL:
        assert lookup(parameter.name) == parameter
