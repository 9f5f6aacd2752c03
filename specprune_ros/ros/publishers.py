"""Who publishes a topic, as discovery knows it; and which of those are no longer there.

A process that was killed cannot say goodbye: discovery forgets it after about 20 s. Fast DDS writes the process into
the identifier of every publisher, so on this machine its end is seen at once.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

from specprune_ros.ros import owners

REFRESH_S = 0.5
"""How long a known list of publishers is believed while their number stays the same."""
UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
"""What rmw_fastrtps says until it has learnt the name."""
FAST_DDS = b"\x01\x0f"
"""The vendor, in the first two bytes of a publisher's identifier (DDS Interoperability Wire Protocol, vendor ids)."""
HOST, PROCESS = slice(2, 4), slice(4, 6)
"""Fast DDS puts an identifier of the machine and the lower half of the process id there (GuidUtils)."""
FORGOTTEN = "one that was killed is forgotten after about 20 s"


class Offer(NamedTuple):
    """One publisher. certain: its process was seen alive on this machine; elsewhere, and with other middlewares,
    nobody knows."""

    node: str
    kind: str
    reliable: bool
    certain: bool


class Publishers:
    """The publishers of one topic."""

    def __init__(self, node: Node, topic: str):
        self.topic = node.resolve_topic_name(topic)
        self._node, self._given = node, topic
        self._count = -1
        self._offers: tuple[Offer, ...] = ()
        self._asked_s = 0.0
        self._host: bytes | None = None
        self._seen_alive: set[bytes] = set()

    def offers(self) -> tuple[Offer, ...]:
        """Those that are there; cheap enough for every control period."""
        count, now_s = self._node.count_publishers(self.topic), time.monotonic()
        unnamed = any(offer.node == UNKNOWN_NODE for offer in self._offers)
        if count != self._count or unnamed or (count and now_s - self._asked_s > REFRESH_S):
            self._count, self._asked_s = count, now_s
            self._offers = self._living()
        return self._offers

    def besides_own(self) -> str | None:
        """Says so when this node, which publishes the topic itself, is not the only one."""
        offers = list(self.offers())
        own = next((offer for offer in offers if offer.node == self._node.get_fully_qualified_name()), None)
        if own:
            offers.remove(own)
        if not offers:
            return None
        hint = "" if all(offer.certain for offer in offers) else f"; {FORGOTTEN}"
        who = named(tuple(offer.node for offer in offers))
        others = f"{len(offers)} other publisher{'s' * (len(offers) > 1)} on {self.topic}: {who}"
        return f"{others}; stop {'them' if len(offers) > 1 else 'it'} first{hint}"

    def own_gid(self) -> bytes | None:
        """The identifier of this process's publisher; None where the middleware does not say whose it is."""
        host, mine = _own_host(self._node), (os.getpid() & 0xFFFF).to_bytes(2, "little")
        for info in self._node.get_publishers_info_by_topic(self._given):
            gid = bytes(info.endpoint_gid)
            if host is not None and gid[:2] == FAST_DDS and gid[HOST] == host and gid[PROCESS] == mine:
                return gid
        return None

    def nodes(self) -> tuple[str, ...]:
        return tuple(offer.node for offer in self.offers())

    def rivals(self) -> str | None:
        """Says so when there are several, where one is meant."""
        offers = self.offers()
        if len(offers) < 2:
            return None
        hint = "" if all(offer.certain for offer in offers) else f" ({FORGOTTEN})"
        who = named(tuple(offer.node for offer in offers))
        return f"{len(offers)} publishers on {self.topic}, {who}, where one is meant; stop the others{hint}"

    def _living(self) -> tuple[Offer, ...]:
        infos = self._node.get_publishers_info_by_topic(self._given)
        host = self._host = self._host or _own_host(self._node)
        living = []
        for info in infos:
            gid = bytes(info.endpoint_gid)
            local = host is not None and gid[:2] == FAST_DDS and gid[HOST] == host
            alive = local and _is_running(int.from_bytes(gid[PROCESS], "little"))
            if alive:
                self._seen_alive.add(gid)
            elif gid in self._seen_alive or owners.has_ended(gid):
                continue  # it was on this machine, and has ended
            reliable = info.qos_profile.reliability is ReliabilityPolicy.RELIABLE
            living.append(Offer(_full_name(info), info.topic_type, reliable, alive))
        return tuple(living)


def named(nodes: tuple[str, ...]) -> str:
    """Names of nodes for people to read: "/a, /b twice"."""
    times = {1: "", 2: " twice"}
    counts = {node: nodes.count(node) for node in nodes}
    return ", ".join(f"{node}{times.get(count, f' {count} times')}" for node, count in counts.items())


def _full_name(info) -> str:
    return info.node_name if info.node_name == UNKNOWN_NODE else f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def _own_host(node: Node) -> bytes | None:
    """How Fast DDS calls this machine; None with another middleware."""
    for info in node.get_publishers_info_by_topic("/parameter_events"):
        gid = bytes(info.endpoint_gid)
        if info.node_name == node.get_name() and info.node_namespace == node.get_namespace() and gid[:2] == FAST_DDS:
            return gid[HOST]
    return None


def _is_running(lower_half: int) -> bool:
    """Whether a process whose id ends with these 16 bits runs here; one that ended and was not waited for does not."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return any(pid & 0xFFFF == lower_half and owners.start_of(pid) for pid in pids)
