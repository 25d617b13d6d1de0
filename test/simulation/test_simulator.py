"""Streams: order, determinism, rates, image statistics, worlds by name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Frame, ImuSample, LidarScan, PoseSample
from spatial_fm_ros.simulation.camera import CameraModel, SimulatedCamera
from spatial_fm_ros.simulation.scenario import get_scenario, load_scenario, save_scenario
from spatial_fm_ros.simulation.simulator import Simulator
from spatial_fm_ros.simulation.truth import Truth, load_truth
from spatial_fm_ros.simulation.worlds import WORLDS, build_world


def short(**changes: object) -> Simulator:
    return Simulator(get_scenario("room_drive", detail=0.3, duration_s=1.0, **changes).with_size(160))


def test_stream_is_ordered_complete_and_the_same_with_threads() -> None:
    alone, together = list(short().events(threads=0)), list(short().events(threads=2))
    assert [e.arrival_ns for e in alone] == sorted(e.arrival_ns for e in alone)
    counts = Counter(type(e.sample) for e in alone)
    assert counts == {Frame: 11, LidarScan: 10, PoseSample: 51, ImuSample: 101}
    assert len(alone) == len(together)
    for a, b in zip(alone, together, strict=True):
        assert a.arrival_ns == b.arrival_ns and type(a.sample) is type(b.sample)
        assert a.sample.stamp_ns == b.sample.stamp_ns
        if isinstance(a.sample, Frame) and isinstance(b.sample, Frame):
            assert np.array_equal(a.sample.image, b.sample.image)
        if isinstance(a.sample, LidarScan) and isinstance(b.sample, LidarScan):
            assert np.array_equal(a.sample.points, b.sample.points)
            assert a.arrival_ns == a.sample.stamp_ns + 100_000_000
        if isinstance(a.sample, PoseSample) and isinstance(b.sample, PoseSample):
            assert np.array_equal(a.sample.odom_from_body, b.sample.odom_from_body)


def test_seed_changes_world_and_noise() -> None:
    one, other = short(seed=1).frame(0).image, short(seed=2).frame(0).image
    assert np.abs(one.astype(float) - other).mean() > 5


def test_a_consumer_may_stop_early() -> None:
    events = short().events(threads=2)
    next(events)
    events.close()


def test_sensors_can_be_left_out() -> None:
    samples = list(short(lidar_hz=0.0, imu_hz=0.0, odometry_hz=0.0))
    assert {type(s) for s in samples} == {Frame}


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_images_have_natural_statistics(name: str) -> None:
    """Amplitude spectra fall about like 1/f, grey levels use the range, nothing repeats."""
    scenario = next(s for s in ("room_drive", "corridor_loop", "hall_drive", "tunnel_straight", "street_drive")
                    if get_scenario(s).world == name)  # fmt: skip
    truth = Truth(get_scenario(scenario, detail=0.3).with_size(320))
    stamp = truth.scenario.start_ns + int(0.3 * truth.scenario.duration_s * 1e9)
    image = truth.renderer().render(truth.world_from_camera(stamp))
    gray = image.astype(float).mean(2)
    assert 40 < gray.mean() < 190 and gray.std() > 20
    assert (gray >= 254).mean() < 0.1 and (gray <= 1).mean() < 0.1
    window = np.hanning(240)[:, None] * np.hanning(240)
    patch = gray[:, 40:280]
    spectrum = np.abs(np.fft.fft2((patch - patch.mean()) * window))
    frequency = np.hypot(np.fft.fftfreq(240)[:, None], np.fft.fftfreq(240))
    bands = np.geomspace(0.02, 0.4, 9)
    means = [spectrum[(frequency >= a) & (frequency < b)].mean() for a, b in zip(bands[:-1], bands[1:], strict=True)]
    slope = np.polyfit(np.log(np.sqrt(bands[:-1] * bands[1:])), np.log(means), 1)[0]
    assert -2.0 < slope < -0.7
    correlation = np.fft.ifft2(spectrum**2).real
    correlation /= correlation[0, 0]
    far = (
        np.hypot(
            *np.meshgrid(
                np.minimum(np.arange(240), 240 - np.arange(240)), np.minimum(np.arange(240), 240 - np.arange(240))
            )
        )
        > 30
    )
    assert correlation[far].max() < 0.6


def test_low_texture_walls_are_plainer() -> None:
    def strength(low: bool) -> float:
        truth = Truth(get_scenario("room_plain" if low else "room_drive", detail=0.3).with_size(320))
        image = truth.renderer().render(truth.world_from_camera(truth.scenario.start_ns + 15_000_000_000))
        gray = image.astype(float).mean(2)
        return float(np.median(np.hypot(*np.gradient(gray))))

    assert strength(True) < 0.85 * strength(False)


def test_exposure_noise_and_blur_do_what_they_say() -> None:
    simulator = short()
    truth, camera = simulator.truth, simulator.truth.renderer().camera
    pose = truth.rig.body_from_camera

    def shoot(model: CameraModel) -> np.ndarray:
        renderer = SimulatedCamera(truth.world, camera, model)
        return renderer.image(truth.trajectory, pose, 0.5, 1).astype(float)

    clean = shoot(CameraModel(0.0, 1.0, 0.0, 0.0))
    assert 1.0 < (shoot(CameraModel(3.0, 1.0, 0.0, 0.0)) - clean).std() < 4.0
    assert np.isclose(shoot(CameraModel(0.0, 0.5, 0.0, 0.0)).mean() / clean.mean(), 0.5, atol=0.02)
    dark = shoot(CameraModel(0.0, 1.0, 0.0, 0.4)) / np.maximum(clean, 1)
    assert np.median(dark[:10, :10]) < 0.75 < 0.95 < np.median(dark[55:65, 75:85])
    blurred = shoot(CameraModel(0.0, 1.0, 0.0, 0.0, exposure_time_s=0.5, subframes=8))
    assert np.abs(np.diff(blurred, axis=1)).mean() < np.abs(np.diff(clean, axis=1)).mean()


def test_scenario_file_round_trip(tmp_path: Path) -> None:
    scenario = get_scenario("street_drive", seed=5, duration_s=4.0)
    save_scenario(scenario, tmp_path / "truth" / "scenario.json")
    assert load_scenario(tmp_path / "truth" / "scenario.json") == scenario
    stamp = scenario.start_ns + 1_234_567_890
    assert np.array_equal(load_truth(tmp_path).world_from_camera(stamp), Truth(scenario).world_from_camera(stamp))


def test_unknown_names_and_files_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one of room_drive"):
        get_scenario("moon")
    with pytest.raises(InputError, match="no field speed"):
        get_scenario("room_drive", speed=2)
    with pytest.raises(InputError, match="Unknown world"):
        build_world("moon")
    with pytest.raises(InputError, match=r"No scenario\.json"):
        load_truth(tmp_path)
    (tmp_path / "scenario.json").write_text("{}")
    with pytest.raises(InputError, match="not a scenario"):
        load_truth(tmp_path)
