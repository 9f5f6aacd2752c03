"""What training asks for besides imitation: tokens drawn unevenly or pooled, and words that look at what they name."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specprune_ros.config import Dynamic, Static
from specprune_ros.learn import passes
from specprune_ros.learn.objectives import (
    VISIBLE_COVER,
    Batch,
    PolicyHeads,
    choose_subset,
    grounding_loss,
    policy_loss,
    total,
)
from specprune_ros.model.config import model_config
from specprune_ros.model.small import POLICY_CONFIG
from specprune_ros.model.vla import History, Plan, Vla
from specprune_ros.prune.layout import Layout


def covers(seed, samples=3, visual=512):
    """(named, any) cover: two patches of the named cube in view 1, twelve in view 2, and another cube."""
    rng = np.random.default_rng(seed)
    named = torch.zeros(samples, visual)
    for sample in range(samples):
        named[sample, rng.choice(256, 2, replace=False)] = 0.9
        named[sample, 256 + rng.choice(256, 12, replace=False)] = 0.9
    other = torch.zeros(samples, visual)
    other[:, 30:40] = 0.8
    return named, torch.maximum(named, other)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([24, 48, 119]))
def test_a_subset_has_its_count_in_every_view_and_most_of_the_named_cube(seed, count):
    named, present = covers(seed)
    subset = choose_subset(named, present, 2, count, torch.Generator().manual_seed(seed))
    assert subset.shape == (3, 2 * count)
    for row, cover in zip(subset, named, strict=True):
        assert row.tolist() == sorted(set(row.tolist()))
        assert int((row < 256).sum()) == count
        kept = float((cover[row] > 0).sum() / (cover > 0).sum())
        assert kept > 0.4


def test_regions_are_drawn_unevenly_and_differently():
    """The share of a view's left half differs much more between samples than even sampling would make it."""
    named = torch.zeros(200, 512)
    subset = choose_subset(named, named, 2, 48, torch.Generator().manual_seed(0))
    left = ((subset % 16 < 8) & (subset < 256)).sum(1).double() / 48
    even = math.sqrt(0.25 / 48 * (1 - 47 / 255))  # of 48 out of 256 without replacement
    assert float(left.std()) > 2 * even and abs(float(left.mean()) - 0.5) < 0.05


def slow_grounding(scores, cover, views):
    """The cross-entropy with loops: each view that sees the cube gets an equal part of the target."""
    total = []
    for layer in scores:
        for score, cov in zip(layer, cover, strict=True):
            seen = [
                [i for i in range(len(cov)) if cov[i] > VISIBLE_COVER and i * views // len(cov) == v]
                for v in range(views)
            ]
            seeing = [patches for patches in seen if patches]
            total.append(
                sum(-math.log(score[i] / score.sum() + 1e-5) / len(p) / len(seeing) for p in seeing for i in p)
            )
    return sum(total) / len(total)


def test_grounding_equals_the_slow_oracle():
    scores = torch.rand(4, 3, 512, dtype=torch.float64) / 512
    cover = covers(1)[0].double()
    cover[2] = 0.0  # the cube is out of sight: nothing to learn
    cover[1, :256] = 0.0  # or out of sight of one camera
    got = grounding_loss(scores, cover, 2)
    np.testing.assert_allclose(float(got), slow_grounding(scores.numpy(), cover.numpy(), 2), rtol=1e-6)


def test_grounding_rewards_attention_on_every_patch_of_the_cube():
    cover = covers(2, samples=1)[0]
    on = (cover > 0).float()
    even = torch.full((1, 1, 512), 1 / 512)
    one = torch.zeros(1, 1, 512)
    one[0, 0, int(on[0].argmax())] = 1.0
    best, spread, single = (float(grounding_loss(s, cover, 2)) for s in (on[None] / on.sum(), even, one))
    assert best < spread < single


# Passes


@pytest.fixture(scope="module")
def model():
    """Three layers of the bundled shape, random."""
    torch.manual_seed(0)
    text = {**POLICY_CONFIG["text_config"], "num_hidden_layers": 3}
    return Vla(model_config({**POLICY_CONFIG, "text_config": text})).eval()


LAYOUT = Layout(2, 256, 1, 19, (9, 14), 56)


def inputs(batch=2):
    torch.manual_seed(1)
    return torch.randn(batch, 512, 256), torch.rand(batch, 8), torch.randint(3, 30, (batch, 20))


@torch.no_grad()
def dense(model, features, proprio, prompt, rope=None):
    """Final normed states (B, L, width), layer by layer as the model itself computes them."""
    x = model.assemble(model.projector(features), proprio, prompt)
    rope = rope or model.rope(LAYOUT.length, x)
    for layer in model.decoder.layers:
        x, _ = layer(x, rope)
    return model.decoder.norm(x)


@torch.no_grad()
def test_a_training_pass_on_all_tokens_is_the_models_own(model):
    features, proprio, prompt = inputs()
    x, scores = passes.states(model, LAYOUT, passes.all_tokens(features), proprio, prompt)
    torch.testing.assert_close(x, dense(model, features, proprio, prompt), atol=2e-5, rtol=1e-4)
    assert scores.shape == (3, 2, 512)
    one = model.assemble(model.projector(features[:1]), proprio[:1], prompt[:1])
    plan = Plan(Static(), Dynamic(), budget=None, remember=False)
    states, _ = model.decode(one, model.rope(LAYOUT.length, one), LAYOUT, plan, History())
    torch.testing.assert_close(model.decoder.norm(states), x[:1, LAYOUT.readout_rows(x.shape[1])], atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_parts_keep_their_original_positions(model):
    """As the model with the other tokens' rows taken out, positions and all."""
    features, proprio, prompt = inputs()
    subset = torch.stack([torch.randperm(512)[:40].sort().values for _ in range(2)])
    got, _ = passes.states(model, LAYOUT, passes.some_tokens(features, subset), proprio, prompt)
    for sample in range(2):
        rows = torch.cat([torch.arange(1), subset[sample] + 1, torch.arange(513, LAYOUT.length)])
        rope = model.rope(LAYOUT.length, features).take(rows)
        one = slice(sample, sample + 1)
        expected = dense(model, features[one][:, subset[sample]], proprio[one], prompt[one], rope)
        torch.testing.assert_close(got[one], expected, atol=2e-5, rtol=1e-4)


def test_pooled_tokens_are_the_means_of_blocks_at_their_centres():
    features = torch.randn(2, 512, 5)
    tokens = passes.pooled_tokens(features, 2)
    assert tokens.features.shape == (2, 128, 5) and tokens.places.shape == (1, 128) and tokens.copies == 4
    labels = torch.rand(2, 512)
    pooled = passes.pooled_labels(labels, 2)
    for token in range(128):
        view, row, column = token // 64, token % 64 // 8, token % 8
        four = [256 * view + 16 * (2 * row + r) + 2 * column + c for r in (0, 1) for c in (0, 1)]
        torch.testing.assert_close(tokens.features[:, token], features[:, four].mean(1))
        torch.testing.assert_close(pooled[:, token], labels[:, four].mean(1))
        assert float(tokens.places[0, token]) == sum(four) / 4


def test_a_key_that_counts_four_times_is_four_equal_keys():
    torch.manual_seed(2)
    q, k, v = (torch.randn(1, 2, 7, 8, dtype=torch.float64) for _ in range(3))
    bias = torch.tensor([math.log(4.0), math.log(4.0), 0, 0, 0, 0, 0], dtype=torch.float64)
    index = [0] * 4 + [1] * 4 + [2, 3, 4, 5, 6]
    expected = torch.nn.functional.scaled_dot_product_attention(q, k[:, :, index], v[:, :, index])
    torch.testing.assert_close(passes.attend(q, k, v, bias), expected)
    torch.testing.assert_close(passes.attend(q, k, v, None), torch.nn.functional.scaled_dot_product_attention(q, k, v))


def test_rope_at_whole_positions_is_the_models_table(model):
    ours = passes.rope_at(model.config.decoder, torch.arange(30.0)[None], torch.float32).table[:, 0, 0]
    torch.testing.assert_close(ours, model.rope(30, torch.zeros(1)).table)


def test_only_grounding_tells_the_attention_where_to_look(model):
    """The loss of `plain` is the sum without it, whatever the labels of what is named say."""
    features, proprio, prompt = inputs(1)
    heads = PolicyHeads(model.config)
    named = covers(3, samples=1)[0]
    labels = dict(chunk=torch.zeros(1, 8, 7), focus=named, anything=named, offset=torch.zeros(1, 3))
    got = []
    for about in (named, torch.zeros_like(named)):
        batch = Batch(features, proprio, prompt, about=about, **labels)
        losses = policy_loss(model, heads, LAYOUT, batch, "all")
        got.append((float(total(losses)), float(total(losses, 0.2)), float(losses["grounding"])))
    assert got[0][0] == got[1][0] and got[0][2] > 0.0 == got[1][2]
    assert got[0][1] == pytest.approx(got[0][0] + 0.2 * got[0][2])
