"""Frames to model input: Lanczos-3 and crop against slow versions and TensorFlow's output, views, errors, no look at
the host."""

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from pictures import noise, picture
from properties import given
from tiny_checkpoints import tiny_config
from torch.utils._python_dispatch import TorchDispatchMode

from specprune_ros.infer.jpeg import jpeg_round_trip
from specprune_ros.infer.preprocess import to_compare, to_model, upload
from specprune_ros.infer.resize import centre_crop, lanczos3, lanczos_bags
from specprune_ros.model.config import model_config
from specprune_ros.types import BadInput

PLAIN = replace(model_config(tiny_config()), center_crop=False, jpeg_round_trip=False)
UPSTREAM = replace(PLAIN, center_crop=True, jpeg_round_trip=True)


def uploaded(*images):
    return upload(images, len(images), "cpu")


def sinc(x):
    return 1.0 if abs(x) < 1e-9 else math.sin(math.pi * x) / (math.pi * x)


def resampled(row, length):
    """(n, ...) float64 -> (length, ...): the definition, one sample after the other."""
    ratio, out = len(row) / length, []
    for i in range(length):
        centre, wide = (i + 0.5) * ratio, max(ratio, 1.0)
        offsets = [(j + 0.5 - centre) / wide for j in range(len(row))]
        weights = np.array([sinc(x) * sinc(x / 3) if abs(x) < 3 else 0.0 for x in offsets])
        out.append(np.tensordot(weights / weights.sum(), row, 1))
    return np.array(out)


def slow_lanczos(image, height, width):
    tall = resampled(image.astype(float), height)
    return resampled(tall.swapaxes(0, 1), width).swapaxes(0, 1)


def slow_crop(image):
    """The definition in float64, before floor(255.5 x)."""
    height, width, _ = image.shape
    side = math.sqrt(0.9)
    out = np.empty(image.shape)
    for y in range(height):
        for x in range(width):
            at_y, at_x = ((1 - side) / 2 * (n - 1) + i * side for i, n in ((y, height), (x, width)))
            top, left = int(at_y), int(at_x)
            down, right = at_y - top, at_x - left
            corners = image[top : top + 2, left : left + 2].astype(float) / 255
            corners = np.pad(corners, ((0, 2 - len(corners)), (0, 2 - corners.shape[1]), (0, 0)), mode="edge")
            out[y, x] = np.tensordot(np.outer([1 - down, down], [1 - right, right]), corners, 2)
    return 255.5 * out


@given(st.tuples(*[st.integers(1, 40)] * 4), st.sampled_from([picture, noise]))
def test_lanczos_equals_its_definition(sizes, image):
    height, width, rows, columns = sizes
    frame = image(rows, columns)
    got = lanczos3(torch.from_numpy(frame)[None], height, width)
    assert got.shape == (1, height, width, 3) and got.dtype == torch.uint8
    # Half a level is the rounding; float32 against float64 decides ties.
    assert np.abs(got[0].numpy() - np.clip(slow_lanczos(frame, height, width), 0, 255)).max() <= 0.5 + 1e-3


@given(st.integers(1, 700), st.integers(1, 300))
def test_lanczos_weights_are_a_partition_of_samples_that_exist(source, target):
    indices, weights = lanczos_bags(source, target, torch.device("cpu"))
    assert int(indices.min()) >= 0 and int(indices.max()) < source
    np.testing.assert_allclose(weights.sum(1).numpy(), 1.0, atol=1e-5)


def test_lanczos_of_the_same_size_changes_nothing():
    images = torch.from_numpy(noise(20, 30))[None]
    assert lanczos3(images, 20, 30) is images


@given(st.integers(1, 24), st.integers(1, 24), st.sampled_from([picture, noise]))
def test_crop_equals_its_definition(height, width, image):
    got = centre_crop(torch.from_numpy(image(height, width))[None])[0].numpy()
    above = slow_crop(image(height, width)) - got  # in [0, 1): the floor
    assert above.min() >= -1e-3 and above.max() < 1 + 1e-3


def crc(tensor):
    return zlib.crc32(tensor.numpy().tobytes())


def test_equals_tensorflow():
    """CRC-32 of what TensorFlow 2.21.0 and upstream's functions on it give; no resized value lies near a tie."""
    resized = {
        ((30, 40), (16, 16)): 4117115863,
        ((60, 80), (12, 12)): 2522946817,
        ((9, 7), (16, 20)): 3143949058,
        ((10, 10), (14, 14)): 2120500350,
        ((1, 9), (3, 4)): 2672220962,
    }
    assert {sizes: crc(lanczos3(torch.from_numpy(picture(*sizes[0]))[None], *sizes[1])) for sizes in resized} == resized
    assert crc(centre_crop(torch.from_numpy(picture(224, 224))[None])) == 3994266516
    pixels = to_model(uploaded(picture(224, 224)), UPSTREAM)
    assert crc(pixels) == 272342170


def test_to_model_is_jpeg_then_resize_then_crop():
    images = picture(48, 64), noise(48, 64)
    frames = torch.from_numpy(np.stack(images))
    pixels = to_model(uploaded(*images), UPSTREAM)
    assert pixels.shape == (2, 224, 224, 3) and pixels.dtype == torch.uint8
    expected = centre_crop(lanczos3(jpeg_round_trip(frames), 224, 224))
    torch.testing.assert_close(pixels, expected, rtol=0, atol=0)


def test_plain_frames_of_the_model_size_stay_as_they_are():
    images = picture(224, 224), noise(224, 224)
    pixels = to_model(uploaded(*images), PLAIN)
    np.testing.assert_array_equal(pixels.numpy(), np.stack(images))
    np.testing.assert_array_equal(to_compare(uploaded(*images), PLAIN).numpy(), np.stack(images))


def test_frames_are_compared_where_the_tokens_are_and_without_the_losses_of_jpeg():
    images = noise(48, 64), picture(224, 224)
    sized = torch.cat([lanczos3(torch.from_numpy(image)[None], 224, 224) for image in images])
    torch.testing.assert_close(to_compare(uploaded(*images), UPSTREAM), centre_crop(sized), rtol=0, atol=0)


@pytest.mark.parametrize("config", [PLAIN, UPSTREAM])
@pytest.mark.parametrize("sizes", [((48, 64), (48, 64)), ((48, 64), (30, 31)), ((1, 1), (224, 224))])
def test_every_view_is_treated_alone(config, sizes):
    images = [noise(*size, seed) for seed, size in enumerate(sizes)]
    together = to_model(uploaded(*images), config)
    alone = torch.cat([to_model(uploaded(image), config) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)


def test_uploaded_frames_are_copies():
    image = noise(8, 9)
    (frame,) = uploaded(image[::-1])
    before = frame.clone()
    image[:] = 0
    assert torch.equal(frame, before) and frame.shape == (8, 9, 3) and frame.dtype == torch.uint8


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ((picture(4, 4),), r"takes 2 views, got 1; set topics.images to 2 topics"),
        (
            (picture(4, 4), picture(4, 4).astype(np.float32)),
            r"view 2: shape \(4, 4, 3\), float32; give \(H, W, 3\) uint8 RGB",
        ),
        ((picture(4, 4)[..., 0], picture(4, 4)), r"view 1: shape \(4, 4\), uint8"),
        ((picture(4, 4), picture(4, 4)[:0]), r"view 2: shape \(0, 4, 3\)"),
        ((np.zeros((4, 4, 4), np.uint8), picture(4, 4)), r"view 1: shape \(4, 4, 4\)"),
    ],
)
def test_bad_images_are_named(images, text):
    with pytest.raises(BadInput, match=text):
        upload(images, 2, "cpu")


class Recorder(TorchDispatchMode):
    """Names of all operations that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_the_second_call_neither_reads_values_nor_brings_constants():
    """What a CUDA graph cannot capture: values on the host, shapes that depend on data, new tensors from host
    memory."""
    frames = uploaded(noise(48, 64), noise(48, 64))
    to_model(frames, UPSTREAM)
    with Recorder() as recorder:
        to_model(frames, UPSTREAM)
    assert {"mm", "index_select"} <= recorder.names
    assert not recorder.names & {"_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_graph_of_it_equals_the_cpu():
    images, others = (picture(480, 640), noise(480, 640)), (noise(480, 640, 1), picture(480, 640))
    frames = upload(images, 2, "cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        to_model(frames, UPSTREAM)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pixels = to_model(frames, UPSTREAM)
    for buffer, new in zip(frames, upload(others, 2, "cuda"), strict=True):
        buffer.copy_(new)
    graph.replay()
    difference = (pixels.cpu().int() - to_model(uploaded(*others), UPSTREAM).int()).abs()
    assert int(difference.max()) <= 1 and float((difference > 0).float().mean()) < 1e-4
