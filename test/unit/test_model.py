"""The model against the plain reference, dense and pruned; what pruning must never do."""

import numpy as np
import pytest
import torch
from reference_oft import Reference

from specprune_ros.config import Config
from specprune_ros.model.vla import History, Plan, reached
from specprune_ros.prune.budgets import budget, schedule
from specprune_ros.prune.dynamic import Importance
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.static import select_static
from specprune_ros.types import Mode, Source

INSTRUCTION = "pick up the red cube"


@pytest.fixture(scope="module")
def inputs(checkpoint):
    """Images, proprio, prompt, layout, and the assembled sequence."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 224, 224, generator=generator)
    proprio = torch.rand(1, 8, generator=generator) * 2 - 1
    prompt = checkpoint.prompt.encode(INSTRUCTION)
    layout = Layout(2, 256, 1, len(prompt.ids) - 1, prompt.task, 56)
    model = checkpoint.model
    x = model.assemble(model.encode(images), proprio, torch.tensor([prompt.ids]))
    return images, proprio, prompt, layout, x


def decode(checkpoint, inputs, plan, history=None):
    *_, layout, x = inputs
    history = history or History()
    return checkpoint.model.decode(x, checkpoint.model.rope(layout.length, x), layout, plan, history)


def plan_of(aggressiveness, mode=Mode.COARSE, **changes):
    changes = {f"pruning.{k}": v for k, v in {"aggressiveness": aggressiveness, **changes}.items()}
    pruning = Config().updated(changes).pruning
    return Plan(pruning.static, pruning.dynamic, budget(pruning, mode, 2, 256, 6), True)


def dense_plan(remember=False):
    pruning = Config().pruning
    return Plan(pruning.static, pruning.dynamic, None, remember)


def some_history(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return History(torch.rand(2, 2, 256, generator=rng), torch.rand(2, 256, generator=rng))


@pytest.mark.slow
def test_dense_forward_equals_the_plain_reference(folder, checkpoint, inputs):
    images, proprio, prompt, layout, x = inputs
    reference = Reference(folder)
    visual = reference.encode(images)
    torch.testing.assert_close(checkpoint.model.encode(images)[0].double(), visual, atol=1e-4, rtol=1e-4)
    sequence = reference.assemble(visual, proprio[0], prompt.ids)
    torch.testing.assert_close(x[0].double(), sequence, atol=1e-4, rtol=1e-4)
    states, _ = decode(checkpoint, inputs, dense_plan())
    actions = checkpoint.model.act(states)[0]
    torch.testing.assert_close(actions.double(), reference.act(reference.decode(sequence)), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_pruned_forward_equals_dense_with_dropped_tokens_masked(folder, checkpoint, inputs):
    """Removing tokens is the same as forbidding them as keys: the whole pass again, by masks, in float64."""
    *_, layout, x = inputs
    plan, history = plan_of(0.5), some_history()
    states, trace = decode(checkpoint, inputs, plan, history)
    when, local = schedule(6), []
    importance = Importance(512, plan.dynamic)

    def after(number, probabilities, allowed):
        present = allowed[1:513].nonzero()[:, 0]
        columns = torch.cat((torch.tensor([0]), present + 1, torch.arange(513, layout.length)))
        rows = probabilities[:, layout.task_rows(layout.length)][:, :, columns][None].float()
        if number in when.local:
            score = torch.full((512,), -torch.inf)
            score[present] = rows[0, :, :, 1 : 1 + len(present)].mean((0, 1))
            local.append(score.view(2, 256))
        if number == when.static:
            past = history.last_attention, history.similarity
            present, _ = select_static(torch.stack(local), *past, 0.99, plan.budget)
        elif number in when.dynamic:
            importance.update(rows, rows[0, :, :, 1 : 1 + len(present)].mean((0, 1)), present)
            count = plan.budget.dynamic_keep[when.dynamic.index(number)]
            present = present[importance.select(present, count)]
        allowed = torch.zeros(layout.length, dtype=torch.bool)
        allowed[0], allowed[513:], allowed[present + 1] = True, True, True
        return allowed

    reference = Reference(folder)
    dense = reference.decode(x[0].double(), after)
    torch.testing.assert_close(states[0].double(), dense[layout.readout_rows(layout.length)], atol=1e-4, rtol=1e-4)
    assert trace.kept.numel() == plan.budget.dynamic_keep[-1]


def test_keeping_everything_equals_dense(checkpoint, inputs):
    changes = {"static.k_global": 256, "dynamic.keep_ratio": 1.0}
    dense, _ = decode(checkpoint, inputs, dense_plan())
    kept_all, trace = decode(checkpoint, inputs, plan_of(0.5, **changes))
    assert trace.kept.tolist() == list(range(512))
    torch.testing.assert_close(kept_all, dense, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", [Mode.COARSE, Mode.FINE])
@pytest.mark.parametrize("aggressiveness", [0.01, 0.3, 0.5, 0.8, 1.0])
def test_what_pruning_must_never_do(checkpoint, inputs, aggressiveness, mode):
    layout = inputs[3]
    plan, seen = plan_of(aggressiveness, mode), []
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
        for layer in checkpoint.model.decoder.layers
    ]
    states, trace = decode(checkpoint, inputs, plan, some_history())
    for hook in hooks:
        hook.remove()
    protected = layout.length - layout.visual
    when = schedule(6)
    expected = [512] * when.static
    for layer in range(when.static + 1, 7):
        done = [n for n in when.dynamic if n < layer]
        expected.append(plan.budget.dynamic_keep[len(done) - 1] if done else 2 * plan.budget.static_keep)
    assert seen == [protected + n for n in expected], "budgets exact, protected tokens never lost"
    assert list(plan.layer_lengths(layout, 6)) == seen
    assert trace.kept.tolist() == sorted(set(trace.kept.tolist()))
    assert set(trace.kept.tolist()) <= set(trace.static.tolist())
    assert [int((trace.static // 256 == v).sum()) for v in (0, 1)] == [plan.budget.static_keep] * 2
    assert states.shape == (1, 56, 32) and torch.isfinite(states).all()


def test_scores_for_the_next_chunk_are_in_original_token_space(checkpoint, inputs):
    _, dense = decode(checkpoint, inputs, dense_plan(remember=True))
    assert dense.last_attention.shape == (2, 2, 256) and torch.isfinite(dense.last_attention).all()
    _, pruned = decode(checkpoint, inputs, plan_of(0.5), History(last_attention=dense.last_attention))
    last = pruned.last_attention[-1].flatten()
    assert (last > -torch.inf).nonzero()[:, 0].tolist() == pruned.kept.tolist()


def test_bits_say_how_far_each_token_came(checkpoint, inputs):
    layout = inputs[3]
    _, trace = decode(checkpoint, inputs, plan_of(0.5), History(last_attention=some_history().last_attention))
    bits = reached(trace, layout).numpy()
    assert set(np.flatnonzero(bits & int(Source.LAST_LAYER))) == set(trace.kept.tolist())
    assert set(np.flatnonzero(bits & int(Source.AFTER_STATIC))) == set(trace.static.tolist())
    _, dense = decode(checkpoint, inputs, dense_plan())
    assert set(reached(dense, layout).tolist()) == {int(Source.AFTER_STATIC) + int(Source.LAST_LAYER)}


@pytest.mark.parametrize("off", ["static.enabled", "dynamic.enabled"])
def test_either_level_alone(checkpoint, inputs, off):
    plan = plan_of(0.5, **{off: False})
    _, trace = decode(checkpoint, inputs, plan)
    assert trace.static.numel() == 2 * plan.budget.static_keep
    assert trace.kept.numel() == plan.budget.dynamic_keep[-1]
