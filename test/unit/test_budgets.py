"""Budgets: fixed counts, monotone in aggressiveness, fine keeps at least as much as coarse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specprune_ros.config import Config
from specprune_ros.prune.budgets import budget, is_dense, schedule
from specprune_ros.types import Mode

MODES = (Mode.COARSE, Mode.FINE)


def pruning(**changes):
    return Config().updated({f"pruning.{name}": value for name, value in changes.items()}).pruning


def counts(aggressiveness, mode, patches=256, depth=12, **changes):
    return budget(pruning(aggressiveness=aggressiveness, **changes), mode, 2, patches, depth)


def test_the_papers_setting_keeps_the_papers_counts():
    coarse, fine = counts(0.5, Mode.COARSE, depth=32), counts(0.5, Mode.FINE, depth=32)
    assert (coarse.k_global, coarse.k_dynamic, coarse.k_local, coarse.static_keep) == (30, 20, 19, 30 + 20 + 2 * 19)
    assert (fine.k_global, fine.k_dynamic, fine.k_local, fine.static_keep) == (30, 20, 32, 30 + 20 + 2 * 32)
    expected, kept = [], 2 * 88
    for _ in range(4):
        kept = round(kept * 0.9)
        expected.append(kept)
    assert coarse.dynamic_keep == tuple(expected)


def test_schedule_of_the_7b_model_is_the_papers():
    when = schedule(32)
    assert (when.static, when.dynamic, when.local, when.remembered) == (2, (5, 10, 15, 20), (1, 2), (15, 32))


@pytest.mark.parametrize("depth", range(2, 49))
def test_schedule_of_any_depth_is_ordered(depth):
    when = schedule(depth)
    layers = (when.static, *when.dynamic)
    assert list(layers) == sorted(set(layers))
    assert layers[0] >= 1 and layers[-1] < depth and when.remembered[-1] == depth


@settings(deadline=None)
@given(
    a=st.floats(0, 1),
    b=st.floats(0, 1),
    alpha=st.floats(0, 4),
    ratio=st.floats(0.1, 1.0),
    k_global=st.integers(0, 300),
    patches=st.sampled_from([16, 64, 256]),
    depth=st.integers(4, 40),
)
def test_tokens_never_grow_with_aggressiveness_and_fine_keeps_more(a, b, alpha, ratio, k_global, patches, depth):
    low, high = sorted((a, b))
    changes = {"static.alpha": alpha, "dynamic.keep_ratio": ratio, "static.k_global": k_global}
    for mode in MODES:
        soft = counts(low, mode, patches, depth, **changes)
        hard = counts(high, mode, patches, depth, **changes)
        assert hard.static_keep <= soft.static_keep <= patches
        assert all(h <= s for h, s in zip(hard.dynamic_keep, soft.dynamic_keep, strict=True))
        assert list(soft.dynamic_keep) == sorted(soft.dynamic_keep, reverse=True)
    coarse, fine = (counts(high, mode, patches, depth, **changes) for mode in MODES)
    assert fine.static_keep >= coarse.static_keep
    assert all(f >= c for f, c in zip(fine.dynamic_keep, coarse.dynamic_keep, strict=True))


def test_never_below_the_floor():
    hard = counts(1.0, Mode.COARSE, **{"dynamic.min_tokens": 200, "dynamic.keep_ratio": 0.1})
    assert min(hard.dynamic_keep) == 200 and 2 * hard.static_keep >= 200


def test_zero_is_dense_and_so_is_everything_off():
    assert is_dense(pruning(aggressiveness=0.0))
    assert is_dense(pruning(**{"static.enabled": False, "dynamic.enabled": False}))
    assert not is_dense(pruning(aggressiveness=0.01))


def test_static_off_keeps_all_patches_until_the_dynamic_prunes():
    only_dynamic = counts(0.5, Mode.COARSE, **{"static.enabled": False})
    assert only_dynamic.static_keep == 256 and only_dynamic.dynamic_keep[0] == round(512 * 0.9)
    only_static = counts(0.5, Mode.COARSE, **{"dynamic.enabled": False})
    assert set(only_static.dynamic_keep) == {2 * only_static.static_keep}
