"""Scale from LiDAR depth against exact truth: simulated sweeps, oracle depth in a random gauge, faults."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import IntakeConfig, LidarScaleConfig, ModelConfig, OracleConfig, ScaleConfig
from spatial_fm_ros.core.geometry.cameras import project, unproject
from spatial_fm_ros.core.geometry.rotations import pose_from
from spatial_fm_ros.core.intake.scans import ScanBuffer
from spatial_fm_ros.core.intake.sensors import Sensors
from spatial_fm_ros.core.metric.extrinsic_slack import REGION_ERROR, explained, region_error, regions, sensitivity
from spatial_fm_ros.core.metric.lidar_depth import LidarDepthObserver
from spatial_fm_ros.core.metric.observers import PlacedWindow, ScaleObservation
from spatial_fm_ros.core.metric.projection import Hits, depth_field, hits
from spatial_fm_ros.core.metric.scan_placing import MOST_POINTS, nearest_scan, possible_hits
from spatial_fm_ros.core.models.oracle import OracleModel
from spatial_fm_ros.core.types import Array, Camera, Keyframe, LidarScan, PosedKeyframe, PoseSample, Rig, Window
from spatial_fm_ros.simulation.lidar import LidarModel
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Simulator

CONFIG = ScaleConfig()
PINHOLE = Camera(160, 120, np.array([[110.0, 0, 79.5], [0, 110.0, 59.5], [0, 0, 1]]))


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """A placed window with what the sensors said around it, and log(metres per world unit)."""

    window: PlacedWindow
    scans: tuple[LidarScan, ...]
    poses: tuple[PoseSample, ...]
    rig: Rig
    truth: float


@lru_cache
def scene(name: str, seed: int = 0, confident: bool = False) -> Scene:
    """Five keyframes of a scenario and the sweeps around them; depth with 5 % noise and 10 % outliers."""
    scenario = get_scenario(
        name, seed=seed, distortion=(), width=160, height=120, focal_px=110.0, duration_s=20.0,
        lidar_model=LidarModel(rings=24, columns=600),
    )  # fmt: skip
    simulator = Simulator(scenario)
    model = OracleModel(
        ModelConfig(oracle=OracleConfig(noise=0.05, outliers=0.1, seed=seed, confident_outliers=confident)),
        simulator.truth,
    )
    seconds = 2.0 + 0.53 * np.arange(5)
    stamps = [scenario.start_ns + round(t * 1e9) for t in seconds]
    blank = np.zeros((120, 160, 3), np.uint8)
    camera = scenario.camera()
    keyframes = tuple(Keyframe(i, stamp, blank, camera, "camera", 0.0, "") for i, stamp in enumerate(stamps))
    seen = model.infer(Window(seed, keyframes, 0))
    posed = tuple(
        PosedKeyframe(k.id, k.stamp_ns, "camera", pose, Camera(160, 120, K), depth, confidence, blank, 0)
        for k, pose, K, depth, confidence in zip(
            keyframes, seen.world_from_camera, seen.K, seen.depth, seen.confidence, strict=True
        )
    )
    exact = simulator.truth.depth(stamps[0], camera)
    sure = np.isfinite(exact) & (seen.confidence[0] > (0.9 if not confident else 0.5))
    truth = float(np.median(np.log(exact[sure] / seen.depth[0][sure])))
    sweeps = sorted({round(t * 10) + i for t in seconds for i in (-1, 0)})
    return Scene(PlacedWindow(posed), tuple(simulator.scan(i) for i in sweeps), tuple(simulator.odometry),
                 simulator.rig, truth)  # fmt: skip


def sensed(
    view: Scene, scans: tuple[LidarScan, ...] | None = None, poses: bool = True, rig: Rig | None = None
) -> Sensors:
    sensors = Sensors(IntakeConfig())
    sensors.rig = rig or view.rig
    for scan in view.scans if scans is None else scans:
        sensors.add_scan(scan)
    for sample in view.poses if poses else ():
        sensors.add_pose(sample)
    return sensors


def looked(view: Scene, sensors: Sensors, window: PlacedWindow | None = None) -> ScaleObservation:
    seen = LidarDepthObserver(CONFIG, sensors).observe(window or view.window)
    assert seen is not None
    return seen


def error(view: Scene, sensors: Sensors, window: PlacedWindow | None = None) -> float:
    seen = looked(view, sensors, window)
    assert seen.usable, seen.reason
    return seen.log_scale - view.truth


def refusal(view: Scene, sensors: Sensors, window: PlacedWindow | None = None) -> str:
    seen = looked(view, sensors, window)
    assert not seen.usable and np.isinf(seen.sigma)
    return seen.reason


def changed(view: Scene, **fields: object) -> PlacedWindow:
    """The window with fields of all keyframes replaced; callables get the keyframe."""
    return PlacedWindow(
        tuple(
            dataclasses.replace(k, **{name: f(k) if callable(f) else f for name, f in fields.items()})
            for k in view.window.keyframes
        )
    )


# -- the scale --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["room_drive", "room_handheld", "room_still", "room_rotation"])
@pytest.mark.parametrize("poses", [True, False])
def test_the_scale_is_found_moving_standing_and_turning(name: str, poses: bool) -> None:
    view = scene(name)
    seen = looked(view, sensed(view, poses=poses))
    assert seen.usable and seen.reason == ""
    assert abs(seen.log_scale - view.truth) < (0.003 if poses else 0.006)  # keyframes are half a second apart
    assert 0.0 < seen.sigma < 0.005 and 0.001 < seen.systematic < 0.02
    assert seen.figures["keyframes"] == 5 and seen.figures["moved_by_poses"] == float(poses)


def test_wrong_depth_with_full_confidence_does_not_pull() -> None:
    view = scene("room_drive", 1, True)
    assert abs(error(view, sensed(view))) < 0.004


def test_motion_in_the_sweep_is_compensated_by_either_source() -> None:
    """Points taken as if all were seen at the scan's stamp are 50 ms old on average: that must show."""
    view = scene("room_drive")
    late = tuple(dataclasses.replace(scan, stamp_ns=scan.stamp_ns + 100_000_000) for scan in view.scans)
    exact, by_window = abs(error(view, sensed(view))), abs(error(view, sensed(view, poses=False)))
    assert exact < 0.003 and by_window < 0.006
    assert abs(error(view, sensed(view, late))) > 0.015


def test_the_guess_of_the_window_before_follows_the_world() -> None:
    view = scene("room_drive")
    observer = LidarDepthObserver(CONFIG, sensed(view, poses=False))
    first = observer.observe(view.window)
    observer.rescaled(2.0)
    doubled = changed(
        view,
        depth=lambda k: 2 * k.depth,
        world_from_camera=lambda k: pose_from(k.world_from_camera[:3, :3], 2 * k.world_from_camera[:3, 3]),
    )
    second = observer.observe(doubled)
    observer.reset()
    third = observer.observe(doubled)
    assert first is not None and second is not None and third is not None
    assert second.log_scale == pytest.approx(first.log_scale - np.log(2), abs=5e-4)
    assert third.log_scale == pytest.approx(second.log_scale, abs=5e-4)


def test_sigma_covers_extrinsics_as_wrong_as_they_are_said_to_be() -> None:
    """Extrinsic errors drawn with the deviations of the parameters: 2 sigma hold, and not for free."""
    ratios = []
    for i, name in enumerate(["room_drive", "room_rotation"] * 12):
        view, rng = scene(name), np.random.default_rng(i)
        slip = pose_from(
            Rotation.from_rotvec(np.radians(rng.normal(0, CONFIG.lidar.extrinsic_sigma_deg, 3))).as_matrix(),
            rng.normal(0, CONFIG.lidar.extrinsic_sigma_m, 3),
        )
        rig = dataclasses.replace(view.rig, body_from_lidar=view.rig.body_from_lidar @ slip)
        seen = looked(view, sensed(view, rig=rig))
        assert seen.usable
        ratios.append((seen.log_scale - view.truth) / np.hypot(seen.sigma, seen.systematic))
    assert np.mean(np.abs(ratios) < 2) >= 0.9
    assert np.sqrt(np.mean(np.square(ratios))) > 0.3


def test_depth_that_bends_is_reported_and_widens() -> None:
    view = scene("room_drive")
    bent = changed(view, depth=lambda k: (k.depth * (k.depth / np.nanmedian(k.depth)) ** 0.12).astype(np.float32))
    seen = looked(view, sensed(view), bent)
    assert seen.usable and "near and far disagree" in seen.reason
    assert seen.systematic > 0.02 and abs(seen.log_scale - view.truth) < 2 * seen.systematic
    assert seen.figures["range_0_bias"] * seen.figures["range_3_bias"] < 0


def test_one_keyframe_is_less_certain_than_five() -> None:
    view = scene("room_still")
    one = looked(view, sensed(view), PlacedWindow(view.window.keyframes[:1]))
    assert one.usable and one.sigma > 1.5 * looked(view, sensed(view)).sigma


# -- faults -----------------------------------------------------------------------------------


def test_no_scans_are_no_observer() -> None:
    view = scene("room_drive")
    assert LidarDepthObserver(CONFIG, sensed(view, ())).observe(view.window) is None


def test_order_and_shape_of_points_do_not_matter() -> None:
    """Unsorted times, an organised cloud with NaN and zero rows, a sweep sent twice."""
    view = scene("room_drive")
    plain = error(view, sensed(view))
    rng = np.random.default_rng(0)
    shuffled, organised = [], []
    for scan in view.scans:
        order = rng.permutation(len(scan.points))
        assert scan.point_times_ns is not None
        shuffled.append(LidarScan(scan.stamp_ns, scan.points[order], point_times_ns=scan.point_times_ns[order]))
        grid, times = np.full((2 * len(order), 3), np.nan, np.float32), np.zeros(2 * len(order), np.int64)
        grid[::2], times[::2] = scan.points, scan.point_times_ns
        grid[1::4] = 0.0
        organised.append(LidarScan(scan.stamp_ns, grid, point_times_ns=times))
    twice = (*view.scans, *(dataclasses.replace(scan, stamp_ns=scan.stamp_ns + 1000) for scan in view.scans))
    for scans in (tuple(shuffled), tuple(organised), twice):
        assert error(view, sensed(view, scans)) == pytest.approx(plain, abs=1e-3)


def test_lost_sweeps_and_missing_times_cost_little() -> None:
    view = scene("room_drive")
    assert abs(error(view, sensed(view, view.scans[::3]))) < 0.004
    middle = tuple(
        dataclasses.replace(scan, stamp_ns=scan.stamp_ns + 50_000_000, point_times_ns=None) for scan in view.scans
    )
    assert abs(error(view, sensed(view, middle))) < 0.006


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (lambda p: p * 1000, "millimetres"),
        (lambda p: np.full_like(p, np.nan), "no point of them is finite"),
        (lambda p: np.where(np.arange(len(p))[:, None] % 2, np.inf, np.nan).repeat(3, 1).astype(np.float32), "finite"),
        (lambda p: p[:0], "empty"),
        (lambda p: p[p[:, 0] < -0.3], "does not look where the camera does"),
    ],
)
def test_bad_clouds_are_named(points: object, words: str) -> None:
    view = scene("room_drive")
    scans = []
    for scan in view.scans:
        kept = points(scan.points)  # type: ignore[operator]
        scans.append(LidarScan(scan.stamp_ns, kept))
    assert words in refusal(view, sensed(view, tuple(scans)))


def test_bad_extrinsics_are_named() -> None:
    view = scene("room_drive")
    lidar = view.rig.body_from_lidar
    assert lidar is not None
    assert "not connected in TF" in refusal(view, sensed(view, rig=dataclasses.replace(view.rig, body_from_lidar=None)))
    assert "camera is mounted" in refusal(view, sensed(view, rig=dataclasses.replace(view.rig, body_from_camera=None)))
    for wrong in (lidar @ np.diag([1.0, -1.0, 1.0, 1.0]), 1000 * lidar, lidar * np.nan):
        reason = refusal(view, sensed(view, rig=dataclasses.replace(view.rig, body_from_lidar=wrong)))
        assert "LiDAR's mount is not a rigid transform" in reason


def test_scans_of_another_time_are_named() -> None:
    view = scene("room_drive")
    later = tuple(dataclasses.replace(scan, stamp_ns=scan.stamp_ns + 9_000_000_000) for scan in view.scans)
    assert "lidar_time_offset_s" in refusal(view, sensed(view, later))


def test_windows_without_usable_depth_are_named() -> None:
    view = scene("room_drive")
    blank = changed(view, depth=np.full((120, 160), np.nan, np.float32))
    assert "no depth" in refusal(view, sensed(view), blank)
    unsure = changed(view, confidence=np.full((120, 160), 0.2, np.float32))
    assert "confident pixels" in refusal(view, sensed(view), unsure)
    unposed = changed(view, world_from_camera=np.full((4, 4), np.nan))
    assert "no depth" in refusal(view, sensed(view), unposed)


# -- the parts --------------------------------------------------------------------------------


def slanted(normal: Array, distance: float) -> Array:
    """Depth [120, 160] of the plane normal . p = distance as PINHOLE sees it."""
    rays = unproject(PINHOLE.K, np.ones((120, 160)))
    return distance / (rays @ normal)


def test_depth_field_is_the_mean_of_known_logs() -> None:
    rng = np.random.default_rng(2)
    depth = (3.0 * np.exp(rng.normal(0, 0.03, (120, 160)))).astype(np.float32)
    depth[rng.random(depth.shape) < 0.1] = np.nan
    confidence = np.where(rng.random(depth.shape) < 0.1, 0.2, 0.9).astype(np.float32)
    field = depth_field(depth, confidence, 0.5)
    compared = 0
    for row, column in rng.integers(0, [120, 160], (200, 2)):
        low, left = max(row - 2, 0), max(column - 2, 0)
        patch = (slice(low, row + 3), slice(left, column + 3))
        known = np.isfinite(depth[patch]) & (confidence[patch] >= 0.5)
        if np.isfinite(field.log_depth[row, column]):
            plain = np.log(depth[patch][known].astype(np.float64)).mean()
            assert field.log_depth[row, column] == pytest.approx(plain, abs=1e-5)
            compared += 1
    assert compared > 100


def test_depth_field_leaves_edges_out_and_keeps_slopes() -> None:
    depth = np.full((120, 160), 2.0, np.float32)
    depth[:, 80:] = 3.0
    field = depth_field(depth, np.ones_like(depth), 0.5)
    assert np.isnan(field.log_depth[:, 78:82]).all()
    assert np.isfinite(field.log_depth[2:-2, 2:76]).all() and np.isfinite(field.log_depth[2:-2, 84:-2]).all()
    floor = slanted(np.array([0.0, 1.0, 0.6]), 1.0).astype(np.float32)
    field = depth_field(floor, np.ones_like(floor), 0.5)
    inside = field.slope[1, 5:-5, 5:-5]
    expected = np.gradient(np.log(floor.astype(np.float64)), axis=0)[5:-5, 5:-5]
    steep = np.isfinite(field.log_depth[5:-5, 5:-5])
    assert steep.mean() > 0.5
    assert np.allclose(inside[steep], expected[steep], rtol=0.1, atol=1e-3)


def test_points_hidden_from_the_camera_are_left_out() -> None:
    """A screen stands before the left half of a wall; the LiDAR, mounted higher, saw the wall behind it."""
    depth = np.full((120, 160), 5.0, np.float32)
    depth[:, :80] = 2.0
    field = depth_field(depth, np.ones_like(depth), 0.5)
    rng = np.random.default_rng(4)
    pixels = rng.uniform([0, 0], [159, 119], (1500, 2))
    rays = np.column_stack([(pixels - PINHOLE.K[:2, 2]) / 110.0, np.ones(1500)])
    screen, wall = 2.0 * rays[pixels[:, 0] < 78], 5.0 * rays
    found, in_image = hits(field, PINHOLE, np.concatenate([screen, wall]))
    assert in_image == len(screen) + len(wall)
    assert np.abs(found.log_ratio).max() < 0.01  # not one point of the wall behind the screen is left
    assert (found.points[:, 2] > 4).sum() > 400 and (found.points[:, 2] < 3).sum() > 400


def test_a_receding_floor_does_not_hide_itself() -> None:
    floor = slanted(np.array([0.0, 1.0, 0.6]), 1.2)
    field = depth_field(floor.astype(np.float32), np.ones((120, 160), np.float32), 0.5)
    points = unproject(PINHOLE.K, floor)[8:-8:6, 4:-4:2].reshape(-1, 3)
    found, in_image = hits(field, PINHOLE, points)
    near = np.isfinite(field.log_depth[8:-8:6, 4:-4:2]).sum()
    assert len(found) > 0.9 * near and in_image == len(points)


def on_plane(normal: Array, distance: float, count: int = 2400) -> tuple[Array, Hits]:
    """LiDAR points [N, 3] on a plane and what `hits` makes of them with its exact depth."""
    field = depth_field(slanted(normal, distance).astype(np.float32), np.ones((120, 160), np.float32), 0.5)
    pixels = np.random.default_rng(6).uniform([8, 8], [151, 111], (count, 2))
    rays = np.column_stack([(pixels - PINHOLE.K[:2, 2]) / 110.0, np.ones(count)])
    points = rays * (distance / (rays @ normal))[:, None]
    return points, hits(field, PINHOLE, points)[0]


def test_what_an_extrinsic_error_does_is_foretold() -> None:
    """Sensitivities against ratios of moved points and the plane's exact depth, per point."""
    normal, distance = np.array([0.2, 0.5, 0.8]), 2.0
    _, found = on_plane(normal, distance)

    def ratio(points: Array) -> Array:
        """log of a point's z over the plane's depth along its ray."""
        return np.log(points[:, 2]) - np.log(distance / (points / points[:, 2:] @ normal))

    step = 1e-4
    moved = [found.points + step * axis for axis in np.eye(3)]
    moved += [found.points @ Rotation.from_rotvec(step * axis).as_matrix().T for axis in np.eye(3)]
    plain = np.stack([ratio(points) for points in moved]) / step
    foretold = sensitivity(found, 110.0)
    assert np.abs(foretold - plain).max() < 0.03 * np.abs(plain).max()


def test_an_extrinsic_error_is_taken_out_as_far_as_ratios_show_it() -> None:
    """Floor and wall see a turn differently: it shows. On one frontal wall a shift along z does not."""
    options = LidarScaleConfig(extrinsic_sigma_deg=0.5, extrinsic_sigma_m=0.01)
    hits_of = [on_plane(np.array([0.0, 1.0, 0.6]), 1.0)[1], on_plane(np.array([0.1, 0.0, 1.0]), 4.0)[1]]
    changes = np.concatenate([sensitivity(found, 110.0) for found in hits_of], axis=1)
    turn = np.array([0, 0, 0, np.radians(0.7), 0, 0])
    weights = np.ones(changes.shape[1])
    slack = explained(0.3 + turn @ changes, weights, 0.02, changes, options)
    left = turn - slack.correction
    assert np.abs((left @ changes).mean()) < 0.25 * np.abs((turn @ changes).mean())
    assert np.abs((left @ changes).mean()) < 2 * slack.sigma
    wall = sensitivity(hits_of[1], 110.0)
    shift = np.array([0, 0, 0.01, 0, 0, 0])
    hidden = explained(0.3 + shift @ wall, np.ones(wall.shape[1]), 0.02, wall, options)
    assert abs(hidden.correction[2]) < 0.001
    assert hidden.sigma > 0.9 * 0.01 / 4.0  # a centimetre in four metres stays open
    scattered = explained(0.3 + turn @ changes, weights, 0.3, changes, options)
    assert abs(scattered.correction[3]) < 0.1 * slack.correction[3] and scattered.sigma > 1.3 * slack.sigma
    certain = LidarScaleConfig(extrinsic_sigma_deg=0.0, extrinsic_sigma_m=0.0)
    nothing = explained(turn @ changes, weights, 0.02, changes, certain)
    assert not nothing.correction.any() and nothing.sigma == 0.0


def test_how_far_regions_err_is_seen() -> None:
    """From the residuals where they tell, from what is known beforehand where they do not."""
    found = on_plane(np.array([0.2, 0.5, 0.8]), 2.0, 4000)[1]
    tiles, rng = regions(found), np.random.default_rng(8)
    assert len(np.bincount(tiles)) == 20 and np.ptp(np.bincount(tiles)) <= 1
    weights, white = np.ones(len(tiles)), rng.normal(0, 0.05, len(tiles))
    smooth, rough = (region_error(white + np.append(rng.normal(0, e, 19), 0)[tiles], weights, tiles) for e in (0, 0.06))
    assert smooth < 0.6 * REGION_ERROR and 0.04 < rough < 0.08
    assert region_error(white, (tiles < 7).astype(float), tiles) == REGION_ERROR


def test_no_point_of_the_image_is_cut_away_early() -> None:
    """The quick cut keeps every return that projects into the image, in any place, and drops what is none."""
    rng = np.random.default_rng(7)
    camera_from_lidar = pose_from(Rotation.from_rotvec([0.3, -1.1, 0.2]).as_matrix(), np.array([0.1, -0.2, 0.05]))
    points = rng.normal(0, 5, (4000, 3)).astype(np.float32)
    points[::7], points[::11], points[::13, 1] = np.nan, 0.0, np.inf
    times = rng.integers(0, 10**8, 4000)
    part = possible_hits(LidarScan(5, points, point_times_ns=times), camera_from_lidar, PINHOLE)
    with np.errstate(invalid="ignore"):
        pixels = project(PINHOLE, points @ camera_from_lidar[:3, :3].T + camera_from_lidar[:3, 3])
        real = np.isfinite(points).all(axis=1) & (np.abs(points).max(axis=1) > 0)
        inside = real & ((pixels > -0.5) & (pixels < [159.5, 119.5])).all(axis=1)
    assert inside.sum() > 100 and part.point_times_ns is not None
    kept = {(*point, when) for point, when in zip(part.points.tolist(), part.point_times_ns.tolist(), strict=True)}
    wanted = {(*point, when) for point, when in zip(points[inside].tolist(), times[inside].tolist(), strict=True)}
    assert wanted <= kept and len(kept) < 0.6 * len(points)
    assert np.isfinite(part.points).all() and (np.abs(part.points).max(axis=1) > 0).all()
    many = np.tile(points[inside], (200, 1))
    assert len(possible_hits(LidarScan(5, many), camera_from_lidar, PINHOLE).points) < 1.1 * MOST_POINTS


def test_the_scan_whose_middle_is_nearest_is_taken() -> None:
    scans = ScanBuffer(10.0)
    assert nearest_scan(scans, 0, 10**9) is None
    sweep = np.linspace(0, 10**8, 50).astype(np.int64)
    for stamp in range(0, 10**9, 10**8):
        scans.add(LidarScan(stamp, np.ones((50, 3), np.float32), point_times_ns=sweep))
    for stamp in (140_000_000, 160_000_000, 199_000_000):  # in the sweep that began at 100 ms
        found = nearest_scan(scans, stamp, 10**8)
        assert found is not None and found.stamp_ns == 10**8
    assert nearest_scan(scans, 1_300_000_000, 10**8) is None


def test_projection_agrees_with_the_camera_model() -> None:
    rng = np.random.default_rng(5)
    points = rng.uniform([-1, -1, 0.5], [1, 1, 6], (400, 3))
    field = depth_field(np.full((120, 160), 3.0, np.float32), np.ones((120, 160), np.float32), 0.5)
    pixels = project(PINHOLE, points)
    inside = ((pixels > -0.5) & (pixels < [159.5, 119.5])).all(axis=1)
    assert hits(field, PINHOLE, points)[1] == inside.sum()
