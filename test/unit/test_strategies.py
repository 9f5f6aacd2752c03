"""Selection strategies against slow versions of themselves, the counts they share, and what they may not look at."""

import dataclasses

import numpy as np
import pytest
import selection_oracles as oracle
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specprune_ros.config import STRATEGY_NAMES, Config, Dynamic
from specprune_ros.prune.budgets import Budget, budget, is_dense, layer_lengths, schedule
from specprune_ros.prune.dynamic import folded
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.static import select_static
from specprune_ros.prune.strategies.protocol import Evidence, Start
from specprune_ros.prune.strategies.registry import STRATEGIES
from specprune_ros.types import Mode, Source

VIEWS, PATCHES = 2, 256
CPU = torch.device("cpu")
MODES = (Mode.COARSE, Mode.FINE)


def pruning_of(**changes):
    return Config().updated({f"pruning.{name}": value for name, value in changes.items()}).pruning


def counts_of(strategy, mode=Mode.COARSE, depth=32, **changes):
    return budget(pruning_of(strategy=strategy, **changes), mode, VIEWS, PATCHES, depth)


def evidence(seed, past=True):
    """Random evidence of every kind."""
    rng = np.random.default_rng(seed)
    scores, last = (torch.tensor(rng.random((2, VIEWS, PATCHES)), dtype=torch.float32) for _ in range(2))
    last[:, torch.tensor(rng.random((VIEWS, PATCHES)) < 0.6)] = -torch.inf
    similarity = torch.tensor(1 - 0.03 * rng.random((VIEWS, PATCHES)) ** 3, dtype=torch.float32)
    noise = torch.tensor(rng.permutation(VIEWS * PATCHES).reshape(VIEWS, PATCHES), dtype=torch.int32)
    return Evidence(scores, last if past else None, similarity if past else None, noise)


def pairs(kept):
    """Flat indices as (view, token)."""
    assert kept.tolist() == sorted(set(kept.tolist()))
    return {divmod(i, PATCHES) for i in kept.tolist()}


def test_every_declared_name_is_a_strategy_and_the_method_is_the_default():
    assert tuple(STRATEGIES) == STRATEGY_NAMES and Config().pruning.strategy == STRATEGY_NAMES[0] == "specprune"


# Which tokens.


def test_specprune_is_the_selection_it_was():
    seen, counts = evidence(0), counts_of("specprune")
    ours = STRATEGIES["specprune"].select_static(seen, 0.99, counts)
    before = select_static(seen.scores, seen.last_attention, seen.similarity, 0.99, counts)
    assert all(torch.equal(one, two) for one, two in zip(ours, before, strict=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("keep", [1, 3, 88, 255, 256])
def test_static_selections_equal_the_slow_ones(seed, keep):
    seen, counts = evidence(seed), Budget(0, 0, 0, keep, ())
    scores, noise = seen.scores.tolist(), seen.noise.tolist()
    slow = {
        "random": oracle.random_static(noise, keep),
        "local": oracle.local_static(scores, keep),
        "fastv": oracle.fastv_static(scores, keep),
    }
    for name, expected in slow.items():
        kept, sources = STRATEGIES[name].select_static(seen, 0.99, counts)
        assert pairs(kept) == expected, name
        flag = Source.FILL if name == "random" else Source.LOCAL
        marks = torch.zeros(VIEWS, PATCHES, dtype=torch.uint8)
        for view, token in expected:
            marks[view, token] = int(flag | Source.AFTER_STATIC)
        assert torch.equal(sources, marks), name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("past", [True, False])
@pytest.mark.parametrize("keep", [40, None, 200])
@pytest.mark.parametrize("seed", range(2))
def test_the_official_sets_are_the_released_ones(seed, keep, mode, past):
    seen, counts = evidence(seed, past), counts_of("specprune_official", mode)
    counts = dataclasses.replace(counts, static_keep=keep or counts.static_keep)
    history = (seen.last_attention.tolist(), seen.similarity.tolist()) if past else (None, None)
    kept, sources = STRATEGIES["specprune_official"].select_static(seen, 0.0, counts)
    flags = {"local": Source.LOCAL, "global": Source.GLOBAL, "changed": Source.DYNAMIC}
    asked = (seen.scores.tolist(), *history, mode.value)
    expected_kept = oracle.official_kept(*asked, counts.static_keep)
    for v, sets in enumerate(oracle.official_sets(*asked)):
        mine = {token for view, token in pairs(kept) if view == v}
        union = set().union(*sets.values())
        assert len(mine) == counts.static_keep
        assert union <= mine if len(union) <= counts.static_keep else mine <= union
        assert mine == expected_kept[v]
        for token in range(PATCHES):
            bits = sum(int(flags[name]) for name, members in sets.items() if token in members)
            expected = ((bits or int(Source.FILL)) | int(Source.AFTER_STATIC)) if token in mine else 0
            assert int(sources[v, token]) == expected


def test_official_takes_no_missing_reference_frame_for_change():
    """Captured graphs mark "no reference" by a similarity of +inf."""
    seen = evidence(1)
    nothing = dataclasses.replace(seen, similarity=torch.full((VIEWS, PATCHES), torch.inf))
    _, sources = STRATEGIES["specprune_official"].select_static(nothing, 0.0, counts_of("specprune_official"))
    assert not (sources & int(Source.DYNAMIC)).any()


@pytest.mark.parametrize("name", [name for name in STRATEGY_NAMES if not STRATEGIES[name].remembers])
def test_strategies_without_history_do_not_look_at_it(name):
    seen, other, counts = evidence(2), evidence(3), counts_of(name)
    changed = dataclasses.replace(other, scores=seen.scores, noise=seen.noise)
    results = [STRATEGIES[name].select_static(each, t, counts)[0] for each, t in ((seen, 0.99), (changed, 0.1))]
    assert torch.equal(*results)


def ranked(name, noise=None):
    return STRATEGIES[name].ranking(Start(VIEWS * PATCHES, Dynamic(), noise, CPU, folded))


def attention_rows(rng, present, heads=2, rows=3, others=5):
    attention = rng.random((heads, rows, 1 + present + others)) ** 4
    return attention / attention.sum(-1, keepdims=True)


def test_official_importance_equals_the_slow_one():
    """The constants are the released ones, whatever is configured."""
    rng, kept = np.random.default_rng(5), list(range(40))
    ours, slow = ranked("specprune_official"), oracle.OfficialImportance(VIEWS * PATCHES)
    for count in (30, 22, 9):
        attention = attention_rows(rng, len(kept))
        rows = torch.tensor(attention, dtype=torch.float32)[None]
        ours.update(rows, rows[0, :, :, 1 : 1 + len(kept)].mean((0, 1)), torch.tensor(kept))
        slow.update(attention.tolist(), kept)
        for token in kept:
            assert float(ours.log[token].exp()) == pytest.approx(slow.value[token], rel=1e-3)
        columns = ours.select(torch.tensor(kept), count).tolist()
        assert [kept[c] for c in columns] == slow.select(kept, count)
        kept = [kept[c] for c in columns]


def test_local_prunes_by_the_newest_scores_alone():
    rng, kept = np.random.default_rng(6), torch.arange(100, 120)
    ranking = ranked("local")
    with pytest.raises(RuntimeError, match="not scored"):
        ranking.select(kept, 3)
    for _ in range(2):
        score = torch.tensor(rng.random(20), dtype=torch.float32)
        ranking.update(torch.rand(1, 2, 3, 30), score, kept)
    assert ranking.select(kept, 7).tolist() == sorted(oracle.best(score.tolist(), 7))
    with pytest.raises(RuntimeError, match="not scored"):
        ranking.select(kept[:5], 3)


def test_random_is_uniform_at_every_prune():
    """4000 drawn orders: how often each token stays, and each pair of neighbours, is within 5 standard deviations of
    what is expected, after the static prune and after a dynamic one, and no view is favoured by the latter."""
    rng, draws, patches, keep, left = np.random.default_rng(11), 4000, 8, 4, 3
    stays, later, both = np.zeros(2 * patches), np.zeros(2 * patches), 0
    for _ in range(draws):
        noise = torch.tensor(rng.permutation(2 * patches).reshape(2, patches), dtype=torch.int32)
        kept, _ = STRATEGIES["random"].select_static(Evidence(None, noise=noise), 0.0, Budget(0, 0, 0, keep, ()))
        stays[kept.numpy()] += 1
        both += {0, 1} <= set(kept.tolist())
        columns = ranked("random", noise).select(kept, left)
        later[kept[columns].numpy()] += 1

    def within(found, share):
        return np.all(np.abs(np.asarray(found) - draws * share) < 5 * np.sqrt(draws * share * (1 - share)))

    assert within(stays, keep / patches) and within(later, left / (2 * patches))
    assert within(both, keep / patches * (keep - 1) / (patches - 1))


# How many tokens.


@settings(deadline=None, max_examples=150)
@given(
    aggressiveness=st.floats(0.01, 1),
    keep=st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0]),
    depth=st.integers(4, 48),
    mode=st.sampled_from(MODES),
    dynamic=st.booleans(),
)
def test_all_strategies_keep_equally_many(aggressiveness, keep, depth, mode, dynamic):
    asked = {"aggressiveness": aggressiveness, "keep": keep, "dynamic.enabled": dynamic}
    reference = counts_of("specprune", mode, depth, **asked)
    for name in ("random", "local", "specprune_official"):
        counts = counts_of(name, mode, depth, **asked)
        assert (counts.static_keep, counts.dynamic_keep) == (reference.static_keep, reference.dynamic_keep), name
        prunes, of_reference = (schedule(depth, each).dynamic for each in (name, "specprune"))
        assert len(prunes) == len(of_reference) and all(p >= r for p, r in zip(prunes, of_reference, strict=True))
        assert not prunes or schedule(depth, name).updates[0] <= prunes[0]
    layout = Layout(VIEWS, PATCHES, 1, 29, (11, 20), 56)
    rows = {}
    for name in ("specprune", "fastv"):
        pruning = pruning_of(strategy=name, **asked)
        counts = budget(pruning, mode, VIEWS, PATCHES, depth)
        rows[name] = layer_lengths(layout, depth, pruning.static, pruning.dynamic, counts, name)
    after = depth - schedule(depth).static
    fewest = counts_of("fastv", mode, depth, **asked).static_keep == 1
    assert abs(sum(rows["specprune"]) - sum(rows["fastv"])) <= after * VIEWS * (1 if fewest else 0.5) + 1e-9


def test_official_layers_of_the_7b_model_are_the_released_ones():
    when = schedule(32, "specprune_official")
    assert (when.dynamic, when.updates, when.remembered) == ((11, 16, 21, 26), (11, 15, 20, 25), (15, 31))
    assert schedule(32, "fastv").dynamic == () and schedule(32, "random") == schedule(32)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_keep_is_the_share_that_static_pruning_leaves(name, mode):
    for share, expected in ((0.01, 3), (0.001, 1), (0.1, 26), (1.0, 256)):
        counts = counts_of(name, mode, keep=share, **{"dynamic.enabled": False})
        assert counts.static_keep == expected
    few = counts_of("local", mode, keep=0.01)
    assert few.dynamic_keep == (6, 6, 6, 6), "dynamic pruning heeds its floor, and static pruning goes below it"
    assert counts_of("local", mode, keep=0.1).dynamic_keep == (47, 42, 38, 34)


def test_keep_does_not_change_what_aggressiveness_means():
    assert is_dense(pruning_of(aggressiveness=0.0, keep=0.02)), "0 stays the dense model"
    for level in (0.25, 0.5, 1.0):
        assert counts_of("specprune", aggressiveness=level) == counts_of("specprune", aggressiveness=level, keep=0.0)
    assert counts_of("specprune", keep=88 / 256) == counts_of("specprune", aggressiveness=0.5)


def test_fastv_without_static_pruning_is_dense():
    off = pruning_of(strategy="fastv", **{"static.enabled": False})
    assert is_dense(off) and not is_dense(dataclasses.replace(off, strategy="local"))


def test_a_preset_stands_for_the_method():
    config = Config().updated({"pruning.strategy": "random"})
    assert config.pruning.preset == "custom"
    back = config.updated({"pruning.preset": "paper", "pruning.keep": 0.0})
    assert (back.pruning.strategy, back.pruning.preset) == ("specprune", "paper")
    assert Config().updated({"pruning.keep": 0.1}).pruning.preset == "custom"
