"""Scores, static and dynamic selection against independent slow versions in NumPy and loops."""

import math
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specprune_ros.config import Dynamic
from specprune_ros.prune.budgets import Budget
from specprune_ros.prune.dynamic import EPS, Importance, by_rank, confidence, log_rank_weight
from specprune_ros.prune.frames import patch_similarity, patches
from specprune_ros.prune.layout import Layout
from specprune_ros.prune.scores import mean_entropy, task_attention, visual_score
from specprune_ros.prune.static import ranks, select_static
from specprune_ros.types import Source


def attention_oracle(q, k):
    """Softmax attention by loops: q (heads, T, d), k (heads, L, d) -> (heads, T, L)."""
    heads, rows, width = q.shape
    out = np.zeros((heads, rows, k.shape[1]))
    for h in range(heads):
        for t in range(rows):
            logits = [sum(q[h, t, i] * k[h, j, i] for i in range(width)) / math.sqrt(width) for j in range(k.shape[1])]
            top = max(logits)
            weights = [math.exp(x - top) for x in logits]
            out[h, t] = np.array(weights) / sum(weights)
    return out


@pytest.fixture
def attention():
    rng = np.random.default_rng(1)
    q, k = rng.normal(size=(3, 4, 8)), rng.normal(size=(3, 20, 8))
    return attention_oracle(q, k), q, k


def test_task_attention_score_and_entropy_equal_the_formulas(attention):
    expected, q, k = attention
    got = task_attention(torch.tensor(q)[None], torch.tensor(k)[None])
    np.testing.assert_allclose(got[0].numpy(), expected, atol=1e-6)
    score = visual_score(got, 1, 12)
    slow = [np.mean([expected[h, t, 1 + i] for h in range(3) for t in range(4)]) for i in range(12)]
    np.testing.assert_allclose(score.numpy(), slow, atol=1e-6)
    entropies = [-sum(p * math.log(p) for p in expected[h, t]) for h in range(3) for t in range(4)]
    assert float(mean_entropy(got)) == pytest.approx(np.mean(entropies), abs=1e-5)


def test_entropy_of_a_one_hot_row_is_zero():
    row = torch.zeros(1, 1, 1, 5)
    row[..., 2] = 1.0
    assert float(mean_entropy(row)) == 0.0


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_ranks_count_what_is_better(values):
    got = ranks(torch.tensor(values, dtype=torch.float32)).tolist()
    slow = [sum(v > x or (v == x and j < i) for j, v in enumerate(values)) for i, x in enumerate(values)]
    assert got == slow


def union_oracle(local, last_attention, similarity, threshold, budget):
    """V_global U V_dynamic U V_local of each view, by sorting lists."""
    views, patches = local.shape[1:]
    sets = []
    for v in range(views):
        chosen = {int(Source.LOCAL): set(), int(Source.GLOBAL): set(), int(Source.DYNAMIC): set()}
        for layer in local:
            order = sorted(range(patches), key=lambda i: -layer[v, i])
            chosen[int(Source.LOCAL)] |= set(order[: budget.k_local])
        for layer in [] if last_attention is None else last_attention:
            order = [i for i in sorted(range(patches), key=lambda i: -layer[v, i]) if layer[v, i] > -np.inf]
            chosen[int(Source.GLOBAL)] |= set(order[: budget.k_global])
        if similarity is not None:
            changed = [
                i for i in sorted(range(patches), key=lambda i: similarity[v, i]) if similarity[v, i] < threshold
            ]
            chosen[int(Source.DYNAMIC)] |= set(changed[: budget.k_dynamic])
        sets.append(chosen)
    return sets


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    k_global=st.integers(0, 8),
    k_dynamic=st.integers(0, 6),
    k_local=st.integers(0, 8),
    keep=st.integers(1, 40),
    history=st.booleans(),
    threshold=st.floats(-1, 1),
)
def test_static_selection_keeps_the_union_and_fills_with_the_next_best(
    seed, k_global, k_dynamic, k_local, keep, history, threshold
):
    rng = np.random.default_rng(seed)
    views, patches = 2, 40
    local = rng.random((2, views, patches)).astype(np.float32)
    last_attention = rng.random((2, views, patches)).astype(np.float32) if history else None
    if history:
        last_attention[:, rng.random((views, patches)) < 0.5] = -np.inf
    similarity = rng.uniform(-1, 1, (views, patches)).astype(np.float32) if history else None
    budget = Budget(k_global, k_dynamic, k_local, keep, ())
    as_tensor = lambda x: None if x is None else torch.from_numpy(x)  # noqa: E731
    kept, sources = select_static(as_tensor(local), as_tensor(last_attention), as_tensor(similarity), threshold, budget)

    assert kept.tolist() == sorted(set(kept.tolist())) and len(kept) == views * keep
    for v, chosen in enumerate(union_oracle(local, last_attention, similarity, threshold, budget)):
        mine = {i - v * patches for i in kept.tolist() if v * patches <= i < (v + 1) * patches}
        union = set().union(*chosen.values())
        assert len(mine) == keep
        assert union <= mine if len(union) <= keep else mine <= union
        for i in range(patches):
            bits = sum(flag for flag, members in chosen.items() if i in members) if i in mine else 0
            fill = int(Source.FILL) if i in mine and not bits else 0
            expected = bits + fill + (int(Source.AFTER_STATIC) if i in mine else 0)
            assert int(sources[v, i]) == expected
        fills = mine - union
        best = {
            i: min(sorted(range(patches), key=lambda j: -layer[v, j]).index(i) for layer in local)
            for i in range(patches)
        }
        if fills:
            left_out = set(range(patches)) - mine
            assert max(best[i] for i in fills) <= min((best[i] for i in left_out), default=patches)


def test_more_votes_win_when_the_union_outgrows_the_budget():
    local = torch.zeros(2, 1, 8)
    local[0, 0, [0, 1]] = 1.0
    local[1, 0, [2, 3]] = 1.0
    last_attention = torch.full((2, 1, 8), -torch.inf)
    last_attention[:, 0, 3] = 1.0
    kept, _ = select_static(local, last_attention, None, 0.0, Budget(1, 0, 2, 1, ()))
    assert kept.tolist() == [3]


def test_rank_weight_equals_the_formula():
    score, slope = [0.3, 0.9, 0.1, 0.5], 0.7
    order = [2, 0, 3, 1]
    raw = [1 / (1 + math.exp(slope * r)) for r in order]
    weight = log_rank_weight(torch.tensor(score), by_rank(len(score), slope, torch.device("cpu"))).exp()
    np.testing.assert_allclose(weight.numpy(), np.array(raw) / sum(raw), rtol=1e-5)


def test_confidence_of_both_versions(attention):
    expected, q, k = attention
    probabilities = task_attention(torch.tensor(q)[None], torch.tensor(k)[None])
    score = visual_score(probabilities, 1, 12)
    rows = expected.reshape(-1, 20)
    entropy = np.mean([-(row * np.log(row)).sum() for row in rows])
    assert float(confidence(probabilities, score, "entropy")) == pytest.approx(1 / (entropy + EPS), rel=1e-4)
    slow = score.numpy().mean() / (score.numpy().std() + EPS)
    assert float(confidence(probabilities, score, "mean_std")) == pytest.approx(slow, rel=1e-4)


def importance_oracle(steps, visual, config):
    """S over several layers, by loops over original token ids. steps: (attention (heads, T, L), kept ids)."""
    value = [0.0] * visual
    for attention, kept in steps:
        heads, rows, _ = attention.shape
        score = [
            sum(attention[h, t, 1 + c] for h in range(heads) for t in range(rows)) / heads / rows
            for c in range(len(kept))
        ]
        order = [sum(s > x or (s == x and j < i) for j, s in enumerate(score)) for i, x in enumerate(score)]
        raw = [1 / (1 + math.exp(config.rank_slope * r)) for r in order]
        entropy = np.mean([-sum(p * math.log(p) for p in attention[h, t]) for h in range(heads) for t in range(rows)])
        for c, token in enumerate(kept):
            s = raw[c] / sum(raw) / (entropy + EPS)
            value[token] = (1 - config.beta) * value[token] + config.beta * s
    return value


def test_importance_over_layers_equals_the_slow_version():
    rng = np.random.default_rng(3)
    config, visual = Dynamic(), 10
    importance = Importance(visual, config)
    kept, steps = np.arange(visual), []
    for count in (8, 5, 3):
        attention = rng.random((2, 3, 1 + len(kept) + 6))
        attention /= attention.sum(-1, keepdims=True)
        steps.append((attention, kept))
        rows = torch.tensor(attention, dtype=torch.float32)[None]
        importance.update(rows, visual_score(rows, 1, len(kept)), torch.tensor(kept))
        expected = importance_oracle(steps, visual, config)
        np.testing.assert_allclose(importance.log.exp().numpy(), expected, rtol=1e-4)
        columns = importance.select(torch.tensor(kept), count).tolist()
        best = sorted(range(len(kept)), key=lambda c: -expected[kept[c]])[:count]
        assert columns == sorted(best)
        kept = kept[columns]


def exact_order(scores, config):
    """Tokens by falling S, in decimals of 60 digits and any exponent; attention of one-hot rows, so that w_conf is 1
    / eps."""
    with localcontext(Context(prec=60, Emin=-999_999_999, Emax=999_999_999)):
        beta, slope = Decimal(config.beta), Decimal(config.rank_slope)
        value = [Decimal(0)] * len(scores[0])
        for score in scores:
            order = sorted(range(len(score)), key=lambda i: -score[i])
            raw = [1 / (1 + (slope * rank).exp()) for rank in range(len(score))]
            for rank, token in enumerate(order):
                value[token] = (1 - beta) * value[token] + beta * raw[rank] / sum(raw) / Decimal(EPS)
        return sorted(range(len(value)), key=lambda i: -value[i])


@pytest.mark.parametrize("slope", [0.0001, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("visual", [90, 512])
def test_no_rank_slope_makes_tokens_tie(slope, visual):
    """In float32 itself sigmoid(-rank) is 0 from rank 89 or 104 on: what is kept beyond that would be chance."""
    config, rng = Dynamic(rank_slope=slope), np.random.default_rng(7)
    importance, kept = Importance(visual, config), torch.arange(visual)
    one_hot = torch.zeros(1, 1, 1, 4)
    one_hot[..., 0] = 1.0
    scores = [rng.permutation(visual) for _ in range(3)]
    for score in scores:
        importance.update(one_hot, torch.tensor(score, dtype=torch.float32), kept)
    expected = exact_order(scores, config)
    for count in (1, visual // 2, visual - 5):
        differing = set(importance.select(kept, count).tolist()) ^ set(expected[:count])
        assert len(differing) <= (2 if slope < 0.001 else 0), (
            "at the weakest slope neighbours differ by a rounding error"
        )


def test_a_prune_before_any_update_is_refused():
    with pytest.raises(RuntimeError, match="before any score update"):
        Importance(4, Dynamic()).select(torch.arange(4), 2)


@pytest.mark.parametrize("kind", ["rgb_cosine", "absolute"])
def test_patch_similarity_equals_loops_over_patches(kind):
    rng = np.random.default_rng(5)
    now, then = (rng.integers(0, 256, (2, 28, 42, 3), dtype=np.uint8) for _ in range(2))
    got = patch_similarity(torch.from_numpy(now), torch.from_numpy(then), 14, kind)
    slow = []
    for v in range(2):
        for row in range(2):
            for column in range(3):
                cut = (v, slice(14 * row, 14 * row + 14), slice(14 * column, 14 * column + 14))
                a, b = now[cut].astype(float).ravel(), then[cut].astype(float).ravel()
                cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                slow.append(cosine if kind == "rgb_cosine" else 1 - np.abs(a - b).mean() / 255)
    np.testing.assert_allclose(got.numpy().ravel(), slow, atol=1e-5)


def test_pixels_beyond_the_last_whole_patch_belong_to_none():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 31, 44, 3), dtype=np.uint8))
    whole = images[:, :28, :42]
    assert torch.equal(patches(images, 14), patches(whole, 14)) and patches(images, 14).shape == (2, 6, 588)
    first = images[0, :14, 14:28].flatten()
    assert torch.equal(patches(images, 14)[0, 1], first)


def test_cosine_is_blind_to_brightness_and_absolute_is_not():
    bright = torch.full((1, 14, 14, 3), 200, dtype=torch.uint8)
    dark = torch.full((1, 14, 14, 3), 100, dtype=torch.uint8)
    assert float(patch_similarity(bright, dark, 14, "rgb_cosine")) == pytest.approx(1.0, abs=1e-5)
    assert float(patch_similarity(bright, dark, 14, "absolute")) == pytest.approx(1 - 100 / 255, abs=1e-5)


def test_layout_of_openvla_oft():
    layout = Layout(views=2, patches=256, proprio=1, prompt=29, task=(11, 20), placeholders=56)
    names = ["bos"] + ["v"] * 512 + ["proprio"] + [f"p{i}" for i in range(29)] + [f"a{i}" for i in range(56)] + ["stop"]
    assert layout.length == len(names)
    rows = layout.task_rows(layout.length)
    assert names[rows] == [f"p{i}" for i in range(11, 20)]
    read = layout.readout_rows(layout.length)
    assert names[read] == ["p28"] + [f"a{i}" for i in range(55)]
    assert (read.start, read.stop) == (layout.length - 58, layout.length - 2), "[-58:-2] of the full sequence"
    fewer = layout.length - 300
    assert layout.visual_present(fewer) == 212
    assert names[: 1 + 212] + names[513:] and layout.task_rows(fewer).start == rows.start - 300
