"""ROS domains for tests: graphs beside each other, in two worker processes of pytest, must not meet."""

import itertools
import os

MOST = 100
WORKERS = 3
"""Worker processes of pytest that may start graphs at the same time."""
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
# Workers share a parent; another run of the suite on this machine has another one.
_numbers = itertools.count(os.getppid() + _worker * MOST // WORKERS)


def own_domain():
    """A domain id, 1 .. 100, that no graph of late had."""
    return 1 + next(_numbers) % MOST
