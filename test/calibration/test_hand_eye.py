"""Time offset and extrinsic rotation from turns: against the simulator's faults, with honest deviations."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.calibration.check import CalibrationCheck, Comparison
from spatial_fm_ros.core.calibration.hand_eye import calibrate
from spatial_fm_ros.core.calibration.orientations import Orientations, from_gyro, from_poses
from spatial_fm_ros.core.calibration.report import findings, of_image_frame
from spatial_fm_ros.core.calibration.small_motion import small_turn
from spatial_fm_ros.core.calibration.visual_turns import Turns, VisualTurns
from spatial_fm_ros.core.config import LidarConfig
from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.optical import BODY_FROM_OPTICAL
from spatial_fm_ros.core.types import Frame, ImuSample, LidarScan, PoseSample
from spatial_fm_ros.simulation.faults import FaultInjector, FaultPlan
from spatial_fm_ros.simulation.lidar import LidarModel
from spatial_fm_ros.simulation.scenario import get_scenario
from spatial_fm_ros.simulation.simulator import Event, Simulator

NOISE = np.radians([0.02, 0.03, 0.008])  # of a visual turn, as measured on rendered images


def simulator(name="room_handheld", seed=0, **changes):
    return Simulator(get_scenario(name, seed=seed, lidar_hz=0.0, camera_hz=10.0, **{"duration_s": 14.0, **changes}))


def visual(sim, seed=0, noise=NOISE, mistakes=0.0) -> Turns:
    """Turns between the run's images with the noise of tracking, and gross mistakes of some."""
    rng = np.random.default_rng(seed)
    stamps = np.array(sim.frame_stamps_ns[8:-8])
    rotations = Rotation.from_matrix(sim.truth.world_from_cameras(stamps)[:, :3, :3])
    vectors = (rotations[:-1].inv() * rotations[1:]).as_rotvec()
    vectors = vectors + rng.normal(0, 1, vectors.shape) * noise
    wrong = rng.random(len(vectors)) < mistakes
    vectors[wrong] += rng.normal(0, 0.05, (int(wrong.sum()), 3))
    covariances = np.tile(np.diag(np.square(noise)), (len(vectors), 1, 1))
    return Turns(np.stack([stamps[:-1], stamps[1:]], axis=1), vectors, covariances)


def reported(sim, plan):
    """Samples and rig with the plan's faults."""
    injector = FaultInjector(plan)
    events = [Event(s.stamp_ns, s) for s in (*sim.imu, *sim.odometry)]
    samples = [event.sample for event in injector.apply(sorted(events, key=lambda e: e.arrival_ns))]
    imu = [s for s in samples if isinstance(s, ImuSample)]
    return imu, [s for s in samples if not isinstance(s, ImuSample)], injector.rig(sim.rig)


def mountings(rig):
    """sensor_from_camera rotations as TF would give them."""
    camera = rig.body_from_camera[:3, :3]
    return {
        "imu": rig.body_from_imu[:3, :3].T @ camera,
        "odometry": camera,
        "lidar": rig.body_from_lidar[:3, :3].T @ camera,
    }


@pytest.mark.parametrize("sensor", ["imu", "odometry"])
def test_offset_and_rotation_are_found_with_honest_sigmas(sensor):
    clocks, angles = [], []
    for seed in range(6):
        sim = simulator(seed=seed)
        rng = np.random.default_rng(seed)
        offset = float(rng.uniform(-0.08, 0.08))
        plan = FaultPlan(
            imu_offset_s=offset, odometry_offset_s=offset, extrinsic_error_deg=float(rng.uniform(0, 4)), seed=seed
        )
        imu, poses, rig = reported(sim, plan)
        orientations = from_gyro(imu) if sensor == "imu" else from_poses(poses)
        found = calibrate(visual(sim, seed, mistakes=0.05), orientations, mountings(rig)[sensor], sensor == "imu")
        true = Rotation.from_matrix(rig.body_from_camera[:3, :3].T @ sim.rig.body_from_camera[:3, :3]).as_rotvec()
        assert found.seen.all() and found.correlation > 0.7
        assert found.ratio == pytest.approx(1.0, abs=max(4 * found.ratio_sigma, 0.005))
        clocks.append((found.offset_s - offset, found.offset_sigma_s))
        angles.extend(zip(found.rotation - true, found.rotation_sigma, strict=True))
    clocks, angles = np.array(clocks), np.array(angles)
    assert np.abs(clocks[:, 0]).max() < 0.003 and np.degrees(np.abs(angles[:, 0])).max() < 0.5
    assert np.mean(np.abs(clocks[:, 0]) < 2 * clocks[:, 1]) >= 0.85
    assert np.mean(np.abs(angles[:, 0]) < 2 * angles[:, 1]) >= 0.85
    assert np.degrees(np.median(angles[:, 1])) < 0.3


def test_planar_motion_does_not_see_the_turn_about_its_axis():
    sim = simulator("room_spin", duration_s=16.0)
    imu, poses, rig = reported(sim, FaultPlan(imu_offset_s=0.03, extrinsic_error_deg=2.0, seed=3))
    found = calibrate(visual(sim), from_gyro(imu), mountings(rig)["imu"], True)
    assert found.seen[0] and not found.seen[1]  # the camera's y is vertical
    true = Rotation.from_matrix(rig.body_from_camera[:3, :3].T @ sim.rig.body_from_camera[:3, :3]).as_rotvec()
    assert (np.abs(found.rotation - true) < 2 * found.rotation_sigma).all()
    assert found.offset_s == pytest.approx(0.03, abs=2 * found.offset_sigma_s)


def test_joined_turns_are_the_turns_over_longer_spans():
    sim = simulator()
    turns = visual(sim, noise=np.full(3, 1e-9))
    joined = turns.joined(0.5)
    assert len(joined) == len(turns) - 4 and joined.seconds == pytest.approx(0.5)
    rotations = [Rotation.from_matrix(sim.truth.world_from_cameras(pair)[:, :3, :3]) for pair in joined.stamps_ns]
    assert joined.vectors == pytest.approx(np.array([(r[0].inv() * r[1]).as_rotvec() for r in rotations]), abs=1e-7)
    keep = np.arange(len(turns)) != 20
    gap = Turns(turns.stamps_ns[keep], turns.vectors[keep], turns.covariances[keep]).joined(0.5)
    assert len(gap) == len(joined) - 5


def test_a_mounting_that_is_not_known_is_found_whole():
    sim = simulator()
    imu, _, rig = reported(sim, FaultPlan(imu_offset_s=-0.04))
    found = calibrate(visual(sim), from_gyro(imu), None, True)
    left = Rotation.from_rotvec(found.rotation).inv() * Rotation.from_matrix(mountings(rig)["imu"])
    assert np.degrees(left.magnitude()) < 0.5
    assert found.offset_s == pytest.approx(-0.04, abs=0.003)


def test_a_wrong_focal_length_shows_as_ratio():
    sim = simulator()
    imu, _, rig = reported(sim, FaultPlan())
    turns = visual(sim)
    found = calibrate(
        dataclasses.replace(turns, vectors=0.95 * turns.vectors), from_gyro(imu), mountings(rig)["imu"], True
    )
    assert found.ratio == pytest.approx(0.95, abs=0.01)
    (focal,) = [f for f in findings(Comparison("imu", found, "", True), {}) if "focal length" in f.sentence]
    assert focal.wrong and "1.05" in focal.sentence
    assert found.offset_s == pytest.approx(0.0, abs=0.003)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda sim, turns, imu: (visual(simulator("room_still")), imu),
            "turned by 0 deg|turned by . deg|do not turn together",
        ),
        (lambda sim, turns, imu: (turns, simulator(seed=77).imu), "do not turn together"),
        (
            lambda sim, turns, imu: (turns, [dataclasses.replace(s, stamp_ns=s.stamp_ns + 10**10) for s in imu]),
            "together",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(change, words):
    sim = simulator()
    imu, _, rig = reported(sim, FaultPlan())
    turns, imu = change(sim, visual(sim), imu)
    with pytest.raises(InputError, match=words):
        calibrate(turns, from_gyro(imu), mountings(rig)["imu"], True)


def test_orientations_interpolate_and_know_their_holes():
    sim = simulator(imu_hz=100.0)
    stamps = np.array(sim.frame_stamps_ns[10:40])
    pairs = np.stack([stamps[:-1], stamps[1:]], axis=1)
    truth = Rotation.from_matrix(sim.truth.world_from_cameras(stamps)[:, :3, :3])
    expected = (truth[:-1].inv() * truth[1:]).as_rotvec()
    for orientations, mounting in (
        (from_gyro(sim.imu), mountings(sim.rig)["imu"]),
        (from_poses(sim.odometry), mountings(sim.rig)["odometry"]),
    ):
        vectors, covered = orientations.turns(pairs, 0.0)
        assert covered.all()
        assert vectors @ mounting == pytest.approx(expected, abs=3e-3)
    holed = [s for s in sim.imu if not stamps[10] < s.stamp_ns < stamps[15]]
    _, covered = from_gyro(holed).turns(pairs, 0.0)
    assert not covered[10:15].any() and covered[:9].all() and covered[16:].all()
    with pytest.raises(InputError, match="two samples"):
        Orientations(np.array([1]), Rotation.identity(1))
    nan = [dataclasses.replace(s, angular_velocity=np.full(3, np.nan)) for s in sim.imu]
    with pytest.raises(InputError, match="finite"):
        from_gyro(nan)


@pytest.fixture(scope="module")
def rendered():
    """Six seconds of a hand-held camera with IMU, odometry and LiDAR; images at 8 Hz."""
    scenario = get_scenario(
        "room_handheld", seed=2, detail=0.2, camera_hz=8.0, lidar_hz=5.0,
        lidar_model=LidarModel(rings=24, columns=240), duration_s=8.0,
    ).with_size(320)  # fmt: skip
    sim = Simulator(scenario)
    events = [event for event in sim.events(2) if event.arrival_ns > scenario.start_ns + 1_000_000_000]
    visual_turns = VisualTurns()
    for event in events:
        if isinstance(event.sample, Frame):
            visual_turns.add(event.sample)
    return sim, events, visual_turns


def test_turns_of_rendered_images_are_right(rendered):
    sim, events, visual_turns = rendered
    turns = visual_turns.turns()
    assert len(turns) > 40
    truth = [Rotation.from_matrix(sim.truth.world_from_cameras(pair)[:, :3, :3]) for pair in turns.stamps_ns]
    expected = np.array([(each[0].inv() * each[1]).as_rotvec() for each in truth])
    error = np.degrees(np.linalg.norm(turns.vectors - expected, axis=1))
    assert np.median(error) < 0.12 and np.percentile(error, 90) < 0.25
    with pytest.raises(InputError, match="CameraInfo"):
        visual_turns.add(
            dataclasses.replace(next(e.sample for e in events if isinstance(e.sample, Frame)), camera=None)
        )


def sentences(rendered, plan, rig=None, known=True, kinds=(ImuSample, PoseSample)):
    """Findings and comparisons by sensor, with the faults of a plan; the images are those of the fixture."""
    sim, events, seen = rendered
    injector = FaultInjector(plan)
    check = CalibrationCheck(LidarConfig(), seen)
    for event in injector.apply(e for e in events if isinstance(e.sample, kinds)):
        check.add(event.sample)
    wrong = injector.rig(sim.rig if rig is None else rig)
    done = check.compare(mountings(wrong) if known else {})
    return {c.sensor: findings(c, {}) for c in done}, done


ALL = (ImuSample, PoseSample, LidarScan)


def test_a_healthy_robot_is_told_so(rendered):
    said, _ = sentences(rendered, FaultPlan(), kinds=ALL)
    assert set(said) == {"imu", "odometry", "lidar"}
    for each in said.values():
        assert not any(f.wrong for f in each), each
        assert "agree with the camera's" in each[0].sentence and "right within" in each[1].sentence


def test_faults_are_named_with_what_to_set(rendered):
    plan = FaultPlan(imu_offset_s=0.021, odometry_offset_s=-0.05, points_offset_s=0.06)
    said, done = sentences(rendered, plan, kinds=ALL)
    for sensor, parameter, value in (
        ("imu", "intake.imu_time_offset_s", -0.021),
        ("odometry", "intake.pose_time_offset_s", 0.05),
        ("lidar", "intake.lidar_time_offset_s", -0.06),
    ):
        clock = said[sensor][0]
        assert clock.wrong and ("later" if value < 0 else "earlier") in clock.sentence
        stated = float(clock.sentence.split(f"{parameter}: ")[1])
        assert stated == pytest.approx(value, abs=0.004 if sensor != "lidar" else 0.015)
    already = findings(done[0], {"imu": 0.1})[0].sentence
    assert float(already.split(": ")[-1]) == pytest.approx(0.079, abs=0.004)


def test_a_wrong_rotation_is_named_by_axis_and_angle(rendered):
    sim = rendered[0]
    turned = sim.rig.body_from_camera.copy()
    turned[:3, :3] = turned[:3, :3] @ Rotation.from_euler("y", -2.0, degrees=True).as_matrix()
    said, done = sentences(rendered, FaultPlan(), dataclasses.replace(sim.rig, body_from_camera=turned))
    for sensor in ("imu", "odometry"):
        mounting = said[sensor][1]
        assert mounting.wrong and "about y (down)" in mounting.sentence
        assert "about x" not in mounting.sentence and "about z" not in mounting.sentence
    assert np.degrees(done[0].found.rotation[1]) == pytest.approx(2.0, abs=0.4)


def test_a_frame_that_is_not_optical_is_recognised(rendered):
    sim = rendered[0]
    link = sim.rig.body_from_camera.copy()
    link[:3, :3] = link[:3, :3] @ np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
    said, _ = sentences(rendered, FaultPlan(), dataclasses.replace(sim.rig, body_from_camera=link))
    assert "optical frame" in said["imu"][1].sentence and said["imu"][1].wrong


def test_a_frame_that_is_not_optical_is_recognised_on_level_ground():
    """Turns about one axis alone: what is found about the axes seen looks like nothing in particular."""
    sim = simulator("room_spin", duration_s=16.0)
    _, poses, rig = reported(sim, FaultPlan())
    link = rig.body_from_camera @ np.linalg.inv(BODY_FROM_OPTICAL)

    class Seen(VisualTurns):
        def turns(self):
            return visual(sim)

    check = CalibrationCheck(LidarConfig(), Seen())
    for sample in poses:
        check.add(sample)
    (compared,) = check.compare(mountings(dataclasses.replace(rig, body_from_camera=link)))
    assert compared.not_optical
    said = [finding.sentence for finding in findings(compared, {}) if finding.wrong]
    assert len(said) == 1 and "optical frame" in said[0] and "ros.image_frame_is_body" in said[0]
    right = check.compare(mountings(rig))
    assert not any(each.not_optical for each in right)
    assert of_image_frame("doubt", []) and not of_image_frame("doubt", right)


def test_without_tf_the_mounting_is_told(rendered):
    sim = rendered[0]
    said, _ = sentences(rendered, FaultPlan(), known=False)
    quaternion = [float(word) for word in said["imu"][1].sentence.split("quaternion")[1].split()[1:8:2]]
    left = Rotation.from_quat(quaternion).inv() * Rotation.from_matrix(mountings(sim.rig)["imu"])
    assert np.degrees(left.magnitude()) < 1.0


@pytest.mark.parametrize("depth", [3.0, 300.0])
def test_a_small_motion_is_told_from_a_turn(depth):
    """A car's straight drive: flow of a pixel that sideways motion and a turn of degrees would explain as well."""
    errors = []
    turn, way = np.radians([0.1, -0.05, 0.02]), np.array([0.0, 0.0, 0.1])
    for seed in range(8):
        rng = np.random.default_rng(seed)
        points = np.column_stack([rng.uniform(-1, 1, (200, 2)) * (1.2, 0.3), np.ones(200)])
        points *= depth * rng.uniform(0.8, 1.2, (200, 1))
        a = points / points[:, 2:]
        b = (points - way) @ Rotation.from_rotvec(turn).as_matrix()
        b = b / b[:, 2:] + np.column_stack([rng.normal(0, 0.1 / 230, (200, 2)), np.zeros(200)])
        b[:20, :2] += rng.uniform(-0.05, 0.05, (20, 2))  # another car
        vector, covariance, share = small_turn(a, b, 1 / 230, 0.05)
        errors.append(np.degrees(vector - turn))
        assert 0.8 < share < 0.97 and (np.linalg.eigvalsh(covariance) > 0).all()
    assert np.sqrt(np.mean(np.square(errors), axis=0)).max() < 0.09


def test_bad_samples_leave_the_others(rendered):
    sim, events, _ = rendered
    plan = FaultPlan(streams=("imu", "points"), corrupt=0.2, drop=0.1)
    said, _ = sentences(rendered, plan, kinds=ALL)
    assert "agree with" in said["imu"][0].sentence and "agree with" in said["odometry"][0].sentence
    blind = CalibrationCheck(LidarConfig())
    for event in events:
        if isinstance(event.sample, ImuSample | PoseSample):
            blind.add(event.sample)
    for comparison in blind.compare(mountings(sim.rig)):
        (said,) = findings(comparison, {})
        assert "could not be compared" in said.sentence and not said.wrong


@pytest.mark.parametrize(("which", "off_s"), [(0, -4e8), (0, -100), (20, 4e8)])
def test_one_wrong_stamp_of_an_image_changes_no_finding(rendered, which, off_s):
    sim, events, _ = rendered
    check, images = CalibrationCheck(LidarConfig()), 0
    for event in events:
        if isinstance(event.sample, Frame | ImuSample | PoseSample):
            stamp = event.sample.stamp_ns
            if isinstance(event.sample, Frame):
                stamp += round(off_s * 1e9) if images == which else 0
                images += 1
            check.add(dataclasses.replace(event.sample, stamp_ns=stamp, arrived_ns=event.arrival_ns))
    for comparison in check.compare(mountings(sim.rig)):
        assert "agree with the camera's" in findings(comparison, {})[0].sentence
