"""Stands for any executable a launch file starts: records how it was started, and waits for its end.

$STAND_IN_RECORDS/<name>.json: arguments, parameters (of all --params-file, later ones win), environment, when it was
started. Programs that end by themselves are named in $STAND_IN_ENDING.
"""

import itertools
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import yaml

# As launch_ros writes lists into the files that it makes of a node's parameters.
yaml.SafeLoader.add_constructor("tag:yaml.org,2002:python/tuple", yaml.SafeLoader.construct_sequence)


def flattened(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def main():
    name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    ended = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    parameters = {}
    for flag, value in itertools.pairwise(arguments):
        if flag == "--params-file":
            for content in yaml.safe_load(Path(value).read_text()).values():
                parameters |= dict(flattened(content["ros__parameters"]))
    record = Path(os.environ["STAND_IN_RECORDS"], f"{name}.json")
    unfinished = record.with_suffix(".unfinished")
    found = {
        "arguments": arguments,
        "parameters": parameters,
        "environment": dict(os.environ),
        "time": time.monotonic(),
    }
    unfinished.write_text(json.dumps(found))
    unfinished.rename(record)
    if name not in os.environ["STAND_IN_ENDING"].split():
        ended.wait()
    record.with_suffix(".ended").touch()


if __name__ == "__main__":
    main()
