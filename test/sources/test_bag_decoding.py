"""How a bag's messages become samples where the recording leaves a choice: rectified images, point times."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from bag_writing import NS, T, camera_info, image, picture, points, write_bag
from rich.console import Console

from spatial_fm_ros.core.config import Config
from spatial_fm_ros.core.types import Frame, LidarScan
from spatial_fm_ros.offline.mapper import map_recording
from spatial_fm_ros.offline.output_folder import prepare_output
from spatial_fm_ros.sources.base import SourceOptions
from spatial_fm_ros.sources.open_source import open_source


def cameras(path, **options):
    with open_source(path, SourceOptions(**options)) as source:
        return [sample.camera for sample in source if isinstance(sample, Frame)]


def test_what_is_said_to_be_rectified_has_no_distortion(tmp_path):
    """By the parameter, or by the topic's name; a word that only holds the letters says nothing."""
    bent = camera_info(NS)
    bent.d[:] = (0.1, 0.01, 0, 0, 0)
    for name in ("image_rect", "image_direct"):
        messages = [("/cam/camera_info", NS, bent)]
        messages += [(f"/cam/{name}", NS + i, image(NS + i, picture(i))) for i in range(2)]
        write_bag(tmp_path / name, messages)
    assert all(camera.is_pinhole for camera in cameras(tmp_path / "image_rect"))
    assert not any(camera.is_pinhole for camera in cameras(tmp_path / "image_direct"))
    assert all(camera.is_pinhole for camera in cameras(tmp_path / "image_direct", image_rectified=True))


def timed_points(stamp_ns, times):
    """A cloud with a field 'time' of these seconds."""
    table = np.zeros((len(times), 4), np.float32)
    table[:, :3] = np.random.default_rng(0).uniform(1, 9, (len(times), 3))
    table[:, 3] = times
    cloud = points(stamp_ns, table[:, :3])
    cloud.fields.append(T["sensor_msgs/msg/PointField"](name="time", offset=12, datatype=7, count=1))
    return replace(cloud, point_step=16, row_step=16 * len(times), data=table.view(np.uint8).reshape(-1))


def test_point_times_that_are_no_use_are_in_the_report(tmp_path):
    messages = [("/cam/image", NS + i * NS // 5, image(NS + i * NS // 5, picture(i))) for i in range(4)]
    messages += [("/points", NS + i, timed_points(NS + i, np.zeros(50))) for i in range(3)]
    messages += [("/points", 2 * NS, timed_points(2 * NS, np.linspace(0, 0.1, 50)))]
    write_bag(tmp_path / "bag", sorted(messages, key=lambda message: message[1]))
    with open_source(tmp_path / "bag", SourceOptions()) as source:
        scans = [sample for sample in source if isinstance(sample, LidarScan)]
    assert [scan.point_times_ns is None for scan in scans] == [True] * 3 + [False]
    with open_source(tmp_path / "bag", SourceOptions()) as source:
        map_recording(source, prepare_output(tmp_path / "out"), Config(), Console(quiet=True))
    notes = json.loads((tmp_path / "out" / "report.json").read_text())["notes"]
    assert any(note.startswith("3 of 4 LiDAR scans: point times 'time' are all zero") for note in notes)
