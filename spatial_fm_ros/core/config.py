"""Every parameter of the package, once. YAML keys, ROS parameters and CLI options are generated from here.

A parameter is a dataclass field made by `param` with its default, a one-line doc (units included)
and, where they exist, bounds or choices; `config_files.py` reads, checks and writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def param(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A documented dataclass field; `low` and `high` are inclusive bounds."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": choices})


def section(cls: type, doc: str) -> Any:
    """A nested group of parameters."""
    return field(default_factory=cls, metadata={"doc": doc})


@dataclass(frozen=True)
class IntakeConfig:
    image_width: int = param(640, "long side of the working image in pixels; larger images are shrunk", low=64, high=4096)
    disparity_px: float = param(36.0, "median optical flow that makes a keyframe, in pixels of a 640-wide image", low=0.0)
    max_interval_s: float = param(2.0, "a keyframe is taken after this time even without motion", low=0.0)
    min_interval_s: float = param(0.0, "no two keyframes closer than this in time", low=0.0)
    blur_ratio: float = param(0.5, "reject a frame whose sharpness is below this share of the recent median", low=0.0, high=1.0)
    dark_level: float = param(8.0, "reject a frame whose mean grey level is below this (0..255)", low=0.0, high=255.0)
    bright_level: float = param(247.0, "reject a frame whose mean grey level is above this (0..255)", low=0.0, high=255.0)
    pose_max_gap_s: float = param(0.5, "poses further apart than this are not interpolated", low=0.0)
    pose_time_offset_s: float = param(0.0, "added to pose stamps to bring them to the camera clock")
    lidar_time_offset_s: float = param(0.0, "added to LiDAR stamps to bring them to the camera clock")
    imu_time_offset_s: float = param(0.0, "added to IMU stamps to bring them to the camera clock")
    companion_max_gap_s: float = param(0.01, "images of the rig's other cameras further than this from a keyframe are not taken with it", low=0.0, high=0.1)
    max_pixels: int = param(134_217_728, "pictures whose header says more pixels than this are not decoded; 16384x8192 fits", low=4096, high=2**31)
    buffer_s: float = param(60.0, "seconds of poses, scans and IMU samples kept", low=1.0)


@dataclass(frozen=True)
class WindowConfig:
    size: int = param(8, "keyframes in one window (one model pass)", low=2, high=64)
    overlap: int = param(3, "keyframes shared with the window before", low=2, high=32)
    companions: int = param(4, "most images of the rig's other cameras in one window, beside its keyframes; 0 = none", low=0, high=64)
    max_pending: int = param(12, "keyframes waiting for the model in live use; beyond it they are thinned evenly", low=2)


@dataclass(frozen=True)
class GeometricConfig:
    features: str = param("xfeat", "local features", choices=("xfeat", "sift"))
    max_features: int = param(2048, "features kept per image", low=64)
    min_similarity: float = param(0.0, "matches with a lower cosine similarity are not tried", low=-1.0, high=1.0)
    max_epipolar_px: float = param(1.5, "largest epipolar error of a match, in pixels", low=0.1)
    max_reprojection_px: float = param(2.5, "largest reprojection error of a sparse observation, in pixels", low=0.1)
    min_parallax_px: float = param(2.0, "a pair that a rotation explains better than this has no parallax", low=0.0)
    adjusted_points: int = param(300, "points per view that bundle adjustment uses (longest tracks)", low=30)
    support: int = param(4, "keyframes just older than the window that still hold it", low=0, high=32)
    memory: int = param(120, "keyframes remembered to find the way back after being lost", low=0, high=2000)
    dense_width: int = param(320, "long side of the depth images in pixels", low=32, high=2048)
    dense_sources: int = param(6, "most views a view is matched with for its depth", low=1, high=16)


@dataclass(frozen=True)
class FoundationConfig:
    image_width: int = param(0, "long side of the network's images in pixels, to a multiple of 14; 0 = 518 for vggt, 504 for depth_anything_3, 224 for nano", low=0, high=2044)
    points_from: str = param("depth", "where points come from: the depth head, or the point head (vggt and nano)", choices=("depth", "points"))
    use_poses: bool = param(True, "give the window's odometry and intrinsics to the network where it takes them (depth_anything_3)")
    even_confidence: float = param(0.0, "network confidence above 1 that becomes a chance of 0.5; 0 = the model's own rule (docs/models.md)", low=0.0)
    edge_tolerance: float = param(0.05, "bend of inverse depth, as a share of it, above which a pixel is an edge and loses its confidence; 0 = keep edges", low=0.0)
    sky: str = param("network", "sky that is removed: what the network calls sky, what has its colour and is far, or none", choices=("network", "colour", "none"))
    drop_saturated: bool = param(True, "blown-out areas lose their confidence")
    drop_white: bool = param(False, "near-white pixels are a background and removed")
    drop_black: bool = param(False, "near-black pixels are a background and removed")


@dataclass(frozen=True)
class HybridConfig:
    prior: str = param("nano", "the model whose cameras and depth the geometric one refines: nano, vggt, depth_anything_3, oracle")


@dataclass(frozen=True)
class OracleConfig:
    truth: str = param("", "sequence folder or simulated run with ground truth")
    noise: float = param(0.0, "depth noise, standard deviation as a share of depth", low=0.0)
    outliers: float = param(0.0, "share of pixels with wrong depth", low=0.0, high=1.0)
    pose_noise: float = param(0.0, "pose noise, standard deviation as a share of the window's extent", low=0.0)
    rotation_error_deg: float = param(0.0, "median error of the rotation between neighbouring views, as a network has it", low=0.0, high=60.0)
    direction_error_deg: float = param(0.0, "median error of the direction between neighbouring views, rotation_error_deg included", low=0.0, high=60.0)
    warp: float = param(0.0, "mean size of a smooth error of depth, as a share of depth, another one in every view", low=0.0, high=1.0)
    confident_outliers: bool = param(False, "outliers carry full confidence (wrong confidences)")
    random_gauge: bool = param(True, "put every window into a random similarity gauge")
    seed: int = param(0, "seed of gauge and noise")


@dataclass(frozen=True)
class ModelConfig:
    name: str = param("geometric", "registered model: geometric, vggt, depth_anything_3, nano, hybrid, oracle")
    checkpoint: str = param("", "weights of vggt, depth_anything_3 and nano: a file, a folder, a hub id, or random:VARIANT to try speed and memory; empty = the default of the model")
    sha256: str = param("", "expected SHA-256 of the checkpoint file; empty = not checked")
    device: str = param("auto", "auto, cpu, cuda, cuda:N")
    dtype: str = param("auto", "auto, float32, float16, bfloat16", choices=("auto", "float32", "float16", "bfloat16"))
    threads: int = param(0, "CPU threads of the model; 0 = all cores", low=0)
    geometric: GeometricConfig = section(GeometricConfig, "embedded model: features, bundle adjustment, plane sweep")
    foundation: FoundationConfig = section(FoundationConfig, "vggt and depth_anything_3: input size, cleaning of their output")
    hybrid: HybridConfig = section(HybridConfig, "another model's answer refined by the geometric one")
    oracle: OracleConfig = section(OracleConfig, "exact cameras and depth from ground truth, for tests")


@dataclass(frozen=True)
class SeamConfig:
    max_residual: float = param(0.08, "a seam with a larger median relative residual starts a new submap", low=0.0)
    min_inlier_share: float = param(0.4, "share of overlap pixels that must agree", low=0.0, high=1.0)
    min_pixels: int = param(200, "overlap pixels with depth on both sides needed for a seam", low=1)
    max_rotation_deg: float = param(10.0, "largest disagreement of overlap camera orientations", low=0.0)


@dataclass(frozen=True)
class InertialConfig:
    force_bias: float = param(0.1, "accelerometer bias to expect before it is learnt, m/s^2, standard deviation", low=1e-4)
    gyro_bias: float = param(0.02, "gyro bias to expect before it is learnt, rad/s, standard deviation", low=1e-5)
    systematic: float = param(0.01, "scale error of the accelerometer itself, log standard deviation", low=0.0)
    max_rotation_error_deg: float = param(3.0, "larger disagreement of gyro and images about a turn refuses the window", low=0.1)


@dataclass(frozen=True)
class LidarScaleConfig:
    max_gap_s: float = param(0.15, "a scan whose middle is further than this from an image is not compared with it", low=0.0, high=1.0)
    min_points: int = param(150, "LiDAR points on confident pixels that one keyframe of a window must have", low=10)
    min_confidence: float = param(0.5, "pixels below this confidence are not compared with the LiDAR", low=0.0, high=1.0)
    extrinsic_sigma_deg: float = param(0.5, "uncertainty of the rotation between LiDAR and camera, standard deviation per axis", low=0.0, high=20.0)
    extrinsic_sigma_m: float = param(0.01, "uncertainty of the place of the LiDAR from the camera, standard deviation per axis", low=0.0, high=1.0)


@dataclass(frozen=True)
class ScaleConfig:
    ignore: str = param("", "observers of metres to leave out, separated by commas: poses, lidar_depth, lidar_registration, imu, height, baseline, model")
    min_travel_m: float = param(0.3, "odometry travel needed before scale counts as observed", low=0.0)
    min_keyframes: int = param(4, "keyframes with a metric pose needed for a scale", low=3)
    metric_sigma: float = param(0.05, "log-scale standard deviation below which the world becomes metric", low=0.0)
    lost_sigma: float = param(0.10, "log-scale standard deviation above which it is no longer metric", low=0.0)
    drift_per_window: float = param(0.004, "expected log-scale drift from window to window of a model that carries its gauge on, standard deviation; a quarter of it, or what the overlap shows, for others", low=1e-5)
    odometry_sigma: float = param(0.005, "scale error of the odometry itself, log standard deviation", low=0.0)
    conflicts_before_restart: int = param(3, "windows in a row that must contradict the scale before it starts anew", low=1)
    settle_windows: int = param(4, "windows of a submap after which corrections no longer rescale all of its past", low=1)
    max_correction: float = param(0.02, "largest change of an earlier window's log-scale per update once the world is metric", low=1e-4)
    model_sigma: float = param(0.1, "new log-scale error per window of a model that speaks in metres", low=1e-3)
    model_systematic: float = param(0.1, "constant log-scale error of a model that speaks in metres", low=0.0)
    camera_height_m: float = param(0.0, "height of the camera's optical centre above level ground; 0 = not known", low=0.0)
    camera_height_sigma: float = param(0.02, "error of that height as a share of it (load, tyres, slopes)", low=0.0)
    baseline_sigma: float = param(0.01, "error of the distances between the rig's cameras in TF, log standard deviation", low=0.0)
    baseline_turn_sigma_deg: float = param(0.1, "error of the orientations between the rig's cameras in TF, standard deviation; small for a stereo camera calibrated in its factory", low=0.0, high=20.0)
    inertial: InertialConfig = section(InertialConfig, "scale and gravity from the IMU")
    lidar: LidarScaleConfig = section(LidarScaleConfig, "scale from LiDAR depth")


@dataclass(frozen=True)
class LidarConfig:
    min_range: float = param(0.5, "LiDAR returns nearer than this are the robot itself, metres", low=0.0)
    max_range: float = param(100.0, "LiDAR returns beyond this are not used, metres", low=1.0)
    cell_size: float = param(0.0, "voxel of LiDAR odometry's map, metres; 0 = from the extent of the first scan", low=0.0)
    threads: int = param(1, "CPU threads of LiDAR odometry; 0 = all cores", low=0)


@dataclass(frozen=True)
class CalibrationConfig:
    refine: bool = param(False, "correct clocks and rotations of mountings while mapping, by how the sensors turn (docs/calibration.md)")
    max_rotation_deg: float = param(3.0, "a mounting that is turned by more than this is told, and not corrected", low=0.0, high=10.0)
    max_time_offset_s: float = param(0.05, "a clock that is off by more than this is told, and not corrected", low=0.0, high=0.2)


@dataclass(frozen=True)
class MapConfig:
    voxel_size: float = param(0.03, "edge of a voxel in world units (metres once metric)", low=1e-4)
    max_voxels: int = param(2_000_000, "bound on the map; the least confident, farthest voxels go first", low=1000)
    forget_distance: float = param(0.0, "forget voxels farther than this from the camera; 0 = never", low=0.0)
    min_confidence: float = param(0.5, "pixels below this confidence do not enter the map", low=0.0, high=1.0)
    max_depth: float = param(0.0, "pixels beyond this depth do not enter the map; 0 = no limit", low=0.0)
    stride: int = param(2, "every n-th pixel of a depth row and column enters the map", low=1, high=16)
    lidar: bool = param(True, "once metric, colour LiDAR points from the images and draw image depth to them in the map")
    exposure: bool = param(True, "bring the colours of each keyframe to the exposure of the map so far")
    autosave_s: float = param(60.0, "live: a map that changed is saved by itself so often, large ones less often (0.5 MB/s); 0 = off", low=0.0)
    autosave_path: str = param("", "live: file of these saves, .ply or .pcd; empty = spatial_fm_ros/NODE.autosave.ply in ROS_HOME or ~/.ros")


@dataclass(frozen=True)
class RosConfig:
    image_topic: str = param("image", "image topic")
    image_transport: str = param("raw", "how images travel: raw, or compressed = from the topics IMAGE/compressed, as image_transport names them", choices=("raw", "compressed"))
    image_compressed: bool = param(False, "the image topic is a CompressedImage; also assumed when it ends in /compressed")
    image_rectified: bool = param(False, "the images are rectified already: use P of CameraInfo (K where P is empty) and no distortion; also assumed where 'rect' is a word of the image topic's name")
    image_frame_is_body: bool = param(False, "the frame of the images has x forward, y left, z up; a frame with '_optical' behind its name is then made and used")
    camera_info_topic: str = param("", "camera info topic; empty = camera_info beside the image topic; none = there is none")
    companion_image_topics: str = param("", "images of the rig's other cameras (a stereo camera's second one), taken at the same instants and calibrated, separated by commas; empty or none = there are none")
    companion_camera_info_topics: str = param("", "their camera info, in the same order; empty = camera_info beside each image topic")
    points_topic: str = param("", "LiDAR topic; empty or none = there is none")
    odometry_topic: str = param("", "odometry topic; empty or none = there is none")
    imu_topic: str = param("", "IMU topic; empty or none = there is none")
    pose_source: str = param("odometry", "where metric poses come from", choices=("odometry", "tf", "lidar", "none"))
    map_frame: str = param("map", "frame of the map")
    odom_frame: str = param("odom", "odometry frame, for pose_source tf and TF output")
    base_frame: str = param("base_link", "robot base frame")
    pose_frame: str = param("", "frame that ~/odometry and ~/path are of: a name in TF, or 'camera' for the camera's optical frame; empty = base_frame where TF ties it to the camera, else the camera")
    publish_tf: bool = param(True, "publish map->odom, or map->robot where there is no odometry frame")
    tf_rate_hz: float = param(20.0, "rate at which map->odom is repeated with the newest pose's stamp; 0 = once a window", low=0.0, high=1000.0)
    require_metric: bool = param(False, "hold depth and clouds back until the scale is metric")
    map_rate_hz: float = param(0.5, "rate of the whole map", low=0.0)
    path_length: int = param(2000, "poses kept in ~/path", low=1)
    image_reliability: str = param("best_effort", "QoS of the image subscription", choices=("best_effort", "reliable"))
    queue_depth: int = param(10, "depth of the input queues", low=1)
    autostart: bool = param(True, "configure and activate by itself")
    missing_after_s: float = param(5.0, "a configured input silent for this long is reported", low=0.1)


@dataclass(frozen=True)
class Config:
    """The whole package."""

    intake: IntakeConfig = section(IntakeConfig, "keyframes and time-stamped buffers")
    window: WindowConfig = section(WindowConfig, "windows of keyframes")
    model: ModelConfig = section(ModelConfig, "the spatial model")
    seam: SeamConfig = section(SeamConfig, "joining windows")
    scale: ScaleConfig = section(ScaleConfig, "metric scale")
    lidar: LidarConfig = section(LidarConfig, "LiDAR scans and LiDAR odometry (ros.pose_source lidar)")
    calibration: CalibrationConfig = section(CalibrationConfig, "online correction of clocks and mountings")
    map: MapConfig = section(MapConfig, "voxel map")
    ros: RosConfig = section(RosConfig, "topics, frames and rates of the ROS nodes")
