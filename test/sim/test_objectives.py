"""What training asks for besides imitation: tokens drawn unevenly, and words that look at the cube they name."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specprune_ros.learn.objectives import VISIBLE_COVER, choose_subset, grounding_loss


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
