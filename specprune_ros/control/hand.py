"""The gripper as a state machine: what the policy wants, what the hand was told, and how that ended.

A gripper's goal takes a second or more and may fail, so it is followed to its end: a goal that failed is tried once
more, and then reported with its numbers until something else is wanted. While one goal runs no other is sent; a
changed wish cancels it first, because Franka's server runs every goal in a thread of its own.

No ROS and no clock: the shell (ros/gripper.py) sends the orders, and says what came of them. `now_s` is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

MOST_TRIES = 2
"""A goal that failed is sent once more: whatever fails twice needs a person."""
PAUSE_S = 0.3
"""Between the failure of a goal and the second try: a driver needs a moment to settle."""
CANCEL_S = 1.0
"""A canceled goal that has not ended after this time is given up."""
HOME_AGAIN_S = 5.0
"""Homing that failed for good is asked for again by the next arming, but not sooner than this."""


class Task(str, Enum):
    """What a hand can be told; the value is the word for it in messages."""

    OPEN = "opening"
    CLOSE = "closing"
    HOME = "homing"


DONE = {Task.OPEN: "open", Task.CLOSE: "closed", Task.HOME: "homed", None: "nothing"}


class End(str, Enum):
    """How a goal ended."""

    SUCCEEDED = "succeeded"
    REJECTED = "was rejected"
    ABORTED = "was aborted"
    CANCELED = "was canceled by somebody else"


@dataclass(frozen=True)
class HandSettings:
    """Lengths are positions of one finger: half the width between the fingers on a Franka."""

    open_m: float
    """Where the fingers are when the hand is open."""
    tolerance_m: float
    """How much less still counts as open: two hands of the same model opened to 0.0797 m and to 0.0803 m."""
    homing: bool = False
    """Whether the hand is homed before the arm is armed for the first time."""
    answer_s: float = 2.0
    """How long a server may take to accept a goal."""
    result_s: float = 10.0
    """How long opening or closing may take."""
    homing_s: float = 30.0
    """How long homing may take."""


@dataclass(frozen=True)
class Goal:
    """One thing to tell the hand. number: which goal, for the answers to it; position_m: of one finger."""

    number: int
    task: Task
    position_m: float


@dataclass(frozen=True)
class Cancel:
    """The goal with this number must end."""

    number: int


@dataclass(frozen=True)
class HandState:
    """What there is to know about the hand, in words, for diagnostics."""

    wanted: str
    """open, closed, or nothing."""
    doing: str
    """What it is being told at the moment."""
    reached: str
    """What it did last; nothing when that is not known."""
    error: str
    """Why it does not do what is wanted, with the remedy; empty while all is well."""


@dataclass
class _Attempt:
    """A goal on its way. since_s: when it was sent, or accepted; canceled_s: when its end was asked for."""

    goal: Goal
    since_s: float
    accepted: bool = False
    canceled_s: float | None = None


class Hand:
    """Follows one gripper."""

    def __init__(self, settings: HandSettings):
        self.settings = settings
        self.error = ""
        self._wish: Task | None = None
        self._reached: Task | None = None
        self._attempt: _Attempt | None = None
        self._tries: dict[Task, int] = {}
        self._again_s = 0.0
        self._number = 0
        self._open_m = settings.open_m
        self._homed = not settings.homing
        self._home_wanted = False
        self._home_wanted_s = 0.0
        self._home_failed_s: float | None = None

    # What is wanted.

    def want(self, opening: float, hysteresis: float) -> None:
        """The policy's wish now: 0 closed .. 1 open. Near the middle the last wish stands, so that a wavering policy
        does not make the hand chatter; hysteresis: how far beyond the middle it must be to change the wish."""
        margin = 0.0 if self._wish is None else hysteresis
        if abs(opening - 0.5) <= margin:
            return
        wish = Task.OPEN if opening > 0.5 else Task.CLOSE
        if wish is not self._wish:
            self._wish = wish
            self._forget_failures()

    def prepare(self, now_s: float) -> str | None:
        """The arm is about to be armed: begins homing where that is still to be done. What speaks against arming."""
        if self._homed:
            return None
        if not self._home_wanted:
            if self._home_failed_s is not None and now_s - self._home_failed_s < HOME_AGAIN_S:
                return self.error
            self._home_wanted, self._home_wanted_s = True, now_s
            self._forget_failures()
        return self.error or "the gripper is being homed (output.gripper_homing); keep its fingers free"

    @property
    def preparing(self) -> bool:
        """Whether homing is under way: who arms may wait for it."""
        return self._home_wanted

    @property
    def busy(self) -> bool:
        """Whether a goal is on its way."""
        return self._attempt is not None

    def release(self) -> None:
        """Others may move the hand from now on, so the next wish is a command again. A goal under way is followed."""
        self._wish = self._reached = None
        self._home_wanted = self._home_wanted and self._attempt is not None
        self._forget_failures()

    # What is sent, and what comes of it.

    def next(self, now_s: float, obstacle: Callable[[Task], str | None]) -> Goal | Cancel | None:
        """What to send now. obstacle(task): why it cannot be sent or followed now (no server)."""
        if self._attempt is not None:
            return self._follow(self._attempt, now_s, obstacle(self._attempt.goal.task))
        task = self._task()
        if task is None or now_s < self._again_s:
            return None
        if text := obstacle(task):
            self.error = f"{task.value} is not possible: {text}"
            if task is Task.HOME and now_s - self._home_wanted_s > self.settings.answer_s:
                self._home_wanted, self._home_failed_s = False, now_s
            return None
        return self._begin(task, now_s)

    def accepted(self, number: int, now_s: float) -> bool:
        """The server took the goal. Returns whether it is still waited for; else it should be canceled."""
        if self._attempt is None or self._attempt.goal.number != number:
            return False
        self._attempt.accepted, self._attempt.since_s = True, now_s
        return True

    def ended(self, number: int, end: End, detail: str, now_s: float) -> None:
        """A goal ended. detail: numbers, or the server's own words. Ends of goals that were given up are ignored."""
        attempt = self._attempt
        if attempt is None or attempt.goal.number != number:
            return
        self._attempt = None
        if end is End.SUCCEEDED:
            self._succeeded(attempt.goal)
        elif attempt.canceled_s is not None:
            self._reached = None  # the fingers stopped somewhere
        else:
            last = end is End.CANCELED  # somebody wants it otherwise
            self._failed(attempt.goal, f"{end.value}{detail and f' ({detail})'}", now_s, last)

    def state(self, now_s: float) -> HandState:
        """The record for diagnostics."""
        doing = "nothing"
        if self._attempt:
            goal, since_s = self._attempt.goal, now_s - self._attempt.since_s
            phase = "accepted" if self._attempt.accepted else "sent"
            doing = f"{goal.task.value}, try {self._tries[goal.task]} of {MOST_TRIES}, {phase} {since_s:.1f} s ago"
        return HandState(DONE[self._wish], doing, DONE[self._reached], self.error)

    # Inside.

    def _task(self) -> Task | None:
        """What should be done next."""
        if self._home_wanted:
            return Task.HOME
        wish = self._wish
        done = wish is None or wish is self._reached or self._tries.get(wish, 0) >= MOST_TRIES
        return None if done else wish

    def _begin(self, task: Task, now_s: float) -> Goal:
        self._number += 1
        self._tries[task] = self._tries.get(task, 0) + 1
        position_m = self._open_m if task is Task.OPEN else 0.0
        if task is Task.OPEN and self._tries[task] > 1:
            position_m = max(0.0, self.settings.open_m - self.settings.tolerance_m)
        goal = Goal(self._number, task, position_m)
        self._attempt = _Attempt(goal, now_s)
        return goal

    def _follow(self, attempt: _Attempt, now_s: float, obstacle: str | None) -> Cancel | None:
        """A goal on its way: given up when its time is over, canceled when something else is wanted."""
        goal, taken_s = attempt.goal, now_s - attempt.since_s
        if obstacle:
            self._attempt = None
            self._tries[goal.task] -= 1  # no failure of the hand: sent again when the server is back
            self._failed(goal, f"got no result: the server vanished ({obstacle})", now_s)
        elif attempt.canceled_s is not None and now_s - attempt.canceled_s > CANCEL_S:
            self._attempt, self._reached = None, None
        elif attempt.canceled_s is None and taken_s > (bound_s := self._bound_s(attempt)):
            self._attempt = None
            what = "has no result" if attempt.accepted else "was not answered"
            self._failed(
                goal, f"{what} after {taken_s:.1f} s (bound {bound_s:g} s); restart the gripper's driver", now_s
            )
            return Cancel(goal.number)
        elif attempt.accepted and attempt.canceled_s is None and self._unwanted(goal.task):
            attempt.canceled_s = now_s
            return Cancel(goal.number)
        return None

    def _bound_s(self, attempt: _Attempt) -> float:
        if not attempt.accepted:
            return self.settings.answer_s
        return self.settings.homing_s if attempt.goal.task is Task.HOME else self.settings.result_s

    def _unwanted(self, task: Task) -> bool:
        """Whether the policy now wants something else than this task. Without any wish the task goes on, so that a held
        object is not dropped."""
        return task is not Task.HOME and self._wish is not None and self._wish is not task

    def _succeeded(self, goal: Goal) -> None:
        self.error = ""
        self._tries.pop(goal.task, None)
        self._reached = goal.task
        if goal.task is Task.HOME:
            self._homed, self._home_wanted = True, False
        elif goal.task is Task.OPEN:
            self._open_m = goal.position_m  # what this hand can reach is asked for from now on

    def _failed(self, goal: Goal, text: str, now_s: float, last: bool = False) -> None:
        self._reached = None  # nobody knows where the fingers are
        self._again_s = now_s + PAUSE_S
        if last:
            self._tries[goal.task] = MOST_TRIES
        final = self._tries[goal.task] >= MOST_TRIES
        if goal.task is Task.HOME and final:
            self._home_wanted, self._home_failed_s = False, now_s
        where = "" if goal.task is Task.HOME else f" to {goal.position_m:.4g} m a finger"
        self.error = (
            f"{goal.task.value}{where} {text}; {'given up until something else is wanted' if final else 'trying again'}"
        )

    def _forget_failures(self) -> None:
        self._tries = {
            task: tries for task, tries in self._tries.items() if self._attempt and task is self._attempt.goal.task
        }
        self.error = ""
        self._again_s = 0.0


def judged(goal: Goal, end: End, reached: bool, stalled: bool, position_m: float, tolerance_m: float) -> End:
    """What a result of control_msgs/action/GripperCommand says about a goal.

    Fingers that stand still while they close have grasped something, also where the server calls that a failure.
    Fingers that stand still while they open have not opened, also where the server calls that a success, unless they
    are as good as there. position_m: of one finger, or the whole width (Franka), which only makes it larger."""
    if goal.task is Task.CLOSE and stalled and end is not End.CANCELED:
        return End.SUCCEEDED
    if goal.task is Task.OPEN and end is End.SUCCEEDED and stalled and not reached:
        return End.SUCCEEDED if position_m >= goal.position_m - tolerance_m else End.ABORTED
    return end
