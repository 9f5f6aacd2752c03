"""tf2_ros as its documentation describes it, for one parent and one child: what of it our code uses, and no more.

Where the real one is installed, the tests run on both.
"""

import math

from geometry_msgs.msg import TransformStamped

NANOSECONDS = 1_000_000_000


class TransformException(Exception):
    pass


class LookupException(TransformException):
    pass


class ExtrapolationException(TransformException):
    pass


class Buffer:
    """Transforms of ten seconds; between two of them it interpolates, outside it refuses."""

    CACHE_NS = 10 * NANOSECONDS

    def __init__(self, cache_time=None, node=None):
        self._stored = []

    def set_transform(self, transform, authority):
        stamp = stamp_of(transform)
        if self._stored and stamp < stamp_of(self._stored[-1]) - self.CACHE_NS:
            return  # data from the past
        self._stored = sorted([*self._stored, transform], key=stamp_of)

    def clear(self):
        self._stored = []

    def lookup_transform(self, target_frame, source_frame, time, timeout=None):
        for frame in (target_frame, source_frame):
            if not any(frame in (t.header.frame_id, t.child_frame_id) for t in self._stored):
                raise LookupException(f'"{frame}" passed to lookupTransform does not exist.')
        asked = time.nanoseconds
        after = [t for t in self._stored if stamp_of(t) >= asked]
        before = [t for t in self._stored if stamp_of(t) <= asked]
        if not after or not before:
            direction = "past" if after else "future"
            raise ExtrapolationException(f"Lookup would require extrapolation into the {direction}.")
        return interpolated(before[-1], after[0], asked)


class TransformListener:
    """Hears nothing: tests store into the buffer."""

    def __init__(self, buffer, node):
        self.listening = True

    def unregister(self):
        self.listening = False


def stamp_of(transform):
    return transform.header.stamp.sec * NANOSECONDS + transform.header.stamp.nanosec


def interpolated(a, b, stamp_ns):
    span = stamp_of(b) - stamp_of(a)
    share = (stamp_ns - stamp_of(a)) / span if span else 0.0
    found = TransformStamped(child_frame_id=a.child_frame_id)
    found.header.frame_id = a.header.frame_id
    found.header.stamp.sec, found.header.stamp.nanosec = divmod(stamp_ns, NANOSECONDS)
    for axis in "xyz":
        values = (getattr(t.transform.translation, axis) for t in (a, b))
        setattr(found.transform.translation, axis, mixed(*values, share))
    turns = [[getattr(t.transform.rotation, axis) for axis in "xyzw"] for t in (a, b)]
    sign = math.copysign(1.0, sum(p * q for p, q in zip(*turns, strict=True)))
    turned = [mixed(p, sign * q, share) for p, q in zip(*turns, strict=True)]  # close enough for small angles
    length = math.hypot(*turned)
    for axis, value in zip("xyzw", turned, strict=True):
        setattr(found.transform.rotation, axis, value / length)
    return found


def mixed(a, b, share):
    return (1 - share) * a + share * b
