"""The prompt of OpenVLA and where the instruction's own words stand in it (openvla_oft.md, Prompt and sequence)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from specprune_ros.model.config import ModelConfig
from specprune_ros.model.errors import CheckpointError
from specprune_ros.types import BadInput

BEFORE, AFTER = "In: What action should the robot take to ", "?\nOut:"


@dataclass(frozen=True)
class Prompt:
    """Token ids with BOS first; task = (first, last + 1) of the instruction's words, counted after BOS."""

    ids: tuple[int, ...]
    task: tuple[int, int]


class PromptEncoder:
    """Instruction -> Prompt, by the checkpoint's own tokenizer.json."""

    def __init__(self, tokenizer, suffix_token_id: int | None):
        self.tokenizer = tokenizer
        self.suffix = suffix_token_id
        self.unknown = getattr(tokenizer.model, "unk_token", None)

    @classmethod
    def read(cls, folder: Path, config: ModelConfig) -> PromptEncoder:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.exists():
            raise CheckpointError(
                f"{path}: missing; copy the tokenizer of the checkpoint (tokenizer.model is not enough)"
            )
        try:
            encoder = cls(Tokenizer.from_file(str(path)), config.suffix_token_id)
        except Exception as error:  # the Rust tokenizer raises bare Exception
            raise CheckpointError(f"{path}: not a tokenizer file ({error}); copy it again") from error
        encoder.check(path, config)
        return encoder

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
        """BadInput when the instruction is empty or has words this policy has never seen."""
        task = " ".join(instruction.lower().split())
        if not task:
            raise BadInput("instruction is empty; say what the robot should do, for example 'pick up the red cube'")
        encoded = self.tokenizer.encode(BEFORE + task + AFTER)
        ids, words = list(encoded.ids), []
        for index, (start, end) in enumerate(encoded.offsets):
            if end > len(BEFORE) and start < len(BEFORE) + len(task) and end > start:
                words.append(index)
        self._known(encoded, words, task)
        if self.suffix is not None and ids[-1] != self.suffix:
            ids.append(self.suffix)
        return Prompt(tuple(ids), (words[0] - 1, words[-1]))

    def known_instruction(self) -> str:
        """Some instruction that `encode` accepts, for warm-up."""
        return "pick up the cube"

    def _known(self, encoded, words, task) -> None:
        bad = [
            task[slice(*(x - len(BEFORE) for x in encoded.offsets[i]))]
            for i in words
            if encoded.tokens[i] == self.unknown
        ]
        if bad:
            raise BadInput(
                f"instruction {task!r} has words this policy does not know: {', '.join(bad)}; "
                "use the words it was trained with, for example 'pick up the red cube'"
            )
