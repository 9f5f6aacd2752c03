"""Checkpoints in upstream's layout: they come back as they went, and damage is named."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import tiny_config, write_tiny_checkpoint

from specprune_ros.model.checkpoint import CHECKSUMS, SHARD, CheckpointError, load_checkpoint, save_checkpoint
from specprune_ros.model.stored import INDEX


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(original, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    return copy


def without_sums(folder):
    (folder / CHECKSUMS).unlink()
    return folder


def change_shard(folder, change):
    tensors = load_file(folder / SHARD)
    change(tensors)
    save_file(tensors, folder / SHARD)
    return without_sums(folder)


def no_index(folder):
    (folder / INDEX).unlink()


def test_upstream_names_are_in_the_file(original):
    names = set(load_file(original / SHARD))
    assert "language_model.model.layers.0.self_attn.q_proj.weight" in names
    assert "vision_backbone.featurizer.blocks.0.ls1.scale_factor" in names
    assert "vision_backbone.fused_featurizer.patch_embed.proj.weight" in names
    assert not any("qkv.weight" in n and "language_model" in n for n in names)
    index = json.loads((original / INDEX).read_text())
    assert set(index["weight_map"]) == names


def test_saving_what_was_loaded_gives_the_same_tensors(original, tmp_path):
    loaded = load_checkpoint(original)
    table = json.loads((original / "dataset_statistics.json").read_text())
    tokenizer = (original / "tokenizer.json").read_text()
    save_checkpoint(loaded.model, tmp_path, 0, config=tiny_config(), statistics=table, tokenizer=tokenizer)
    first, second = load_file(original / SHARD), load_file(tmp_path / SHARD)
    assert first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_unused_upstream_tensors_are_passed_over(folder):
    def add(tensors):
        tensors["language_model.lm_head.weight"] = torch.zeros(4, 4)
        tensors["vision_backbone.featurizer.norm.weight"] = torch.zeros(4)
        tensors["vision_backbone.featurizer.blocks.1.norm1.weight"] = torch.zeros(4)

    change_shard(folder, add)
    load_checkpoint(folder)


def test_module_prefix_of_parallel_training_is_dropped(folder):
    (path,) = without_sums(folder).glob("action_head*")
    torch.save({f"module.{k}": v for k, v in torch.load(path, weights_only=True).items()}, path)
    load_checkpoint(folder)


def damage(action):
    def apply(folder):
        action(folder)
        return folder

    return apply


def truncate(folder):
    data = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(data[: len(data) // 2])


def flip_a_byte(folder):
    data = bytearray((folder / SHARD).read_bytes())
    data[-100] ^= 0xFF
    (folder / SHARD).write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (flip_a_byte, "checksum differs"),
        (lambda f: truncate(without_sums(f)), "truncated or damaged"),
        (lambda f: (without_sums(f) / SHARD).unlink(), "no .*safetensors"),
        (lambda f: (f / SHARD).unlink(), "listed in SHA256SUMS but missing"),
        (lambda f: (without_sums(f) / "config.json").unlink(), "config.json: missing"),
        (lambda f: (without_sums(f) / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: (without_sums(f) / "config.json").write_text('{"model_type": "llama"}'), "model_type is 'llama'"),
        (lambda f: (without_sums(f) / "config.json").write_text("[]"), "holds a list, expected an object"),
        (lambda f: change_shard(f, lambda t: t.pop("projector.fc1.weight")), f"{SHARD}: has no projector.fc1.weight"),
        (
            lambda f: no_index(change_shard(f, lambda t: t.pop("projector.fc1.weight"))),
            "missing, first projector.fc1.weight",
        ),
        (
            lambda f: change_shard(f, lambda t: t.update({"projector.fc9.weight": torch.zeros(1)})),
            "fc9.weight has no place",
        ),
        (lambda f: change_shard(f, lambda t: t.update({"projector.fc1.bias": torch.zeros(3)})), r"shape \(3,\)"),
        (lambda f: [p.unlink() for p in without_sums(f).glob("action_head*")], "exactly one action_head"),
        (lambda f: (f / "action_head--7_checkpoint.pt").write_bytes(b""), "exactly one action_head"),
        (lambda f: next(without_sums(f).glob("action_head*")).write_bytes(b"junk"), "cannot be read as plain tensors"),
        (lambda f: (without_sums(f) / "tokenizer.json").write_text("{}"), "not a tokenizer file"),
        (lambda f: (without_sums(f) / "tokenizer.json").unlink(), "tokenizer.json: missing"),
        (lambda f: (f / CHECKSUMS).write_text("abc\n"), "not a line of sha256sum"),
    ],
)
def test_damage_is_named(folder, change, text):
    change(folder)
    with pytest.raises(CheckpointError, match=text):
        load_checkpoint(folder)


def test_pickled_code_is_not_run(folder):
    class Evil:
        def __reduce__(self):
            return (print, ("this must never run",))

    (path,) = without_sums(folder).glob("action_head*")
    torch.save({"model.fc1.weight": Evil()}, path)
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors"):
        load_checkpoint(folder)


def test_no_such_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(tmp_path / "nowhere")
