"""The OpenVINO engine answers as the eager one does, on every path, and every way of not having it leaves the eager
one."""

import os
import sys
import threading
import time

import numpy as np
import pytest
import torch
from asking import under
from tiny_checkpoints import write_tiny_checkpoint

pytest.importorskip("openvino", reason="without OpenVINO a CPU runs op by op")

import openvino_rig
from openvino_rig import CONFIG, checkpoint_of, request

from specprune_ros.config import STRATEGY_NAMES, Config
from specprune_ros.infer import capture_openvino, converter, engines
from specprune_ros.infer.convert import Order
from specprune_ros.infer.engine import EagerEngine
from specprune_ros.infer.load import load_policy
from specprune_ros.infer.model_cache import SUFFIX
from specprune_ros.infer.policy import Policy
from specprune_ros.model.checkpoint import load_checkpoint
from specprune_ros.types import STAGES, Mode

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
"""Of actions in float32, on inputs whose tokens are no ties."""
no_presets, converter_here, own_process = openvino_rig.no_presets, openvino_rig.converter_here, openvino_rig.own_process
cache_dir, checkpoint = openvino_rig.cache_dir, openvino_rig.checkpoint


@pytest.fixture(scope="module")
def engines_of(checkpoint, cache_dir):
    """The same checkpoint on both engines."""
    fast = Policy(checkpoint, "openvino", str(cache_dir))
    fast.levels_ahead = ()
    return fast, Policy(checkpoint, "eager")


def compare_along_an_episode(policies, config, references=(True, True, False, True)):
    """Both modes with the memory of the passes before, with and without a frame to compare with; the first pass has
    no memory."""
    fast, eager = policies
    fast.warm_up(config, passes=1)
    assert fast.settle() and fast.engine_state == "openvino", fast.engine_state
    memories = [None, None]
    for seed, reference in enumerate(references):
        mode = (Mode.FINE, Mode.COARSE)[seed % 2]
        one, two = (
            policy.infer(under(request(policy, seed, mode, memory, reference), config))
            for policy, memory in zip(policies, memories, strict=True)
        )
        assert fast.engine.ran == "openvino"
        np.testing.assert_array_equal(one.report.kept, two.report.kept)
        np.testing.assert_allclose(one.chunk.actions, two.chunk.actions, atol=TOLERANCE)
        assert one.report.layer_lengths == two.report.layer_lengths
        if two.memory.last_attention is not None:
            torch.testing.assert_close(one.memory.last_attention, two.memory.last_attention, atol=TOLERANCE, rtol=1e-3)
        memories = [one.memory, two.memory]


@pytest.mark.parametrize(
    "changes",
    [
        {"pruning.aggressiveness": 0.5},
        {"pruning.static.enabled": False, "pruning.dynamic.rank_slope": 1.0, "pruning.dynamic.confidence": "mean_std"},
        {
            "pruning.dynamic.enabled": False,
            "pruning.static.first_pass": "local",
            "pruning.static.similarity": "absolute",
        },
        *({"pruning.strategy": name} for name in STRATEGY_NAMES[1:]),
    ],
    ids=lambda changes: ",".join(f"{name.split('.')[-1]}={value}" for name, value in changes.items()),
)
def test_every_path_equals_eager(engines_of, changes):
    compare_along_an_episode(engines_of, CONFIG.updated(changes))


@pytest.mark.parametrize(
    "specprune",
    [{"views": 1, "proprio_dims": 0}, {"views": 3, "jpeg_round_trip": True, "center_crop": True}],
    ids=["one view, no proprio", "three views, jpeg and crop"],
)
def test_every_kind_of_checkpoint_equals_eager(tmp_path, cache_dir, specprune):
    checkpoint = checkpoint_of(tmp_path, **specprune)
    policies = Policy(checkpoint, "openvino", str(cache_dir)), Policy(checkpoint, "eager")
    compare_along_an_episode(policies, CONFIG)


def test_cameras_of_any_size_use_the_same_models(engines_of):
    fast, eager = engines_of
    fast.warm_up(CONFIG, passes=1)
    assert fast.settle()
    for size in ((60, 80), (480, 640)):
        asked = request(eager, 1, reference=False, size=size)
        one, two = (policy.infer(under(asked, CONFIG)) for policy in (fast, eager))
        np.testing.assert_allclose(one.chunk.actions, two.chunk.actions, atol=TOLERANCE)
        assert fast.engine.ran == "openvino"


def test_the_eager_engine_answers_until_the_models_are_there_and_nothing_waits(checkpoint, cache_dir, monkeypatch):
    """Whatever the converter does: arming is not held up, and the inference thread is never the one that converts."""
    release, threads = threading.Event(), []

    def slow(self, half, given):
        threads.append(threading.current_thread())
        release.wait()
        raise RuntimeError("the test has ended")

    monkeypatch.setattr(capture_openvino.OpenVinoCapture, "__call__", slow)
    policy, eager = Policy(checkpoint, "openvino", str(cache_dir)), Policy(checkpoint, "eager")
    policy.warm_up(CONFIG, passes=1)
    asked = request(policy)
    try:
        np.testing.assert_array_equal(
            policy.infer(under(asked, CONFIG)).chunk.actions, eager.infer(under(asked, CONFIG)).chunk.actions
        )
        assert policy.engine.ran == "eager" and policy.pending == 0 and not policy.idle()
        assert "0 kinds of inference ready" in policy.engine_state and "until then op by op" in policy.engine_state
        assert not policy.settle(timeout_s=0.0)
    finally:
        release.set()
    assert policy.settle() and "the test has ended" in policy.engine_state
    assert threads and threading.current_thread() not in threads


def test_stages_add_up(engines_of):
    fast, _ = engines_of
    fast.warm_up(CONFIG, passes=1)
    assert fast.settle()
    memory = fast.infer(under(request(fast), CONFIG)).memory
    stages = fast.infer(under(request(fast, 1, memory=memory), CONFIG)).report.stage_ms
    assert fast.engine.ran == "openvino"
    parts = [stages[name] for name in STAGES]
    assert all(value >= 0 for value in parts) and 0 < sum(parts) <= stages["total"]
    assert min(stages[name] for name in ("vision", "selection", "decoder", "head")) > 0


def test_bf16_policies_are_converted_too(own_process, tmp_path, cache_dir):
    """Their arithmetic in OpenVINO is bf16 where the CPU has it and float32 elsewhere: the tolerance is that of
    bf16."""
    checkpoint = load_checkpoint(write_tiny_checkpoint(tmp_path), "cpu", torch.bfloat16)
    fast, eager = Policy(checkpoint, "openvino", str(cache_dir)), Policy(checkpoint, "eager")
    dense = CONFIG.updated({"pruning.aggressiveness": 0.0})
    fast.warm_up(dense, passes=1)
    assert fast.settle() and fast.engine_state == "openvino"
    one, two = (policy.infer(under(request(policy), dense)) for policy in (fast, eager))
    assert fast.engine.ran == "openvino" and eager.dtype is torch.bfloat16
    np.testing.assert_allclose(one.chunk.actions, two.chunk.actions, atol=0.1)


# What can go wrong with conversion.


def test_a_converter_that_dies_is_a_reason_and_not_a_failure(own_process, checkpoint, tmp_path, monkeypatch, caplog):
    (tmp_path / "python").write_text("#!/bin/sh\necho 'Illegal instruction' >&2\nexit 132\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    policy = Policy(checkpoint, "openvino", str(tmp_path / "cache"))
    policy.warm_up(CONFIG, passes=1)
    assert policy.settle() and "Illegal instruction" in policy.engine_state
    policy.infer(under(request(policy), CONFIG))
    assert policy.engine.ran == "eager"


def test_what_cannot_be_converted_is_named(own_process, checkpoint, tmp_path, monkeypatch):
    send = converter.Converter._send

    def without_prompt(self, record):
        if isinstance(record, Order):
            record = record._replace(given=record.given._replace(prompt=None))
        send(self, record)

    monkeypatch.setattr(converter.Converter, "_send", without_prompt)
    policy = Policy(checkpoint, "openvino", str(tmp_path))
    policy.warm_up(CONFIG.updated({"pruning.aggressiveness": 0.0}), passes=1)
    assert policy.settle() and "must be Tensor, not NoneType" in policy.engine_state, policy.engine_state


def test_a_policy_nobody_uses_ends_its_thread_and_its_converter(own_process, checkpoint, tmp_path):
    policy = Policy(checkpoint, "openvino", str(tmp_path))
    policy.warm_up(CONFIG, passes=1)
    del policy
    deadline_s = time.monotonic() + 120
    while any(thread.name == "graphs" for thread in threading.enumerate()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert len(list(tmp_path.glob(f"*{SUFFIX}"))) < 4, "not all of what was wanted"


def test_large_models_stay_eager_with_a_reason(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(capture_openvino, "MOST_WEIGHT_BYTES", 1000)
    policy = Policy(checkpoint, "auto", str(tmp_path))
    assert isinstance(policy.engine, EagerEngine)
    assert "GB of weights in float32 and OpenVINO is used up to" in policy.engine_state


def test_without_openvino_the_engine_is_eager_and_only_who_asked_is_warned(checkpoint, monkeypatch, caplog):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert Policy(checkpoint, "auto").engine_state.startswith("eager: OpenVINO is not installed")
    assert not caplog.text
    Policy(checkpoint, "openvino")
    assert "policy.engine: 'openvino' cannot be used, inferences run op by op: eager: OpenVINO is not" in caplog.text


def test_auto_takes_openvino_on_a_cpu_and_the_parameters_reach_it(tmp_path):
    folder = write_tiny_checkpoint(tmp_path / "tiny")
    changes = {"policy.checkpoint": str(folder), "policy.device": "cpu", "policy.cache_dir": str(tmp_path / "cache")}
    policy = load_policy(Config().updated({**changes, "policy.threads": 1, "policy.dtype": "fp32"}))
    capture = policy.engine._capture
    assert policy.engine.name == "openvino" and capture.models.folder == tmp_path / "cache"
    assert capture.settings["INFERENCE_NUM_THREADS"] == 1 and capture.settings["INFERENCE_PRECISION_HINT"] == "f32"


def test_nothing_is_reported_over_the_network():
    """The converter runs without the module that OpenVINO sends usage data with."""
    code = (
        "import specprune_ros.infer.convert as c, torch, sys\n"
        "traced = torch.jit.trace(lambda x: x + 1, torch.zeros(2))\n"
        "next(traced.graph.inputs()).setDebugName('in0')\n"
        "c._openvino_model(traced, (torch.zeros(2),))\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert telemetry_utils.tm.__name__.endswith('telemetry_stub'), telemetry_utils.tm\n"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0
