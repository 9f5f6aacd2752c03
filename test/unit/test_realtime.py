"""Steadiness: what is measured of it, what is asked of the system, and that a refusal is only reported."""

import gc
import os
import sys

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.bench import control as control_bench
from specprune_ros.cli import main as cli
from specprune_ros.config import RealTime
from specprune_ros.control.jitter import Jitter, Steadiness


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


@pytest.fixture
def thawed():
    before = sys.getswitchinterval()
    yield
    gc.unfreeze()
    sys.setswitchinterval(before)


def test_the_garbage_of_the_start_is_frozen_and_nothing_else_is_asked_for(thawed):
    realtime = pytest.importorskip("specprune_ros.ros.realtime")
    before = os.sched_getscheduler(0)
    assert list(realtime.prepare(RealTime())) == ["garbage collector", "threads"]
    assert gc.get_freeze_count() > 0 and sys.getswitchinterval() < 0.001 and os.sched_getscheduler(0) == before


def test_what_the_system_refuses_is_reported_with_the_remedy(thawed, monkeypatch):
    realtime = pytest.importorskip("specprune_ros.ros.realtime")

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(
        realtime.ctypes, "CDLL", lambda *a, **k: type("libc", (), {"mlockall": staticmethod(lambda flags: -1)})
    )
    report = realtime.prepare(RealTime(priority=40, lock_memory=True))
    assert "not granted" in report["priority"] and "rtprio 40" in report["priority"]
    assert "not locked" in report["memory"] and "memlock" in report["memory"]


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
