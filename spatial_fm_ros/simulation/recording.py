"""Runs on disk: a rosbag2 or a sequence folder, with the truth in a folder `truth` of its own.

truth/ holds poses.tum (camera to world, one line for every image), scenario.json (from which
`load_truth` gives everything else) and, for sequences, depth images. What maps a recording never
looks in there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.errors import InputError, OutputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.writing import make_folder, replacing, write_bytes, write_text
from spatial_fm_ros.core.types import Array, Frame
from spatial_fm_ros.simulation.faults import FaultInjector, FaultPlan
from spatial_fm_ros.simulation.lidar import sweep
from spatial_fm_ros.simulation.message_fields import static_transforms
from spatial_fm_ros.simulation.scenario import save_scenario
from spatial_fm_ros.simulation.simulator import Simulator
from spatial_fm_ros.simulation.truth import Truth

#: Called with the share done, 0..1.
Progress = Callable[[float], None]

LIDAR_UNIT_M = 0.002
DEPTH_UNIT_M = 0.001


def tum_line(stamp_ns: int, pose: Array) -> str:
    """'seconds x y z qx qy qz qw' of a 4x4 pose, with all nine digits of the stamp."""
    numbers = (*pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat())
    seconds, nanoseconds = divmod(int(stamp_ns), 1_000_000_000)
    return f"{seconds}.{nanoseconds:09d} " + " ".join(f"{v:.9f}" for v in numbers)


def write_truth(truth: Truth, stamps_ns: Iterable[int], folder: Path) -> None:
    """poses.tum (camera to world at the stamps) and scenario.json. Raises OutputError."""
    save_scenario(truth.scenario, folder / "scenario.json")
    lines = [tum_line(stamp, truth.world_from_camera(stamp)) for stamp in stamps_ns]
    write_text(folder / "poses.tum", "\n".join(lines) + "\n", "true trajectory")


def write_sequence(simulator: Simulator, folder: Path, depth_every: int = 5, progress: Progress | None = None) -> None:
    """The run as a sequence folder: sequence.json, images/%06d.jpg, lidar/%06d.npz, and truth/ with
    poses.tum, depth/%06d.png of every `depth_every`-th image, scenario.json. Stamps there count from
    0, image i at i / rate; sweeps are free of motion and taken at the image's stamp.

    Raises OutputError when `folder` cannot be written or is not empty, InputError for a scenario that does not fit in.
    """
    s = simulator.scenario
    if s.camera_hz <= 0:
        raise InputError(f"A sequence needs images; scenario {s.name} has camera_hz = {s.camera_hz}.")
    if s.start_ns != 0:
        raise InputError("A sequence counts time from 0; make the scenario with start_ns=0.")
    if s.companion_mounts:
        raise InputError(
            f"A sequence folder has one camera, and the rig of scenario {s.name} has {1 + len(s.companion_mounts)}; "
            "record a bag."
        )
    _make_empty(folder)
    camera, rig = s.camera(), simulator.rig
    assert rig.body_from_camera is not None and rig.body_from_lidar is not None
    stamps = simulator.frame_stamps_ns
    described: dict[str, Any] = {
        "name": s.name,
        "frames": len(stamps),
        "rate_hz": s.camera_hz,
        "width": camera.width,
        "height": camera.height,
        "K": camera.K.reshape(-1).tolist(),
        "distortion": list(camera.distortion),
        "units": "metres",
        "note": f"simulated: scenario {s.name}, seed {s.seed}; ground truth in truth/",
        "ground_truth": "exact",
    }
    if s.lidar_hz > 0:
        described["lidar_unit_m"] = LIDAR_UNIT_M
        camera_from_lidar = np.linalg.inv(rig.body_from_camera) @ rig.body_from_lidar
        described["camera_from_lidar"] = camera_from_lidar.reshape(-1).tolist()
    write_text(folder / "sequence.json", json.dumps(described, indent=1) + "\n", "description")
    write_truth(simulator.truth, stamps, folder / "truth")
    write_text(folder / "truth" / "depth.json", json.dumps({"depth_unit_m": DEPTH_UNIT_M}) + "\n", "unit of depth")
    for i, stamp in enumerate(stamps):
        image = simulator.frame(i).image[:, :, ::-1]
        _write_image(folder / "images" / f"{i:06d}.jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        if depth_every > 0 and i % depth_every == 0:
            depth = simulator.truth.depth(stamp) / DEPTH_UNIT_M
            units = np.where(np.isfinite(depth) & (depth < 65535), np.round(depth), 0).astype(np.uint16)
            _write_image(folder / "truth" / "depth" / f"{i:06d}.png", units, [])
        if s.lidar_hz > 0:
            _write_sweep(simulator, i, stamp, folder / "lidar" / f"{i:06d}.npz")
        if progress:
            progress((i + 1) / len(stamps))


def _write_sweep(simulator: Simulator, index: int, stamp: int, path: Path) -> None:
    s = simulator.scenario
    assert simulator.rig.body_from_lidar is not None
    scan = sweep(
        simulator.truth.world, s.lidar_model, simulator.truth.trajectory, simulator.rig.body_from_lidar,
        (stamp - s.start_ns) / 1e9, 0.0, stamp, (s.seed, 9, index),
    )  # fmt: skip
    units = np.clip(np.round(scan.points / LIDAR_UNIT_M), -32768, 32767).astype(np.int16)
    intensity = scan.intensity if scan.intensity is not None else np.zeros(len(units), np.float32)
    make_folder(path.parent)
    with replacing(path, "sweep", durable=False) as file:
        np.savez_compressed(file, xyz=units, intensity=np.clip(intensity, 0, 255).astype(np.uint8))


def _write_image(path: Path, image: np.ndarray, options: list[int]) -> None:
    make_folder(path.parent)
    done, data = cv2.imencode(path.suffix, image, options)
    if not done:
        raise OutputError(f"OpenCV cannot encode {path.name}.")
    write_bytes(path, data.tobytes(), "image", durable=False)


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OutputError(f"The folder '{shown(folder)}' is not empty; name a new one, nothing is overwritten.")
    except OSError as error:
        raise OutputError(f"Cannot make the folder '{shown(folder)}': {error.strerror}.") from error


def write_bag(
    simulator: Simulator,
    folder: Path,
    storage: str = "mcap",
    plan: FaultPlan | None = None,
    compressed: str = "",
    threads: int = 1,
    progress: Progress | None = None,
) -> FaultInjector:
    """The run as a rosbag2 (storage "mcap" or "sqlite3") with /image or /image/compressed, /camera_info,
    /points, /odometry, /imu, /tf, /tf_static and /clock, received at their arrival; the rig's other cameras in
    /camera_2/image, /camera_2/camera_info, /camera_3/...; truth/ inside it.
    Gives the injector with its counts. Raises OutputError when `folder` exists or cannot be written.
    """
    if storage not in ("mcap", "sqlite3"):
        raise InputError(f"Unknown bag storage '{storage}'; expected mcap or sqlite3.")
    from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

    from spatial_fm_ros.simulation.bag_messages import BagMessages

    injector = FaultInjector(plan or FaultPlan())
    if os.path.lexists(folder):
        raise OutputError(f"The bag '{shown(folder)}' is there already; name a new one, nothing is overwritten.")
    s = simulator.scenario
    messages = BagMessages(injector.plan.camera_info, compressed)
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Writer(folder, version=9, storage_plugin=plugin) as writer:
            messages.open(writer, tuple(simulator.rig.companions))
            messages.write_static(s.start_ns, static_transforms(injector.rig(simulator.rig)))
            clock_ns = s.start_ns
            for event in injector.apply(simulator.events(threads)):
                while clock_ns < event.arrival_ns:
                    messages.write_clock(clock_ns)
                    clock_ns += 10_000_000
                messages.write(event)
                if progress and isinstance(event.sample, Frame):
                    progress(min(1.0, (event.arrival_ns - s.start_ns) / 1e9 / s.duration_s))
        write_truth(simulator.truth, simulator.frame_stamps_ns, folder / "truth")
    except (OSError, WriterError) as error:
        raise OutputError(f"Cannot write the bag '{shown(folder)}': {shown(error)}.") from error
    return injector
