"""Foundation models in the live node, with tiny checkpoints laid out as the hub lays them out."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="these tests need ROS 2 (scripts/with_env)")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter

DATA = Path(__file__).parents[1] / "models" / "data"
MODELS = {"vggt": ("vggt", "vggt_tiny_a"), "depth_anything_3": ("da3", "da3_tiny_a")}
SMALL = {
    "model.threads": 2,
    "model.foundation.image_width": 112,
    "model.foundation.edge_tolerance": 0.0,
    "map.min_confidence": 0.0,  # weights of a test say nothing with confidence
    "ros.missing_after_s": 60.0,
}


def checkpoint(folder, model):
    """A folder with config.json and model.safetensors."""
    family, name = MODELS[model]
    shutil.copy(DATA / family / f"{name}_weights.safetensors", folder / "model.safetensors")
    shutil.copy(DATA / family / f"{name}_config.json", folder / "config.json")
    return str(folder)


def drive(ros, kit, simulator, node, ears, windows):
    robot = kit.Robot(ros, simulator)
    kit.wait_for(lambda: kit.is_up(node) and robot.is_heard_by(node), 60.0, "the node")
    kit.wait_for(lambda: node._tree.parent("camera_optical_frame"), what="static TF")
    robot.play(0.0, 8.0, speed=3.0)
    kit.wait_for(lambda: ears.status and ears.status.windows >= windows, 60.0, "windows")
    kit.settle(node)


@pytest.mark.parametrize("model", MODELS)
def test_depth_points_and_poses_come_out(ros, reconstruct, kit, simulator, tmp_path, model):
    ears = kit.Ears(ros)
    node = reconstruct(SMALL | {"model.name": model, "model.checkpoint": checkpoint(tmp_path, model)})
    drive(ros, kit, simulator, node, ears, 2)
    status = ears.status
    assert status.model == model and status.window_state == "ok" and status.failed_windows == 0
    assert "licence not known" in status.weights and status.window_limit == 4
    depth, info = ears["depth/image"][-1], ears["depth/camera_info"][-1]
    assert (depth.width, depth.height) == (info.width, info.height) == (112, 84)
    camera = simulator.scenario  # the published pinhole is the robot's camera, not the network's guess
    assert info.k[0] == pytest.approx(camera.focal_px * 112 / camera.width, rel=1e-3)
    assert np.isfinite(np.frombuffer(depth.data, np.float32)).mean() > 0.9
    values = np.frombuffer(ears["confidence/image"][-1].data, np.float32)
    assert values.min() >= 0 and values.max() <= 1
    assert ears["points"] and ears["points"][-1].width > 1000
    pose = ears["odometry"][-1].pose.pose
    assert np.isfinite([pose.position.x, pose.position.y, pose.position.z, pose.orientation.w]).all()
    kit.wait_for(lambda: ears["map"] and ears["map"][-1].width > 1000, what="the map")


def test_random_weights_are_marked_in_everything(ros, reconstruct, kit, simulator):
    ears = kit.Ears(ros)
    node = reconstruct(SMALL | {"model.name": "vggt", "model.checkpoint": "random:tiny"})
    drive(ros, kit, simulator, node, ears, 1)
    assert ears.status.weights.startswith("RANDOM WEIGHTS") and ears.status.note.startswith("RANDOM WEIGHTS")
    warned = kit.wait_for(
        lambda: (found := ears.finding("model")) and found.message.startswith("RANDOM WEIGHTS") and found,
        what="a warning",
    )
    assert warned.level == b"\x01"


def test_a_wrong_checkpoint_is_a_sentence_and_the_node_can_be_configured_again(ros, reconstruct, kit, tmp_path):
    ears = kit.Ears(ros, outputs=(), with_map=False)

    def change(name):
        number = getattr(Transition, f"TRANSITION_{name.upper()}")
        request = ChangeState.Request(transition=Transition(id=number))
        return ears.call(ChangeState, "/reconstruct/change_state", request, timeout_s=60.0).success

    node = reconstruct(SMALL | {"model.name": "vggt", "model.checkpoint": checkpoint(tmp_path, "depth_anything_3")})
    kit.wait_for(lambda: ears.status and "use model:=depth_anything_3" in ears.status.note, 60.0, "the reason")
    assert ears.call(GetState, "/reconstruct/get_state").current_state.label == "unconfigured"
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert not change("configure")
    kit.wait_for(lambda: "not whole" in ears.status.note, what="the reason")
    assert "Traceback" not in ears.status.note and node.session is None
    (tmp_path / "model.safetensors").write_bytes(whole)
    (changed,) = node.set_parameters([Parameter("model.name", value="depth_anything_3")])
    assert changed.successful
    assert change("configure") and change("activate")
    assert node.session.pipeline.model.name == "depth_anything_3"
