"""Policies in metres and normalised ones: one meaning of action units; statistics that contradict the parameters."""

import json
import re

import numpy as np
import pytest
from asking import under
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from looks import request
from properties import given
from tiny_checkpoints import tiny_config, write_tiny_checkpoint

from specprune_ros.cli import main as cli
from specprune_ros.config import ActionScale, Config, ConfigError
from specprune_ros.control.limits import displacement
from specprune_ros.infer.load import load_policy
from specprune_ros.model.errors import CheckpointError, Unfit
from specprune_ros.model.statistics import Statistics, bounds_of
from specprune_ros.model.units import action_units, meaning

NO_TURN = np.array([0.0, 0.0, 0.0, 1.0])
MASK = [True] * 6 + [False]
DATASETS = {
    "bridge_orig": (
        [-0.0287, -0.0417, -0.0261, -0.0809, -0.0929, -0.2072, 0.0],
        [0.0283, 0.0409, 0.0402, 0.0819, 0.0779, 0.2038, 1.0],
    ),
    "fractal20220817_data": (
        [-0.2245, -0.1482, -0.2316, -0.3518, -0.4193, -0.4364, 0.0],
        [0.1782, 0.1494, 0.2184, 0.5893, 0.3527, 0.4480, 1.0],
    ),
    "libero_spatial_no_noops": (
        [-0.7455, -0.6616, -0.9375, -0.1071, -0.2068, -0.1843, 0.0],
        [0.9375, 0.8759, 0.9322, 0.1039, 0.1768, 0.1457, 1.0],
    ),
    "droid": (
        [-0.7776, -0.5803, -0.5795, -0.6464, -0.7041, -0.8895, 0.0],
        [0.7598, 0.5726, 0.7351, 0.6706, 0.6465, 0.8898, 1.0],
    ),
    "robocerebra": ([-5.625] * 3 + [-0.225] * 3 + [0.0], [5.625] * 3 + [0.225] * 3 + [1.0]),
}
"""Quantiles of published datasets: metres, metres, +-1, +-1, and a hundred times +-1 by mistake."""
METRES = ("bridge_orig", "fractal20220817_data")


def entry(name):
    low, high = DATASETS[name]
    return {"q01": low, "q99": high, "mask": MASK}


def statistics(name):
    low, high = DATASETS[name]
    return Statistics(name, bounds_of(entry(name)), None, float(np.abs([low[:3], high[:3]]).max()))


def checkpoint(folder, dataset, **section):
    config = tiny_config()
    del config["specprune"]["action_units"]
    config["specprune"] |= section
    write_tiny_checkpoint(folder, config=config)
    table = {dataset: {"action": entry(dataset), "proprio": {"q01": [-1.0] * 8, "q99": [1.0] * 8}}}
    (folder / "dataset_statistics.json").write_text(json.dumps(table))
    (folder / "SHA256SUMS").unlink()
    return folder


def config_of(folder, **action):
    changes = {f"action.{name}": value for name, value in action.items()}
    return Config().updated(
        {"policy.checkpoint": str(folder), "policy.dtype": "fp32", "policy.device": "cpu", **changes}
    )


@pytest.mark.parametrize("dataset", METRES)
def test_metres_are_not_taken_for_shares_of_a_full_scale_unasked(tmp_path, dataset):
    folder = checkpoint(tmp_path, dataset)
    with pytest.raises(
        CheckpointError, match=r"actions reach only 0\.\d+, as those in metres do.*action.units to 'metres'"
    ):
        load_policy(config_of(folder))
    load_policy(config_of(folder, units="normalised"))  # who says so has it so
    load_policy(config_of(folder, scale_translation=1.0))


@pytest.mark.parametrize("dataset", METRES)
def test_metres_move_the_arm_by_metres(tmp_path, dataset):
    """The same network outputs, read as metres and radians: what is commanded is what the training data says."""
    config = config_of(checkpoint(tmp_path, dataset), units="metres", scale_translation=0.3)
    policy = load_policy(config)
    actions = policy.infer(under(request(), config)).chunk.actions
    as_numbers = config_of(tmp_path, units="normalised")
    raw = load_policy(as_numbers).infer(under(request(), as_numbers)).chunk.actions
    for action, meant in zip(actions, raw, strict=True):
        motion = displacement(action, config.action, NO_TURN)
        np.testing.assert_allclose(motion.translation_m, meant[:3], atol=1e-12)
        np.testing.assert_allclose(motion.rotation_rad, meant[3:6], atol=1e-12)
    np.testing.assert_array_equal(actions[:, 6], raw[:, 6])
    assert np.abs(raw[:, :3]).max() > 0.005, "they move at all"


def test_a_checkpoint_may_say_what_its_actions_are(tmp_path):
    folder = checkpoint(tmp_path, "bridge_orig", action_units="metres")
    config = config_of(folder)
    stated = config_of(folder, units="metres")
    one, two = (load_policy(c).infer(under(request(), c)).chunk.actions for c in (config, stated))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dataset", ["libero_spatial_no_noops", "droid", "robocerebra"])
def test_normalised_actions_are_not_taken_for_metres(dataset):
    for scale in (ActionScale(units="metres"), ActionScale(scale_translation=1.0)):
        with pytest.raises(
            Unfit, match=rf"{dataset}: actions reach .* m/s at control.rate 20; at most 0.5 m"
        ) as caught:
            meaning(statistics(dataset), scale, None, 20.0)
    assert "set action.scale_translation to what 1 means, at most" in str(caught.value)


@pytest.mark.parametrize(
    "dataset, scale, doubt",
    [
        ("libero_spatial_no_noops", ActionScale(), ""),
        ("droid", ActionScale(), ""),
        ("bridge_orig", ActionScale(units="metres"), ""),
        ("bridge_orig", ActionScale(scale_translation=1.0), ""),
        ("fractal20220817_data", ActionScale(units="metres", scale_translation=0.25), ""),
        ("fractal20220817_data", ActionScale(units="metres"), "reach 0.232 m .* full-scale command of 0.05 m"),
        ("bridge_orig", ActionScale(units="normalised"), "moves 2.1 mm where 41.7 mm may be meant"),
        ("robocerebra", ActionScale(), "reach 0.281 m .* full-scale command of 0.05 m"),
    ],
)
def test_what_is_allowed_is_doubted_where_it_does_not_fit(dataset, scale, doubt):
    means = meaning(statistics(dataset), scale, None, 20.0)
    assert (doubt == "") == (means.doubt == "")
    if doubt:
        assert re.search(doubt, means.doubt)
    assert f"full scale {scale.scale_translation:g} m" in means.text and dataset in means.text


def test_unknown_statistics_are_no_contradiction():
    means = meaning(Statistics("random", bounds_of(entry("droid")), None), ActionScale(), None, 20.0)
    assert means.doubt == "" and means.units == "normalised"


@given(arrays(np.float64, (8, 7), elements=st.floats(-2, 2)), st.floats(0.001, 1.0), st.floats(0.001, 3.0))
def test_metres_become_action_units_and_back(actions, metres, radians):
    scale = ActionScale(units="metres", scale_translation=metres, scale_rotation=radians)
    units = action_units(actions, scale, None)
    np.testing.assert_allclose(units[:, :3] * metres, actions[:, :3], atol=1e-12)
    np.testing.assert_allclose(units[:, 3:6] * radians, actions[:, 3:6], atol=1e-12)
    np.testing.assert_array_equal(units[:, 6], actions[:, 6].clip(0, 1))
    np.testing.assert_array_equal(action_units(actions, ActionScale(), "normalised")[:, :6], actions[:, :6])


def test_nan_is_left_for_the_loop_to_refuse():
    assert np.isnan(action_units(np.full((1, 7), np.nan), ActionScale(), None)).all()


def test_log_inspect_and_verify_say_what_the_actions_mean(tmp_path, caplog, capsys):
    folder = checkpoint(tmp_path, "bridge_orig")
    with caplog.at_level("INFO"):
        load_policy(config_of(folder, units="metres"))
    assert "actions: metres and radians, full scale 0.05 m and 0.5 rad in one control period" in caplog.text
    with caplog.at_level("WARNING"):
        load_policy(config_of(folder, units="normalised"))
    assert "the arm moves 2.1 mm" in caplog.text
    assert cli.main(["checkpoint", "inspect", str(folder)]) == 0
    assert "refused actions: bridge_orig: actions reach only" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["checkpoint", "verify", str(folder)]) == 2
    assert cli.main(["checkpoint", "verify", str(folder), "--set", "action.units=metres"]) == 0


@pytest.mark.parametrize(
    "changes, text", [({"units": "inches"}, "normalised, metres"), ({"scale_translation": 1.1}, "1.0")]
)
def test_parameters_have_bounds(changes, text):
    with pytest.raises(ConfigError, match=text):
        config_of("x", **changes)
