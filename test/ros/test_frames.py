"""TF as it comes: any names, thousands of frames, new parents, nonsense."""

import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from geometry_msgs.msg import TransformStamped  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

from spatial_fm_ros.bridge import frames  # noqa: E402
from spatial_fm_ros.bridge.encode import encode_transform  # noqa: E402
from spatial_fm_ros.bridge.frames import MapTransform, TransformTree  # noqa: E402

S = 1_000_000_000
#: Names that YAML reads as something else, or not at all.
ODD_NAMES = ["*gripper", "tag #3", "{ns}/base", "%ns", "1", "no", "null", "- a", "a: b", "~", "&x", "'", '"', "мир"]


class Publisher:
    """Sends on /tf and /tf_static of a domain, and waits until a tree has heard it."""

    def __init__(self, ros, kit, tree):
        self.node = ros.node("tf_sender")
        self.kit, self.tree = kit, tree
        self.tf = self.node.create_publisher(TFMessage, "/tf", 100)
        kit.wait_for(lambda: self.tf.get_subscription_count(), what="the tree")
        self._count = 0

    def __call__(self, *transforms):
        self._count += 1
        marker = edge("heard", f"marker_{self._count}")
        self.tf.publish(TFMessage(transforms=[*transforms, marker]))
        self.kit.wait_for(lambda: self.tree.parent(marker.child_frame_id), what="the message")


def edge(parent, child, stamp=5 * S, x=0.0):
    matrix = np.eye(4)
    matrix[0, 3] = x
    return encode_transform(matrix, stamp, parent, child)


@pytest.fixture
def bad():
    return []


@pytest.fixture
def tree(ros, bad):
    tree = TransformTree(ros.node("hearer"), on_bad=lambda _role, error: bad.append(str(error)))
    yield tree
    tree.close()


@pytest.fixture
def send(ros, kit, tree):
    return Publisher(ros, kit, tree)


def test_any_name_is_a_frame(send, tree, bad):
    send(edge("world", "odom"), *(edge("odom", name, x=1.0) for name in ODD_NAMES))
    for name in ODD_NAMES:
        assert tree.parent(name) == "odom" and tree.root(name) == "world"
        assert tree.lookup("world", name)[0, 3] == 1.0
    assert tree.parent("odom") == "world" and tree.parent("world") is None
    send(edge("/world", "/slash", x=2.0))
    assert tree.parent("slash") == "world" and tree.lookup("/world", "/slash")[0, 3] == 2.0
    assert not bad


def test_thousands_of_frames_cost_a_look_up_nothing(send, tree):
    send(*(edge(f"chain_{i}", f"chain_{i + 1}") for i in range(200)), *(edge("world", f"tag_{i}") for i in range(5000)))
    started = time.monotonic()
    for i in range(5000):
        assert tree.parent(f"tag_{i}") == "world"
    assert tree.root("chain_200") == "chain_0"
    # As YAML one look-up among so many took seconds: these would have taken hours.
    assert time.monotonic() - started < 10.0


def test_a_new_parent_is_followed(send, tree):
    send(edge("odom", "base"), edge("base", "camera"))
    assert tree.root("camera") == "odom"
    send(edge("dock", "base"), edge("world", "dock"))
    assert tree.parent("base") == "dock" and tree.root("camera") == "world"


def test_nonsense_is_named_and_the_rest_is_heard(send, tree, bad):
    nan, zero = edge("a", "nan"), edge("a", "zero")
    nan.transform.translation.x = float("nan")
    zero.transform.rotation.w = 0.0
    infinite = edge("a", "infinite", x=float("inf"))
    sec = TransformStamped()
    send(edge("a", ""), edge("", "b"), edge("self", "/self"), nan, zero, infinite, sec, edge("a", "good"))
    assert tree.parent("good") == "a"
    assert all(tree.parent(name) is None for name in ("b", "self", "nan", "zero", "infinite"))
    assert len(bad) == 7 and any("its own parent" in text for text in bad) and any("quaternion" in text for text in bad)


def test_circles_end(send, tree):
    send(edge("a", "b"), edge("b", "c"), edge("c", "a"), edge("a", "leaf"), edge("world", "free"))
    assert tree.root("leaf") in {"a", "b", "c"}
    assert tree.lookup("leaf", "free") is None and tree.lookup("world", "free") is not None


def test_one_stamp_far_ahead_moves_nothing(send, tree, bad):
    send(*(edge("odom", "base", stamp=(100 + i) * S, x=i) for i in range(5)))
    send(edge("odom", "base", stamp=10_000 * S, x=-1.0))
    assert tree.latest("odom", "base")[0] == 104 * S and "stamped" in bad[0]
    send(edge("odom", "base", stamp=105 * S, x=5.0))
    stamp, matrix = tree.latest("odom", "base")
    assert stamp == 105 * S and matrix[0, 3] == 5.0
    assert tree.lookup("odom", "base", 102 * S)[0, 3] == 2.0


def test_a_callback_that_raises_does_not_end_the_listener(ros, kit, bad):
    def broken():
        raise RuntimeError("a defect")

    tree = TransformTree(ros.node("hearer"), broken, lambda _role, error: bad.append(error))
    try:
        send = Publisher(ros, kit, tree)
        send(edge("a", "b"))
        send(edge("a", "c"))
        assert tree.parent("c") == "a" and len(bad) == 2
    finally:
        tree.close()


def test_the_map_edge_gives_way_to_another_publisher(ros, kit, send, tree, monkeypatch):
    """One that was there, one that comes later with the very same edge; and it comes back when that one has gone."""
    ears = []
    node = ros.node("ears")
    node.create_subscription(TFMessage, "/tf", ears.append, 100)
    transform = MapTransform(send.node, tree, "map")
    correct = lambda second: transform.correct_odometry(np.eye(4), "odom", second * S)  # noqa: E731
    sent = lambda: [t for m in list(ears) for t in m.transforms if t.header.frame_id == "map"]  # noqa: E731
    kit.wait_for(lambda: transform._broadcaster.pub_tf.get_subscription_count() >= 2, what="ears")
    for second in range(1, 4):
        correct(second)
    kit.wait_for(lambda: len(sent()) == 3, what="the edge")
    send()
    assert not transform.problem and tree.parent("odom") is None  # what it says itself does not count
    send(edge("map", "odom", stamp=4 * S))
    correct(5)
    assert "already has the parent 'map'" in transform.problem
    monkeypatch.setattr(frames, "SILENT_S", 0.0)
    correct(6)
    kit.wait_for(lambda: len(sent()) == 5, what="the edge again")
    assert not transform.problem


def test_the_map_edge_never_leads_in_a_circle(ros, send, tree):
    """Odometry or images in a frame of the map's name, and a map that TF has beneath the robot."""
    transform = MapTransform(send.node, tree, "map")
    place = (
        lambda frame: transform.correct_odometry(np.eye(4), frame, 5 * S),
        lambda frame: transform.place_camera(np.eye(4), frame, 5 * S),
    )
    for publish in place:
        publish("map")
        assert "a frame of the robot is called 'map' too; give ros.map_frame" in transform.problem
        publish("odom")
        assert not transform.problem
    send(edge("odom", "map_base"), edge("map_base", "map"))
    for publish in place:
        publish("odom")
        assert "'map' lies beneath 'odom' in TF; give ros.map_frame" in transform.problem
