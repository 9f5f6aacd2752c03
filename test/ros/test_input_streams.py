"""Cameras and robot state on a wire: whom the node listens to and how, and what it says of their way here."""

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("mujoco")

from input_bench import ARM, FINGERS, MS, START, TOPICS, Bench, image
from pictures import seen
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from wire import Wire

from specprune_ros.ros import convert, state_sources

THIRD, WRIST = TOPICS.images


# Quality of service


def reliability(bench, topic=WRIST):
    bench.feed(START)
    [queue] = bench.wire.queues[topic]
    assert queue.profile.depth == 5
    return queue.profile.reliability


@pytest.mark.parametrize(
    ("wish", "offers", "expected"),
    [
        ("auto", {}, ReliabilityPolicy.BEST_EFFORT),
        ("auto", {"reliable": False}, ReliabilityPolicy.BEST_EFFORT),
        ("auto", {"reliable": True}, ReliabilityPolicy.RELIABLE),
        ("best_effort", {"reliable": True}, ReliabilityPolicy.BEST_EFFORT),
        ("reliable", {"reliable": False}, ReliabilityPolicy.RELIABLE),
    ],
)
def test_images_are_asked_for_as_they_are_offered(wish, offers, expected):
    bench = Bench(with_proprio=False, topics__image_qos=wish)
    if offers:
        bench.wire.offer(WRIST, "camera", **offers)
    assert reliability(bench) is expected


def test_the_subscription_follows_when_the_publisher_changes(monkeypatch):
    monkeypatch.setattr("specprune_ros.ros.publishers.REFRESH_S", 0.0)
    bench = Bench(with_proprio=False)
    for reliable in (True, False, True):
        bench.wire.offer(WRIST, "camera", reliable=reliable)
        expected = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        assert reliability(bench) is expected
    bench.wire.offered[WRIST] += bench.wire.offered.pop("other", [])
    bench.wire.offer("other", "second", reliable=False, kind=Image)
    bench.wire.offered[WRIST] += bench.wire.offered.pop("other")
    assert reliability(bench) is ReliabilityPolicy.BEST_EFFORT  # hears both


def test_a_wish_that_hears_nothing_is_named():
    bench = Bench(with_proprio=False, topics__image_qos="reliable")
    bench.wire.offer(THIRD, "camera", reliable=False)
    assert f"/camera offers {THIRD} with best effort only, which topics.image_qos: reliable cannot hear" in (
        bench.problem(START)
    )


# Who publishes


def test_one_source_each_is_no_obstacle():
    bench = Bench()
    for topic in (THIRD, WRIST, TOPICS.ee_pose, TOPICS.joint_states):
        bench.wire.offer(topic, "driver")
    bench.feed(START)
    assert bench.inputs.obstacles() == []


@pytest.mark.parametrize("topic", [THIRD, WRIST, TOPICS.ee_pose])
def test_two_sources_of_one_input_are_an_obstacle_that_names_them(topic):
    bench = Bench(with_proprio=False)
    bench.wire.offer(topic, "driver", "impostor")
    [found] = bench.inputs.obstacles()
    assert found.startswith(f"2 publishers on {topic}, /driver, /impostor, where one is meant; stop the others")
    assert "forgotten after about 20 s" in found
    bench.wire.offer(topic, "driver", "driver", "driver")
    assert f"3 publishers on {topic}, /driver 3 times" in bench.inputs.obstacles()[0]
    bench.wire.offer(topic, "driver")
    assert bench.inputs.obstacles() == []


def test_the_clock_is_an_input_too():
    bench = Bench(with_proprio=False, wire=Wire(use_sim_time=True))
    assert bench.inputs.clock_problem(0) == (
        "there is no time: use_sim_time is true, so it comes from /clock, and nobody publishes it"
    )
    bench.wire.offer("/clock", "gazebo", kind="rosgraph_msgs/msg/Clock")
    assert "/gazebo offers it, but nothing has arrived" in bench.inputs.clock_problem(0)
    assert bench.inputs.clock_problem(1) is None and bench.inputs.obstacles() == []
    bench.wire.offer("/clock", "gazebo", "bag", kind="rosgraph_msgs/msg/Clock")
    assert "2 publishers on /clock, /gazebo, /bag" in bench.inputs.obstacles()[0]
    real = Bench(with_proprio=False)
    real.wire.offer("/clock", "gazebo", "bag", kind="rosgraph_msgs/msg/Clock")
    assert real.inputs.obstacles() == [] and real.inputs.clock_problem(0) is None


def test_publishers_that_each_know_a_part_of_the_joints_are_welcome():
    bench = Bench()
    bench.wire.offer(TOPICS.joint_states, "arm", "hand")
    for i in range(20):
        bench.arm.say_joints(START + i * MS, ARM, publisher="arm")
        bench.arm.say_joints(START + i * MS, FINGERS, publisher="hand")
        bench.feed(START + i * MS)
    assert bench.inputs.obstacles() == []


@pytest.mark.parametrize("second", [(*ARM, *FINGERS), FINGERS, [FINGERS[1]]])
def test_two_publishers_of_one_joint_are_an_obstacle_also_in_turn(second):
    bench = Bench()
    bench.wire.offer(TOPICS.joint_states, "arm", "impostor")
    for i in range(6):
        if i % 2:
            bench.arm.say_joints(START + i * MS, second, publisher="impostor")
        else:
            bench.arm.say_joints(START + i * MS, publisher="arm")
        bench.feed(START + i * MS)
    [found] = bench.inputs.obstacles()
    assert f"2 publishers on {TOPICS.joint_states}, /arm, /impostor: more than one of them publishes" in found
    assert "fr3_finger_joint2" in found and "a joint must have one source" in found


def test_a_publisher_of_joints_that_was_started_again_is_none_of_two():
    bench = Bench()
    bench.wire.offer(TOPICS.joint_states, "arm", "arm")  # the one that was killed is not yet forgotten
    for i in range(10):
        bench.arm.say_joints(START + i * MS, publisher="first" if i < 5 else "second")
        bench.feed(START + i * MS)
    assert bench.inputs.obstacles() == []


def test_where_the_fingers_have_a_topic_of_their_own_it_decides():
    bench = Bench(topics__finger_states="/hand/joint_states")
    bench.arm.say_images(START)
    bench.arm.say_pose(START)
    bench.arm.say_joints(START)
    assert "no position of joint fr3_finger_joint1, fr3_finger_joint2" in bench.problem(START)
    bench.arm.say_joints(START + MS, FINGERS, "/hand/joint_states")
    bench.arm.say_pose(START + MS)
    assert bench.problem(START + MS) == ""


def test_of_a_thousand_joint_states_only_the_newest_are_read(monkeypatch):
    read = []
    monkeypatch.setattr(
        state_sources,
        "deserialize_message",
        lambda raw, kind, real=state_sources.deserialize_message: read.append(1) or real(raw, kind),
    )
    bench = Bench()
    for i in range(50):
        bench.arm.say_joints(START + i * MS)
    bench.feed(START + 50 * MS)
    assert len(read) == 1
    stamp_ns, _ = bench.inputs._joints.book.positions(FINGERS, 0.3)
    assert stamp_ns == START + 49 * MS


def test_different_robot_descriptions_are_refused_and_the_same_one_again_is_not():
    bench = Bench(robot__state_source="joints", with_proprio=False)
    for _ in range(2):
        bench.arm.say_description()
    bench.arm.say_images(START)
    bench.arm.say_joints(START)
    assert bench.problem(START) == ""
    bench.arm.say_description("<robot name='other'/>")
    for i in (1, 2):
        bench.arm.say_joints(START + i * MS)
        assert "/robot_description: 2 different robot descriptions came" in bench.problem(START + i * MS)


# What is there instead of the images


@pytest.mark.parametrize(
    ("transport", "offered", "kind", "text"),
    [
        (
            "raw",
            f"{THIRD}/compressed",
            CompressedImage,
            f"but {THIRD}/compressed; set topics.image_transport: compressed",
        ),
        ("compressed", THIRD, Image, f"but {THIRD}; set topics.image_transport: raw"),
        (
            "raw",
            f"{THIRD}/theora",
            "theora_image_transport/msg/Packet",
            f"cannot be decoded here: {THIRD}/theora (theora_image_transport/msg/Packet); let the camera publish",
        ),
        (
            "compressed",
            f"{THIRD}/ffmpeg",
            "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
            "FFMPEGPacket); let the camera publish raw or compressed",
        ),
        (
            "raw",
            THIRD,
            CompressedImage,
            f"{THIRD} carries sensor_msgs/msg/CompressedImage of /camera; set topics.image_tr",
        ),
        ("raw", THIRD, "sensor_msgs/msg/PointCloud2", "of /camera; publish sensor_msgs/Image or CompressedImage"),
        ("raw", "/elsewhere", Image, f"nobody publishes {THIRD}; start the camera or correct the name of the topic"),
    ],
)
def test_what_is_published_instead_is_named(transport, offered, kind, text):
    bench = Bench(with_proprio=False, topics__image_transport=transport)
    bench.wire.offer(offered, "camera", kind=kind)
    problem = bench.problem(START)
    assert problem.startswith(f"no image of view 1 ({THIRD}") and text in problem


def test_a_publisher_that_says_nothing_is_not_a_missing_one():
    bench = Bench(with_proprio=False)
    bench.wire.offer(THIRD, "camera")
    assert f"{THIRD} is offered by /camera, but nothing has arrived here" in bench.problem(START)


def test_names_are_relative_to_the_namespace():
    relative = {
        "topics__images": ["camera/left", "camera/right"],
        "topics__ee_pose": "pose",
        "topics__joint_states": "js",
    }
    bench = Bench(wire=Wire(namespace="/robot1"), **relative)
    assert set(bench.wire.queues) == {"/robot1/camera/left", "/robot1/camera/right", "/robot1/pose", "/robot1/js"}
    assert "nobody publishes /robot1/camera/left" in bench.problem(START)
    bench.wire.offer("/robot1/pose", "a", "b")
    assert "2 publishers on /robot1/pose" in bench.inputs.obstacles()[0]


# The way here


def run(bench, stamps_ms, now_ms, message_of=lambda ms: seen(16, 16, ms)):
    """One camera at these stamps, everything else at 20 Hz, up to a moment; the reason to hold then."""
    waiting = list(stamps_ms)
    for ms in range(0, now_ms + 1, 50):
        now_ns = START + ms * MS
        while waiting and waiting[0] <= ms:
            at = waiting.pop(0)
            if at is not None:
                bench.wire.publish(WRIST, image(message_of(at), START + at * MS))
        bench.wire.publish(THIRD, bench.arm.image(now_ns))
        bench.arm.say_pose(now_ns)
        problem = bench.problem(now_ns)
    return problem


def test_a_slow_camera_is_called_slow_and_the_parameter_is_named():
    bench = Bench(with_proprio=False)
    bench.wire.offer(WRIST, "camera")
    problem = run(bench, range(0, 3000, 450), 3050)
    assert f"image of view 2 ({WRIST}) is 0.35 s old (limit 0.30 s); the camera sends one every 0.45 s" in problem
    assert "set control.observation_timeout above that" in problem
    patient = Bench(with_proprio=False, control__observation_timeout=0.6)
    assert run(patient, range(0, 3000, 450), 3050) == ""


def test_losses_on_the_way_are_told_from_the_publishers_own_count():
    bench = Bench(with_proprio=False)
    bench.wire.offer(WRIST, "camera")
    for i in range(60):
        now_ns = START + i * 33 * MS
        message = image(seen(16, 16, i), now_ns)
        bench.wire.publish("/nowhere" if i % 3 else WRIST, message)  # two of three never arrive
        if i % 3:
            bench.wire._sequences[WRIST, "driver"] += 1
        bench.feed(now_ns)
    losses = bench.loop.inputs.deliveries[1].losses()
    expected = (
        "36 of the last 54 messages of 0.0 MB were lost on the way (the camera sends one every 0.033 s); check the"
    )
    assert losses.startswith(expected), losses


def test_a_pose_of_1000_hz_is_counted_and_only_the_newest_is_kept():
    bench = Bench(with_proprio=False)
    [stream] = [stream for stream in bench.inputs.streams() if stream.topic == TOPICS.ee_pose]
    stream.rate_hz()
    for i in range(500):
        bench.arm.say_pose(START + i * MS)
        if i % 50 == 49:
            bench.feed(START + i * MS)
            assert bench.loop.measured.stamp_ns == START + i * MS
    assert stream._count == 500 - 49  # the first look does not know what was before
    assert bench.loop.inputs.deliveries["state"].losses() is None


def test_joint_states_without_positions_or_names_say_nothing():
    bench = Bench()
    bench.wire.publish(TOPICS.joint_states, JointState(header=convert.header(START, "")))
    bench.feed(START)
    assert bench.inputs._joints.fresh
