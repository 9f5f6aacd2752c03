"""The profile for Fast DDS: it is one that Fast DDS takes, and nodes with and without it hear each other."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from domains import own_domain

pytest.importorskip("rclpy")

PROFILE = Path(__file__).parents[2] / "config" / "fastdds.xml"
SPACE = {"d": "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"}

TALK = """
import sys, rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("talker")
publisher = node.create_publisher(String, "/words", 10)
node.create_timer(0.05, lambda: publisher.publish(String(data="hello")))
print("ready", flush=True)
rclpy.spin(node)
"""
LISTEN = """
import os, time, rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("listener")
heard = []
node.create_subscription(String, "/words", heard.append, 10)
end = time.monotonic() + 60
while not heard and time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.1)
segments = {line.split()[-1] for line in open("/proc/self/maps") if "/dev/shm/fastrtps" in line and "port" not in line}
print("heard" if heard else "nothing", max((os.path.getsize(path) for path in segments), default=0))
"""


def environment(domain, profile):
    settings = dict(os.environ, ROS_DOMAIN_ID=str(domain))
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        settings.pop(name, None)
        if profile:
            settings[name] = str(PROFILE)
    return settings


@pytest.mark.parametrize(("talks", "listens"), [(True, False), (False, True), (False, False)])
def test_with_and_without_the_profile_nodes_hear_each_other(talks, listens):
    domain = own_domain()
    talker = subprocess.Popen([sys.executable, "-c", TALK], env=environment(domain, talks), stdout=subprocess.PIPE)
    try:
        talker.stdout.readline()
        done = subprocess.run(
            [sys.executable, "-c", LISTEN], env=environment(domain, listens), capture_output=True, text=True
        )
    finally:
        talker.kill()
        talker.wait()
    heard, segment_bytes = done.stdout.split()
    assert heard == "heard" and "XML" not in done.stderr, done.stderr
    # The listener uses a segment of its own and that of the talker; here is the larger one.
    assert (int(segment_bytes) > 32 << 20) == (talks or listens)


def test_the_segment_holds_many_large_images():
    root = ElementTree.parse(PROFILE).getroot()
    [size] = root.findall(".//d:segment_size", SPACE)
    assert int(size.text) >= 8 * 2_764_800  # 1280 x 720, raw
    assert [kind.text for kind in root.findall(".//d:transport_descriptor/d:type", SPACE)] == ["SHM", "UDPv4"]
    [participant] = root.findall(".//d:participant", SPACE)
    assert participant.get("is_default_profile") == "true"
