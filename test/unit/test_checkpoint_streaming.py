"""Loading streams: one tensor at a time, nothing that is not needed, no second copy in host memory."""

import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import upstream_config, write_upstream_checkpoint

from specprune_ros.model.checkpoint import load_checkpoint
from specprune_ros.model.stored import Stored

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny_towers")]

WIDE = {
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "vocab_size": 32064,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_towers):
    return write_upstream_checkpoint(tmp_path_factory.mktemp("upstream"))


def test_one_tensor_is_alive_at_a_time_and_unused_ones_are_never_read(folder, monkeypatch):
    alive, read, whole = weakref.WeakSet(), [], Stored.tensors

    class Counted:
        """Stands for a stored tensor for as long as the loader holds it."""

        def __init__(self, tensor):
            self.tensor = tensor

        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            return function(*(a.tensor if isinstance(a, cls) else a for a in args), **(kwargs or {}))

    def watched(self, names):
        for name, tensor in whole(self, names):
            assert len(alive) == 0, f"{name} is read while an earlier tensor is still held"
            counted = Counted(tensor)
            alive.add(counted)
            read.append(name)
            yield name, counted
            del counted

    monkeypatch.setattr(Stored, "tensors", watched)
    load_checkpoint(folder)
    assert len(read) == len(set(read)) > 100
    assert not [
        n for n in read if "lm_head" in n or "attn_pool" in n or n.startswith("vision_backbone.featurizer.blocks.2.")
    ]


def test_progress_counts_the_bytes_that_are_read_to_the_end(folder):
    calls = []
    load_checkpoint(folder, progress=lambda *call: calls.append(call))
    done, totals, names = zip(*calls, strict=True)
    assert list(done) == sorted(done) and done[-1] == totals[0] and set(totals) == {totals[0]}
    on_disk = sum(path.stat().st_size for pattern in ("*.safetensors", "*.pt") for path in folder.glob(pattern))
    assert totals[0] < on_disk - 32064 * 64 * 2  # lm_head at the least is not among them
    assert "language_model.model.embed_tokens.weight" in names


MEASURE = """
import sys, torch
from specprune_ros.model import towers
from specprune_ros.model.checkpoint import load_checkpoint
from tiny_checkpoints import TINY_TOWERS
towers.KNOWN_TOWERS.update(TINY_TOWERS)

def private_bytes():
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("RssAnon"))

torch.set_num_threads(1)
load_checkpoint(sys.argv[2])  # libraries, allocators: a small one first
start, seen = private_bytes(), []
model = load_checkpoint(sys.argv[1], dtype=torch.float32, progress=lambda *call: seen.append(private_bytes())).model
weights = sum(p.numel() * p.element_size() for p in model.parameters())
print(weights, max(seen) - start)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads RssAnon of /proc/self/status")
def test_private_memory_grows_by_the_weights_and_no_more(folder, tmp_path):
    """200 MB of fp32 weights from bf16 files, measured in a process of its own after every tensor. The files' pages are
    mapped and can be dropped by the kernel at any time; private memory cannot."""
    big = write_upstream_checkpoint(tmp_path, upstream_config(**WIDE))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "helpers")}
    done = subprocess.run([sys.executable, "-c", MEASURE, big, folder], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    weights, grown = map(int, done.stdout.split())
    assert weights > 190e6
    assert grown < 1.2 * weights, f"{grown / 1e6:.0f} MB of private memory for {weights / 1e6:.0f} MB of weights"
    assert grown > 0.8 * weights, "the measurement sees the weights"


def test_values_arrive_where_they_belong_in_both_precisions(folder):
    exact, rounded = load_checkpoint(folder).model, load_checkpoint(folder, dtype=torch.bfloat16).model
    for (name, a), b in zip(exact.named_parameters(), rounded.parameters(), strict=True):
        assert torch.equal(a.bfloat16(), b), name
