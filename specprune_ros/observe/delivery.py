"""How a stream's messages get here, judged by their stamps: regular, slow, with holes, late, or not at all.

Nothing here decides whether the arm may move; it is what the reason says when it may not (`observe.inputs`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from specprune_ros.types import NANOSECONDS

WINDOW_S = 2.0
"""How far back messages are considered [s]."""
FEWEST, MOST = 4, 256
"""Least number of intervals from which a rhythm is derived, and most arrivals that are kept. To have FEWEST, a slow
stream keeps arrivals that are older than WINDOW_S."""
MANY_LOST = 0.1
"""Losses are reported from this share on."""
FAST_SHARE = 0.2
"""The quantile of the intervals that is taken for the sender's own interval: losses only make intervals longer."""
SLOW_SHARE = 1.5
"""A silence of up to this many intervals is normal for the stream."""
OTHER_TIME_S = 1e6
"""No clock is wrong by this much [s]. A larger difference means that the stamps are of another kind of time: simulated
instead of real, or the reverse."""
LARGE_BYTES = 500_000
"""Fast DDS's default segment of shared memory holds 0.5 MB."""

PROFILE_ADVICE = (
    "such messages are larger than Fast DDS's default shared memory: start the camera with "
    "FASTRTPS_DEFAULT_PROFILES_FILE set to config/fastdds.xml of specprune_ros, or set topics.image_transport: "
    "compressed"
)
NETWORK_ADVICE = "check the network between the camera and this machine, or set topics.image_transport: compressed"


@dataclass(frozen=True)
class Channel:
    """What the middleware knows of a stream. topic: its full name; publishers: names of the nodes that offer it;
    obstacle: why none of them can be heard; message_bytes: size of the newest message, 0 before the first."""

    topic: str
    publishers: tuple[str, ...] = ()
    obstacle: str = ""
    message_bytes: int = 0


class Rhythm(NamedTuple):
    """interval_s: the sender's own interval; lost: messages that never arrived; sent: those and the ones that did."""

    interval_s: float
    lost: int
    sent: int

    @property
    def share(self) -> float:
        """The lost messages as a share of those that were sent, 0..1."""
        return self.lost / self.sent


class _Arrival(NamedTuple):
    stamp_ns: int
    sequence: int | None
    follows: bool
    """Whether every message between the one before and this one was looked at, if it arrived."""


class Delivery:
    """The arrivals of one stream's messages."""

    def __init__(self, publisher: str):
        """publisher: what publishes it, for people to read: the camera, the robot driver."""
        self.publisher = publisher
        self.channel: Channel | None = None
        """None where nobody tells: without ROS."""
        self.clear()

    def clear(self) -> None:
        """Forget all arrivals."""
        self._arrivals: deque[_Arrival] = deque(maxlen=MOST)
        self._arrived_ns: int | None = None
        self._late_ns = 0

    def note(self, stamp_ns: int, now_ns: int, sequence: int | None = None, follows: bool = True) -> None:
        """A message came. sequence: the publisher's count, where the middleware tells; follows: False when messages
        before this one may have been overwritten unread."""
        if self._arrivals and stamp_ns < self._arrivals[-1].stamp_ns:
            self._arrivals.clear()
        self._arrivals.append(_Arrival(stamp_ns, sequence, follows))
        oldest_ns = stamp_ns - round(WINDOW_S * NANOSECONDS)
        while self._arrivals[0].stamp_ns < oldest_ns and len(self._arrivals) > FEWEST + 1:
            self._arrivals.popleft()
        self._arrived_ns, self._late_ns = now_ns, now_ns - stamp_ns

    def rhythm(self) -> Rhythm | None:
        """The sender's interval and what was lost of the last WINDOW_S; None while there is too little to tell."""
        pairs = [(a, b) for a, b in zip(self._arrivals, list(self._arrivals)[1:], strict=False) if b.follows]
        intervals = sorted(
            (b.stamp_ns - a.stamp_ns) // (_counted(a, b) or 1) for a, b in pairs if b.stamp_ns > a.stamp_ns
        )
        if len(intervals) < FEWEST:
            return None
        own_ns = max(1, intervals[int(FAST_SHARE * len(intervals))])
        lost = sum(_missing(a, b, own_ns) for a, b in pairs)
        return Rhythm(own_ns / NANOSECONDS, lost, lost + len(pairs))

    def losses(self) -> str | None:
        """What is lost on the way, with a remedy; None while it is little."""
        rhythm = self.rhythm()
        if rhythm is None or rhythm.share < MANY_LOST:
            return None
        size = self.channel.message_bytes if self.channel else 0
        what = f"messages of {size / 1e6:.1f} MB" if size else "messages"
        advice = PROFILE_ADVICE if size > LARGE_BYTES else NETWORK_ADVICE
        return (
            f"{rhythm.lost} of the last {rhythm.sent} {what} were lost on the way ({self.publisher} sends one every "
            f"{rhythm.interval_s:.3f} s); {advice}"
        )

    def why_nothing(self) -> str:
        """Why nothing has come yet."""
        channel = self.channel
        if channel is None:
            return f"check that {self.publisher} publishes"
        if channel.obstacle:
            return channel.obstacle
        if not channel.publishers:
            return f"nobody publishes {channel.topic}; start {self.publisher} or correct the name of the topic"
        return f"{channel.topic} is offered by {_names(channel.publishers)}, but nothing has arrived here"

    def why_old(self, now_ns: int, timeout_s: float) -> str:
        """Why the newest message is too old."""
        if self._arrived_ns is None:
            return self.why_nothing()
        silence_s = (now_ns - self._arrived_ns) / NANOSECONDS
        if silence_s <= timeout_s:
            return self._why_late(timeout_s)
        rhythm = self.rhythm()
        if rhythm and silence_s < SLOW_SHARE * rhythm.interval_s:
            return (
                f"{self.publisher} sends one every {rhythm.interval_s:.2f} s; set control.observation_timeout above "
                "that and the time on the way, or make it faster"
            )
        heard = f"{self._who_fell_silent()} {silence_s:.2f} s ago"
        losses = self.losses()
        return f"{losses}; {heard}" if losses else heard

    def _why_late(self, timeout_s: float) -> str:
        """Messages come, and are old when they do."""
        if len(self._arrivals) > 1 and self._arrivals[0].stamp_ns == self._arrivals[-1].stamp_ns:
            return f"messages arrive, but always with the same stamp; check the driver of {self.publisher}"
        late_s = self._late_ns / NANOSECONDS
        if late_s > timeout_s:
            return (
                f"messages arrive {late_s:.2f} s after their stamps; check that the clocks agree and what delays them"
            )
        return (
            self.losses() or f"the newest arrived {late_s:.2f} s after its stamp; check that {self.publisher} keeps up"
        )

    def _who_fell_silent(self) -> str:
        channel = self.channel
        if channel is None:
            return f"check that {self.publisher} publishes; it was heard last"
        if not channel.publishers:
            return f"{channel.topic} has no publisher any more; it was heard last"
        return f"{channel.topic} is still offered by {_names(channel.publishers)}, and was heard last"


def other_time(stamp_ns: int, now_ns: int) -> str | None:
    """Says so when a stamp is of another kind of time than ours: simulated instead of real, or the reverse."""
    ahead_s = (stamp_ns - now_ns) / NANOSECONDS
    if ahead_s < -OTHER_TIME_S:
        return (
            f"is stamped in simulated time ({stamp_ns / NANOSECONDS:.1f} s), while this node runs on the real clock; "
            "set use_sim_time: true"
        )
    if ahead_s > OTHER_TIME_S:
        return (
            f"is stamped in real time, while this node runs on simulated time ({now_ns / NANOSECONDS:.1f} s); set "
            "use_sim_time: false, or let the publisher use /clock as well"
        )
    return None


def _counted(before: _Arrival, after: _Arrival) -> int | None:
    """How far the publisher counted from one message to another; None where nobody tells."""
    if before.sequence is None or after.sequence is None or after.sequence <= before.sequence:
        return None
    return after.sequence - before.sequence


def _missing(before: _Arrival, after: _Arrival, own_ns: int) -> int:
    """Messages between two that arrived: by the publisher's own count where it is known, else by the stamps."""
    counted = _counted(before, after)
    if counted is None:
        counted = round((after.stamp_ns - before.stamp_ns) / own_ns)
    return max(0, counted - 1)


def _names(publishers: tuple[str, ...]) -> str:
    return " and ".join(dict.fromkeys(publishers))
