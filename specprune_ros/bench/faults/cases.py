"""The faults, each with what it does to a stand-in robot, a policy or the node, and how the node must end up."""

from __future__ import annotations

import itertools
import math
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from specprune_ros.bench.faults.robot import StandInRobot
from specprune_ros.ros import convert

HOLDS, DISARMS, ENDS = "holds", "disarms", "ends"
"""The arm rests until the fault has passed; it must be armed again; the node's process is gone."""


class Scene(Protocol):
    """What a fault can reach."""

    robot: StandInRobot

    def say(self, text: str) -> None:
        """Give the scripted policy another instruction: what it then does is in policy.py."""

    def call(self, service: str) -> None:
        """Call one of the node's services without waiting."""

    def send_signal(self, number: int) -> None:
        """To the node's process."""

    def kill_model(self, number: int) -> None:
        """A signal to the process of the model."""

    def rival(self, present: bool) -> None:
        """A second publisher on the command topic."""


@dataclass(frozen=True)
class Fault:
    """A fault begins with `begin`. outcome: HOLDS, DISARMS or ENDS; hint: part of the reason that must be named."""

    name: str
    begin: Callable[[Scene], None]
    outcome: str
    hint: str = ""


def silent(stream) -> Callable[[Scene], None]:
    return lambda scene: scene.robot.silent.add(stream)


def spoiled(stream, spoil) -> Callable[[Scene], None]:
    """spoil(): makes what is called with every message, so that each repetition starts afresh."""
    return lambda scene: scene.robot.spoil.update({stream: spoil()})


def said(text) -> Callable[[Scene], None]:
    return lambda scene: scene.say(text)


def changed(**values):
    """Overwrites fields of a message."""

    def spoil(message) -> None:
        for name, value in values.items():
            setattr(message, name, value)

    return lambda: spoil


def stamped(seconds: float):
    """Stamped so much earlier."""

    def spoil(message) -> None:
        stamp_ns = convert.stamp_ns(message.header, "") - round(seconds * 1e9)
        message.header.stamp = convert.header(stamp_ns, "").stamp

    return lambda: spoil


def stuck():
    """The stamp of the first message, for ever."""
    first: list = []

    def spoil(message) -> None:
        first.append(message.header.stamp)
        message.header.stamp = first[0]

    return spoil


def unstamped():
    def spoil(message) -> None:
        message.header.stamp = convert.header(0, "").stamp

    return spoil


def at(**place):
    def spoil(message) -> None:
        for name, value in place.items():
            setattr(message.pose.position, name, value)

    return lambda: spoil


def in_turns():
    """Two places, one after the other."""
    turns = itertools.count()
    return lambda message: setattr(message.pose.position, "x", 0.4 + next(turns) % 2)


def in_frame(name: str):
    return lambda: lambda message: setattr(message.header, "frame_id", name)


def no_rotation():
    """A quaternion of length sqrt(2)."""
    return lambda message: setattr(message.pose.orientation, "w", 1.0)


def finger_lost():
    return lambda message: message.position.__setitem__(-1, math.nan)


def shortened():
    def spoil(message) -> None:
        del message.data[-1:]

    return spoil


def covered():
    return lambda message: message.data.__setitem__(slice(None), type(message.data)("B", bytes(len(message.data))))


def noisy():
    rng = np.random.default_rng(0)

    def spoil(message) -> None:
        message.data[:] = type(message.data)("B", rng.integers(0, 256, len(message.data), np.uint8).tobytes())

    return spoil


def freeze(scene: Scene) -> None:
    scene.robot.frozen = True


def push(scene: Scene) -> None:
    """By a hand that is stronger than the controller."""
    scene.robot.frozen, scene.robot.push = True, np.array([0.0, 0.25, 0.0])


def drift(scene: Scene) -> None:
    """At 2 cm/s, while it is told to rest."""
    scene.say("still")
    scene.robot.frozen, scene.robot.push = True, np.array([0.0, 0.02, 0.0])


def jump(scene: Scene) -> None:
    scene.robot.frozen = True
    scene.robot.x = scene.robot.x - 0.25


def twist_wrist(scene: Scene) -> None:
    scene.robot.frozen = True
    scene.robot.place(scene.robot.position, (math.cos(0.3), math.sin(0.3), 0.0, 0.0))


FAULTS = (
    Fault("camera silent", silent(0), HOLDS, "image of view 1"),
    Fault("wrist camera silent", silent(1), HOLDS, "image of view 2"),
    Fault("camera stamps stand still", spoiled(0, stuck), HOLDS, "image of view 1"),
    Fault("camera 0.6 s late", spoiled(1, stamped(0.6)), HOLDS, "image of view 2"),
    Fault("camera 5 s ahead", spoiled(0, stamped(-5.0)), HOLDS, "future"),
    Fault("camera without stamps", spoiled(1, unstamped), HOLDS, "no time stamp"),
    Fault("wrong image encoding", spoiled(0, changed(encoding="16UC1")), HOLDS, "16UC1"),
    Fault("image too short", spoiled(1, shortened), HOLDS, "bytes"),
    Fault("camera covered", spoiled(0, covered), HOLDS, "black"),
    Fault("camera noisy", spoiled(1, noisy), HOLDS, "noise"),
    Fault("pose silent", silent("pose"), HOLDS, "robot state"),
    Fault("pose stamps stand still", spoiled("pose", stuck), HOLDS, "robot state"),
    Fault("pose 0.6 s late", spoiled("pose", stamped(0.6)), DISARMS, "went back"),
    Fault("pose not finite", spoiled("pose", at(y=math.nan)), HOLDS, "not finite"),
    Fault("pose with a wrong quaternion", spoiled("pose", no_rotation), HOLDS, "quaternion"),
    Fault("pose in another frame", spoiled("pose", in_frame("world")), HOLDS, "world"),
    Fault("pose elsewhere for good", spoiled("pose", at(x=1.4)), DISARMS, "possible"),
    Fault("two poses in turn", spoiled("pose", in_turns), DISARMS, "the end effector"),
    Fault("fingers silent", silent("joints"), HOLDS, "joint_states"),
    Fault("finger not finite", spoiled("joints", finger_lost), HOLDS, "nan"),
    Fault("arm frozen", freeze, DISARMS, "follow"),
    Fault("arm pushed", push, DISARMS, "the end effector"),
    Fault("resting arm drifts", drift, DISARMS, "the end effector"),
    Fault("arm jumps", jump, DISARMS, "the end effector"),
    Fault("wrist jumps", twist_wrist, DISARMS, "the end effector"),
    Fault("inference raises", said("raise"), HOLDS, "the model broke"),
    Fault("actions not finite", said("nan"), HOLDS, "not finite"),
    Fault("chunk too short", said("short"), HOLDS, "steps"),
    Fault("inference too slow", said("slow"), HOLDS, "running"),
    Fault("no instruction", said(""), HOLDS, "no instruction"),
    Fault("model hangs", said("hang"), DISARMS, "has been running for"),
    Fault("model holds the interpreter", said("gil"), DISARMS, "has been running for"),
    Fault("model crashes", said("segv"), DISARMS, "SIGSEGV"),
    Fault("model ends", said("exit"), DISARMS, "3"),
    Fault("model killed", lambda scene: scene.kill_model(signal.SIGKILL), DISARMS, "SIGKILL"),
    Fault("model stopped", lambda scene: scene.kill_model(signal.SIGSTOP), DISARMS, "has been running for"),
    Fault("second publisher of commands", lambda scene: scene.rival(True), DISARMS, "publisher"),
    Fault("~/disarm", lambda scene: scene.call("disarm"), DISARMS, "~/disarm"),
    Fault("~/estop", lambda scene: scene.call("estop"), DISARMS, "~/estop"),
    Fault("SIGKILL", lambda scene: scene.send_signal(signal.SIGKILL), ENDS),
    Fault("SIGINT", lambda scene: scene.send_signal(signal.SIGINT), ENDS),
    Fault("SIGHUP", lambda scene: scene.send_signal(signal.SIGHUP), ENDS),
    Fault("SIGTERM", lambda scene: scene.send_signal(signal.SIGTERM), ENDS),
    Fault("exception in the node", said("crash"), ENDS),
)
