"""Upstream checkpoints as their own scripts write them, in all variants, against the plain reference."""

import json
import shutil

import pytest
import torch
from reference_oft import Reference
from safetensors.torch import load_file
from tiny_checkpoints import TINY_TOWERS, upstream_config, write_upstream_checkpoint

from specprune_ros.config import Config, PolicySettings
from specprune_ros.model.checkpoint import load_checkpoint
from specprune_ros.model.vla import History, Plan
from specprune_ros.prune.layout import Layout

pytestmark = pytest.mark.usefixtures("tiny_towers")

DINO, SIGLIP = TINY_TOWERS
PIXELS = {"means": [[0.48, 0.45, 0.4], [0.5, 0.45, 0.55]], "stds": [[0.22, 0.2, 0.25], [0.5, 0.4, 0.6]]}


def both(folder, checkpoint, views, steps=8):
    """(ours, the reference's) visual tokens, sequence and actions for one random observation."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(views, 3, 224, 224, generator=generator)
    model, config = checkpoint.model, checkpoint.config
    proprio = torch.rand(1, config.proprio_dims, generator=generator) * 2 - 1 if config.proprio_dims else None
    prompt = checkpoint.prompt.encode("put the red cube on the plate")
    layout = Layout(views, 256, int(proprio is not None), len(prompt.ids) - 1, prompt.task, 7 * steps)
    visual = model.encode(images)
    x = model.assemble(visual, proprio, torch.tensor([prompt.ids]))
    pruning = Config().pruning
    dense = Plan(pruning.static, pruning.dynamic, None, remember=False)
    states, _ = model.decode(x, model.rope(layout.length, x), layout, dense, History())

    reference = Reference(folder, TINY_TOWERS, steps)
    expected_visual = reference.encode(images)
    sequence = reference.assemble(expected_visual, None if proprio is None else proprio[0], prompt.ids)
    actions = reference.act(reference.decode(sequence))
    return (visual[0], x[0], model.act(states)[0]), (expected_visual, sequence, actions)


VARIANTS = {
    "as published": ({}, {}, {}, 2),
    "no proprio": ({}, {"proprio_dims": 0}, {"views": 1}, 1),
    "proprio switched off": ({}, {}, {"views": 1, "proprio": "off"}, 1),
    "one backbone": ({"towers": (SIGLIP,)}, {}, {"views": 1}, 1),
    "pixel statistics": ({}, {"preprocessor": PIXELS}, {"views": 1}, 1),
    "norm eps": ({"rms_norm_eps": 1e-2}, {}, {"views": 1}, 1),
    "grouped keys": ({"num_key_value_heads": 2}, {}, {"views": 1}, 1),
    "chunk of 5, proprio of 7": ({}, {"proprio_dims": 7}, {"views": 1, "chunk_steps": 5}, 1),
    "chunk of 25": ({}, {}, {"views": 1, "chunk_steps": 25}, 1),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_equal_the_plain_reference(name, tmp_path):
    sizes, written, settings, views = VARIANTS[name]
    folder = write_upstream_checkpoint(tmp_path, upstream_config(**sizes), **written)
    steps = settings.get("chunk_steps", 8)
    checkpoint = load_checkpoint(folder, settings=PolicySettings(**settings))
    assert checkpoint.config.chunk_steps == steps and checkpoint.config.views == views
    for mine, expected in zip(*both(folder, checkpoint, views, steps), strict=True):
        torch.testing.assert_close(mine.double(), expected, atol=1e-4, rtol=1e-4)
    assert expected.shape == (steps, 7) and expected.abs().max() > 0.1


def test_the_fixture_is_what_upstream_ships(tmp_path):
    folder = write_upstream_checkpoint(tmp_path)
    assert "specprune" not in json.loads((folder / "config.json").read_text())
    stored = {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
    assert len(list(folder.glob("*.safetensors"))) == 3 and not (folder / "SHA256SUMS").exists()
    for unused in (
        "language_model.lm_head.weight",
        "vision_backbone.featurizer.blocks.2.ls1.scale_factor",
        "vision_backbone.featurizer.norm.weight",
        "vision_backbone.fused_featurizer.attn_pool.latent",
    ):
        assert stored[unused].dtype is torch.bfloat16
    head = torch.load(folder / "action_head--latest_checkpoint.pt", weights_only=True)
    projector = torch.load(folder / "proprio_projector--latest_checkpoint.pt", weights_only=True)
    assert (
        head["module.model.fc1.weight"].dtype is torch.bfloat16
        and projector["module.fc1.weight"].dtype is torch.float32
    )
    assert stored["language_model.model.embed_tokens.weight"].shape == (32064, 64)


def test_what_the_checkpoint_does_not_say_is_as_upstream_evaluates_it(tmp_path):
    checkpoint = load_checkpoint(write_upstream_checkpoint(tmp_path / "spatial"))
    config = checkpoint.config
    assert (config.views, config.chunk_steps, config.action_dims, config.proprio_dims) == (2, 8, 7, 8)
    assert config.center_crop and config.jpeg_round_trip and config.normalisation == "quantiles"
    assert config.decoder.norm_eps == 1e-6 and config.decoder.kv_heads == 4
    assert checkpoint.statistics.key == "libero_spatial_no_noops" and checkpoint.name == "spatial"
    assert checkpoint.prompt.encode("pick up the cube").ids[-1] == 29871


def test_settings_override_what_the_checkpoint_says(tmp_path):
    folder = write_upstream_checkpoint(tmp_path)
    settings = PolicySettings(
        views=3, center_crop="off", chunk_steps=4, normalisation="min_max", unnorm_key="libero_spatial", proprio="on"
    )
    checkpoint = load_checkpoint(folder, settings=settings)
    config = checkpoint.config
    assert (config.views, config.center_crop, config.chunk_steps, config.proprio_dims) == (3, False, 4, 8)
    assert checkpoint.statistics.action.low[0] == -1.0 and checkpoint.statistics.proprio.high[0] == 0.8


def test_bf16_arithmetic_and_no_gradients(tmp_path):
    model = load_checkpoint(write_upstream_checkpoint(tmp_path), dtype=torch.bfloat16).model
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} and not any(
        p.requires_grad for p in model.parameters()
    )
    assert model.vision_backbone.featurizer.mean.dtype is torch.float32


def test_one_file_without_an_index_loads_too(tmp_path):
    folder = write_upstream_checkpoint(tmp_path, shards=1)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model-00001-of-00001.safetensors").rename(folder / "model.safetensors")
    load_checkpoint(folder)


def test_a_merged_checkpoint_may_keep_its_adapter_beside_it(tmp_path):
    """finetune.py merges while training and leaves the adapter in a subfolder."""
    folder = write_upstream_checkpoint(tmp_path)
    (folder / "lora_adapter").mkdir()
    shutil.copy(folder / "config.json", folder / "lora_adapter" / "adapter_config.json")
    load_checkpoint(folder)


def test_fourteen_actions_load_but_do_not_drive_this_node(tmp_path):
    from specprune_ros.infer.load import load_policy

    folder = write_upstream_checkpoint(tmp_path, action_dims=14, proprio_dims=14)
    assert load_checkpoint(folder).config.action_dims == 14
    with pytest.raises(ValueError, match="predicts 14 action dimensions"):
        load_policy(Config().updated({"policy.checkpoint": str(folder), "policy.device": "cpu"}))
