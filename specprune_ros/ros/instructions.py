"""Words for the robot, by topic and by parameter, handed to the one rule in the order in which they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from std_msgs.msg import String

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from specprune_ros.config import Config
from specprune_ros.control.instruction import Instruction
from specprune_ros.ros import qos

PARAMETER = "instruction"
BY_PARAMETER = f"the parameter {PARAMETER}"

LATCHED_IN = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Hears what a latched publisher said before; a publisher that is not latched is not heard by it at all."""

REMEMBERED = 32
"""Messages that are recognised when they come in a second time."""


class Instructions:
    """The instruction in force. Listens from the node's start to its end, in every state of its lifecycle."""

    def __init__(self, node: Node, config: Config):
        self._node, self._topic = node, config.topics.instruction
        self._rule = Instruction(config.instruction, BY_PARAMETER)
        self._heard: deque[int] = deque(maxlen=REMEMBERED)
        # Two subscriptions: ordinary publishers are heard by the first, what a latched one said before by the second.
        told = (
            self._on_message if hasattr(Subscription, "CallbackType") else lambda message: self._on_message(message, {})
        )
        node.create_subscription(String, self._topic, told, qos.EVENTS)
        # That a publisher is not latched is no fault, and rclpy would warn of it.
        silent = SubscriptionEventCallbacks(use_default_callbacks=False)
        node.create_subscription(String, self._topic, told, LATCHED_IN, event_callbacks=silent)
        if hasattr(node, "add_post_set_parameters_callback"):
            node.add_post_set_parameters_callback(self._on_parameters)

    @property
    def text(self) -> str:
        """Empty: none."""
        if not hasattr(self._node, "add_post_set_parameters_callback"):  # Humble: a change is seen, a repetition is not
            self._on_changed_parameter()
        return self._rule.text

    @property
    def source(self) -> str:
        """Who said it."""
        return self._rule.source

    def _on_message(self, message: String, info: dict[str, int]) -> None:
        """A live message of a latched publisher reaches both subscriptions: the second copy is no new word."""
        written_ns = info.get("source_timestamp", 0)
        if written_ns:
            if written_ns in self._heard:
                return
            self._heard.append(written_ns)
        self._say(message.data, f"the topic {self._topic}")

    def _on_parameters(self, changes: Sequence[Parameter]) -> None:
        for change in changes:
            if change.name == PARAMETER:
                self._say(change.value, BY_PARAMETER)

    def _on_changed_parameter(self) -> None:
        value = self._node.get_parameter(PARAMETER).value
        if value != getattr(self, "_parameter", value):
            self._say(value, BY_PARAMETER)
        self._parameter = value

    def _say(self, text: str, source: str) -> None:
        if report := self._rule.say(text, source):
            self._node.get_logger().info(report)
