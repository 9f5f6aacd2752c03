"""The one error that ends a node without a traceback."""


class Failure(RuntimeError):
    """The node cannot go on; the text is all that its user needs."""
