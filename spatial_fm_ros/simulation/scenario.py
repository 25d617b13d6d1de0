"""Scenarios: a world, a motion through it, the robot's sensors and a seed. All a run needs, as data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.structured import mapping, read_json
from spatial_fm_ros.core.io.writing import make_folder, write_text
from spatial_fm_ros.core.types import Array, Camera, Rig
from spatial_fm_ros.simulation.camera import CameraModel
from spatial_fm_ros.simulation.inertial import ImuModel, OdometryModel
from spatial_fm_ros.simulation.lidar import LidarModel
from spatial_fm_ros.simulation.trajectory import rotation

#: Camera axes of REP-103: body x forward, y left, z up from optical x right, y down, z forward.
LINK_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])

#: Seconds of the longest run: a day.
LONGEST_S = 86_400

FRAMES = {"odom": "odom", "body": "base_link", "camera_link": "camera_link", "camera": "camera_optical_frame",
          "lidar": "lidar", "imu": "imu"}  # fmt: skip


def companion_frame(index: int) -> str:
    """Optical frame of the rig's other cameras, counted from 0; the first camera is number 1."""
    return f"camera_{index + 2}_optical_frame"


@dataclass(frozen=True)
class Mount:
    """Where a sensor sits on the body: x, y, z in metres, yaw, pitch, roll in degrees."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0

    def body_from_sensor(self) -> Array:
        """4x4 pose of the sensor's x-forward, z-up frame."""
        pose = np.eye(4)
        pose[:3, :3] = rotation(np.radians([[self.yaw_deg, self.pitch_deg, self.roll_deg]]))[0]
        pose[:3, 3] = (self.x, self.y, self.z)
        return pose


@dataclass(frozen=True)
class Scenario:
    """One reproducible run. Rates in Hz; a rate of 0 leaves the sensor out. Images are `width` x
    `height` with focal length `focal_px` and plumb_bob coefficients `distortion` (empty: pinhole);
    `companion_mounts` are further cameras of the same kind, triggered together with it; `detail` scales
    texture resolution; stamps start at `start_ns`."""

    name: str
    world: str
    motion: str
    duration_s: float = 60.0
    seed: int = 0
    detail: float = 1.0
    low_texture: bool = False
    start_ns: int = 10_000_000_000
    camera_hz: float = 10.0
    lidar_hz: float = 10.0
    imu_hz: float = 100.0
    odometry_hz: float = 50.0
    width: int = 640
    height: int = 480
    focal_px: float = 430.0
    distortion: tuple[float, ...] = (-0.06, 0.02, 0.0004, -0.0003, 0.0)
    camera_mount: Mount = Mount(0.15, 0.0, 0.55)
    companion_mounts: tuple[Mount, ...] = ()
    lidar_mount: Mount = Mount(0.0, 0.0, 0.8)
    imu_mount: Mount = Mount(-0.05, 0.02, 0.3)
    camera_model: CameraModel = field(default_factory=CameraModel)
    lidar_model: LidarModel = field(default_factory=LidarModel)
    imu_model: ImuModel = field(default_factory=ImuModel)
    odometry_model: OdometryModel = field(default_factory=OdometryModel)

    def camera(self) -> Camera:
        """The calibration of the delivered images."""
        K = np.array([[self.focal_px, 0, self.width / 2 - 0.5], [0, self.focal_px, self.height / 2 - 0.5], [0, 0, 1]])
        model = "plumb_bob" if self.distortion else "none"
        return Camera(self.width, self.height, K, model, tuple(self.distortion))

    def rig(self) -> Rig:
        """True extrinsics; the camera's are of its optical frame."""
        return Rig(
            body_from_camera=self.camera_mount.body_from_sensor() @ LINK_FROM_OPTICAL,
            body_from_lidar=self.lidar_mount.body_from_sensor(),
            body_from_imu=self.imu_mount.body_from_sensor(),
            companions=self._companions(),
        )

    def _companions(self) -> dict[str, Array]:
        """camera_from_companion by frame, of optical frames."""
        camera_from_body = np.linalg.inv(self.camera_mount.body_from_sensor() @ LINK_FROM_OPTICAL)
        return {
            companion_frame(i): camera_from_body @ mount.body_from_sensor() @ LINK_FROM_OPTICAL
            for i, mount in enumerate(self.companion_mounts)
        }

    def with_stereo(self, baseline_m: float) -> Scenario:
        """A second camera so far to the right of the first, looking the same way. Raises InputError beyond 10 m."""
        if not abs(baseline_m) <= 10.0:
            raise InputError(f"A stereo camera's second lens is up to 10 m away, got {baseline_m:g} m.")
        link = self.camera_mount.body_from_sensor()
        x, y, z = link[:3, 3] - baseline_m * link[:3, 1]
        return dataclasses.replace(
            self, companion_mounts=(dataclasses.replace(self.camera_mount, x=float(x), y=float(y), z=float(z)),)
        )

    def with_size(self, width: int) -> Scenario:
        """The same field of view with images of another width."""
        scale = width / self.width
        return dataclasses.replace(self, width=width, height=round(self.height * scale), focal_px=self.focal_px * scale)


SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario("room_drive", "room", "room_drive", 60.0),
        Scenario("room_oval", "room", "room_oval", 60.0),
        Scenario("room_patrol", "room", "room_patrol", 1800.0),
        Scenario("room_handheld", "room", "room_handheld", 40.0, camera_hz=15.0),
        Scenario("room_still", "room", "room_still", 10.0),
        Scenario("room_rotation", "room", "room_rotation", 20.0),
        Scenario("room_spin", "room", "room_spin", 20.0),
        Scenario("room_plain", "room", "room_drive", 60.0, low_texture=True),
        Scenario("corridor_loop", "corridor", "corridor_loop", 90.0),
        Scenario("hall_drive", "hall", "hall_drive", 90.0),
        Scenario("hall_side", "hall", "hall_side", 25.0, camera_mount=Mount(0.1, 0.1, 0.6, yaw_deg=60.0)),
        Scenario("tunnel_straight", "tunnel", "tunnel_straight", 50.0),
        Scenario("street_drive", "street", "street_drive", 45.0, camera_mount=Mount(0.3, 0.0, 1.3),
                 lidar_mount=Mount(0.0, 0.0, 1.6)),
    )
}  # fmt: skip


def get_scenario(name: str, **changes: Any) -> Scenario:
    """The scenario `name` with fields replaced. Raises InputError for an unknown name or field."""
    if name not in SCENARIOS:
        raise InputError(f"Unknown scenario '{name}'; expected one of {', '.join(SCENARIOS)}.")
    known = {f.name for f in dataclasses.fields(Scenario)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise InputError(f"A scenario has no field {', '.join(unknown)}; expected some of {', '.join(sorted(known))}.")
    chosen = dataclasses.replace(SCENARIOS[name], **changes)
    _check(chosen)
    return chosen


def _check(scenario: Scenario) -> None:
    """Raises InputError for numbers with which there is no run."""
    if not 0 < scenario.duration_s <= LONGEST_S:
        raise InputError(f"A simulated run takes up to {LONGEST_S} s, got {scenario.duration_s:g} s.")
    if not 0 <= scenario.seed < 2**63:
        raise InputError(f"A seed is a whole number from 0 on, of 63 bits at most; got {scenario.seed}.")


_PARTS = {
    "camera_mount": Mount, "lidar_mount": Mount, "imu_mount": Mount, "camera_model": CameraModel,
    "lidar_model": LidarModel, "imu_model": ImuModel, "odometry_model": OdometryModel,
}  # fmt: skip


def save_scenario(scenario: Scenario, path: Path) -> None:
    """Writes the scenario as JSON. Raises OutputError when the file cannot be written."""
    make_folder(path.parent)
    write_text(path, json.dumps(dataclasses.asdict(scenario), indent=1) + "\n", "scenario")


def load_scenario(path: Path) -> Scenario:
    """Reads what `save_scenario` wrote. Raises InputError when it is missing or not a scenario."""
    name = f"scenario '{shown(path)}'"
    values = mapping(read_json(path, "scenario"), name)
    try:
        for key, part in _PARTS.items():
            values[key] = part(**mapping(values[key], f"{name} at '{key}'"))
        values["distortion"] = tuple(values["distortion"])
        values["companion_mounts"] = tuple(Mount(**mount) for mount in values.get("companion_mounts", ()))
        scenario = Scenario(**values)
        for field_, value, usual in _numbers(scenario):
            if type(value) is not type(usual) and not (isinstance(usual, float) and type(value) is int):
                raise InputError(f"The {name} needs {_WORDS[type(usual)]} at '{field_}', got {shown(value, 60)}.")
        _check(scenario)
        _ = scenario.rig(), scenario.camera()  # values of the wrong kind inside lists are found by using them
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise InputError(
            f"The {name} is not a scenario as this version writes it ({shown(error)}); record the run again."
        ) from error
    return scenario


_WORDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _numbers(scenario: Scenario) -> Iterator[tuple[str, object, object]]:
    """Name, value and usual value of the plain fields, those of mounts and models among them."""
    usual = SCENARIOS["room_drive"]
    for field_ in dataclasses.fields(Scenario):
        value, known = getattr(scenario, field_.name), getattr(usual, field_.name)
        if dataclasses.is_dataclass(known):
            for inner in dataclasses.fields(known):
                inside = getattr(known, inner.name)
                if type(inside) in _WORDS:
                    yield f"{field_.name}.{inner.name}", getattr(value, inner.name), inside
        elif type(known) in _WORDS:
            yield field_.name, value, known
