"""What the node and the process of the model say to each other."""

from __future__ import annotations

from dataclasses import dataclass

from specprune_ros.config import Config
from specprune_ros.infer.shared_frames import Place
from specprune_ros.types import ActionChunk, EngineState, InferenceRequest, PolicyFacts, PolicyMemory, PruningReport

# From the node.


@dataclass(frozen=True)
class Start:
    """The first message. factory: "module:function", called with the configuration, returns a policy that is warm;
    first_memory: the number of the first memory, so that those of an earlier process are not taken for its own."""

    factory: str
    config: Config
    first_memory: int


@dataclass(frozen=True)
class Work:
    """One inference. The request has no images and no reference images: these are where `images` and `reference`
    say."""

    request: InferenceRequest
    images: tuple[Place, ...]
    reference: tuple[Place, ...] | None


# From the process of the model.


@dataclass(frozen=True)
class Ready:
    """The policy is loaded and warm."""

    facts: PolicyFacts
    engine: EngineState


@dataclass(frozen=True)
class Unavailable:
    """The policy cannot be loaded; the process ends after this. traceback: empty where the text is all there is to
    say."""

    text: str
    traceback: str


@dataclass(frozen=True)
class Answer:
    """One inference's outcome. The memory's content is a number: what it stands for stays where the model is."""

    chunk: ActionChunk
    report: PruningReport
    memory: PolicyMemory
    engine: EngineState


@dataclass(frozen=True)
class Raised:
    """The inference raised. bad_input: the request is to blame (BadInput), not the model."""

    text: str
    traceback: str
    bad_input: bool


@dataclass(frozen=True)
class Engine:
    """Something was made ready in an idle moment."""

    state: EngineState


@dataclass(frozen=True)
class Log:
    """A log record. level: as in Python's `logging`."""

    level: int
    logger: str
    text: str
