"""What the simulator says of an episode on `~/task`: it runs, or how it ended."""

RUNNING = "running"
SUCCESS = "success"
TIMEOUT = "timeout"
