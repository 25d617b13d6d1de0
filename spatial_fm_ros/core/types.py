"""What flows through the pipeline: sensor samples in, windows and predictions inside, updates out.

Conventions: stamps are int nanoseconds; poses are 4x4 float64 named `a_from_b` (they take b points
to a points); camera axes are OpenCV optical (x right, y down, z forward); images are RGB uint8
[H, W, 3]; pixel (u, v) = (column, row) with the centre of the top-left pixel at (0, 0); depth is
float32 along z with NaN = unknown; confidence is float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import InputError

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Depth = NDArray[np.float32]

#: Distortion models by the names of sensor_msgs/CameraInfo, with their number of coefficients.
DISTORTION_MODELS = {"none": (0,), "plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics of one image size. K float64 [3, 3] in pixels; distortion as CameraInfo orders it.

    Raises InputError when K or the distortion cannot belong to a real camera.
    """

    width: int
    height: int
    K: Array
    distortion_model: str = "none"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        K = np.asarray(self.K, dtype=np.float64)
        object.__setattr__(self, "K", K)
        if self.width <= 0 or self.height <= 0:
            raise InputError(f"A camera needs a positive size, got {self.width}x{self.height}.")
        if K.shape != (3, 3) or not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
            raise InputError(
                f"A camera matrix K needs 3x3 finite values with fx, fy > 0, got {K.tolist()}; "
                "publish calibrated CameraInfo, or none at all and let the model estimate the focal length."
            )
        counts = DISTORTION_MODELS.get(self.distortion_model)
        if counts is None:
            raise InputError(
                f"Unknown distortion model '{self.distortion_model}'; expected one of "
                f"{', '.join(DISTORTION_MODELS)}. Rectify the images first or publish one of these."
            )
        if len(self.distortion) not in counts or not np.isfinite(self.distortion).all():
            raise InputError(
                f"Distortion model '{self.distortion_model}' takes {' or '.join(map(str, counts))} finite "
                f"coefficients, got {list(self.distortion)}."
            )

    @property
    def is_pinhole(self) -> bool:
        return not any(self.distortion)

    def resized(self, width: int, height: int) -> Camera:
        """The same camera after resizing its image (pixel centres at integers, so c' = (c + .5) s - .5)."""
        sx, sy = width / self.width, height / self.height
        K = self.K.copy()
        K[0] *= sx
        K[1] *= sy
        K[0, 2] += 0.5 * sx - 0.5
        K[1, 2] += 0.5 * sy - 0.5
        return Camera(width, height, K, self.distortion_model, self.distortion)


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera image. `camera` is None when its calibration is unknown.

    arrived_ns, of all samples: when it was heard or recorded, by one steady clock for all of a robot's sensors,
    whatever that counts from; None where nobody knows. With it a wrong stamp is told from time that went elsewhere
    (TimeLine), and a sensor on another clock is found (SensorClocks).
    """

    stamp_ns: int
    image: Image
    camera: Camera | None = None
    frame_id: str = "camera"
    arrived_ns: int | None = None


@dataclass(frozen=True, eq=False)
class CompanionFrame:
    """An image of another camera of the rig. Taken together with a keyframe, it joins that keyframe's window."""

    frame: Frame

    @property
    def stamp_ns(self) -> int:
        return self.frame.stamp_ns


@dataclass(frozen=True, eq=False)
class LidarScan:
    """One LiDAR sweep. points float32 [N, 3] metres in `frame_id`; point_times_ns int64 [N] after stamp_ns.

    remark: what of the sweep could not be used, for people; empty when all is well.
    """

    stamp_ns: int
    points: NDArray[np.float32]
    intensity: NDArray[np.float32] | None = None
    ring: NDArray[np.int32] | None = None
    point_times_ns: NDArray[np.int64] | None = None
    frame_id: str = "lidar"
    arrived_ns: int | None = None
    remark: str = ""


@dataclass(frozen=True, eq=False)
class PoseSample:
    """A metric pose of the robot's body from odometry, TF or LiDAR odometry. covariance [6, 6] xyz, rpy."""

    stamp_ns: int
    odom_from_body: Array
    covariance: Array | None = None
    frame_id: str = "odom"
    child_frame_id: str = "base_link"
    arrived_ns: int | None = None


@dataclass(frozen=True, eq=False)
class ImuSample:
    """One inertial sample in `frame_id`: rad/s and m/s^2 (gravity included), float64 [3] each."""

    stamp_ns: int
    angular_velocity: Array
    linear_acceleration: Array
    frame_id: str = "imu"
    arrived_ns: int | None = None


#: Whatever a robot sends.
Sample = Frame | CompanionFrame | LidarScan | PoseSample | ImuSample


@dataclass(frozen=True, eq=False)
class Rig:
    """Static extrinsics of the robot, 4x4 metres; None where unknown.

    companions: camera_from_companion of the rig's other cameras, by the frame they send in. frame_doubt: why the
    camera's frame looks as if it were no optical one, empty where it does not.
    """

    body_from_camera: Array | None = None
    body_from_lidar: Array | None = None
    body_from_imu: Array | None = None
    companions: Mapping[str, Array] = field(default_factory=dict)
    frame_doubt: str = ""


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A frame kept by the gate, rectified to a pinhole and brought to working size.

    `id` counts up over the pipeline's life; models may cache by it. `camera` is the pinhole of
    `image` (None: unknown). `odom_from_camera` is the pose prior at its stamp where there is one.
    """

    id: int
    stamp_ns: int
    image: Image
    camera: Camera | None
    frame_id: str
    disparity_px: float
    reason: str
    odom_from_camera: Array | None = None


@dataclass(frozen=True, eq=False)
class Companion:
    """What another camera of the rig saw at the instant of the keyframe `of` (its id).

    `view` is an image like a keyframe's, of the same size and with an id of its own; no keyframe of the map.
    """

    of: int
    view: Keyframe


@dataclass(frozen=True, eq=False)
class CompanionPose:
    """Where a model has the companion of the keyframe `of`: world_from_camera [4, 4], in its gauge or the world."""

    of: int
    stamp_ns: int
    frame_id: str
    world_from_camera: Array


@dataclass(frozen=True, eq=False)
class Window:
    """The images of one forward pass; the first `overlap` keyframes were in the window before.

    Models see `keyframes` alone: `with_companions` puts the rig's other cameras behind them.
    """

    index: int
    keyframes: tuple[Keyframe, ...]
    overlap: int
    companions: tuple[Companion, ...] = ()

    @property
    def with_companions(self) -> Window:
        """The window as a model gets it."""
        return Window(self.index, (*self.keyframes, *(each.view for each in self.companions)), self.overlap)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(keyframe.id for keyframe in self.keyframes)


class WindowState(str, Enum):
    """How much of a window a model could see."""

    OK = "ok"
    NO_PARALLAX = "no_parallax"  # rotations are known, translation and depth are not
    NO_TEXTURE = "no_texture"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of a window of N keyframes, in the model's own gauge ('world' below).

    world_from_camera float64 [N, 4, 4] (NaN where not posed), K float64 [N, 3, 3] of the depth grid,
    depth float32 [N, h, w] in gauge units (NaN unknown), confidence float32 [N, h, w] in [0, 1]:
    the chance that a depth is within 5 % of the truth. `metric`: the gauge is in metres.
    """

    world_from_camera: Array
    K: Array
    depth: Depth
    confidence: Depth
    posed: NDArray[np.bool_]
    state: WindowState = WindowState.OK
    metric: bool = False
    note: str = ""
    figures: dict[str, float] = field(default_factory=dict)  # model's own quality figures, by name
    continues: bool = False  # the gauge goes on from the window before: its drift does not show in their overlap

    @property
    def has_depth(self) -> bool:
        """Any pixel of any keyframe has a known depth."""
        return bool(np.isfinite(self.depth).any())

    def of_first(self, count: int) -> Prediction:
        """The same prediction of the first `count` views alone."""
        if count == len(self.posed):
            return self
        return replace(
            self,
            world_from_camera=self.world_from_camera[:count],
            K=self.K[:count],
            depth=self.depth[:count],
            confidence=self.confidence[:count],
            posed=self.posed[:count],
        )


class ScaleState(str, Enum):
    RELATIVE = "relative"  # no observer of metres
    METRIC = "metric"
    UNOBSERVABLE = "unobservable"  # an observer is there but cannot see scale
    CONFLICT = "conflict"  # observers keep contradicting each other


@dataclass(frozen=True)
class ScaleEstimate:
    """Scale of the published world. `value`: metres per world unit; `sigma`: standard deviation of log(value)."""

    state: ScaleState = ScaleState.RELATIVE
    value: float = 1.0
    sigma: float = float("inf")
    observers: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()  # 'name: reason'
    reason: str = "no observer of metres"


@dataclass(frozen=True)
class SeamReport:
    """How a window fitted the world. residual: weighted median of point distance over depth (no unit).

    scale_sigma: how well the overlap fixed the window's log-scale, by how far its keyframes differ about it.
    """

    accepted: bool
    residual: float
    inlier_share: float
    scale: float
    reason: str = ""
    scale_sigma: float = float("nan")


@dataclass(frozen=True, eq=False)
class PosedKeyframe:
    """A keyframe in the world. depth (world units), confidence and image [h, w] share the pinhole `camera`."""

    id: int
    stamp_ns: int
    frame_id: str
    world_from_camera: Array
    camera: Camera
    depth: Depth
    confidence: Depth
    image: Image
    submap: int
    odom_from_camera: Array | None = None


class PointSource(IntEnum):
    """What measured a point."""

    IMAGES = 0  # depth of the model
    LIDAR = 1


@dataclass(frozen=True, eq=False)
class PointCloud:
    """points float32 [N, 3] world units, colors uint8 [N, 3] RGB, confidence float32 [N] in [0, 1].

    normals float32 [N, 3], of unit length towards the viewer, 0 where unknown; source uint8 [N] of
    PointSource. Left out, these are unknown and IMAGES. float64 is taken as float32. Raises InputError for arrays that
    do not fit together.
    """

    points: NDArray[np.float32]
    colors: Image
    confidence: NDArray[np.float32]
    normals: NDArray[np.float32] = None  # type: ignore[assignment]  # filled below
    source: NDArray[np.uint8] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.normals is None:
            object.__setattr__(self, "normals", np.zeros((len(self.points), 3), np.float32))
        if self.source is None:
            object.__setattr__(self, "source", np.full(len(self.points), PointSource.IMAGES, np.uint8))
        for name in ("points", "confidence", "normals"):  # what was computed with doubles is a cloud all the same
            values = getattr(self, name)
            if values.dtype == np.float64:
                object.__setattr__(self, name, values.astype(np.float32))
        n = len(self.points)
        arrays = (self.points, self.colors, self.confidence, self.normals, self.source)
        expected = ("float32", (n, 3)), ("uint8", (n, 3)), ("float32", (n,)), ("float32", (n, 3)), ("uint8", (n,))
        given = tuple((array.dtype.name, array.shape) for array in arrays)
        if given != expected:
            raise InputError(
                "A cloud takes points and normals float32 [N, 3], colors uint8 [N, 3], confidence float32 [N] and "
                f"source uint8 [N]; got {given}."
            )

    @staticmethod
    def empty() -> PointCloud:
        return PointCloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32))

    @staticmethod
    def joined(clouds: Sequence[PointCloud]) -> PointCloud:
        """All points of several clouds, in order."""
        if not clouds:
            return PointCloud.empty()
        return PointCloud(
            np.concatenate([c.points for c in clouds]),
            np.concatenate([c.colors for c in clouds]),
            np.concatenate([c.confidence for c in clouds]),
            np.concatenate([c.normals for c in clouds]),
            np.concatenate([c.source for c in clouds]),
        )

    def __getitem__(self, index: Any) -> PointCloud:
        """Some of its points, by a mask or by indices."""
        return PointCloud(
            self.points[index], self.colors[index], self.confidence[index], self.normals[index], self.source[index]
        )

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class Update:
    """What one window added to the world."""

    window: int
    submap: int
    keyframes: tuple[PosedKeyframe, ...]  # new ones only
    points: PointCloud  # new points only
    scale: ScaleEstimate
    seam: SeamReport | None  # None for the first window of a submap
    state: WindowState
    note: str
    timings_s: dict[str, float]
    map_size: int
    world_from_odom: Array | None = None  # the correction TF map->odom carries, where odometry exists
    rescaled_by: float = 1.0  # the whole submap was multiplied by this before this update
    scale_correction: float = 0.0  # largest change of a window's log-scale that this update brought, beyond that
    refined: Mapping[int, float] = field(default_factory=dict)  # earlier keyframes: factor on their depth
