"""Steadiness: what is measured of it, what is asked of the system, and that a refusal is only reported."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.bench import control as control_bench
from specprune_ros.cli import main as cli
from specprune_ros.config import RealTime
from specprune_ros.control.jitter import Jitter, Steadiness
from specprune_ros.ros import realtime


@given(st.lists(st.integers(1_000_000, 1_000_000_000), min_size=1, max_size=50))
def test_jitter_is_the_deviation_of_every_interval(intervals_ns):
    jitter, now_ns = Jitter(0.05), 100_000_000_000
    jitter.tick(now_ns)
    for interval_ns in intervals_ns:
        now_ns += interval_ns
        jitter.tick(now_ns)
    deviations_ms = np.sort(np.abs(np.array(intervals_ns) * 1e-6 - 50.0))
    got = jitter.summary()
    assert got.periods == len(intervals_ns) and got.max_ms == pytest.approx(deviations_ms[-1], abs=1e-6)
    assert got.gaps == sum(interval_ns > 150_000_000 for interval_ns in intervals_ns)
    for q, value in ((0.5, got.p50_ms), (0.99, got.p99_ms)):
        exact = deviations_ms[int(np.ceil(q * len(deviations_ms))) - 1]
        assert exact - 1e-6 <= value <= 1.0101 * exact + 1.1e-3, "at most 1 % above the quantile"


def test_without_an_interval_there_is_nothing_to_say():
    jitter = Jitter(0.02)
    assert jitter.summary() == Steadiness()
    jitter.tick(5)
    assert jitter.summary() == Steadiness()


def test_a_clock_that_is_set_back_is_no_period():
    jitter = Jitter(0.02)
    for now_ns in (10_000_000_000, 10_020_000_000, 5_000_000_000, 5_020_000_000):
        jitter.tick(now_ns)
    assert jitter.summary() == Steadiness(periods=2)


def test_a_long_run_costs_no_more_than_a_short_one():
    jitter, now_ns = Jitter(0.02), 0
    for _ in range(100_000):
        now_ns += 20_000_000
        jitter.tick(now_ns)
    jitter.tick(now_ns + 3600 * 10**9)
    got = jitter.summary()
    assert (got.periods, got.gaps, got.p99_ms) == (100_000, 1, pytest.approx(0.0, abs=2e-3))
    assert got.max_ms == pytest.approx(3600e3 - 20.0)


class Libc:
    """Stands for the C library: what it was asked for, and what it answers."""

    def __init__(self, answer):
        self.answer, self.attributes = answer, []

    def syscall(self, number, thread, attributes, flags):
        self.attributes.append((thread, realtime.SCHED_ATTR.unpack(attributes)))
        return self.answer

    def mlockall(self, flags):
        return self.answer


@pytest.fixture
def libc(monkeypatch):
    """Nothing is asked of the real system; what the interpreter is told is undone."""
    before, libc = sys.getswitchinterval(), Libc(0)
    monkeypatch.setattr(realtime.ctypes, "CDLL", lambda *a, **k: libc)
    monkeypatch.setattr(realtime.platform, "release", lambda: "6.12.3-generic")
    monkeypatch.setattr(realtime.platform, "machine", lambda: "x86_64")
    yield libc
    gc.unfreeze()
    sys.setswitchinterval(before)


def test_by_default_nothing_is_asked_for_that_takes_a_privilege(libc, monkeypatch):
    before, here = os.sched_getscheduler(0), threading.get_native_id()
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    # Threads of libraries that other tests have loaded come and go: the list is of one that stays and one that is gone.
    monkeypatch.setattr(os, "listdir", lambda path: [str(here), str(ended.native_id)])
    report = realtime.prepare(RealTime())
    assert list(report) == ["garbage collector", "threads", "time slice"] and report["time slice"] == "0.1 ms"
    assert gc.get_freeze_count() > 0 and sys.getswitchinterval() < 0.001 and os.sched_getscheduler(0) == before
    assert [thread for thread, _ in libc.attributes] == [here]
    for _, (size, policy, flags, nice, priority, slice_ns, deadline, period) in libc.attributes:
        assert (size, policy, nice, priority, deadline, period) == (48, 0, os.nice(0), 0, 0, 0)
        assert flags == 1, "later threads and the model's process are as any other"
        assert slice_ns == 100_000


@pytest.mark.parametrize(
    ("release", "machine"), [("6.11.0", "x86_64"), ("5.15.0-91-generic", "x86_64"), ("6.12.0", "riscv64")]
)
def test_on_other_kernels_and_machines_time_slices_are_left_alone(libc, monkeypatch, release, machine):
    monkeypatch.setattr(realtime.platform, "release", lambda: release)
    monkeypatch.setattr(realtime.platform, "machine", lambda: machine)
    assert realtime.prepare(RealTime())["time slice"].startswith("as it is: needs Linux 6.12")
    assert libc.attributes == []


def test_the_real_system_is_asked_in_its_own_words():
    code = "from specprune_ros.ros import realtime; print(realtime.prepare(realtime.RealTime())['time slice'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith(("0.1 ms", "as it is: ")) and "Invalid argument" not in done.stdout, done.stderr


def test_what_the_system_refuses_is_reported_with_the_remedy(libc, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    libc.answer = -1
    report = realtime.prepare(RealTime(priority=40, lock_memory=True))
    assert "not granted" in report["priority"] and "rtprio 40" in report["priority"]
    assert "not locked" in report["memory"] and "memlock" in report["memory"]
    assert report["time slice"].startswith("as it is: ")


def test_the_table_of_control_periods():
    row = {
        "rate_hz": 20.0,
        "busy_loops": 2,
        "gaps": 0,
        "p50": 0.5,
        "p99": 2.0,
        "max": 9.0,
        "periods": 100.0,
        "requests": 10.0,
        "latency p50 [ms]": 80.0,
    }
    table = control_bench.table({"rows": [row]})
    assert table.row_count == 1 and [column.header for column in table.columns][:2] == ["rate", "busy loops"]


def test_the_busy_loops_end_with_the_measurement():
    before = set(children())
    with control_bench.busy(2):
        during = set(children()) - before
    assert len(during) == 2 and not during & set(children())


def children():
    """Process ids of this process's children."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "x"])
def test_a_length_that_is_none_is_refused(minutes, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", "--control", "--minutes", minutes])
    assert stop.value.code == 2 and "--minutes" in capsys.readouterr().err
