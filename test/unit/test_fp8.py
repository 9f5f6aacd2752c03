"""FP8 products: rounding, the layer, the swap, the copy, the settings, and how far actions move."""

import copy
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_checkpoints import write_tiny_checkpoint

from specprune_ros.bench import model_rows
from specprune_ros.bench.agreement import action_error
from specprune_ros.bench.model_rows import FP8, Mode, fp8_rows, frames
from specprune_ros.bench.roofline import Fp8Rates, Rates, measure_fp8_rates
from specprune_ros.config import Config, ConfigError
from specprune_ros.infer import load
from specprune_ros.infer.load import BUNDLED, load_policy, placement
from specprune_ros.infer.policy import Policy
from specprune_ros.model import fp8
from specprune_ros.model.checkpoint import load_checkpoint
from specprune_ros.model.config import model_config
from specprune_ros.model.flops import Product, inference_products
from specprune_ros.model.fp8 import PRODUCTS, Fp8Linear, fp8_copy, quantise, to_fp8
from specprune_ros.model.synthetic import OPENVLA_7B, OPENVLA_TINY, random_checkpoint

CPU, GPU = torch.device("cpu"), torch.device("cuda")
HALF_STEP, HALF_FIRST_STEP = 2.0**-4, 2.0**-10
"""Half the distance of two e4m3 numbers: relative to a normal one, and absolute below the smallest normal one."""
SLACK = 1 + 2.0**-20
"""For the few roundings in float32 on the way."""


def e4m3_numbers():
    """All finite numbers >= 0 of the format, by its definition: 4 bits of exponent (bias 7), 3 of mantissa; the last
    code is NaN."""
    codes = np.arange(0x7F)
    exponent, mantissa = codes >> 3, codes & 7
    return np.where(exponent > 0, (8 + mantissa) * 2.0 ** (exponent - 10.0), mantissa * 2.0**-9)


def rounded(quotients):
    """To the nearest e4m3 number, ties to an even mantissa: a slow version."""
    numbers = e4m3_numbers()
    distance = np.abs(np.abs(quotients)[..., None] - numbers)
    nearest = distance == distance.min(-1, keepdims=True)
    even = nearest & (np.arange(len(numbers)) % 2 == 0)
    chosen = np.where(nearest.sum(-1) > 1, even.argmax(-1), nearest.argmax(-1))
    return np.copysign(numbers[chosen], quotients)


def restored(rows):
    """Rows after rounding by the slow version, float64. The scale is float32, as declared."""
    rows = rows.astype(np.float64)
    largest = np.abs(rows).max(-1, keepdims=True).astype(np.float32)
    scale = np.maximum(largest * np.float32(1 / 448), np.finfo(np.float32).tiny)
    quotients = (rows.astype(np.float32) / scale).astype(np.float64)
    return rounded(quotients) * scale.astype(np.float64)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


# Rounding.


@given(st.integers(0, 10**6), st.floats(-30, 30), st.floats(0, 12), st.sampled_from([torch.float32, torch.bfloat16]))
def test_every_number_is_off_by_at_most_half_a_step(seed, magnitude, spread, dtype):
    """|x - q s| <= max(2^-4 |x|, 2^-10 s): for numbers of any magnitude, and of many magnitudes in one row."""
    generator = torch.Generator().manual_seed(seed)
    exponents = magnitude + spread * torch.rand(4, 48, generator=generator)
    x = (torch.randn(4, 48, generator=generator) * 2.0**exponents).to(dtype)
    q, scale = quantise(x)
    assert q.dtype is torch.float8_e4m3fn and q.shape == x.shape
    assert scale.dtype is torch.float32 and scale.shape == (4, 1)
    error = (x.double() - q.double() * scale.double()).abs()
    bound = torch.maximum(HALF_STEP * x.double().abs(), HALF_FIRST_STEP * scale.double())
    assert (error <= SLACK * bound).all()
    assert (q.float().abs().amax(-1) == 448).all(), "the largest number of a row takes the largest of the format"


def test_rounding_is_that_of_the_format():
    x = random(7, 64) * 2.0 ** random(7, 64, seed=1).mul(4)
    q, scale = quantise(x)
    np.testing.assert_array_equal((q.double() * scale.double()).numpy(), restored(x.numpy()))


def test_zeros_stay_zeros_and_extremes_stay_finite():
    x = torch.zeros(4, 32)
    x[1], x[2], x[3] = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny, 1e-44
    q, scale = quantise(x)
    assert torch.isfinite(q.float()).all() and torch.isfinite(scale).all() and (scale > 0).all()
    assert (q[0].float() == 0).all() and (q[1].float() == 448).all()
    np.testing.assert_allclose((q.double() * scale.double())[1], x[1].double(), rtol=1e-6)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_spoils_its_row_and_no_other(bad):
    """A fault must reach the checks of the actions and not be rounded away."""
    layer, x = Fp8Linear(random(16, 32)), random(1, 3, 32)
    clean = layer(x)
    x[0, 1, 5] = bad
    y = layer(x)
    assert y[0, 1].isnan().all() and torch.equal(y[0, [0, 2]], clean[0, [0, 2]])


# The layer.


@pytest.mark.parametrize("rows", [1, 3, 16, 35])
def test_the_layer_multiplies_what_was_rounded(rows):
    """Against float64 with the slow rounding: nothing but float32 sums is between them."""
    weight, x = random(48, 64), random(1, rows, 64, seed=1)
    x[0, 0] = 0
    weight[5] = 0
    exact = restored(x[0].numpy()) @ restored(weight.numpy()).T
    y = Fp8Linear(weight)(x)
    assert y.shape == (1, rows, 48) and y.dtype is torch.float32
    np.testing.assert_allclose(y[0].double(), exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    assert (y[0, 0] == 0).all() and (y[0, :, 5] == 0).all()


def test_results_have_the_models_arithmetic_and_any_strides():
    weight, x = random(32, 64, dtype=torch.bfloat16), random(64, 6, dtype=torch.bfloat16).t()[None]
    layer = Fp8Linear(weight)
    assert not x.is_contiguous() and layer(x).dtype is torch.bfloat16
    assert torch.equal(layer(x), layer(x.contiguous()))
    exact = x.double() @ weight.double().t()
    assert (layer(x).double() - exact).norm() < 0.05 * exact.norm()


def test_large_values_are_scaled_and_not_cut():
    weight, x = 1e6 * random(32, 64), 1e12 * random(1, 4, 64, seed=1)
    exact = x.double() @ weight.double().t()
    assert (Fp8Linear(weight)(x).double() - exact).norm() < 0.05 * exact.norm()


# The swap and the copy.


def test_the_swap_frees_the_weights_and_touches_nothing_else():
    model = random_checkpoint(OPENVLA_TINY, CPU, torch.bfloat16).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    elsewhere = [name for name in before if not any(f".{product}.weight" in name for product in PRODUCTS)]
    elsewhere += [name for name in before if name.startswith("vision_backbone.")]
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    replaced = sum(before[f"decoder.layers.{i}.{p}.weight"].numel() for i in range(8) for p in PRODUCTS)
    expected = fp8.saved_bytes(model.decoder, 2)
    to_fp8(model.decoder)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in elsewhere)
    assert size - sum(p.numel() * p.element_size() for p in model.parameters()) == 2 * replaced
    kept = sum(buffer.nbytes for layer in model.decoder.layers for buffer in layer.buffers())
    assert 2 * replaced - kept == expected and kept < 1.1 * replaced
    assert all(isinstance(getattr(layer, name), Fp8Linear) for layer in model.decoder.layers for name in PRODUCTS)


def test_a_copy_shares_all_but_the_products_and_leaves_the_original():
    checkpoint = random_checkpoint(OPENVLA_TINY, CPU, torch.float32)
    for layer in checkpoint.model.decoder.layers:
        layer.forward = layer.forward  # as Policy.compile leaves it: bound to this very layer
    before, copied = copy.deepcopy(checkpoint.model.state_dict()), fp8_copy(checkpoint)
    ours = dict(checkpoint.model.named_parameters())
    assert all(p is ours[name] for name, p in copied.model.named_parameters())
    assert not any("forward" in layer.__dict__ for layer in copied.model.decoder.layers)
    assert len(ours) - len(list(copied.model.parameters())) == 8 * len(PRODUCTS)
    assert all(torch.equal(value, before[name]) for name, value in checkpoint.model.state_dict().items())


def test_a_model_that_has_run_on_a_gpu_can_be_copied():
    """Its towers hold a stream by then, which nothing can copy."""
    checkpoint = random_checkpoint(OPENVLA_TINY, CPU, torch.float32)
    towers = checkpoint.model.vision_backbone
    towers._beside = stream = threading.Lock()
    assert fp8_copy(checkpoint).model.vision_backbone._beside is None and towers._beside is stream


def test_sizes_that_fp8_cannot_multiply_are_named_before_anything_is_done():
    odd = copy.deepcopy(OPENVLA_TINY)
    odd["text_config"]["intermediate_size"] = 100
    decoder = random_checkpoint(odd, CPU, torch.float32).model.decoder
    message = "gate_up of decoder layer 0 has 64 inputs and 200 outputs; use 'bf16'"
    with pytest.raises(ConfigError, match=message):
        to_fp8(decoder)
    assert isinstance(decoder.layers[0].qkv, torch.nn.Linear)


# Settings.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def settings(**changes):
    return Config().updated({"policy.dtype": "fp8", **{f"policy.{name}": value for name, value in changes.items()}})


def pretend_gpu(monkeypatch, capability, free=80 << 30):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 << 30))


def test_a_gpu_without_fp8_is_named(monkeypatch):
    pretend_gpu(monkeypatch, (8, 0))
    message = r"policy.dtype: 'fp8' needs a GPU of compute capability 8\.9 or higher, and NVIDIA A100 has 8\.0; use"
    with pytest.raises(ConfigError, match=message):
        placement(BUNDLED, settings().policy)
    assert placement(BUNDLED, settings(device="cpu").policy).device.type == "cpu"


@pytest.mark.parametrize("capability", [(8, 9), (9, 0), (10, 0)])
def test_a_gpu_with_fp8_runs_the_rest_in_bf16_on_its_usual_engine(monkeypatch, capability):
    pretend_gpu(monkeypatch, capability)
    place = placement(BUNDLED, settings().policy)
    assert (place.device.type, place.dtype, place.engine) == ("cuda", torch.bfloat16, "auto")
    assert place.fp8 and not place.warning


def test_a_gpu_that_is_too_small_leaves_the_emulation(monkeypatch):
    pretend_gpu(monkeypatch, (9, 0), free=1 << 20)
    place = placement(BUNDLED, settings().policy)
    assert (place.device.type, place.engine) == ("cpu", "eager")
    assert "running on the CPU" in place.warning and "is emulated" in place.warning


def test_memory_is_that_of_loading_or_of_running(monkeypatch):
    """Small models need most while they run, large ones while their bf16 weights are rounded."""
    bundled = {name: load.needed_bytes(BUNDLED, settings(dtype=name).policy, GPU) for name in ("bf16", "fp8")}
    products = 12 * (192 * (3 * 192 + 192 + 2 * 512) + 512 * 192)
    scales = 4 * 12 * (3 * 192 + 192 + 2 * 512 + 192)
    assert bundled["bf16"] - bundled["fp8"] == products - scales
    monkeypatch.setattr(load, "WORKSPACE_BYTES", 0)
    small = load.needed_bytes(BUNDLED, settings(dtype="bf16").policy, GPU)
    assert load.needed_bytes(BUNDLED, settings().policy, GPU) == small + 5 * 192 * 2 * 512


def test_a_cpu_emulates_op_by_op_and_says_so(folder, caplog):
    policy = load_policy(settings(checkpoint=str(folder), device="cpu"))
    assert policy.engine.name == "eager" and "only good to measure its error" in caplog.text
    assert isinstance(policy.model.decoder.layers[0].qkv, Fp8Linear)
    with pytest.raises(ConfigError, match="cannot run on OpenVINO; use policy.engine: eager"):
        load_policy(settings(checkpoint=str(folder), device="cpu", engine="openvino"))


# Actions.


@pytest.fixture(scope="module")
def bundled():
    return load_checkpoint(BUNDLED)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_actions_of_the_bundled_policy_move_little(bundled, level):
    """On random frames, which the policy never saw. The same policy twice is exactly the same."""
    policy, config = Policy(bundled, "eager"), Config().updated({"pruning.aggressiveness": level})
    seen = frames(bundled)[:4]
    same = action_error(policy, Policy(bundled, "eager"), seen, config, Mode.FINE)
    assert (same.largest, same.mean, same.tokens, same.inferences) == (0.0, 0.0, 1.0, 4)
    error = action_error(policy, Policy(fp8_copy(bundled), "eager"), seen, config, Mode.FINE)
    assert 0 < error.mean < 0.05 and error.mean < error.largest < 1.0
    assert error.tokens == 1.0 if level == 0.0 else error.tokens > 0.8


# The benchmark.


def test_rows_and_their_policy(monkeypatch):
    rows = fp8_rows(Config())
    found = {(row.name, row.mode, row.config.pruning.aggressiveness) for row in rows}
    pruned = {("pruned", mode, level) for mode in (Mode.COARSE, Mode.FINE) for level in (0.5, 1.0)}
    assert found == pruned | {("dense", Mode.DENSE, 0.0)} and {row.engine for row in rows} == {FP8}
    checkpoint = random_checkpoint(OPENVLA_TINY, CPU, torch.float32)
    assert isinstance(model_rows.fp8_policy(checkpoint).model.decoder.layers[0].qkv, Fp8Linear)


def test_the_floor_has_one_byte_a_weight_and_its_own_rate():
    plain = Rates(flops=1e12, bandwidth=1e9, itemsize=2)
    rates = Fp8Rates(2e12, 1e9, 2, {(10, 32, 16): 1e6}, plain=plain)
    product, other = Product("decoder", 10, 32, 16), Product("vision", 10, 32, 16)
    assert rates.floor_s([product]) == pytest.approx((160 + 512 + 2 * 320) / 1e9)
    assert rates.floor_s([product], by_shape=True) == pytest.approx(2 * 5120 / 1e6)
    assert rates.floor_s([other]) == plain.floor_s([other])
    one_token, attention = Product("decoder", 1, 32, 16), Product("decoder", 10, 10, 16, kind="attention")
    assert rates.floor_s([one_token, attention]) == plain.floor_s([one_token, attention])


def test_the_7b_floors_are_the_expected_ones():
    """An H200: 790 TFLOP/s in bf16, 1450 in FP8, 4.3 TB/s."""
    plain = Rates(790e12, 4.3e12, 2)
    rates, products = (
        Fp8Rates(1450e12, 4.3e12, 2, plain=plain),
        inference_products(model_config(OPENVLA_7B), [605] * 32),
    )
    assert 0.5 < rates.floor_s(products) / plain.floor_s(products) < 0.7


def test_rates_are_measured_in_the_emulation_too():
    plain = Rates(1e12, 1e9, 4)
    rates = measure_fp8_rates(CPU, plain, [Product("decoder", 7, 16, 32), Product("head", 7, 16, 16)])
    assert list(rates.shapes) == [(7, 16, 32)] and rates.flops >= max(rates.shapes.values()) > 0


# On a GPU that multiplies FP8.


def has_fp8():
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= fp8.FIRST_CAPABILITY


@pytest.mark.gpu
@pytest.mark.skipif(not has_fp8(), reason="needs a CUDA device of compute capability 8.9 or higher")
@pytest.mark.parametrize("rows", [1, 17, 64, 605])
def test_the_product_on_a_gpu_equals_the_emulation(rows):
    """Same rounding, so only the sums differ, and the one rounding to bf16."""
    weight, x = random(256, 512, dtype=torch.bfloat16), random(1, rows, 512, seed=1, dtype=torch.bfloat16)
    x[0, 0] = 0
    emulated = Fp8Linear(weight)(x.float())
    layer, given = Fp8Linear(weight.cuda()), x.cuda()
    with torch.inference_mode():
        torch.cuda.set_sync_debug_mode("error")
        try:
            y = layer(given)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(quantise(given[0])[0].float().cpu(), quantise(x[0])[0].float()), "the same rounding"
    assert y.dtype is torch.bfloat16 and (y[0, 0] == 0).all()
    assert (y.float().cpu() - emulated).abs().max() <= 0.01 * emulated.abs().max()


@pytest.mark.gpu
@pytest.mark.skipif(not has_fp8(), reason="needs a CUDA device of compute capability 8.9 or higher")
def test_captured_fp8_equals_fp8_op_by_op():
    checkpoint = fp8_copy(random_checkpoint(OPENVLA_TINY, GPU, torch.bfloat16))
    eager, graph = Policy(checkpoint, "eager"), Policy(checkpoint, "graph")
    graph.warm_up(Config(), image_size=(model_rows.CAMERA_PIXELS,) * 2)
    graph.settle()
    error = action_error(eager, graph, frames(checkpoint), Config(), Mode.FINE)
    assert graph.ran == "graph" and error.largest < 0.02
