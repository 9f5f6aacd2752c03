"""The scripted expert: it succeeds, remembers nothing, and keeps to its limits."""

from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from properties import given
from sim_helpers import CLOSE, OPEN, numbers, vectors

from specprune_ros import rotation
from specprune_ros.sim import env as tabletop
from specprune_ros.sim.expert import expert_action
from specprune_ros.sim.tasks import Goal, Thing


@pytest.mark.parametrize("seed, scattered", [(0, False), (1, False), (2, False), (3, True)])
def test_the_expert_succeeds_and_depends_on_nothing_but_the_state(env, seed, scattered):
    env.reset(seed, scattered)
    states, actions = [env.state()], []
    while not env.success() and len(actions) < env.max_steps:
        actions.append(expert_action(states[-1]))
        states.append(env.step(actions[-1]))
    assert env.success(), f"not lifted within {env.max_steps} steps"
    for state, expected in zip(states[-2::-1], actions[::-1], strict=True):  # backwards: no memory of what came before
        before = numbers(state)
        np.testing.assert_array_equal(expert_action(state), expected)
        np.testing.assert_array_equal(numbers(state), before)
    for _ in range(4):
        env.hold()
    assert env.success()


@given(vectors(0.4), vectors(1.0), st.floats(0, 0.04), vectors(0.2))
def test_the_experts_actions_stay_within_their_limits(offset, tilt, finger, place):
    position = place + (0.5, 0.0, 0.25)
    assume(position[2] > 0)
    state = tabletop.SimState(
        time_s=0.0,
        ee_position_m=position,
        ee_quaternion_xyzw=rotation.multiply(rotation.from_rotvec(tilt), rotation.TOP_DOWN_XYZW),
        joint_positions_rad=np.zeros(7),
        joint_velocities=np.zeros(7),
        finger_positions_m=np.array([finger, finger]),
        things=MappingProxyType(
            {"red cube": Thing("cube", "red", position + offset), "blue cube": Thing("cube", "blue", np.zeros(3))}
        ),
        goals=(Goal("pick", "red cube"),),
    )
    result = expert_action(state)
    assert result.shape == (7,) and result.dtype == np.float64 and np.isfinite(result).all()
    assert np.linalg.norm(result[:3]) <= 0.6 + 1e-9 and np.linalg.norm(result[3:6]) <= 0.12 + 1e-9
    assert result[6] in (OPEN, CLOSE)
    assert result[:2] @ offset[:2] >= 0  # never away from the cube
    assert result[3:6] @ tilt <= 1e-9  # and always back to top-down
    np.testing.assert_array_equal(expert_action(state), result)
