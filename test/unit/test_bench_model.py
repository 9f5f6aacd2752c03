"""`specprune bench --model openvla-7b`: the cost model, the roofline, the stock baseline and the report, on a CPU at
a tiny size."""

import copy
import json

import numpy as np
import pytest
import tables
import torch
from asking import under
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from specprune_ros.bench import model_report as report
from specprune_ros.bench.gpu import Marks, gpu_state, seconds_of
from specprune_ros.bench.model_rows import frames
from specprune_ros.bench.roofline import Rates, measure_rates
from specprune_ros.bench.stock import Stock
from specprune_ros.config import Config, Pruning
from specprune_ros.infer.policy import Policy
from specprune_ros.model.config import model_config
from specprune_ros.model.flops import Product, inference_flop, inference_products, layer_products, stock_products
from specprune_ros.model.synthetic import OPENVLA_7B, OPENVLA_TINY, random_checkpoint
from specprune_ros.types import InferenceRequest, Mode

CPU = torch.device("cpu")
TINY, FULL = model_config(OPENVLA_TINY), model_config(OPENVLA_7B)
LENGTH = 605


def config_without_pixels(**text):
    """No JPEG and no crop, whose arithmetic is not the model's, and other text sizes."""
    config = copy.deepcopy(OPENVLA_TINY)
    config["specprune"] |= {"jpeg_round_trip": False, "center_crop": False}
    config["text_config"] |= text
    return config


def small_frames(checkpoint):
    """One observation at the model's own size: nothing to resize."""
    size = checkpoint.config.image_size
    seen = frames(checkpoint)[0]
    return type(seen)(**{**vars(seen), "images": tuple(image[:size, :size].copy() for image in seen.images)})


def dense(policy, observation):
    request = InferenceRequest(0, observation, None, 0, Mode.FINE, None, Pruning())
    return policy.infer(under(request, Config().updated({"pruning.aggressiveness": 0.0})))


# The cost model.


def test_the_7b_cost_is_the_published_one():
    decoder = sum(p.flop for _ in range(32) for p in layer_products(FULL.decoder, LENGTH))
    assert decoder == pytest.approx(32 * (2 * LENGTH * (4 * 4096**2 + 3 * 4096 * 11008) + 4 * LENGTH**2 * 4096))
    assert 7.7e12 < decoder < 8.3e12
    vision = sum(p.flop for p in inference_products(FULL, [LENGTH] * 32) if p.stage == "vision")
    assert 0.6e12 < vision < 0.85e12


def counted(work) -> int:
    """FLOP as PyTorch counts them while the operations run."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.fixture
def plain_attention(monkeypatch):
    """Attention as two matrix products, which the counter knows on every device."""

    def attention(q, k, v):
        return torch.matmul((torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1), v)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)


@pytest.mark.slow
@pytest.mark.parametrize("text", [{}, {"num_key_value_heads": 1, "num_hidden_layers": 5}])
def test_the_cost_is_what_pytorch_counts(plain_attention, text):
    checkpoint = random_checkpoint(config_without_pixels(**text), CPU, torch.float32)
    policy, observation = Policy(checkpoint, engine="eager"), small_frames(checkpoint)
    lengths = dense(policy, observation).report.layer_lengths
    c = checkpoint.config
    # Queries of the last layer that nobody reads, where one product makes q, k and v.
    unread = 2 * (LENGTH - c.placeholders) * c.decoder.width**2
    assert counted(lambda: dense(policy, observation)) - inference_flop(c, lengths) in (0, unread)
    stock = Stock(checkpoint, libraries=False)
    expected = sum(p.flop for p in stock_products(c, LENGTH))
    assert counted(lambda: stock.infer(observation)) == expected


# The roofline.


def slow_floor_s(config, length, flops, bandwidth, itemsize):
    """One dense decoder layer, operation by operation, straight from the shapes."""
    width, mlp, total = config.width, config.mlp, 0.0
    for m, n, k in (
        (length, 3 * width, width),
        (length, width, width),
        (length, 2 * mlp, width),
        (length, width, mlp),
    ):
        numbers = m * k + k * n + m * n
        total += max(2 * m * n * k / flops, numbers * itemsize / bandwidth)
    return total + max(4 * length * length * width / flops, 4 * length * width * itemsize / bandwidth)


@pytest.mark.parametrize("bandwidth", [1e9, 4e12, 1e20])
@pytest.mark.parametrize("length", [1, 190, LENGTH])
def test_the_floor_of_a_layer_is_the_sum_over_its_operations(length, bandwidth):
    rates = Rates(flops=8e14, bandwidth=bandwidth, itemsize=2)
    slow = slow_floor_s(FULL.decoder, length, 8e14, bandwidth, 2)
    assert rates.floor_s(layer_products(FULL.decoder, length)) == pytest.approx(slow)


def test_the_dense_floor_on_an_h200_is_the_expected_one():
    rates = Rates(flops=790e12, bandwidth=4.3e12, itemsize=2)
    assert 10.0 < 1e3 * rates.floor_s(inference_products(FULL, [LENGTH] * 32)) < 12.5
    few = inference_products(FULL, [60] * 32)
    assert 1e3 * rates.floor_s(p for p in few if p.stage == "decoder") > 2.9, (
        "the weights must stream whatever is pruned"
    )


@given(st.lists(st.integers(60, 605), min_size=8, max_size=8), st.integers(0, 7), st.integers(1, 50))
def test_the_floor_grows_with_every_token(lengths, layer, more):
    rates = Rates(flops=1e12, bandwidth=1e11, itemsize=2)
    longer = [length + more * (index == layer) for index, length in enumerate(lengths)]
    assert rates.floor_s(inference_products(TINY, longer)) > rates.floor_s(inference_products(TINY, lengths))


def test_a_shape_is_held_against_its_own_rate_where_it_was_measured():
    slow, other = Product("decoder", 10, 20, 30), Product("decoder", 11, 20, 30)
    rates = Rates(flops=1e6, bandwidth=1e20, itemsize=2, shapes={(10, 20, 30): 1e3})
    assert rates.floor_s([slow, other], by_shape=True) == pytest.approx(12000 / 1e3 + 13200 / 1e6)
    assert rates.floor_s([slow, other]) == pytest.approx((12000 + 13200) / 1e6)
    assert sum(rates.stages_ms([slow, other]).values()) == pytest.approx(25.2)


def test_rates_are_measured_at_every_shape():
    rates = measure_rates(
        CPU, torch.float32, [Product("decoder", 8, 16, 32), Product("decoder", 8, 8, 32, kind="attention")]
    )
    assert list(rates.shapes) == [(8, 16, 32)]
    assert rates.flops >= max(rates.shapes.values()) > 0 and rates.bandwidth > 0 and rates.itemsize == 4


def test_time_is_read_between_marks():
    marks = Marks(CPU)
    marks("vision")
    marks("decoder")
    assert list(marks.milliseconds()) == ["vision", "decoder"] and min(marks.milliseconds().values()) >= 0
    calls = []
    assert seconds_of(lambda: calls.append(1), CPU, 5) > 0 and len(calls) == 5
    assert gpu_state(CPU) == {}


# Random weights and the stock baseline.


def test_random_weights_are_reproducible_and_stay_finite_in_depth():
    deep = config_without_pixels(num_hidden_layers=32)
    checkpoint, again = (random_checkpoint(deep, CPU, torch.bfloat16, seed=3) for _ in range(2))
    pairs = zip(checkpoint.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    result = dense(Policy(checkpoint, engine="eager"), small_frames(checkpoint))
    assert result.report.layer_lengths == (LENGTH,) * 32
    assert np.isfinite(result.chunk.actions).all() and 0.005 < result.chunk.actions[:, :6].std() < 0.5


@pytest.mark.parametrize("libraries", [False, True], ids=["plain", "transformers"])
@pytest.mark.parametrize("text", [{"rope_theta": 5000.0}, {"num_key_value_heads": 1}])
def test_stock_equals_our_dense_forward(libraries, text):
    if libraries:
        pytest.importorskip(
            "transformers", reason="the stock baseline needs transformers; plain torch is tested instead"
        )
    checkpoint = random_checkpoint(
        {**OPENVLA_TINY, "text_config": OPENVLA_TINY["text_config"] | text}, CPU, torch.float32
    )
    stock, policy = Stock(checkpoint, libraries), Policy(checkpoint, engine="eager")
    assert stock.made_of["decoder"].startswith("transformers" if libraries else "plain torch")
    seen = frames(checkpoint)
    for observation in seen[:2]:
        actions, stages_ms = stock.infer(observation)
        ours = dense(policy, observation).chunk.actions
        np.testing.assert_allclose(np.clip(actions, [-1] * 6 + [0], 1), ours, atol=1e-3)
        assert set(stages_ms) == {"preprocess", "vision", "decoder", "head"}
    assert np.abs(stock.infer(seen[0])[0] - stock.infer(seen[1])[0]).max() > 1e-2, "other frames, other actions"


def test_stock_shares_the_weights():
    checkpoint = random_checkpoint(OPENVLA_TINY, CPU, torch.float32)
    layer = Stock(checkpoint, libraries=False).llama.layers[0]
    ours = checkpoint.model.decoder.layers[0]
    assert layer["self_attn.q_proj.weight"].data_ptr() == ours.qkv.weight.data_ptr()
    assert layer["mlp.up_proj.weight"].untyped_storage().data_ptr() == ours.gate_up.weight.untyped_storage().data_ptr()


# The report.


def measured(name, engine, p50, *, granularity="dense", level=0.0, floor=1.0, skipped="", ran=None):
    stages = [dict(preprocess=0.1, vision=0.2, selection=0.02 * p50, decoder=0.5 * p50, head=0.1)]
    return report.Measured(
        name, engine, granularity, level, skipped, [] if skipped else [p50] * 5, stages, (605,) * 8, 512, 1000.0, floor,
        2 * floor, {"decoder": floor}, 15.5, {ran or engine: 5},
    )  # fmt: skip


FACTS = {
    "model": "openvla-7b",
    "scale": "full",
    "gpu_measurement": True,
    "memory": {"policy_gib": 17.0},
    "after_change_ms": 40.0,
    "roofline": {"gemm_tflops": 790.0, "copy_gbps": 4300.0},
    "sequence": {"tokens": 605},
    "stock": {"decoder": "transformers 5.17.0", "towers": "timm 1.0.31"},
    "machine": {"gpu": "NVIDIA H200", "device": "cuda", "dtype": "bfloat16", "torch": "2.11", "cpu": "A", "cores": 2},
}


def full_result(**facts):
    rows = [
        measured("stock", "stock", 60.0),
        measured("dense", "eager", 40.0),
        measured("dense", "graph", 20.0, floor=11.0),
        measured("pruned", "graph", 9.0, granularity="coarse", level=0.5, floor=6.0),
        measured("pruned", "graph", 12.5, granularity="fine", level=0.5, floor=7.0),
        measured("pruned", "graph", 1.0, granularity="fine", level=1.0, floor=7.0),
        measured("pruned", "eager", 1.0, granularity="fine", level=0.5, skipped="no memory"),
    ]
    return report.result_of({**FACTS, **facts}, rows)


def test_headline_figures_take_the_worst_row():
    result = full_result()
    assert result["headline"] == {
        "dense_captured_vs_stock": 3.0,
        "dense_captured_vs_floor": pytest.approx(20 / 11, abs=1e-3),
        "pruned_vs_stock": 4.8,
        "pruned_fp8_vs_stock": None,
        "pruned_vs_dense_captured": 1.6,
        "pruned_vs_floor": pytest.approx(12.5 / 7, abs=1e-3),
        "selection_share": 0.02,
        "p99_over_p50": 1.0,
        "after_change_ms": 40.0,
        "policy_gib": 17.0,
    }
    verdicts = [target["verdict"] for target in result["targets"]]
    assert verdicts == ["missed", "missed", "met", report.NOT_MEASURED, "missed", "met", "met", "met", "met"]
    dense_row = result["rows"][2]
    assert (dense_row["tflops"], dense_row["over_floor"], dense_row["over_floor_shapes"]) == (50.0, 1.818, 0.909)
    assert result["rows"][-1] == {
        "name": "pruned",
        "engine": "eager",
        "granularity": "fine",
        "aggressiveness": 0.5,
        "skipped": "no memory",
    }
    json.dumps(result, allow_nan=False)


def test_targets_belong_to_a_card():
    def with_card(name):
        return full_result(machine=FACTS["machine"] | {"gpu": name})

    assert report.target_heading(with_card("NVIDIA H100 80GB HBM3")) == "target (H100)"
    assert report.target_heading(full_result()) == "target (H200)"
    other = with_card("NVIDIA GeForce RTX 4090")
    assert other["targets"] == []
    report.tables(other)


def test_a_row_that_fell_back_is_neither_called_captured_nor_judged():
    """Whatever was asked for: what ran op by op in between is said, and is in no headline figure."""
    rows = [measured("stock", "stock", 60.0), measured("dense", "graph", 20.0, ran="eager")]
    result = report.result_of(FACTS, rows)
    assert report.label(result["rows"][1]) == "dense, captured, but some of it ran eager"
    assert result["rows"][1]["ran"] == {"eager": 5} and result["headline"]["dense_captured_vs_stock"] is None


def test_nothing_is_judged_by_what_is_no_measurement():
    for facts in ({"gpu_measurement": False}, {"memory": {}, "gpu_measurement": False}):
        assert {target["verdict"] for target in full_result(**facts)["targets"]} == {"not measured"}
    only_stock = report.result_of({**FACTS, "memory": {}, "after_change_ms": None}, [measured("stock", "stock", 60.0)])
    assert {target["verdict"] for target in only_stock["targets"]} == {"not measured"}


def test_the_readme_block_says_so_while_nothing_is_measured(tmp_path):
    document = tmp_path / "README.md"
    document.write_text("<!-- begin: bench-openvla-7b -->\nold\n<!-- end: bench-openvla-7b -->\n")
    assert tables.main([str(document)]) == 0
    assert "are not measured" in document.read_text()
    path = tmp_path / "docs/results/bench-openvla-7b.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(full_result()))
    assert tables.main([str(document)]) == 0
    text = document.read_text()
    assert "| dense, captured | 20.00 | 20.00 | 20.00 | 1.000 | 3.00x | 1.00x | 512 |" in text
    assert "| pruned 0.5 coarse, captured | 1000 | 111.1 | 6.00 | 1.50 | 0.75 | 15.5 |" in text
    assert "| pruned at 0.5 against stock | >= 4 | 4.8 | met |" in text and "| target (H200) |" in text
    assert "not measured: pruned 0.5 fine, eager (no memory)" in text
    assert "NVIDIA H200" in text and "NOT a GPU" not in text
