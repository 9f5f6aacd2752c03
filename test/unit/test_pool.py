"""Worker processes do not outlive the process that started them."""

import signal
import subprocess
import sys
import time

from processes import alive

CODE = """
import time
from specprune_ros.eval.pool import pool
if __name__ == "__main__":
    with pool(2) as workers:
        for busy in [workers.submit(time.sleep, 0.2) for _ in range(2)]:
            busy.result()
        print(*workers._processes, flush=True)
        time.sleep(3600)
"""


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(CODE)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    pids = {int(word) for word in parent.stdout.readline().split()}
    assert len(pids) == 2 and all(alive(pid) for pid in pids)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until_s = time.monotonic() + 60.0
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until_s
        time.sleep(0.02)
