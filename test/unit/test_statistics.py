"""Dataset statistics: which are used, what they do to numbers, and malformed ones by name."""

import copy
import json

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from properties import given
from tiny_checkpoints import upstream_statistics

from specprune_ros.model.errors import CheckpointError
from specprune_ros.model.statistics import Bounds, bounds_of, read_statistics

ENTRY = {"action": {"q01": [0.0], "q99": [1.0]}}
SUITE = "libero_spatial_no_noops"


def write(folder, table, name="dataset_statistics.json"):
    (folder / name).write_text(json.dumps(table))
    return folder


def test_statistics_choose_a_key_or_list_them(tmp_path):
    write(tmp_path, {"goal_no_noops": ENTRY, "spatial": ENTRY})
    assert read_statistics(tmp_path, "goal").key == "goal_no_noops"
    assert read_statistics(tmp_path, "spatial").key == "spatial"
    with pytest.raises(CheckpointError, match="has several; set policy.unnorm_key to one of: goal_no_noops, spatial"):
        read_statistics(tmp_path)
    with pytest.raises(CheckpointError, match="has none for 'object'; .*goal_no_noops, spatial"):
        read_statistics(tmp_path, "object")


def test_the_only_dataset_needs_no_key_and_the_exact_key_comes_first(tmp_path):
    assert read_statistics(write(tmp_path, {"goal": ENTRY})).key == "goal"
    write(tmp_path, {"goal_no_noops": ENTRY, "goal": ENTRY})
    assert read_statistics(tmp_path, "goal").key == "goal"


def test_the_file_replaces_norm_stats_as_a_whole(tmp_path):
    write(tmp_path, {"norm_stats": {"bridge_orig": ENTRY}}, "config.json")
    assert read_statistics(tmp_path).key == "bridge_orig"
    write(tmp_path, {"spatial": ENTRY})
    assert read_statistics(tmp_path).key == "spatial"
    with pytest.raises(CheckpointError, match="none for 'bridge_orig'"):
        read_statistics(tmp_path, "bridge_orig")


def test_no_statistics_at_all(tmp_path):
    write(tmp_path, {"norm_stats": None}, "config.json")
    with pytest.raises(CheckpointError, match="dataset_statistics.json: missing, and config.json has no norm_stats"):
        read_statistics(tmp_path)


def test_quantiles_or_min_and_max(tmp_path):
    write(tmp_path, upstream_statistics())
    quantiles = read_statistics(tmp_path, "libero_spatial", "quantiles", 7, 8)
    extremes = read_statistics(tmp_path, "libero_spatial", "min_max", 7, 8)
    np.testing.assert_allclose(extremes.action.low, 2 * quantiles.action.low)
    np.testing.assert_allclose(extremes.proprio.high, 2 * quantiles.proprio.high)
    assert quantiles.action.mask.tolist() == [True] * 6 + [False] and quantiles.proprio.mask.all()


@pytest.mark.parametrize(
    "name, field, value, text",
    [
        ("action", "q01", [0.0] * 6, f"{SUITE}.action: q01 and q99 have 6 and 7 numbers"),
        ("action", "q99", [float("nan")] * 7, f"{SUITE}.action: q99 is .*expected a list of finite numbers"),
        ("action", "q99", "high", "could not convert string"),
        ("action", "q01", [9.0] * 7, "q01 and q99 of dimension 0 are 9 and 0.4: the lower end is above"),
        ("action", "mask", [True], "mask is .*expected 7 of true or false"),
        ("action", "mask", [2] * 7, "mask is .*expected 7 of true or false"),
        ("action", "mask", ["yes"] * 7, "mask is .*expected 7 of true or false"),
        ("action", "mask", "yes", "mask is .*expected 7 of true or false"),
        ("action", "q01", None, "expected a list of finite numbers"),
        ("proprio", "q99", [], f"{SUITE}.proprio: q99 is"),
    ],
)
def test_malformed_statistics_are_named(tmp_path, name, field, value, text):
    table = copy.deepcopy(upstream_statistics())
    table[SUITE][name][field] = value
    with pytest.raises(CheckpointError, match=text) as caught:
        read_statistics(write(tmp_path, table), "", "quantiles", 7, 8)
    assert "dataset_statistics.json" in str(caught.value)


@pytest.mark.parametrize("mask", [[1, 1, 1, 1, 1, 1, 0], [1.0, 1, 1, 1, 1, 1, 0.0]])
def test_a_mask_of_ones_and_zeros_means_the_same(tmp_path, mask):
    table = copy.deepcopy(upstream_statistics())
    table[SUITE]["action"]["mask"] = mask
    assert read_statistics(write(tmp_path, table)).action.mask.tolist() == [True] * 6 + [False]


@pytest.mark.parametrize("change", [{"mask": None}, {}])
def test_without_a_mask_everything_is_normalised_as_upstream_has_it(tmp_path, change):
    table = copy.deepcopy(upstream_statistics())
    del table[SUITE]["action"]["mask"]
    table[SUITE]["action"] |= change
    assert read_statistics(write(tmp_path, table)).action.mask.all()


def test_entries_beside_the_datasets_are_no_datasets(tmp_path):
    table = {"version": 2, "created": {"by": "me"}, **upstream_statistics()}
    assert read_statistics(write(tmp_path, table)).key == SUITE
    with pytest.raises(CheckpointError, match=f"has none for 'x'; set policy.unnorm_key to one of: {SUITE}$"):
        read_statistics(tmp_path, "x")
    with pytest.raises(CheckpointError, match="holds no dataset"):
        read_statistics(write(tmp_path, {}))


def test_reach_is_the_largest_usual_translation(tmp_path):
    table = copy.deepcopy(upstream_statistics())
    assert read_statistics(write(tmp_path, table)).reach == pytest.approx(0.7)
    assert read_statistics(write(tmp_path, table), normalisation="min_max").reach == pytest.approx(0.7), "no outliers"
    del table[SUITE]["action"]["q01"]
    assert read_statistics(write(tmp_path, table), normalisation="min_max").reach == pytest.approx(1.4)
    table[SUITE]["action"]["mask"] = [False] * 7
    assert read_statistics(write(tmp_path, table), normalisation="min_max").reach is None


def test_missing_parts_and_wrong_sizes_are_named(tmp_path):
    table = upstream_statistics()
    write(tmp_path, table)
    with pytest.raises(CheckpointError, match="action has bounds for 7 dimensions, the model has 14"):
        read_statistics(tmp_path, action_dims=14)
    with pytest.raises(CheckpointError, match="proprio has bounds for 8 dimensions, the model has 7"):
        read_statistics(tmp_path, action_dims=7, proprio_dims=7)
    table[SUITE]["proprio"] = {"mean": [0.0]}
    assert read_statistics(write(tmp_path, table), action_dims=7).proprio is None, "nobody asks for it"
    del table[SUITE]["proprio"]
    assert read_statistics(write(tmp_path, table), action_dims=7).proprio is None
    with pytest.raises(CheckpointError, match=f"{SUITE} has no proprio"):
        read_statistics(tmp_path, proprio_dims=8)
    del table[SUITE]["action"]["min"]
    with pytest.raises(CheckpointError, match="no min .*policy.normalisation"):
        read_statistics(write(tmp_path, table), normalisation="min_max")
    with pytest.raises(CheckpointError, match="goal holds 3, expected action and proprio"):
        read_statistics(write(tmp_path, {"goal": 3}))


@given(arrays(np.float64, (8, 7), elements=st.floats(-2, 2)), st.integers(0, 2**32 - 1))
def test_normalisation_is_mirrored_and_leaves_the_gripper_alone(raw, seed):
    rng = np.random.default_rng(seed)
    bounds = Bounds(rng.uniform(-2, -1, 7), rng.uniform(1, 2, 7), np.array([True] * 6 + [False]))
    encoded = bounds.encode(raw)
    np.testing.assert_allclose(bounds.decode(encoded), raw, atol=1e-6)
    np.testing.assert_array_equal(encoded[:, 6], raw[:, 6])
    np.testing.assert_allclose(bounds.encode(bounds.high)[:6], 1.0, atol=1e-6)


def test_a_constant_dimension_stays_finite():
    bounds = bounds_of({"q01": [0.3], "q99": [0.3]})
    assert bounds.encode(np.array([0.3])) == pytest.approx(-1.0) and bounds.decode(np.array([1.0])) == pytest.approx(
        0.3
    )


def test_un_normalisation_by_hand(tmp_path):
    """0.5 (a + 1)(q99 - q01 + 1e-8) + q01, and the gripper as predicted (docs/reference/openvla_oft.md,
    Normalisation)."""
    statistics = read_statistics(write(tmp_path, upstream_statistics()))
    actions = statistics.restore_actions(np.array([[0.0, 1.0, -1.0, 0.5, 0.0, 0.0, 0.25]]))
    np.testing.assert_allclose(actions, [[-0.05, 0.5, -0.7, -0.8 + 0.75 * 1.5, -0.05, -0.05, 0.25]], atol=1e-7)
    assert statistics.normalise_proprio(np.full(8, 99.0)).tolist() == [1.0] * 8
