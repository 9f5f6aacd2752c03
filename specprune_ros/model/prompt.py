"""The prompt of OpenVLA and where the instruction's own words stand in it (docs/reference/openvla_oft.md, Prompt and
sequence)."""

from __future__ import annotations

import re
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from specprune_ros.model.config import ModelConfig
from specprune_ros.model.errors import CheckpointError
from specprune_ros.model.files import check_arrived
from specprune_ros.types import BadInput

BEFORE, AFTER = "In: What action should the robot take to ", "?\nOut:"
MOST_CHARACTERS = 2000
"""Longer instructions are refused before they are tokenised, which takes the longer the more there is."""
MOST_TOKENS = 256
"""Longest instruction; the longest of LIBERO has 20 tokens. Every token costs time in every layer of every
inference."""
INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Unicode categories of characters that nobody sees: controls, joiners, marks of direction, lone surrogates."""
PUNCTUATION = re.compile(r"[^\w\s]")


@dataclass(frozen=True)
class Prompt:
    """Token ids with BOS first; task = (first, last + 1) of the instruction's words, counted after BOS."""

    ids: tuple[int, ...]
    task: tuple[int, int]


class PromptEncoder:
    """Instruction -> Prompt, by the checkpoint's own tokenizer.

    tokenizer: a `tokenizers.Tokenizer`, as transformers' fast tokenizers hold one; suffix_token_id: appended where the
    prompt does not end in it, None for none; room: tokens that a prompt may have besides the rest of the sequence, None
    without a bound.
    """

    def __init__(self, tokenizer, suffix_token_id: int | None, room: int | None = None):
        self.tokenizer = tokenizer
        self.suffix = suffix_token_id
        self.room = room
        self.unknown = getattr(tokenizer.model, "unk_token", None)
        self.words_only = type(tokenizer.model).__name__ == "WordLevel"
        self._special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}

    @classmethod
    def read(cls, folder: Path, config: ModelConfig) -> PromptEncoder:
        """From `tokenizer.json`; CheckpointError when it is missing, damaged or of another model. Nothing is downloaded
        or executed."""
        path = folder / "tokenizer.json"
        if not path.exists() and not path.is_symlink():
            raise CheckpointError(
                f"{path}: missing; copy the tokenizer of the checkpoint (tokenizer.model is not enough)"
            )
        check_arrived(path)
        room = config.decoder.positions - config.fixed_tokens
        try:
            encoder = cls(_backend(path), config.suffix_token_id, room)
        except Exception as error:  # the Rust tokenizer raises bare Exception
            raise CheckpointError(f"{path}: not a tokenizer file ({error}); copy it again") from error
        encoder.check(path, config)
        return encoder

    @classmethod
    def from_json(cls, text: str, suffix_token_id: int | None) -> PromptEncoder:
        """From the text of a `tokenizer.json` that is not in a file yet."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "tokenizer.json")
            path.write_text(text)
            return cls(_backend(path), suffix_token_id)

    def check(self, path: Path, config: ModelConfig) -> None:
        """CheckpointError unless every prompt begins with one extra token (BOS) and all ids have an embedding."""
        plain, prompt = (self.tokenizer.encode(BEFORE, add_special_tokens=special).ids for special in (False, True))
        if prompt[1:] != plain:
            raise CheckpointError(
                f"{path}: puts {len(prompt) - len(plain)} tokens around a prompt, expected BOS before it; copy it again"
            )
        special = {"suffix_token_id": config.suffix_token_id, "stop_token_id": config.stop_token_id}
        ids = {"its largest id": max(self.tokenizer.get_vocab().values()), **special}
        for name, value in ids.items():
            if value is not None and value >= config.decoder.vocab:
                raise CheckpointError(
                    f"{path}: {name} is {value}, the model has embeddings for {config.decoder.vocab} tokens "
                    "(text_config.vocab_size); use the tokenizer of this checkpoint"
                )

    def encode(self, instruction: str) -> Prompt:
        """BadInput when the instruction is empty, too long, or has words this policy has never seen."""
        task = self._task(instruction)
        encoded = self.tokenizer.encode(BEFORE + task + AFTER)
        ids, words = list(encoded.ids), []
        for index, (start, end) in enumerate(encoded.offsets):
            if end > len(BEFORE) and start < len(BEFORE) + len(task) and end > start:
                words.append(index)
        self._known(encoded, words, task)
        if self.suffix is not None and ids[-1] != self.suffix:
            ids.append(self.suffix)
        self._short_enough(len(ids), len(words), task)
        return Prompt(tuple(ids), (words[0] - 1, words[-1]))

    def known_instruction(self) -> str:
        """Some instruction that `encode` accepts, for warm-up: as long as those that the bundled policy was trained on,
        so that what is made ready for it serves them too."""
        usual = "pick up the red cube"
        try:
            self.encode(usual)
        except BadInput:
            plain = (word for word in self.tokenizer.get_vocab() if word.isalpha() and word.islower())
            return min(plain, default=usual)
        return usual

    def _task(self, instruction: str) -> str:
        """The instruction as it stands in the prompt: lower case, one space between words, one Unicode form (NFKC),
        nothing invisible, no underscores, which join the words of a task's name; without punctuation where the
        tokenizer knows words only."""
        words = instruction.split()
        if sum(map(len, words)) > MOST_CHARACTERS:
            raise BadInput(
                f"instruction has {len(words)} words ({sum(map(len, words))} characters), at most {MOST_CHARACTERS} "
                "characters are taken; say in one sentence what the robot should do"
            )
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", " ".join(words)).lower())
        text = "".join(c for c in text if unicodedata.category(c) not in INVISIBLE).replace("_", " ")
        task = " ".join((PUNCTUATION.sub(" ", text) if self.words_only else text).split())
        if not task:
            raise BadInput("instruction is empty; say what the robot should do, for example 'pick up the red cube'")
        return task

    def _known(self, encoded, words: list[int], task: str) -> None:
        texts = {i: task[slice(*(max(0, x - len(BEFORE)) for x in encoded.offsets[i]))] for i in words}
        if not words or (bad := [texts[i] for i in words if encoded.tokens[i] == self.unknown]):
            raise BadInput(
                f"instruction {task!r} has words this policy does not know: {', '.join(bad) if words else 'all'}; "
                "use the words it was trained with, for example 'pick up the red cube'"
            )
        if special := [texts[i] for i in words if encoded.ids[i] in self._special]:
            raise BadInput(
                f"instruction {task!r} contains {special[0]!r}, which the tokenizer takes for a mark and no word; "
                "leave it out"
            )

    def _short_enough(self, tokens: int, words: int, task: str) -> None:
        if words > MOST_TOKENS:
            raise BadInput(
                f"instruction is {words} tokens long ({len(task.split())} words), at most {MOST_TOKENS} are taken; "
                "say in one sentence what the robot should do"
            )
        if self.room is not None and tokens > self.room:
            raise BadInput(
                f"prompt of {tokens} tokens does not fit: the model's positions (text_config.max_position_embeddings) "
                f"leave {max(0, self.room)} beside images, proprio and actions; shorten it or give fewer views"
            )


def _backend(path: Path):
    """The tokenizer in `tokenizer.json`, read by transformers without asking the network or running code of the
    checkpoint."""
    from transformers import PreTrainedTokenizerFast  # here, because importing transformers takes seconds

    return PreTrainedTokenizerFast(tokenizer_file=str(path)).backend_tokenizer
