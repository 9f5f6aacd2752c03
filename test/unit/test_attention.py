"""Both forms of attention give the same result, and the machine, not the code, says which one runs."""

import pytest
import torch

from specprune_ros.model import attention
from specprune_ros.model.attention import attend, choose_attention, plain_attention
from specprune_ros.prune.scores import task_attention

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch):
    monkeypatch.setattr(attention, "_plain_is_faster", {})


def operands(dtype=torch.float32, queries=5, keys=9, width=16):
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 3, queries, width), (1, 3, keys, width), (1, 3, keys, width))
    return tuple(torch.randn(shape, generator=generator).to(dtype) for shape in shapes)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_both_forms_agree(dtype, tolerance):
    q, k, v = operands(dtype)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(plain_attention(q, k, v), fused, atol=tolerance, rtol=tolerance)


def with_times(monkeypatch, fused_s, plain_s):
    times = iter((fused_s, plain_s))
    monkeypatch.setattr(attention, "_fastest_s", lambda work: work() is not None and next(times))


@pytest.mark.parametrize(
    ("fused_s", "plain_s", "plain"), [(2.0, 1.0, True), (1.0, 2.0, False), (1.0, 0.95, False)],
    ids=["plain is faster", "fused is faster", "a difference within the noise"],
)  # fmt: skip
def test_the_faster_form_runs_in_every_pass(monkeypatch, fused_s, plain_s, plain):
    with_times(monkeypatch, fused_s, plain_s)
    assert choose_attention(CPU, torch.float32, [16, 16]) == f"{'plain products' if plain else 'sdpa'} for heads of 16"
    ran = []
    monkeypatch.setattr(attention, "plain_attention", lambda *qkv: ran.append("plain") or plain_attention(*qkv))
    for keys in (4, 600):
        attend(*operands(keys=keys))
    assert ran == (["plain"] * 2 if plain else []), "the same kernel whatever is pruned"


def test_a_machine_is_measured_once(monkeypatch):
    with_times(monkeypatch, 2.0, 1.0)
    first = choose_attention(CPU, torch.float32, [16])
    assert choose_attention(CPU, torch.float32, [16]) == first


def test_the_measurement_itself_runs():
    assert choose_attention(CPU, torch.float32, [8]).endswith("for heads of 8")
    assert list(attention._plain_is_faster) == [(torch.float32, 8)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scores_are_float32_on_a_gpu_too():
    """Logits that bf16 cannot tell apart: 256 and 257 before the scale."""
    q = torch.tensor([[[[16.0, 1.0]]]], dtype=torch.bfloat16)
    k = torch.tensor([[[[16.0, 0.0], [16.0, 1.0]]]], dtype=torch.bfloat16)
    expected = task_attention(q, k)
    torch.testing.assert_close(task_attention(q.cuda(), k.cuda()).cpu(), expected, atol=1e-6, rtol=1e-5)
    assert float(expected[..., 1] - expected[..., 0]) > 0.2
