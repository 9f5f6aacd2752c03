"""Steadiness: what is measured of it, what is asked of the system, and that a refusal is only reported."""

import gc
import os

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.bench import control as control_bench
from specprune_ros.cli import main as cli
from specprune_ros.config import RealTime
from specprune_ros.control.jitter import KEPT, Jitter


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=50))
def test_jitter_is_the_deviation_of_every_interval(intervals):
    jitter, now = Jitter(0.05), 100.0
    jitter.tick(now)
    for interval in intervals:
        now += interval
        jitter.tick(now)
    expected = np.abs(np.array(intervals) - 0.05) * 1e3
    got = jitter.summary_ms()
    assert got["periods"] == len(intervals)
    for name, value in (
        ("p50", np.percentile(expected, 50)),
        ("p99", np.percentile(expected, 99)),
        ("max", expected.max()),
    ):
        assert got[name] == pytest.approx(value, abs=1e-6)


def test_no_interval_has_no_summary_and_the_oldest_are_forgotten():
    jitter = Jitter(0.02)
    assert jitter.summary_ms() == {}
    jitter.tick(0.0)
    assert jitter.summary_ms() == {}
    now = 10.0
    jitter.tick(now)
    for _ in range(KEPT):
        now += 0.02
        jitter.tick(now)
    assert jitter.summary_ms()["max"] < 1e-6


@pytest.fixture
def thawed():
    yield
    gc.unfreeze()


def test_the_garbage_of_the_start_is_frozen_and_nothing_else_is_asked_for(thawed):
    realtime = pytest.importorskip("specprune_ros.ros.realtime")
    before = os.sched_getscheduler(0)
    assert list(realtime.prepare(RealTime())) == ["garbage collector"]
    assert gc.get_freeze_count() > 0 and os.sched_getscheduler(0) == before


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
        "p50": 0.5,
        "p99": 2.0,
        "max": 9.0,
        "periods": 100.0,
        "requests": 10.0,
        "latency p50 [ms]": 80.0,
    }
    table = control_bench.table({"rows": [row]})
    assert table.row_count == 1 and [column.header for column in table.columns][0] == "rate"


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "x"])
def test_a_length_that_is_none_is_refused(minutes, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["bench", "--control", "--minutes", minutes])
    assert stop.value.code == 2 and "--minutes" in capsys.readouterr().err
