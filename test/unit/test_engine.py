"""Captured inference equals op-by-op inference, whatever is in its buffers; what is missing is captured later and
never waited for.

No CUDA here: `captures.Recorder` stands in for it.
"""

import logging

import numpy as np
import pytest
import torch
from asking import under
from captures import Recorder
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros.config import Config, Pruning
from specprune_ros.infer import graphs
from specprune_ros.infer import policy as policy_module
from specprune_ros.infer.engine import EagerEngine, GraphEngine
from specprune_ros.infer.engines import make_engine
from specprune_ros.infer.graphs import MOST_FAILURES
from specprune_ros.infer.policy import Policy
from specprune_ros.model.checkpoint import load_checkpoint
from specprune_ros.types import InferenceRequest, Mode, Motion, Observation

RED, BLUE = "pick up the red cube", "pick up the blue cube"
CONFIG = Config().updated({"instruction": RED})


@pytest.fixture(autouse=True)
def no_presets(monkeypatch):
    """Recording is slow, and only one test is about presets."""
    monkeypatch.setattr(policy_module, "PRESET_LEVELS", ())


@pytest.fixture
def eager(checkpoint):
    return Policy(checkpoint, "eager")


def graph_policy(checkpoint, recorder):
    policy = Policy(checkpoint, "eager")
    policy.engine = GraphEngine(policy.engine, recorder)
    return policy


def frames(seed, size=(224, 224)):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(2))


def request(seed=0, mode=Mode.COARSE, memory=None, instruction=RED, reference=None, size=(224, 224)):
    proprio = np.random.default_rng(seed).uniform(-1, 1, 8).astype(np.float32)
    observation = Observation(5, frames(seed, size), proprio, instruction, Motion(0.1, 0.0, 0.0))
    return InferenceRequest(seed, observation, reference, 7, mode, memory, Pruning())


def with_idle_moments(policy):
    while policy.idle():
        pass


def same(one, two):
    np.testing.assert_allclose(one.chunk.actions, two.chunk.actions, atol=1e-5)
    np.testing.assert_array_equal(one.report.kept, two.report.kept)
    assert one.report.layer_lengths == two.report.layer_lengths
    assert (one.report.mode, one.report.used_last_attention) == (two.report.mode, two.report.used_last_attention)
    if one.memory.last_attention is not None:
        torch.testing.assert_close(one.memory.last_attention, two.memory.last_attention)


@pytest.mark.slow
@pytest.mark.parametrize("aggressiveness", [0.0, 0.25, 1.0])
def test_replayed_equals_eager_along_an_episode(checkpoint, eager, aggressiveness):
    """Changing frames, state, history and mode, through the same buffers."""
    recorder = Recorder()
    graph, config = graph_policy(checkpoint, recorder), CONFIG.updated({"pruning.aggressiveness": aggressiveness})
    graph.warm_up(config, passes=1)
    recorded, replays, memories = recorder.recorded, recorder.replays, [None, None]
    for seed in range(6):
        mode = (Mode.FINE, Mode.COARSE)[seed % 2]
        reference = frames(seed - 1) if seed > 1 else None
        results = [
            p.infer(under(request(seed, mode, m, RED, reference), config))
            for p, m in zip((graph, eager), memories, strict=True)
        ]
        same(*results)
        memories = [result.memory for result in results]
    assert recorder.recorded == recorded and recorder.replays == replays + 12, "warm-up had captured all of it"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [{"pruning.static.enabled": False}, {"pruning.dynamic.enabled": False}, {"pruning.static.first_pass": "local"}],
)
def test_each_level_alone_and_a_first_pass_without_history(checkpoint, eager, change):
    graph, config = graph_policy(checkpoint, Recorder()), CONFIG.updated(change)
    graph.warm_up(config, passes=1)
    first = [policy.infer(under(request(), config)) for policy in (graph, eager)]
    same(*first)
    later = [
        p.infer(under(request(1, Mode.FINE, f.memory, RED, frames(9)), config))
        for p, f in zip((graph, eager), first, strict=True)
    ]
    same(*later)


@pytest.mark.slow
def test_a_new_aggressiveness_runs_at_once_and_is_captured_in_the_next_idle_moment(checkpoint, eager):
    recorder = Recorder()
    graph, config = graph_policy(checkpoint, recorder), CONFIG
    graph.warm_up(config, passes=1)
    memory = graph.infer(under(request(), config)).memory
    harder = config.updated({"pruning.aggressiveness": 0.7})
    before = recorder.recorded, recorder.replays
    missing = graph.infer(under(request(1, memory=memory), harder))
    assert (recorder.recorded, recorder.replays) == before, "op by op, without a pause for capturing"
    with_idle_moments(graph)
    assert recorder.recorded == before[0] + 2, "a suffix for either mode; the prefix is shared"
    same(graph.infer(under(request(1, memory=memory), harder)), missing)
    assert recorder.replays == before[1] + 2
    same(missing, eager.infer(under(request(1, memory=memory), harder)))


@pytest.mark.slow
def test_other_words_and_other_camera_sizes_get_graphs_of_their_own(checkpoint, eager):
    recorder = Recorder()
    graph, config = graph_policy(checkpoint, recorder), CONFIG
    for other in (dict(instruction=RED), dict(instruction="put the blue cube on the red plate"), dict(size=(60, 80))):
        for _ in range(2):
            same(graph.infer(under(request(2, **other), config)), eager.infer(under(request(2, **other), config)))
            with_idle_moments(graph)
    assert recorder.replays == 6
    recorded = recorder.recorded
    same(
        graph.infer(under(request(2, instruction=BLUE), config)),
        eager.infer(under(request(2, instruction=BLUE), config)),
    )
    with_idle_moments(graph)
    assert (recorder.recorded, recorder.replays) == (recorded, 8), "words of the same number share their graphs"


@pytest.mark.slow
def test_a_preset_is_ready_before_it_is_asked_for(checkpoint, eager, monkeypatch):
    monkeypatch.setattr(policy_module, "PRESET_LEVELS", (0.8,))
    recorder = Recorder()
    graph = graph_policy(checkpoint, recorder)
    graph.warm_up(CONFIG, passes=1)
    assert graph.pending == 0
    memory = graph.infer(under(request(), CONFIG)).memory
    before = recorder.recorded, recorder.replays
    config = CONFIG.updated({"pruning.preset": "aggressive"})
    for mode in (Mode.COARSE, Mode.FINE):
        same(graph.infer(under(request(1, mode, memory), config)), eager.infer(under(request(1, mode, memory), config)))
    assert (recorder.recorded, recorder.replays) == (before[0], before[1] + 4)


@pytest.mark.slow
def test_a_memory_outlives_the_next_inferences(checkpoint):
    graph, config = graph_policy(checkpoint, Recorder()), CONFIG
    graph.warm_up(config, passes=1)
    first = graph.infer(under(request(), config))
    before = first.memory.last_attention.clone()
    graph.infer(under(request(3, memory=first.memory), config))
    torch.testing.assert_close(first.memory.last_attention, before)


@pytest.mark.slow
def test_the_least_recently_used_graphs_go_first(checkpoint, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_PREFIXES", 2)
    graph, dense = graph_policy(checkpoint, Recorder()), CONFIG.updated({"pruning.aggressiveness": 0.0})
    for height in (50, 51, 50, 52):
        graph.infer(under(request(size=(height, 60)), dense))
        with_idle_moments(graph)
    graph.infer(under(request(size=(50, 60)), dense))
    assert graph.engine.ran == "graph"
    graph.infer(under(request(size=(51, 60)), dense))
    assert graph.engine.ran == "eager", "of 50, 51, 50, 52 this one was used least recently"


@pytest.mark.slow
def test_a_failed_capture_is_said_once_and_inference_goes_on(checkpoint, eager, caplog):
    recorder = Recorder(fails=1)
    graph, config = graph_policy(checkpoint, recorder), CONFIG
    with caplog.at_level(logging.WARNING):
        graph.warm_up(config, passes=1)
        same(graph.infer(under(request(), config)), eager.infer(under(request(), config)))
        with_idle_moments(graph)
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1 and "not permitted when stream is capturing" in warnings[0]
    assert "not permitted" in graph.engine_state, "said where the node can show it"
    assert recorder.recorded > 0, "one failure does not take the other graphs away"


def test_after_some_failures_no_capture_is_tried_any_more(checkpoint, eager):
    recorder = Recorder(fails=100)
    graph = graph_policy(checkpoint, recorder)
    graph.warm_up(CONFIG, passes=2)
    same(graph.infer(under(request(), CONFIG)), eager.infer(under(request(), CONFIG)))
    assert recorder.fails == 100 - MOST_FAILURES and graph.pending == 0 and recorder.replays == 0


def test_graphs_without_cuda_fall_back_with_a_warning(checkpoint, caplog):
    passes = Policy(checkpoint, "eager").engine.passes
    with caplog.at_level(logging.WARNING):
        engine = make_engine("graph", passes, torch.device("cpu"))
    assert isinstance(engine, EagerEngine)
    assert "captured graphs need a CUDA device and the model is on cpu" in caplog.text
    assert "captured graphs need a CUDA device" in engine.state, "the node shows it"


@pytest.mark.slow
def test_what_ran_is_asked_of_the_engine(checkpoint):
    """A row of a benchmark says what really ran, whatever was asked for."""
    graph = graph_policy(checkpoint, Recorder())
    graph.infer(under(request(), CONFIG))
    assert graph.engine.ran == "eager"
    with_idle_moments(graph)
    graph.infer(under(request(), CONFIG))
    assert graph.engine.ran == "graph"


@pytest.mark.slow
def test_results_are_not_overwritten_by_the_next_inference(checkpoint):
    graph = graph_policy(checkpoint, Recorder())
    graph.warm_up(CONFIG, passes=1)
    memory = graph.infer(under(request(), CONFIG)).memory
    first = graph.infer(under(request(1, memory=memory), CONFIG))
    kept, actions = first.report.kept.copy(), first.chunk.actions.copy()
    graph.infer(under(request(2, memory=memory), CONFIG))
    np.testing.assert_array_equal(first.report.kept, kept)
    np.testing.assert_array_equal(first.chunk.actions, actions)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_equal_eager(tmp_path):
    checkpoint = load_checkpoint(write_tiny_checkpoint(tmp_path), "cuda", torch.float32)
    graph, eager, config = Policy(checkpoint, "graph"), Policy(checkpoint, "eager"), CONFIG
    graph.warm_up(config)
    memories = [None, None]
    for seed in range(6):
        results = [
            p.infer(under(request(seed, Mode.FINE, m), config)) for p, m in zip((graph, eager), memories, strict=True)
        ]
        same(*results)
        memories = [result.memory for result in results]
    assert all(value >= 0 for value in results[0].report.stage_ms.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_failed_capture_does_not_take_later_ones_with_it(tmp_path, monkeypatch):
    checkpoint = load_checkpoint(write_tiny_checkpoint(tmp_path), "cuda", torch.float32)
    graph, eager = Policy(checkpoint, "graph"), Policy(checkpoint, "eager")
    stream, suffix = torch.cuda.current_stream(), graph.engine.passes.suffix

    def reads_a_value(*args):
        if torch.cuda.is_current_stream_capturing():
            monkeypatch.setattr(graph.engine.passes, "suffix", suffix)
            torch.cuda.synchronize()  # not permitted while capturing
        return suffix(*args)

    monkeypatch.setattr(graph.engine.passes, "suffix", reads_a_value)
    graph.infer(under(request(), CONFIG))
    with_idle_moments(graph)
    assert torch.cuda.current_stream() == stream and graph.engine.state != "graph"
    dense = CONFIG.updated({"pruning.aggressiveness": 0.0})
    for config in (dense, CONFIG):
        graph.infer(under(request(1), config))
    with_idle_moments(graph)
    result = graph.infer(under(request(1), dense))
    assert graph.engine.ran == "graph"
    same(result, eager.infer(under(request(1), dense)))
