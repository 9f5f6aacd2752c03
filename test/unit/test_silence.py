"""A stream that fell silent is noticed by when it came as well as by its stamps, which a clock that is ahead makes too
young."""

import numpy as np
import pytest

from specprune_ros.observe.inputs import Inputs
from specprune_ros.types import EndEffector

PERIOD_NS, TIMEOUT_S = 50_000_000, 0.3
IMAGE = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(("ahead_s", "silent"), [(0.25, "camera"), (0.25, "state"), (0.0, "camera"), (-0.2, "state")])
def test_silence_is_noticed_after_the_timeout_wherever_the_publishers_clock_is(ahead_s, silent):
    inputs = Inputs(("/camera",), "/pose", 0, PERIOD_NS)
    held_after_s = None
    for i in range(40):
        now_ns = 10**9 + i * PERIOD_NS
        stamp_ns = now_ns + round(ahead_s * 1e9)
        if i < 20 or silent != "camera":
            inputs.set_image(0, stamp_ns, IMAGE)
        if i < 20 or silent != "state":
            inputs.set_state(EndEffector(stamp_ns, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])), None)
        reason = inputs.problem(now_ns, TIMEOUT_S)
        if reason and held_after_s is None:
            held_after_s = (i - 19) * 0.05
            named = "image of view 1 (/camera)" if silent == "camera" else "robot state (/pose)"
            assert named in reason and (("nothing new for 0.35 s (limit 0.30 s)" in reason) == (ahead_s > 0))
    assert held_after_s == pytest.approx(min(TIMEOUT_S, TIMEOUT_S + ahead_s) + 0.05)


def test_a_stream_that_comes_again_is_no_longer_silent():
    inputs = Inputs(("/camera",), "/pose", 0, PERIOD_NS)
    for now_ns, stamp_ns in ((1, 1), (400_000_000, 290_000_000), (500_000_000, 500_000_000)):
        inputs.set_image(0, stamp_ns, IMAGE)
        inputs.set_state(EndEffector(stamp_ns, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])), None)
        assert inputs.problem(now_ns, TIMEOUT_S) is None
    assert "is 0.40 s old" in inputs.problem(900_000_000, TIMEOUT_S)
