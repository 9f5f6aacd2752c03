"""Requests to a policy in tests."""

from dataclasses import replace


def under(request, config):
    """The request with the pruning settings of a configuration."""
    return replace(request, pruning=config.pruning)
