"""The real policy node around the scripted policy of `specprune bench --faults`. Run as a script."""

import sys

from specprune_ros.bench.faults.node import main

if __name__ == "__main__":
    sys.exit(main())
