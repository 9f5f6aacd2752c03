"""The prompt: BOS first, the instruction's own words known, unusable instructions and tokenizers refused."""

import json
import subprocess
import sys
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import strategies as st
from properties import given
from tiny_checkpoints import tiny_config
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from specprune_ros.model.config import model_config
from specprune_ros.model.errors import CheckpointError
from specprune_ros.model.prompt import AFTER, BEFORE, MOST_CHARACTERS, MOST_TOKENS, PromptEncoder
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


def llama_encoder(folder, **changes):
    llama_like().save(str(folder / "tokenizer.json"))
    text = {**tiny_config()["text_config"], "vocab_size": 32064}
    config = model_config({**tiny_config(), "text_config": text})
    return PromptEncoder.read(folder, replace(config, suffix_token_id=29871, **changes))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return llama_encoder(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def bundled():
    return PromptEncoder.from_json(tokenizer_json(), None)


SAME = [
    "  pick up the red cube ",
    "pick\tup\nthe  red\r\n cube",
    "PICK UP THE RED CUBE",
    "pick up the\u00a0red\u2003cube",
    "\ufeffpick up\u200b the red cu\u00adbe\u200d",
    "pick up the red cube\x00",
    "ｐｉｃｋ ｕｐ the red cube",
    "pick up the \ud800red cube",
    " " * 50_000 + "pick up the red cube",
    "pick_up_the_red_cube",
    "__pick up_ the＿red cube",
]


@pytest.mark.parametrize("text", SAME)
def test_space_case_and_unicode_form_do_not_change_the_tokens(bundled, llama, text):
    for encoder in (bundled, llama):
        assert encoder.encode(text) == encoder.encode("pick up the red cube")


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_every_unicode_form_of_a_letter_is_the_same_letter(llama, form):
    assert llama.encode(unicodedata.normalize(form, "Öffne die DÜSE")) == llama.encode("öffne die düse")


PUNCTUATED = [
    "pick up the red cube.",
    "Pick up the red cube!",
    "pick up, the red cube ...",
    "“pick up the red cube”?",
    "pick up: the red cube;",
]


@pytest.mark.parametrize("text", PUNCTUATED)
def test_a_policy_that_knows_words_only_understands_punctuation(bundled, text):
    assert bundled.encode(text) == bundled.encode("pick up the red cube")


def test_a_llama_tokenizer_gets_the_very_prompt_of_upstream(llama):
    """A full stop, or a question mark before the prompt's own, is part of what upstream's code tokenises."""
    for text in ("Pick up the red cube.", "is it red?", "put it on the plate - slowly"):
        ids = llama.tokenizer.encode(f"{BEFORE}{text.lower()}{AFTER}").ids
        assert llama.encode(text).ids == (*ids, 29871)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_encoded_or_refused(llama, bundled, text):
    for encoder in (llama, bundled):
        try:
            prompt = encoder.encode(text)
        except BadInput:
            continue
        first, last = prompt.task
        assert 0 < first < last < len(prompt.ids)
        assert encoder.encode(f"\t{text} ") == prompt, "spaces around it"


@pytest.mark.parametrize(
    "text, match",
    [
        ("pick up " * 10_000, rf"has 20000 words \(60000 characters\), at most {MOST_CHARACTERS} characters are taken"),
        ("pick up " * 200, rf"is 400 tokens long \(400 words\), at most {MOST_TOKENS} are taken; say in one sentence"),
        ("x" * 5_000_000, "has 1 words \\(5000000 characters\\)"),
        (" .,;! ", "instruction is empty"),
        ("___", "instruction is empty"),
    ],
)
def test_instructions_are_bounded(bundled, text, match):
    with pytest.raises(BadInput, match=match):
        bundled.encode(text)


def test_a_long_instruction_that_fits_is_taken(bundled):
    prompt = bundled.encode("pick up the red cube " * 50)
    assert prompt.task[1] - prompt.task[0] == 250


def test_the_models_positions_are_a_bound_too(tmp_path):
    decoder = replace(CONFIG.decoder, positions=2 * 256 + 1 + 56 + 1 + 30)
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    encoder = PromptEncoder.read(tmp_path, replace(CONFIG, decoder=decoder))
    frame = len(encoder.encode("cube").ids) - 1
    assert len(encoder.encode("cube " * (30 - frame)).ids) == 30
    with pytest.raises(BadInput, match=r"prompt of 31 tokens does not fit: .*max_position_embeddings\) leave 30"):
        encoder.encode("cube " * (31 - frame))


def test_marks_of_the_tokenizer_are_no_words(tmp_path):
    tokenizer = llama_like()
    tokenizer.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = {**tiny_config()["text_config"], "vocab_size": 32064}
    encoder = PromptEncoder.read(tmp_path, model_config({**tiny_config(), "text_config": text}))
    with pytest.raises(BadInput, match="contains '</s>', which the tokenizer takes for a mark and no word"):
        encoder.encode("pick up </s> the cube")


def test_warm_up_has_words_in_every_trade(tmp_path):
    content = json.loads(tokenizer_json())
    kept = [word for word in content["model"]["vocab"] if word not in ("pick", "up", "cube")]
    content["model"]["vocab"] = {word: i for i, word in enumerate([*kept, "fold"])}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    encoder = PromptEncoder.read(tmp_path, CONFIG)
    encoder.encode(encoder.known_instruction())


@pytest.mark.parametrize("text", [f"{BEFORE}pick up the red cube{AFTER}", "Öffne die Tür", "", "a  b\tc", "日本"])
def test_transformers_reads_the_tokenizer_as_it_stands(tmp_path, llama, bundled, text):
    """Equal to the file read by the `tokenizers` package itself: ids, tokens and places."""
    llama_like().save(str(tmp_path / "llama.json"))
    (tmp_path / "words.json").write_text(tokenizer_json())
    for ours, name in ((llama, "llama.json"), (bundled, "words.json")):
        plain, encoded = Tokenizer.from_file(str(tmp_path / name)).encode(text), ours.tokenizer.encode(text)
        assert (encoded.ids, encoded.tokens, encoded.offsets) == (plain.ids, plain.tokens, plain.offsets)


def test_code_and_settings_beside_the_tokenizer_are_not_looked_at(tmp_path):
    """A folder may ask for code to be run (`auto_map`) and for other classes; only tokenizer.json is read."""
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    settings = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil", "add_bos_token": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "evil.py").write_text("raise SystemExit('this must never run')")
    assert PromptEncoder.read(tmp_path, CONFIG).encode("pick up the cube").ids[0] == 1


def test_transformers_is_imported_only_where_a_tokenizer_is_read():
    code = "import sys, specprune_ros.infer.load, specprune_ros.model.demands; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


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
