"""The stock baseline: OpenVLA-OFT's forward as upstream runs it, on our weights (views of them: no second copy in
memory).

What is upstream's here (moojink/openvla-oft `predict_action`, its fork of transformers 4.40.1): views one after
another, each through both towers one after another, every stored block of a tower although the last one's output is
dropped; transformers' Llama with separate q, k, v and gate, up projections, SDPA without a mask (the fork drops it
when nothing is padded, so the flash kernel runs) and a KV cache nobody reads; all rows of the last layer; `lm_head`
over the whole sequence, to float.

Where this differs from upstream, it is faster, so that no gain is claimed that is not ours: frames go through OUR
preprocessing (upstream's runs in TensorFlow and PIL on the CPU), the tokenised prompt is kept between calls, rotary
tables are made once a pass (as newer versions of transformers do), and hidden states of the other layers are not
collected.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from specprune_ros.bench.gpu import Marks
from specprune_ros.bench.stock_parts import llama, tower
from specprune_ros.infer.preprocess import to_model, upload
from specprune_ros.model.checkpoint import Checkpoint
from specprune_ros.model.flops import stock_products
from specprune_ros.model.names import split
from specprune_ros.types import Observation

PLACEHOLDER_ID = 1
"""Upstream fills the placeholders with this token before it zeroes their embeddings."""


class Stock:
    """One checkpoint run the stock way. made_of: which library runs what, and what to install where it is ours."""

    def __init__(self, checkpoint: Checkpoint, libraries: bool = True):
        self.checkpoint, self.model, self.config = checkpoint, checkpoint.model, checkpoint.config
        parameter = next(self.model.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        weights = split(self.model.state_dict(), self.config)
        self.made_of: dict[str, str] = {}
        self.llama, self.made_of["decoder"] = llama(weights, self.config.decoder, libraries)
        self.towers: list[Callable[[Tensor], Tensor]] = []
        for name, ours in self.model.vision_backbone.named_children():
            theirs, self.made_of["towers"] = tower(weights, f"vision_backbone.{name}.", ours, libraries)
            self.towers.append(theirs)
        vocab, width = self.config.decoder.vocab, self.config.decoder.width
        self.lm_head = torch.empty(vocab, width, device=self.device, dtype=self.dtype).normal_(0.0, width**-0.5)

    @torch.inference_mode()
    def infer(self, observation: Observation) -> tuple[np.ndarray, dict[str, float]]:
        """(T, 7) float64 action units, not clipped, and the time of every stage [ms]."""
        marks = Marks(self.device)
        seen = to_model(upload(observation.images, self.config.views, self.device), self.config)
        pixels = seen.movedim(-1, 1).float() / 255
        marks("preprocess")
        visual = self.model.projector(torch.cat([self._view(view[None]) for view in pixels], dim=1))
        marks("vision")
        states = self.llama(self._sequence(observation, visual))
        F.linear(states, self.lm_head).float()  # upstream computes the logits of every token and uses none
        marks("decoder")
        end = states.shape[1] - 2
        chunk = self.model.action_head(states[:, end - self.config.placeholders : end])
        actions = self.checkpoint.statistics.restore_actions(chunk[0].float().cpu().numpy())
        marks("head")
        return actions, marks.milliseconds()

    def gflop(self, observation: Observation) -> float:
        """Analytic cost of one inference."""
        length = self._length(len(self.checkpoint.prompt.encode(observation.instruction).ids))
        return sum(product.flop for product in stock_products(self.config, length)) / 1e9

    def _length(self, prompt: int) -> int:
        """Tokens of a sequence with `prompt` tokens of text, BOS among them."""
        c = self.config
        return prompt + c.views * c.patches + int(c.proprio_dims > 0) + c.placeholders + 1

    def _view(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, N, sum of tower widths)."""
        ours = self.model.vision_backbone.children()
        inputs = [((pixels - sizes.mean) / sizes.std).to(self.dtype) for sizes in ours]
        return torch.cat([tower(x) for tower, x in zip(self.towers, inputs, strict=True)], dim=2)

    def _sequence(self, observation: Observation, visual: Tensor) -> Tensor:
        """(1, L, width) in upstream's order of operations: embed everything, zero the placeholders, insert after
        BOS."""
        prompt, c = self.checkpoint.prompt.encode(observation.instruction).ids, self.config
        ids = torch.tensor([[*prompt, *[PLACEHOLDER_ID] * c.placeholders, c.stop_token_id]], device=self.device)
        at = torch.arange(ids.shape[1], device=self.device)
        placeholder = (at >= len(prompt)) & (at < len(prompt) + c.placeholders)
        words = self.model.decoder.embed_tokens(ids) * ~placeholder[None, :, None]
        state = []
        if c.proprio_dims:
            proprio = torch.from_numpy(self.checkpoint.statistics.normalise_proprio(observation.proprio))
            state = [self.model.proprio_projector(proprio[None].to(self.device, self.dtype))[:, None]]
        return torch.cat([words[:, :1], visual, *state, words[:, 1:]], dim=1)
