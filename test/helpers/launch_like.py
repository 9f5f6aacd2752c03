"""Starts a node as `ros2 launch` does, in a process of its own with our launch files' environment, and waits."""

import os
import subprocess
import sys

from specprune_ros.ros.launching import node_environment

if __name__ == "__main__":
    command = [sys.executable, *sys.argv[1:]]
    subprocess.Popen(command, env=os.environ | node_environment(), start_new_session=True).wait()
