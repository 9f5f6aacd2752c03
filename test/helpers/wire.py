"""A stand-in for a node on its input side: messages wait in queues as deep as the profile, as in the middleware."""

from collections import deque
from types import SimpleNamespace

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message


class Queue:
    """What a subscription's handle is."""

    def __init__(self, kind, profile, raw):
        self.kind, self.profile, self.raw = kind, profile, raw
        self.messages = deque(maxlen=profile.depth)

    def __enter__(self):
        return None  # as rclpy's

    def __exit__(self, *_):
        pass

    def take_message(self, kind, raw):
        assert (kind, raw) == (self.kind, self.raw)
        return self.messages.popleft() if self.messages else None


class Wire:
    """Topics with publishers that are said to be there, and subscriptions without an executor."""

    def __init__(self, namespace="/", **parameters):
        self.namespace, self.parameters = namespace, {"use_sim_time": False} | parameters
        self.queues = {}
        self.offered = {}
        self.callbacks = {}
        """Of subscriptions with an executor (tf2's)."""
        self._sequences = {}

    def resolve_topic_name(self, topic):
        return topic if topic.startswith("/") else f"{self.namespace.rstrip('/')}/{topic}"

    def create_subscription(self, kind, topic, callback, profile, callback_group=None, raw=False, **_):
        topic = self.resolve_topic_name(topic)
        if callback_group is None:
            self.callbacks.setdefault(topic, []).append((kind, callback))
            return SimpleNamespace(topic=topic, handle=None)
        queue = Queue(kind, profile, raw)
        self.queues.setdefault(topic, []).append(queue)
        return SimpleNamespace(topic=topic, handle=queue)

    def destroy_subscription(self, subscription):
        if subscription.handle is None:
            self.callbacks.pop(getattr(subscription, "topic", subscription), None)
            return
        self.queues[subscription.topic].remove(subscription.handle)
        if not self.queues[subscription.topic]:
            del self.queues[subscription.topic]

    def get_parameter(self, name):
        return SimpleNamespace(value=self.parameters[name])

    def offer(self, topic, *nodes, reliable=True, kind=None):
        """These nodes publish the topic from now on."""
        kind = kind or (self.queues[topic][0].kind if topic in self.queues else None)
        name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}" if isinstance(kind, type) else kind
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self.offered[topic] = [
            SimpleNamespace(
                node_name=node,
                node_namespace="/",
                topic_type=name,
                endpoint_gid=[0] * 16,
                qos_profile=QoSProfile(depth=1, reliability=reliability),
            )
            for node in nodes
        ]

    def count_publishers(self, topic):
        return len(self.offered.get(self.resolve_topic_name(topic), ()))

    def get_publishers_info_by_topic(self, topic):
        return list(self.offered.get(self.resolve_topic_name(topic), ()))

    def get_topic_names_and_types(self):
        return [(topic, [infos[0].topic_type]) for topic, infos in self.offered.items() if infos]

    def publish(self, topic, message, publisher="driver"):
        """publisher: who counts the message."""
        for kind, callback in self.callbacks.get(topic, ()):
            assert isinstance(message, kind)
            callback(message)
        number = self._sequences[topic, publisher] = self._sequences.get((topic, publisher), 0) + 1
        for queue in self.queues.get(topic, ()):
            assert isinstance(message, queue.kind)
            queue.messages.append(
                (serialize_message(message) if queue.raw else message, {"publication_sequence_number": number})
            )
