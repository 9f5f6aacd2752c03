"""What goes wrong with checkpoints."""

from ..types import BadInput


class CheckpointError(BadInput):
    """A checkpoint that cannot be used: the text names the file, the key and the remedy."""
