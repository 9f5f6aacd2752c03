"""transformers' own models as oracles, on shared random weights: our decoder against its Llama, our towers against its
DINOv2 with registers and its SigLIP, loaded under the names that these are published with.

timm, whose names the towers have, cannot be imported beside a torch without torchvision.
"""

import pytest
import torch
from safetensors.torch import save_file
from tiny_checkpoints import TINY_TOWERS, upstream_config, write_upstream_checkpoint
from transformers import Dinov2WithRegistersConfig, LlamaConfig, SiglipVisionConfig
from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersModel
from transformers.models.llama.modeling_llama import LlamaModel
from transformers.models.siglip.modeling_siglip import SiglipVisionModel

from specprune_ros.model.checkpoint import load_checkpoint
from specprune_ros.model.names import split
from specprune_ros.model.vision import NORM_EPS
from specprune_ros.prune.frames import patches

pytestmark = pytest.mark.usefixtures("tiny_towers")

LENGTH = 24


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, tiny_towers):
    """Loaded upstream checkpoints, by what their text_config says besides the usual."""
    made = {}

    def load(**text):
        key = tuple(text.items())
        if key not in made:
            config = upstream_config(vocab_size=64, **text)
            config["specprune"] = {"suffix_token_id": None}
            made[key] = load_checkpoint(write_upstream_checkpoint(tmp_path_factory.mktemp("upstream"), config))
        return made[key]

    return load


def below(weights, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def llama_of(checkpoint):
    """transformers' Llama with our weights."""
    c = checkpoint.config.decoder
    model = LlamaModel(
        LlamaConfig(
            hidden_size=c.width,
            intermediate_size=c.mlp,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            num_key_value_heads=c.kv_heads,
            vocab_size=c.vocab,
            rms_norm_eps=c.norm_eps,
            rope_theta=c.rope_theta,
            attn_implementation="eager",
        )
    )
    weights = split(checkpoint.model.state_dict(), checkpoint.config)
    model.load_state_dict(below(weights, "language_model.model."))
    return model.eval()


def attend_to_all(x):
    """An additive mask that forbids nothing: transformers' Llama is causal unless it is given one."""
    return torch.zeros(1, 1, x.shape[1], x.shape[1])


def sequence(checkpoint, length=LENGTH):
    return torch.randn(1, length, checkpoint.config.decoder.width, generator=torch.Generator().manual_seed(0))


def states(checkpoint, x, rope):
    for layer in checkpoint.model.decoder.layers:
        x, _ = layer(x, rope)
    return checkpoint.model.decoder.norm(x)


TEXTS = [{}, {"num_key_value_heads": 2}, {"rms_norm_eps": 1e-3}, {"rope_theta": 500.0}]


@pytest.mark.parametrize("text", TEXTS, ids=str)
@torch.no_grad()
def test_the_decoder_is_transformers_llama_without_its_mask(checkpoints, text):
    checkpoint = checkpoints(**text)
    x, llama = sequence(checkpoint), llama_of(checkpoint)
    ours = states(checkpoint, x, checkpoint.model.rope(LENGTH, x))
    theirs = llama(inputs_embeds=x, attention_mask=attend_to_all(x)).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    causal = llama(inputs_embeds=x).last_hidden_state
    assert not torch.allclose(ours, causal, atol=1e-2), "the comparison sees the mask"


@torch.no_grad()
def test_tokens_that_stay_keep_their_positions_as_position_ids_say(checkpoints):
    checkpoint = checkpoints()
    kept = torch.tensor([0, 2, 3, 7, 11, 12, 20, 23])
    x = sequence(checkpoint)
    rows = x[:, kept]
    ours = states(checkpoint, rows, checkpoint.model.rope(LENGTH, x).take(kept))
    llama = llama_of(checkpoint)
    theirs = llama(inputs_embeds=rows, attention_mask=attend_to_all(rows), position_ids=kept[None]).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    closed_up = llama(inputs_embeds=rows, attention_mask=attend_to_all(rows)).last_hidden_state
    assert not torch.allclose(ours, closed_up, atol=1e-3), "the comparison sees the positions"


def vit_layers(state, depth, names):
    """(name -> tensor) timm's blocks under another library's names; `names`: part of a block -> its name there, `{}`
    the number."""
    out = {}
    for number in range(depth):
        block = below(state, f"blocks.{number}.")
        for part in ("weight", "bias"):
            for kind, tensor in zip("qkv", block[f"attn.qkv.{part}"].chunk(3), strict=True):
                out[names[kind].format(number) + f".{part}"] = tensor
            for ours in ("norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2"):
                out[names[ours].format(number) + f".{part}"] = block[f"{ours}.{part}"]
        for ours in ("ls1", "ls2"):
            if ours in names:
                out[names[ours].format(number)] = block[f"{ours}.scale_factor"]
    return out


DINOV2 = {
    **{
        kind: "encoder.layer.{}.attention.attention." + name
        for kind, name in zip("qkv", ("query", "key", "value"), strict=True)
    },
    "attn.proj": "encoder.layer.{}.attention.output.dense",
    **{name: "encoder.layer.{}." + name for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2")},
    **{f"ls{n}": "encoder.layer.{}.layer_scale" + f"{n}.lambda1" for n in (1, 2)},
}
SIGLIP = {
    **{kind: "encoder.layers.{}.self_attn." + f"{kind}_proj" for kind in "qkv"},
    "attn.proj": "encoder.layers.{}.self_attn.out_proj",
    **{f"norm{n}": "encoder.layers.{}.layer_norm" + str(n) for n in (1, 2)},
    **{f"mlp.fc{n}": "encoder.layers.{}.mlp.fc" + str(n) for n in (1, 2)},
}


def dinov2_of(tower, folder):
    c, state = tower.config, tower.state_dict()
    config = Dinov2WithRegistersConfig(
        hidden_size=c.width,
        num_hidden_layers=c.depth - 1,
        num_attention_heads=c.heads,
        mlp_ratio=c.mlp // c.width,
        image_size=c.image,
        patch_size=c.patch,
        num_register_tokens=c.registers,
        layer_norm_eps=NORM_EPS,
    )
    no_place = torch.zeros(1, 1, c.width)  # timm's register models give the class token no position
    weights = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.register_tokens": state["reg_token"],
        "embeddings.position_embeddings": torch.cat((no_place, state["pos_embed"]), dim=1),
        "embeddings.patch_embeddings.projection.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.projection.bias": state["patch_embed.proj.bias"],
        **vit_layers(state, c.depth - 1, DINOV2),
    }
    return loaded(Dinov2WithRegistersModel, config, weights, folder, ("layernorm.", "embeddings.mask_token"))


def siglip_of(tower, folder):
    c, state = tower.config, tower.state_dict()
    config = SiglipVisionConfig(
        hidden_size=c.width,
        intermediate_size=c.mlp,
        num_hidden_layers=c.depth - 1,
        num_attention_heads=c.heads,
        image_size=c.image,
        patch_size=c.patch,
        hidden_act="gelu",
        layer_norm_eps=NORM_EPS,
    )
    weights = {
        "embeddings.position_embedding.weight": state["pos_embed"][0],
        "embeddings.patch_embedding.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embedding.bias": state["patch_embed.proj.bias"],
        **vit_layers(state, c.depth - 1, SIGLIP),
    }
    named = {f"vision_model.{name}": tensor for name, tensor in weights.items()}
    return loaded(SiglipVisionModel, config, named, folder, ("post_layernorm.", "head."))


def loaded(kind, config, weights, folder, unread):
    """transformers' model from a folder of its own layout. unread: what comes after the last block, which is not
    compared."""
    save_file({name: tensor.contiguous().clone() for name, tensor in weights.items()}, folder / "model.safetensors")
    config.save_pretrained(folder)
    model, info = kind.from_pretrained(folder, attn_implementation="eager", output_loading_info=True)
    absent = [name for name in info["missing_keys"] if not name.removeprefix("vision_model.").startswith(unread)]
    assert absent == [] and not info["unexpected_keys"]
    return model.eval()


@pytest.mark.parametrize("which", TINY_TOWERS)
@torch.no_grad()
def test_the_towers_are_transformers_vision_models(checkpoints, which, tmp_path):
    backbone = checkpoints().model.vision_backbone
    tower = next(tower for tower in backbone.children() if tower.config.name == which)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    pixels = (images - tower.mean) / tower.std
    model = (dinov2_of if tower.config.class_token else siglip_of)(tower, tmp_path)
    theirs = model(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
    ours = tower(patches(images.movedim(1, -1), tower.config.patch))
    torch.testing.assert_close(ours, theirs[:, tower.config.prefix :], atol=1e-4, rtol=1e-4)
    assert theirs.shape[1] == tower.config.prefix + 256
