"""The prompt: BOS first, the instruction's own words known, unusable instructions and tokenizers refused."""

import json
from dataclasses import replace

import pytest
from tiny_checkpoints import tiny_config
from tokenizers import Tokenizer, decoders, models, normalizers, processors

from specprune_ros.model.config import model_config
from specprune_ros.model.errors import CheckpointError
from specprune_ros.model.prompt import PromptEncoder
from specprune_ros.model.small import tokenizer_json
from specprune_ros.types import BadInput

CONFIG = model_config(tiny_config())


@pytest.fixture
def encoder(tmp_path):
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    return PromptEncoder.read(tmp_path, CONFIG)


def test_prompt_marks_the_words_of_the_instruction_only(encoder):
    prompt = encoder.encode("Pick up the  RED cube")
    words = [encoder.tokenizer.id_to_token(i) for i in prompt.ids]
    assert words[0] == "<s>"
    assert words[1:][slice(*prompt.task)] == ["pick", "up", "the", "red", "cube"]
    assert words[1:][prompt.task[1] :] == ["?", "Out", ":"]


@pytest.mark.parametrize(("text", "match"), [("", "empty"), ("  ", "empty"), ("fold the towel", "fold, towel")])
def test_instructions_that_cannot_be_used(encoder, text, match):
    with pytest.raises(BadInput, match=match):
        encoder.encode(text)


def llama_like():
    """Llama-2's kind of tokenizer.json in small: spaces become U+2581, one in front, bytes for what is not in the
    vocabulary."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:?",
    ]
    merges = [("▁", letter) for letter in "abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *("".join(merge) for merge in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def test_words_are_found_in_a_llama_tokenizer_and_the_empty_token_ends_the_prompt(tmp_path):
    llama_like().save(str(tmp_path / "tokenizer.json"))
    text = {**tiny_config()["text_config"], "vocab_size": 32064}
    config = replace(model_config({**tiny_config(), "text_config": text}), suffix_token_id=29871)
    encoder = PromptEncoder.read(tmp_path, config)
    prompt = encoder.encode("Open the Düse")
    assert (prompt.ids[0], prompt.ids[-1]) == (1, 29871) and prompt.ids.count(29871) == 1
    task = prompt.ids[1:][slice(*prompt.task)]
    decoded = encoder.tokenizer.decode(list(task), skip_special_tokens=False).replace("▁", " ")
    assert decoded == " open the düse"


def test_a_tokenizer_without_bos_is_refused(tmp_path):
    content = json.loads(tokenizer_json())
    content["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="puts 0 tokens around a prompt, expected BOS"):
        PromptEncoder.read(tmp_path, CONFIG)


@pytest.mark.parametrize(
    "vocab, suffix, text", [(20, None, "its largest id is"), (64, 29871, "suffix_token_id is 29871")]
)
def test_ids_without_an_embedding_are_refused(tmp_path, vocab, suffix, text):
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    config = replace(CONFIG, decoder=replace(CONFIG.decoder, vocab=vocab), suffix_token_id=suffix)
    with pytest.raises(CheckpointError, match=f"{text}.*embeddings for {vocab} tokens"):
        PromptEncoder.read(tmp_path, config)
