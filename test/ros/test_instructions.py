"""The instruction in force on a live graph: the last word wins, by topic or parameter, in every state of the node."""

import pytest

pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from ros_rig import NODE, Rig
from std_msgs.msg import String

from specprune_ros.msg import NodeStatus
from specprune_ros.ros import qos

TOPIC = f"{NODE}/instruction"


class Listener(Rig):
    def __init__(self, graph, **parameters):
        self.said = graph.listen(NodeStatus, f"{NODE}/node_status", qos.LATCHED)
        super().__init__(graph, **parameters)
        graph.until(lambda: self.said and self.task.get_subscription_count() > 0, what="the node")

    def change(self, *transitions):
        for transition in transitions:
            request = ChangeState.Request(transition=Transition(id=getattr(Transition, f"TRANSITION_{transition}")))
            assert self.graph.call(ChangeState, f"{NODE}/change_state", request).success

    def set(self, text):
        assert self.graph.set(NODE, "instruction", text).successful

    def until_in_force(self, text, source):
        self.said.clear()
        return self.graph.until(
            lambda: next((s for s in self.said if s.instruction == text and source in s.instruction_source), None),
            what=f"{text!r} from {source}",
        )

    def until_planned(self, text):
        self.chunks.clear()
        self.graph.until(lambda: any(chunk.instruction == text for chunk in self.chunks), what=f"a chunk for {text!r}")


def test_topic_parameter_topic_ends_on_the_topic_and_the_other_way_round(graph):
    rig = Listener(graph, instruction="move")
    rig.until_planned("move")
    rig.say("open")
    rig.until_planned("open")
    rig.set("back")
    rig.until_planned("back")
    rig.say("open")
    rig.until_planned("open")
    rig.until_in_force("open", "the topic ~/instruction")
    rig.set("back")  # the value that the parameter has already: a word all the same
    rig.until_planned("back")
    rig.until_in_force("back", "the parameter instruction")
    report = "instruction: 'open' from the topic ~/instruction (before: 'back' from the parameter instruction)"
    assert report in rig.process.text(), "nobody is overruled in silence"


def test_an_emptied_instruction_stays_empty_until_somebody_speaks(graph):
    rig = Listener(graph, instruction="move")
    rig.arm()
    rig.until_moving()
    rig.say("")
    rig.until_in_force("", "the topic")
    rig.watch.forbid()
    rig.change("DEACTIVATE", "ACTIVATE")
    rig.until_held_because("no instruction")
    rig.change("DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE")
    rig.until_held_because("no instruction")
    success, why = rig.trigger("arm")
    assert not success and "no instruction" in why
    rig.set("back")
    rig.until_planned("back")
    rig.set("")
    rig.until_held_because("no instruction")
    rig.say("move")
    rig.until_planned("move")


def test_words_count_in_every_state_of_the_node(graph):
    rig = Listener(graph, auto_activate=False, instruction="move")
    rig.set("back")  # unconfigured
    rig.until_in_force("back", "the parameter")
    rig.say("open")
    rig.until_in_force("open", "the topic")
    rig.change("CONFIGURE")
    rig.set("move")  # inactive
    rig.change("ACTIVATE")
    rig.until_planned("move")
    rig.change("DEACTIVATE")
    rig.say("back")
    rig.until_in_force("back", "the topic")
    rig.change("ACTIVATE")
    rig.until_planned("back")


def test_a_latched_word_from_before_the_node_is_heard_and_each_word_counts_once(graph):
    latched = graph.node.create_publisher(String, TOPIC, qos.LATCHED)
    latched.publish(String(data="open"))
    rig = Listener(graph, instruction="move")
    rig.until_planned("open")
    rig.set("back")
    rig.until_planned("back")
    graph.spin(0.5)
    rig.until_in_force("back", "the parameter")
    for text in ("move", "open", "move"):
        latched.publish(String(data=text))
        rig.until_planned(text)
    reports = [line for line in rig.process.text().splitlines() if "]: instruction: '" in line]
    assert [report.split("instruction: '")[1].split("'")[0] for report in reports] == [
        "open",
        "back",
        "move",
        "open",
        "move",
    ]


def test_a_publisher_that_repeats_itself_speaks_each_time(graph):
    """As documented: what it repeats after somebody else's word is a later word. Who does not mean that, latches."""
    rig = Listener(graph, instruction="move")
    graph.node.create_timer(0.2, lambda: rig.say("open"))
    rig.until_planned("open")
    rig.set("back")
    rig.until_in_force("open", "the topic")
    assert "(before: 'back' from the parameter instruction)" in rig.process.text()
