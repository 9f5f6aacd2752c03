"""Property tests without a time limit per example: a busy machine is not a failure."""

from hypothesis import HealthCheck, settings
from hypothesis import given as hypothesis_given

UNHURRIED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def given(*strategies):
    """hypothesis.given for a shared machine."""
    return lambda test: UNHURRIED(hypothesis_given(*strategies)(test))
