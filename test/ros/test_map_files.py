"""Maps and services: every request is answered, units are not mixed, and a killed node has lost little."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from ament_index_python.packages import get_package_prefix  # noqa: E402
from spatial_fm_ros.msg import ReconstructionStatus  # noqa: E402
from spatial_fm_ros.srv import LoadMap, SaveMap, SaveTrajectory  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

from spatial_fm_ros.core.io.cloud_files import SavedMap, read_map, write_map  # noqa: E402
from spatial_fm_ros.core.io.map_facts import MapFacts  # noqa: E402
from spatial_fm_ros.core.types import PointCloud, ScaleState  # noqa: E402

METRIC = MapFacts(ScaleState.METRIC, 0.02, "map", 0.05)
NO_METRES = {"ros.odometry_topic": "", "ros.pose_source": "none", "ros.points_topic": "", "ros.imu_topic": ""}


def map_file(path, facts=METRIC, n=50):
    points = np.random.default_rng(0).uniform(-9, 9, (n, 3)).astype(np.float32)
    write_map(path, SavedMap(PointCloud(points, np.zeros((n, 3), np.uint8), np.ones(n, np.float32)), facts))
    return path


class Client:
    def __init__(self, ears):
        self.ears = ears

    def save(self, path, form=""):
        return self.ears.call(SaveMap, "/reconstruct/save_map", SaveMap.Request(path=str(path), format=form))

    def load(self, path, metres=False):
        return self.ears.call(LoadMap, "/reconstruct/load_map", LoadMap.Request(path=str(path), metres=metres))

    def save_trajectory(self, path):
        request = SaveTrajectory.Request(path=str(path))
        return self.ears.call(SaveTrajectory, "/reconstruct/save_trajectory", request)


def test_every_request_is_answered_and_a_bad_file_leaves_the_map(ros, reconstruct, kit, tmp_path):
    ears = kit.Ears(ros, outputs=())
    node = reconstruct()
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    client, points = Client(ears), 50
    assert client.load(map_file(tmp_path / "map.ply", n=points)).success
    os.mkfifo(tmp_path / "pipe.ply")
    (tmp_path / "zero.ply").symlink_to("/dev/zero")
    (tmp_path / "folder.ply").mkdir()
    xyz = b"VERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\n"
    (tmp_path / "two_colours.pcd").write_bytes(xyz + b"COUNT 1 1 1 2\nPOINTS 1\nDATA binary\n" + bytes(64))
    head = b"ply\nformat binary_little_endian 1.0\nelement vertex %d\n%send_header\n"
    (tmp_path / "huge.ply").write_bytes(head % (10**12, b""))
    (tmp_path / "none.ply").write_bytes(head % (0, b"property float x\nproperty float y\nproperty float z\n"))
    anywhere = ("", "/", "~nosuchuser/m.ply", "a/" * 2000 + "m.ply", "n" * 300 + ".ply", tmp_path / "folder.ply")
    refused = [client.load(path) for path in (*anywhere, *sorted(tmp_path.glob("[pznht]*.p*")), "/dev/null")]
    refused += [client.save(path, "ply") for path in (*anywhere, tmp_path / "pipe.ply", "/dev/null", "/dev/null/m.ply")]
    refused += [client.save(tmp_path / "map.xyz"), client.save_trajectory("~nosuchuser/t"), client.save_trajectory("")]
    for answer in refused:
        assert not answer.success and answer.message.endswith("."), answer
    assert node.session.pipeline.map_size == points and Path("/dev/null").is_char_device()

    def broken():
        raise MemoryError("no room\nat all")

    node.session.pipeline.saved_map, whole = broken, node.session.pipeline.saved_map
    failed = client.save(tmp_path / "never.ply")
    assert not failed.success and "MemoryError: no room" in failed.message and not (tmp_path / "never.ply").exists()
    node.session.pipeline.saved_map = whole
    saved = client.save(tmp_path / "after.ply")
    assert saved.success and saved.points == points
    kit.wait_for(lambda: ears["map"] and ears["map"][-1].width == points, what="the map")


def test_a_long_save_blocks_no_other_service(ros, reconstruct, kit, tmp_path):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node = reconstruct()
    kit.wait_for(lambda: kit.is_up(node), what="the node")
    release, entered, pipeline = threading.Event(), threading.Event(), node.session.pipeline
    whole = pipeline.saved_map
    pipeline.saved_map = lambda: (entered.set(), release.wait(20.0), whole())[2]
    slow = ears.node.create_client(SaveMap, "/reconstruct/save_map")
    assert slow.wait_for_service(10.0)
    waiting = [slow.call_async(SaveMap.Request(path=str(tmp_path / f"{i}.ply"))) for i in range(3)]
    assert entered.wait(10.0)
    assert ears.call(Trigger, "/reconstruct/reset").success
    assert ears.call(SetBool, "/reconstruct/set_running", SetBool.Request(data=False)).success
    assert Client(ears).load(map_file(tmp_path / "map.ply")).success
    assert not any(future.done() for future in waiting)
    release.set()
    kit.wait_for(lambda: all(future.done() for future in waiting), what="the saves")
    assert all(future.result().points == 50 for future in waiting)  # what is the map when they take it


def test_a_loaded_map_in_metres_and_a_relative_world_stay_apart(ros, reconstruct, simulator, kit, tmp_path):
    ears = kit.Ears(ros, outputs=("points",))
    node = reconstruct(NO_METRES | {"ros.publish_tf": False})
    robot = kit.Robot(ros, simulator, odometry=False)
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    client = Client(ears)
    loaded = client.load(map_file(tmp_path / "map.pcd"))
    assert loaded.success and loaded.scale_state == ReconstructionStatus.METRIC and "in metres" in loaded.message
    assert loaded.scale_sigma == pytest.approx(0.02) and loaded.frame_id == "map"
    kit.wait_for(lambda: ears.status and ears.status.loaded_points == 50, what="the status")
    assert ears.status.scale_state == ears.status.loaded_scale_state == ReconstructionStatus.METRIC
    robot.play(0.0, 5.0, speed=3.0)
    kit.settle(node)
    kit.wait_for(lambda: ears.status.windows and not ears.status.keyframes_waiting > 4, what="windows")
    assert ears.status.scale_state == ReconstructionStatus.RELATIVE
    assert "~/map holds the loaded map alone" in ears.status.loaded_note
    assert ears.status.window_code == ReconstructionStatus.WINDOW_OK and ears.status.node_state == "active"
    assert ears["points"] and {message.width for message in ears["map"]} <= {0, 50}
    kit.wait_for(lambda: "loaded map alone" in getattr(ears.finding("map"), "message", ""), what="the diagnostics")
    saved = client.save(tmp_path / "new.ply")
    mapped = node.session.pipeline.map_size - 50
    assert saved.success and saved.points == mapped > 0 and saved.scale_state == ReconstructionStatus.RELATIVE
    assert "not in the file" in saved.message and not read_map(tmp_path / "new.ply").facts.metric
    unknown = client.load(map_file(tmp_path / "foreign.ply", MapFacts()))
    assert unknown.success and unknown.scale_state == ReconstructionStatus.SCALE_UNKNOWN
    assert "unknown unit" in unknown.message and "metres: true" in unknown.message
    assert client.load(tmp_path / "foreign.ply", metres=True).scale_state == ReconstructionStatus.METRIC


def test_maps_in_metres_are_shown_and_saved_together(ros, reconstruct, simulator, kit, tmp_path):
    ears = kit.Ears(ros, outputs=())
    node = reconstruct({"ros.require_metric": True})
    robot = kit.Robot(ros, simulator)
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    kit.wait_for(lambda: node._tree.parent("camera_optical_frame"), what="static TF")
    client = Client(ears)
    assert client.load(map_file(tmp_path / "foreign.ply", MapFacts())).success
    assert client.load(map_file(tmp_path / "map.ply")).success
    kit.wait_for(lambda: ears["map"], what="the loaded map")  # require_metric holds back what says no unit
    assert {message.width for message in ears["map"]} == {50}
    robot.play(0.0, 5.0, speed=3.0)
    kit.settle(node)
    whole = node.session.pipeline.map_size
    kit.wait_for(lambda: ears["map"][-1].width == whole > 1000, what="both maps")
    saved = client.save(tmp_path / "both.ply")
    assert saved.points == whole and saved.scale_state == ReconstructionStatus.METRIC
    assert ears.status.reset_reason.startswith("the map ") and ears.status.resets == 2 and not ears.status.held_back


def test_an_unconfigured_node_says_nothing_of_a_scale(ros, reconstruct, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    reconstruct({"ros.autostart": False})
    kit.wait_for(lambda: ears.status, what="a status")
    assert ears.status.scale_state == ReconstructionStatus.SCALE_UNKNOWN and ears.status.node_state == "unconfigured"
    assert np.isnan(ears.status.scale_value) and ears.status.window_code == ReconstructionStatus.WINDOW_NONE
    answer = Client(ears).save("/tmp/a.ply")
    assert not answer.success and "not configured" in answer.message


def test_the_map_is_saved_by_itself_and_earlier_ones_are_kept(ros, reconstruct, simulator, kit, tmp_path):
    path = map_file(tmp_path / "auto.ply")
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node = reconstruct({"map.autosave_s": 0.2, "map.autosave_path": str(path)})
    robot = kit.Robot(ros, simulator)
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    assert len(read_map(path).cloud) == 50  # a world without windows takes no one's place
    robot.play(0.0, 12.0, speed=3.0)
    kit.wait_for(lambda: len(read_map(path).cloud) > 1000, what="the save")
    assert len(read_map(path.with_name("auto.1.ply")).cloud) == 50
    kit.settle(node)
    kit.wait_for(lambda: len(read_map(path).cloud) == node.session.pipeline.map_size, what="the newest map")
    kit.wait_for(lambda: any(str(path) in row.value for row in ears.finding("map").values), what="the diagnostics")
    before = len(read_map(path).cloud)
    assert ears.call(Trigger, "/reconstruct/reset").success
    robot.play(12.0, 24.0, speed=3.0)
    kit.wait_for(lambda: len(read_map(path.with_name("auto.1.ply")).cloud) == before, what="the map before the reset")


def test_a_place_that_cannot_be_written_is_told_and_mapping_goes_on(ros, reconstruct, simulator, kit):
    ears = kit.Ears(ros, outputs=(), with_map=False)
    node = reconstruct({"map.autosave_s": 0.2, "map.autosave_path": "/dev/null/auto.ply"})
    robot = kit.Robot(ros, simulator)
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), what="the node")
    robot.play(0.0, 16.0, speed=3.0)
    kit.settle(node)
    kit.wait_for(lambda: "not saved by itself" in getattr(ears.finding("map"), "message", ""), what="the reason")
    assert node.session.pipeline.map_size


def test_a_killed_node_leaves_a_whole_map_and_its_successor_names_it(ros, simulator, truth_folder, kit, tmp_path):
    values = kit.small | kit.topics | {"model.oracle.truth": truth_folder, "map.autosave_s": 0.2}
    executable = Path(get_package_prefix("spatial_fm_ros")) / "lib" / "spatial_fm_ros" / "reconstruct"
    command = [executable, "--ros-args", *(word for n, v in values.items() for word in ("-p", f"{n}:={v}"))]
    environment = os.environ | {"ROS_DOMAIN_ID": str(ros.domain), "ROS_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    path, log = tmp_path / "spatial_fm_ros" / "reconstruct.autosave.ply", tmp_path / "output.txt"

    def start():
        with log.open("w") as out:
            return subprocess.Popen(list(map(str, command)), env=environment, stdout=out, stderr=subprocess.STDOUT)

    robot, child = kit.Robot(ros, simulator), start()
    try:
        kit.wait_for(robot.image.get_subscription_count, 60.0, "the node")
        playing = threading.Thread(target=robot.play, args=(0.0, 24.0), kwargs={"speed": 2.0})
        playing.start()
        kit.wait_for(path.exists, what="the first save")
        first = path.stat().st_mtime_ns
        kit.wait_for(lambda: path.stat().st_mtime_ns != first, what="another one")
        child.send_signal(signal.SIGKILL)
        child.wait()
        playing.join()
        left = read_map(path)
        assert len(left.cloud) > 1000 and left.facts.scale_state is not None
        child = start()
        kit.wait_for(lambda: "map of an earlier run" in log.read_text(), 60.0, "the log")
    finally:
        child.kill()
        child.wait()
