"""Whole passes under every strategy: against the plain reference model, and alike on every engine."""

import numpy as np
import pytest
import selection_oracles as oracle
import torch
from asking import under
from captures import Recorder
from reference_oft import Reference

from specprune_ros.config import STRATEGY_NAMES, Config, Pruning
from specprune_ros.infer.engine import GraphEngine
from specprune_ros.infer.policy import Policy
from specprune_ros.model.checkpoint import load_checkpoint
from specprune_ros.model.vla import History, Plan
from specprune_ros.prune.budgets import budget, schedule
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.strategies.registry import STRATEGIES
from specprune_ros.types import InferenceRequest, Mode, Motion, Observation

RED = "pick up the red cube"
VIEWS, PATCHES, DEPTH = 2, 256, 6
OTHERS = tuple(name for name in STRATEGY_NAMES if name != "specprune")


def config_of(strategy, **changes):
    return Config().updated({"instruction": RED, "pruning.strategy": strategy, **changes})


# Against the plain reference: rows, layers and counts.


def sequence(checkpoint, seed=0):
    """Layout and assembled tokens of random pictures."""
    generator = torch.Generator().manual_seed(seed)
    prompt, model = checkpoint.prompt.encode(RED), checkpoint.model
    images = torch.rand(VIEWS, 3, 224, 224, generator=generator)
    layout = Layout(VIEWS, PATCHES, 1, len(prompt.ids) - 1, prompt.task, 56)
    proprio = torch.rand(1, 8, generator=generator) * 2 - 1
    return layout, model.assemble(model.encode(images), proprio, torch.tensor([prompt.ids]))


class Slow:
    """Follows the plain reference from layer to layer, and decides by the slow versions what stays."""

    def __init__(self, name, layout, plan, noise):
        self.name, self.layout, self.plan, self.noise = name, layout, plan, noise
        end = layout.length - 1
        words = layout.length - layout.tail + 1
        self.rows = {
            "words": range(words + layout.task[0], words + layout.task[1]),
            "read": range(end - 57, end - 1),
            "placeholders": range(end - 56, end),
        }
        self.scores, self.kept = [], list(range(VIEWS * PATCHES))
        self.importance = oracle.OfficialImportance(VIEWS * PATCHES)

    def __call__(self, number, probabilities, allowed):
        when, budget_ = schedule(DEPTH, self.name), self.plan.budget
        if number <= 2:
            self.scores.append(self._views(self._score(probabilities, "read" if self.name == "fastv" else "words")))
        if number == 2:
            self.kept = self._static(budget_)
        if self.name == "specprune_official" and number in when.updates:
            columns = [0, *(1 + token for token in self.kept)]
            asked = probabilities[:, list(self.rows["placeholders"])][:, :, columns]
            self.importance.update(asked.tolist(), self.kept)
        if number in when.dynamic:
            self.kept = self._dynamic(probabilities, budget_.dynamic_keep[when.dynamic.index(number)])
        allowed = torch.zeros(self.layout.length, dtype=torch.bool)
        allowed[0], allowed[513:], allowed[torch.tensor(self.kept) + 1] = True, True, True
        return allowed

    def _score(self, probabilities, rows):
        return probabilities[:, list(self.rows[rows]), 1:513].mean((0, 1)).tolist()

    def _views(self, flat):
        return [flat[v * PATCHES : (v + 1) * PATCHES] for v in range(VIEWS)]

    def _static(self, budget_):
        if self.name == "specprune_official":
            views = oracle.official_kept(self.scores, None, None, "coarse", budget_.static_keep)
            return [v * PATCHES + token for v, tokens in enumerate(views) for token in sorted(tokens)]
        chosen = {
            "random": lambda: oracle.random_static(self.noise.tolist(), budget_.static_keep),
            "local": lambda: oracle.local_static(self.scores, budget_.static_keep),
            "fastv": lambda: oracle.fastv_static(self.scores, budget_.static_keep),
        }[self.name]()
        return sorted(view * PATCHES + token for view, token in chosen)

    def _dynamic(self, probabilities, count):
        if self.name == "random":
            order = self.noise.flatten().tolist()
            return sorted(sorted(self.kept, key=lambda token: order[token])[:count])
        if self.name == "specprune_official":
            return self.importance.select(self.kept, count)
        score = self._score(probabilities, "words")
        return sorted(sorted(self.kept, key=lambda token: -score[token])[:count])


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_a_pass_equals_the_plain_reference_with_dropped_tokens_masked(folder, checkpoint, name):
    layout, x = sequence(checkpoint)
    pruning = config_of(name).pruning
    counts = budget(pruning, Mode.COARSE, VIEWS, PATCHES, DEPTH)
    plan = Plan(pruning.static, pruning.dynamic, counts, STRATEGIES[name].remembers, name)
    order = np.random.default_rng(4).permutation(VIEWS * PATCHES).reshape(VIEWS, PATCHES)
    noise = torch.tensor(order, dtype=torch.int32)
    rope = checkpoint.model.rope(layout.length, x)
    states, trace = checkpoint.model.decode(x, rope, layout, plan, History(noise=noise))
    slow = Slow(name, layout, plan, noise)
    dense = Reference(folder).decode(x[0].double(), slow)
    assert trace.kept.tolist() == slow.kept
    torch.testing.assert_close(states[0].double(), dense[layout.readout_rows(layout.length)], atol=1e-4, rtol=1e-4)
    assert (trace.last_attention is not None) == STRATEGIES[name].remembers


# Through the policy.


def pictures(seed):
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8) for _ in range(VIEWS))


def request(chunk=1, memory=None, reference=None, seed=0):
    observation = Observation(5, pictures(seed), np.zeros(8, np.float32), RED, Motion(0.1, 0.0, 0.0))
    return InferenceRequest(chunk, observation, reference, 7, Mode.COARSE, memory, Pruning())


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_the_first_pass_is_dense_and_later_ones_keep_equally_many(checkpoint, name):
    policy, config = Policy(checkpoint, "eager"), config_of(name)
    first = policy.infer(under(request(), config))
    assert (first.report.mode, first.report.tokens_kept) == (Mode.DENSE, 512)
    second = policy.infer(under(request(2, first.memory, pictures(9)), config))
    assert second.report.used_last_attention == STRATEGIES[name].remembers
    if name == "fastv":
        assert second.report.kept_static_per_view == second.report.kept_dynamic_per_view
    else:
        assert second.report.kept_static_per_view == (88, 88) and second.report.tokens_kept == 128
    local = config_of(name, **{"pruning.static.first_pass": "local"})
    assert policy.infer(under(request(), local)).report.tokens_kept == second.report.tokens_kept


def test_a_live_change_of_strategy_starts_without_what_it_has_not_got(checkpoint):
    policy = Policy(checkpoint, "eager")
    memory = policy.infer(under(request(), config_of("random"))).memory
    memory = policy.infer(under(request(2, memory), config_of("random"))).memory
    assert memory.last_attention is None
    changed = policy.infer(under(request(3, memory), config_of("specprune")))
    assert changed.report.mode is Mode.DENSE and changed.memory.last_attention is not None
    for name in ("random", "specprune"):
        again = policy.infer(under(request(4, changed.memory), config_of(name)))
        assert again.report.mode is Mode.COARSE


def drawn(policy, chunk, seed=0, pictured=0):
    config = config_of("random", **{"pruning.random_seed": seed, "pruning.static.first_pass": "local"})
    return tuple(policy.infer(under(request(chunk, seed=pictured), config)).report.kept.tolist())


def test_random_draws_anew_for_every_chunk_and_alike_for_equal_seeds(checkpoint):
    policy = Policy(checkpoint, "eager")
    assert len({drawn(policy, chunk, seed) for chunk in (1, 2) for seed in (0, 1)}) == 4
    assert drawn(policy, 1) == drawn(Policy(checkpoint, "eager"), 1, pictured=3), "whatever is in the pictures"


def compare(fast, eager, config, ran, tolerance=1e-4):
    """Along an episode, with a frame to compare with and without: the same tokens and actions."""
    memories, kept = [None, None], []
    for chunk, reference in enumerate((None, pictures(8), None, pictures(9))):
        asked = (request(chunk, memory, reference, seed=chunk) for memory in memories)
        one, two = (p.infer(under(r, config)) for p, r in zip((fast, eager), asked, strict=True))
        assert fast.engine.ran == ran
        np.testing.assert_array_equal(one.report.kept, two.report.kept)
        np.testing.assert_allclose(one.chunk.actions, two.chunk.actions, atol=tolerance)
        assert one.report.layer_lengths == two.report.layer_lengths
        memories = [one.memory, two.memory]
        kept.append(one.report.kept.tobytes())
    assert len(set(kept)) == len(kept), "every pass keeps other tokens"


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_captured_equals_eager(checkpoint, name):
    graph, config = Policy(checkpoint, "eager"), config_of(name)
    graph.levels_ahead = ()
    graph.engine = GraphEngine(graph.engine, Recorder())
    graph.warm_up(config, passes=1)
    assert graph.settle()
    compare(graph, Policy(checkpoint, "eager"), config, "graph")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", OTHERS)
def test_cuda_graphs_equal_eager(folder, name):
    checkpoint, config = load_checkpoint(folder, "cuda", torch.float32), config_of(name)
    graph = Policy(checkpoint, "graph")
    graph.levels_ahead = ()
    graph.warm_up(config)
    assert graph.settle() and graph.engine_state == "graph", graph.engine_state
    compare(graph, Policy(checkpoint, "eager"), config, "graph")


def test_passes_without_their_strategys_noise_are_refused(checkpoint):
    layout, x = sequence(checkpoint)
    pruning = config_of("random").pruning
    plan = Plan(pruning.static, pruning.dynamic, budget(pruning, Mode.FINE, VIEWS, PATCHES, DEPTH), False, "random")
    with pytest.raises(RuntimeError, match="does not give"):
        checkpoint.model.decode(x, checkpoint.model.rope(layout.length, x), layout, plan, History())
