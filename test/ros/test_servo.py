"""MoveIt Servo's service and status on a live graph, with a stand-in that repeats its last verdict for ever, as Servo
does. moveit_msgs is not on PyPI: without it these tests are skipped."""

from functools import partial

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("moveit_msgs.srv", reason="moveit_msgs is not installed (not on PyPI)")

from geometry_msgs.msg import TwistStamped
from moveit_msgs.msg import ServoStatus
from moveit_msgs.srv import ServoCommandType
from rclpy.callback_groups import ReentrantCallbackGroup
from ros_rig import NODE, Rig, Watch
from std_srvs.srv import Trigger

from specprune_ros.control.halts import HALTED
from specprune_ros.ros.servo import TWIST

SERVO = {"output__interface": "servo_twist", "output__gripper": "topic"}
TwistWatch = partial(Watch, kind=TwistStamped, topic="/servo_node/delta_twist_cmds")


class FakeServo:
    """MoveIt Servo's service and status."""

    def __init__(self, graph):
        self._node = graph.node
        self.code, self.success, self.types, self.silent = 0, True, [], False
        self._server = graph.node.create_service(ServoCommandType, "/servo_node/switch_command_type", self._switch)
        self._publisher = graph.node.create_publisher(ServoStatus, "/servo_node/status", 10)
        self._timer = graph.node.create_timer(0.03, self._publish)

    def stop(self):
        self._node.destroy_service(self._server)
        self._node.destroy_timer(self._timer)

    def _switch(self, request, response):
        self.types.append(request.command_type)
        response.success = self.success
        return response

    def _publish(self):
        if not self.silent:
            self._publisher.publish(ServoStatus(code=self.code))


def test_codes_are_those_of_moveit_msgs():
    assert TWIST == ServoCommandType.Request.TWIST
    assert set(HALTED) == {ServoStatus.INVALID, ServoStatus.HALT_FOR_SINGULARITY, ServoStatus.HALT_FOR_COLLISION}


def test_one_call_arms_with_servo_and_switches_it_before_it_gets_a_twist(graph):
    rig = Rig(graph, watch=TwistWatch, instruction="move", **SERVO)
    graph.until(lambda: len(rig.chunks) > 1, what="chunks")
    assert "switch_command_type is not there; is MoveIt Servo running?" in rig.trigger("arm")[1]
    servo = FakeServo(graph)
    servo.success = False
    graph.until(lambda: "refused to switch to twist commands" in rig.trigger("arm")[1], what="a refusal")
    servo.success, servo.types = True, []
    rig.watch.allow()
    assert rig.trigger("arm") == (True, "armed: armed"), "the first call"
    assert servo.types == [TWIST]
    rig.until_moving()
    rig.stop("disarm")
    servo.types.clear()
    rig.watch.allow()
    rig.arm()
    assert servo.types == [TWIST], "somebody else may have switched it meanwhile"


def test_a_servo_that_never_answers_does_not_hold_up_the_node_and_who_stops_meanwhile_means_it(graph):
    rig = Rig(graph, watch=TwistWatch, instruction="move", **SERVO)
    servo = FakeServo(graph)
    graph.until(lambda: rig.trigger("arm")[0], what="arming")
    rig.stop("disarm")
    servo.stop()
    others = ReentrantCallbackGroup()  # the robot goes on
    hanging = graph.node.create_service(
        ServoCommandType, "/servo_node/switch_command_type", _never, callback_group=others
    )
    graph.until(lambda: graph.node.count_services("/servo_node/switch_command_type") == 1, what="the hanging Servo")
    client = graph.node.create_client(Trigger, f"{NODE}/arm")
    graph.until(client.service_is_ready, what="~/arm")
    answer = client.call_async(Trigger.Request())
    graph.spin(0.5)
    assert not answer.done()
    success, reason = rig.trigger("disarm")
    graph.until(answer.done, what="the answer")
    assert success and not answer.result().success
    assert "stopped by hand while arming was waiting" in answer.result().message
    success, reason = rig.trigger("arm")
    assert not success and "has not answered for 2" in reason and "(bound 2 s); restart MoveIt Servo" in reason
    graph.node.destroy_service(hanging)


async def _never(request, response):
    from rclpy.task import Future

    await Future()


def test_a_halt_disarms_and_stands_until_servo_says_otherwise(graph):
    rig = Rig(graph, watch=TwistWatch, instruction="move", **SERVO)
    servo = FakeServo(graph)
    servo.code = ServoStatus.HALT_FOR_COLLISION  # of somebody else's command before
    rig.arm()
    servo.code = ServoStatus.DECELERATE_FOR_COLLISION
    rig.until_moving(20)
    for code, (what, _) in HALTED.items():
        servo.code = code
        rig.until_state(f"disarmed: /servo_node {what} (status {code})")
        rig.watch.forbid()
        rig.assert_silence()
        for _ in range(2):
            success, reason = rig.trigger("arm")
            assert not success and f"{what} (status {code})" in reason, "Servo repeats it"
        servo.code = ServoStatus.NO_WARNING
        rig.arm()
        rig.until_moving(8)


def test_a_servo_that_is_paused_or_gone_disarms(graph):
    rig = Rig(graph, watch=TwistWatch, instruction="move", **SERVO)
    servo = FakeServo(graph)
    rig.arm()
    rig.until_moving(4)
    servo.silent = True
    rig.until_state("disarmed: /servo_node has not said its status for")
    rig.watch.forbid()
    rig.assert_silence()
    servo.silent = False
    rig.arm()
    rig.until_moving(4)
    servo.stop()
    rig.until_state("switch_command_type is not there")
    rig.watch.forbid()
    rig.assert_silence()


def test_an_arm_that_arms_itself_is_halted_once_and_not_again_and_again(graph):
    rig = Rig(graph, watch=TwistWatch, instruction="move", **(SERVO | {"safety__auto_arm": True}))
    rig.watch.allow()
    servo = FakeServo(graph)
    rig.until_moving(4)
    servo.code = ServoStatus.HALT_FOR_SINGULARITY
    rig.until_state("disarmed: /servo_node halted at a singularity")
    armed = sum(state.data == "armed: armed" for state in rig.safety)
    graph.spin(3.0)
    assert sum(state.data == "armed: armed" for state in rig.safety) == armed
    servo.code = ServoStatus.NO_WARNING
    rig.until_state("armed: armed")
    rig.until_moving(4)
