"""The one rule for gaps: what it says, and that everything which remembers obeys it, at once when it is changed."""

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given

from specprune_ros.config import Config
from specprune_ros.control.loop import ControlLoop
from specprune_ros.observe.gaps import clock_jumped_back, interruption
from specprune_ros.types import ActionChunk, Command, EndEffector, InferenceResult, PolicyMemory

PERIOD = 50_000_000
IMAGE = np.zeros((4, 4, 3), np.uint8)
CONFIG = Config(instruction="move")


def test_clock_jumped_back():
    assert not clock_jumped_back(None, 0, PERIOD)
    assert not clock_jumped_back(PERIOD, 1, PERIOD)
    assert clock_jumped_back(PERIOD, 0, PERIOD)


@given(st.integers(-(10**10), 10**10), st.floats(0.01, 10.0))
def test_a_gap_is_what_is_longer_than_the_timeout(step_ns, timeout_s):
    why = interruption(10**11, 10**11 + step_ns, PERIOD, timeout_s)
    assert (why is not None) == (step_ns <= -PERIOD or step_ns > timeout_s * 1e9)
    assert why is None or ("went back" in why) == (step_ns < 0)


def test_the_first_of_a_stream_interrupts_nothing():
    assert interruption(None, 5, PERIOD, 0.3) is None


class Rig:
    """A loop at 20 Hz whose cameras run at another rate, and a policy that takes `latency` periods."""

    def __init__(self, interval_s, latency=3, **changes):
        self.loop = ControlLoop(CONFIG.updated(changes), view_count=2, chunk_steps=8)
        self.interval_ns, self.latency = round(interval_s * 1e9), latency
        self.now, self.next_image, self.waiting, self.commands = 10**12, 10**12, None, 0

    def run(self, periods):
        loop = self.loop
        for _ in range(periods):
            while self.next_image <= self.now:
                loop.set_frame(self.next_image, (IMAGE, IMAGE))
                self.next_image += self.interval_ns
            state = EndEffector(self.now, np.array([0.5, 0.0, 0.3]), np.array([0.0, 0.0, 0.0, 1.0]))
            loop.set_state(state, np.zeros(8, np.float32))
            if self.waiting and self.waiting[0] <= self.now:
                loop.accept(answer(self.waiting[1]), self.now)
                self.waiting = None
            self.commands += isinstance(loop.tick(self.now), Command)
            if request := loop.request(self.now):
                self.waiting = self.now + self.latency * PERIOD, request
            self.now += PERIOD


def answer(request):
    stamp_ns = request.observation.stamp_ns
    chunk = ActionChunk(request.chunk_id, stamp_ns, np.full((8, 7), 0.1), request.mode, "move")
    return InferenceResult(request, chunk, report=None, memory=PolicyMemory("seen", "move", stamp_ns))


@pytest.mark.parametrize("rate_hz", [5.0, 6.0, 8.0, 30.0])
def test_a_steady_slow_camera_is_no_gap_while_its_images_may_be_acted_on(rate_hz):
    rig = Rig(1.0 / rate_hz, **{"control.observation_timeout": 0.4})
    rig.run(120)
    assert rig.loop.counters.resets == 0 and rig.loop.last_reset == ""
    assert rig.commands > 100
    assert rig.loop.counters.accepted > 5 and rig.loop.motion is not None


def test_a_true_gap_says_what_it_was_and_what_was_allowed():
    rig = Rig(1.0 / 6)
    rig.run(40)
    rig.next_image += 500_000_000
    rig.run(40)
    assert rig.loop.counters.resets == 1
    assert rig.loop.last_reset == "images: a gap of 0.67 s (control.observation_timeout 0.30 s)"


def test_a_live_change_of_the_timeout_takes_effect_at_once():
    rig = Rig(0.2, **{"control.observation_timeout": 0.15})
    rig.run(40)
    assert rig.loop.counters.resets > 5
    rig.loop.update_config(rig.loop.config.updated({"control.observation_timeout": 0.4}))
    before = rig.loop.counters.resets
    rig.run(40)
    assert rig.loop.counters.resets == before


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (lambda loop, now: loop.set_instruction("put it down"), "a new instruction: 'put it down'"),
        (lambda loop, now: loop.reset(), "a new beginning was asked for"),
        (lambda loop, now: loop.tick(now - 3 * 10**9), "the clock went back by 3.00 s"),
        (
            lambda loop, now: loop.set_image(1, now - 4 * 10**9, IMAGE),
            "image of view 2 (/camera/wrist/color/image_raw): the stamps went back by 4.00 s",
        ),
        (
            lambda loop, now: loop.set_state(
                EndEffector(now - 10**9, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])), np.zeros(8)
            ),
            "robot state (/franka_robot_state_broadcaster/current_pose): the stamps went back by 1.00 s",
        ),
    ],
)
def test_every_reset_says_why(event, why):
    loop = ControlLoop(CONFIG, view_count=2, chunk_steps=8)
    now = 10**12
    loop.set_frame(now, (IMAGE, IMAGE))
    loop.set_state(EndEffector(now, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])), np.zeros(8))
    loop.tick(now)
    event(loop, now)
    assert loop.last_reset == why and loop.counters.resets == 1


def test_a_gap_in_the_poses_only_forgets_the_measured_motion_and_says_so():
    rig = Rig(0.05)
    rig.run(40)
    rig.loop.set_state(EndEffector(rig.now + 10**9, np.array([0.5, 0.0, 0.3]), np.array([0, 0, 0, 1.0])), np.zeros(8))
    assert rig.loop.motion is None and rig.loop.counters.resets == 0
    assert rig.loop.last_reset.startswith("robot state, measured motion only: a gap of 1.0")
