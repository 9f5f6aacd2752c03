"""The policy step: history, memory, modes, and input that must not pass."""

import re

import numpy as np
import pytest
import torch
from asking import under
from looks import frames, request
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros.config import Config, ConfigError
from specprune_ros.control.limits import Situation, permitted
from specprune_ros.control.profile import Moving
from specprune_ros.infer import load
from specprune_ros.infer.load import load_policy
from specprune_ros.infer.preprocess import to_compare
from specprune_ros.types import BadInput, Mode


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    # One engine throughout: results are compared to the last bit.
    settings = {"policy.checkpoint": str(folder), "policy.dtype": "fp32", "policy.engine": "eager"}
    return Config().updated(settings)


@pytest.fixture(scope="module")
def policy(config):
    return load_policy(config)


def test_the_first_pass_is_dense_and_the_second_reuses_its_attention(policy, config):
    first = policy.infer(under(request(), config))
    assert (first.report.mode, first.report.tokens_kept, first.report.used_last_attention) == (Mode.DENSE, 512, False)
    second = policy.infer(under(request(reference=frames(1), memory=first.memory), config))
    assert second.report.mode is Mode.COARSE and second.report.used_last_attention and second.report.frame_offset == 7
    assert second.report.kept_static_per_view == (88, 88) and second.report.tokens_kept < 176
    for count, top in ((second.report.from_global_per_view, 60), (second.report.from_dynamic_per_view, 20)):
        assert all(0 < n <= top for n in count)
    assert second.chunk.actions.shape == (8, 7) and second.chunk.chunk_id == 3 and second.chunk.stamp_ns == 5


def test_first_pass_can_be_pruned_by_local_attention_alone(policy, config):
    local = config.updated({"pruning.static.first_pass": "local"})
    report = policy.infer(under(request(), local)).report
    assert report.mode is Mode.COARSE and report.from_global_per_view == (0, 0) == report.from_dynamic_per_view
    assert report.kept_static_per_view == (88, 88)


def test_without_static_pruning_nothing_of_the_last_attention_is_reused(policy, config):
    dynamic_only = config.updated({"pruning.static.enabled": False})
    memory = policy.infer(under(request(), dynamic_only)).memory
    report = policy.infer(under(request(memory=memory, reference=frames(1)), dynamic_only)).report
    assert not report.used_last_attention and report.frame_offset == 0


def test_another_instruction_forgets_the_last_chunk(policy, config):
    memory = policy.infer(under(request(), config)).memory
    other = policy.infer(under(request(memory=memory, instruction="pick up the blue cube"), config)).report
    assert other.mode is Mode.DENSE and not other.used_last_attention


def test_aggressiveness_zero_is_exactly_the_dense_model(policy, config):
    dense = policy.infer(under(request(), config.updated({"pruning.aggressiveness": 0.0})))
    first = policy.infer(under(request(), config))
    np.testing.assert_array_equal(dense.chunk.actions, first.chunk.actions)
    again = policy.infer(under(request(memory=first.memory), config.updated({"pruning.aggressiveness": 0.0})))
    np.testing.assert_array_equal(again.chunk.actions, dense.chunk.actions)
    assert again.report.tokens_kept == 512 and again.report.mode is Mode.DENSE


def test_harder_keeps_less_and_costs_less_and_fine_keeps_more(policy, config):
    memory = policy.infer(under(request(), config)).memory
    kept = {}
    for mode in (Mode.COARSE, Mode.FINE):
        reports = [
            policy.infer(under(request(mode=mode, memory=memory), config.updated({"pruning.aggressiveness": a}))).report
            for a in (0.0, 0.2, 0.5, 0.7, 1.0)
        ]
        kept[mode] = [report.tokens_kept for report in reports]
        assert kept[mode] == sorted(kept[mode], reverse=True) and len(set(kept[mode])) == 5
        costs = [policy.gflop(report) for report in reports]
        assert costs == sorted(costs, reverse=True)
    assert all(fine >= coarse for fine, coarse in zip(kept[Mode.FINE], kept[Mode.COARSE], strict=True))


def test_same_input_same_output(policy, config):
    one, two = (policy.infer(under(request(), config)) for _ in range(2))
    np.testing.assert_array_equal(one.chunk.actions, two.chunk.actions)


def test_stages_add_up(policy, config):
    stages = policy.infer(under(request(), config)).report.stage_ms
    parts = sum(value for name, value in stages.items() if name != "total")
    assert set(stages) == {"preprocess", "vision", "selection", "decoder", "head", "total"}
    assert all(value >= 0 for value in stages.values()) and parts <= stages["total"]


def test_actions_beyond_full_scale_reach_the_limit_that_reports_them(config):
    """The policy cuts nothing off; the gripper's opening, no motion, saturates."""
    policy = load_policy(config)
    policy.model.action_head.model.fc2.bias[:] = torch.tensor([3.0, -3.0, 0.0, 0.0, 0.0, 4.0, 5.0])
    action = policy.infer(under(request(), config)).chunk.actions[0]
    assert action[0] > 1.5 and action[1] < -1.5 and action[5] > 1.5 and action[6] == 1.0
    limits = config.updated({"limits.step_translation": 0.2, "limits.linear_speed": 3.0}).limits
    here = Situation(np.array([0.5, 0.0, 0.4]), np.array([1.0, 0.0, 0.0, 0.0]), Moving(), Moving(), 0.05)
    motion = permitted(action, config.action, limits, here)
    assert f"dx {action[0]:.3f} -> 1" in motion.reasons["range"]
    assert f"dy {action[1]:.3f} -> -1" in motion.reasons["range"]
    assert "gripper" not in motion.reasons["range"]
    assert np.abs(motion.displacement.translation_m).max() <= 0.05


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (dict(images=frames()[:1]), "takes 2 views, got 1"),
        (dict(images=(frames()[0], frames()[0].astype(np.float32))), "view 2.*float32"),
        (dict(images=(frames()[0][..., 0], frames()[0])), "view 1"),
        (dict(images=(np.zeros((0, 4, 3), np.uint8), frames()[0])), "view 1"),
        (dict(proprio=np.full(8, np.nan, np.float32)), "not finite"),
        (dict(proprio=np.zeros(7, np.float32)), "needs 8 values"),
        (dict(instruction="open the drawer"), "open, drawer"),
    ],
)
def test_bad_input_is_named(policy, config, bad, text):
    with pytest.raises(BadInput, match=text):
        policy.infer(under(request(**bad), config))


def test_other_camera_sizes_are_resized(policy):
    image = np.zeros((480, 640, 3), np.uint8)
    image[:, 320:] = 255
    small = to_compare((torch.from_numpy(image),), policy.config)
    assert small.shape == (1, 224, 224, 3) and small.dtype == torch.uint8
    assert int(small[0, 100, 20, 0]) == 0 and int(small[0, 100, 200, 0]) == 255


def test_slow_loading_is_logged(config, monkeypatch, caplog):
    monkeypatch.setattr(load.LoadingLog, "EVERY_S", -1.0)
    with caplog.at_level("INFO"):
        load_policy(config)
    assert re.search(r"weights: 0\.0 of 0\.0 GB \(.*weight\)", caplog.text)


def test_warm_up_leaves_no_trace(policy, config):
    before = policy.infer(under(request(), config)).chunk.actions
    policy.warm_up(config, passes=1)
    np.testing.assert_array_equal(policy.infer(under(request(), config)).chunk.actions, before)


def test_compiled_layers_do_not_meet_openvino(config):
    both = {"policy.compile": True, "policy.engine": "openvino"}
    with pytest.raises(ConfigError, match="cannot run on OpenVINO; use policy.engine: eager"):
        load_policy(config.updated(both))
    assert load_policy(config.updated(both | {"policy.engine": "auto"})).engine.name == "eager"


def test_cuda_that_is_not_there_is_named(config):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ConfigError, match="sees no CUDA device"):
        load_policy(config.updated({"policy.device": "cuda"}))


def test_a_gpu_that_is_too_small_is_left_alone_or_named(config, monkeypatch, caplog):
    """The decision, with a pretended GPU: nothing of the policy ever gets to it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 8 << 30))
    with pytest.raises(ConfigError, match=r"needs 2\.1 GB of GPU memory, 1\.1 of 8\.6 GB are free"):
        load_policy(config.updated({"policy.device": "cuda"}))
    assert load_policy(config).device.type == "cpu" and "running on the CPU" in caplog.text
    needed = load.needed_bytes(load.BUNDLED, Config().policy, torch.device("cpu"))
    assert 2 * 7.6e6 < needed - load.WORKSPACE_BYTES < 4 * 8e6
