"""Rotations against matrices that are written out with Rodrigues' formula."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from properties import given
from sim_helpers import matrix, rodrigues, vectors

from specprune_ros import rotation

rotvecs = vectors(3.6)


@given(rotvecs)
def test_from_rotvec_is_rodrigues(rotvec):
    q = rotation.from_rotvec(rotvec)
    assert np.linalg.norm(q) == pytest.approx(1.0)
    np.testing.assert_allclose(matrix(q), rodrigues(rotvec), atol=1e-8)


@given(rotvecs, rotvecs)
def test_multiply_and_conjugate_are_matrix_product_and_transpose(a, b):
    product = rotation.multiply(rotation.from_rotvec(a), rotation.from_rotvec(b))
    np.testing.assert_allclose(matrix(product), rodrigues(a) @ rodrigues(b), atol=1e-8)
    np.testing.assert_allclose(matrix(rotation.conjugate(product)), (rodrigues(a) @ rodrigues(b)).T, atol=1e-8)


@given(rotvecs, st.sampled_from((1, -1)))
def test_rotation_vectors_are_the_same_rotation_whatever_the_quaternions_sign(rotvec, sign):
    q = sign * rotation.from_rotvec(rotvec)
    shortest, forward = rotation.to_rotvec(q), rotation.to_rotvec_x_positive(q)
    for result in (shortest, forward):
        np.testing.assert_allclose(rodrigues(result), rodrigues(rotvec), atol=1e-7)
    assert np.linalg.norm(shortest) <= math.pi + 1e-12
    assert forward[0] >= 0 and np.linalg.norm(forward) <= 2 * math.pi + 1e-12
    if np.linalg.norm(rotvec) < math.pi - 1e-6:
        np.testing.assert_allclose(shortest, rotvec, atol=1e-8)


@given(rotvecs, rotvecs)
def test_difference_turns_one_into_the_other(to, start):
    turn = rotation.difference(rotation.from_rotvec(to), rotation.from_rotvec(start))
    np.testing.assert_allclose(rodrigues(turn) @ rodrigues(start), rodrigues(to), atol=1e-7)
    assert np.linalg.norm(turn) <= math.pi + 1e-12


@given(vectors(1.2), vectors(1e-4))
def test_proprio_rotation_is_continuous_around_top_down(tilt, nudge):
    """The shortest rotation vector would jump between +pi and -pi here."""
    pose = rotation.multiply(rotation.from_rotvec(tilt), rotation.TOP_DOWN_XYZW)
    nudged = rotation.multiply(rotation.from_rotvec(nudge), pose)
    gap = rotation.to_rotvec_x_positive(pose) - rotation.to_rotvec_x_positive(nudged)
    assert np.linalg.norm(gap) < 20 * np.linalg.norm(nudge) + 1e-9


def test_top_down_points_down_with_the_fingers_along_y():
    x, y, z = matrix(rotation.TOP_DOWN_XYZW).T
    np.testing.assert_array_equal([x, y, z], [[1, 0, 0], [0, -1, 0], [0, 0, -1]])
