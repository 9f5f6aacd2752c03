"""What goes wrong with checkpoints."""

from specprune_ros.types import BadInput


class CheckpointError(BadInput):
    """A checkpoint that cannot be used: the text names the file, the key and the remedy."""


class Unfit(CheckpointError):
    """The files are in order, but the node does not run them with these parameters: the text says what to change."""
