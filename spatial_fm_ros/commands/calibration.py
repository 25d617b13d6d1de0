"""`spatial-fm check-calibration`: clocks and mountings of a recording's sensors, by how they turned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from spatial_fm_ros.commands.console import in_sentences, out, say, warn
from spatial_fm_ros.core.io.names import user_path
from spatial_fm_ros.offline.progress import waiting

if TYPE_CHECKING:
    from spatial_fm_ros.core.types import Array, Rig

#: Exit code when something should be changed.
TO_CHANGE = 1


@in_sentences
def check_calibration(
    input: Annotated[Path, typer.Argument(help="rosbag2, ROS 1 bag or sequence folder with more than images.")],
    config: Annotated[list[Path] | None, typer.Option("--config", "-c", help="Parameter file; repeatable.")] = None,
    start: Annotated[float, typer.Option(help="Begin this many seconds into the recording.")] = 0.0,
    seconds: Annotated[float, typer.Option(help="Look at this many seconds.")] = 60.0,
    intrinsics: Annotated[str, typer.Option(help="fx,fy,cx,cy[,distortion] in pixels.")] = "",
    image_topic: Annotated[str | None, typer.Option(help="Image topic; found by type when there is one.")] = None,
    camera_info_topic: Annotated[str | None, typer.Option(help="CameraInfo topic; 'none' for none.")] = None,
    points_topic: Annotated[str | None, typer.Option(help="LiDAR topic; 'none' for none.")] = None,
    odometry_topic: Annotated[str | None, typer.Option(help="Odometry topic; 'none' for none.")] = None,
    imu_topic: Annotated[str | None, typer.Option(help="IMU topic; 'none' for none.")] = None,
) -> None:
    """Compare how the camera turned with IMU, odometry and LiDAR: time offsets and extrinsic rotations.

    Each finding is 'change', 'fine', or 'open' where nothing could be compared. Exit code 1 where something should be
    changed.
    """
    from spatial_fm_ros.core.calibration.check import CalibrationCheck
    from spatial_fm_ros.core.calibration.report import findings, of_image_frame
    from spatial_fm_ros.core.config_files import load_config
    from spatial_fm_ros.core.types import CompanionFrame
    from spatial_fm_ros.sources.base import SourceOptions
    from spatial_fm_ros.sources.open_source import open_source

    settings = load_config(config or [], {})
    options = SourceOptions.from_ros(
        settings.ros,
        image_topic=image_topic,
        camera_info_topic=camera_info_topic,
        companion_image_topics="none",  # one camera is compared
        points_topic=points_topic,
        odometry_topic=odometry_topic,
        imu_topic=imu_topic,
        start_s=start,
        stop_s=start + seconds,
        intrinsics=intrinsics,
        max_pixels=settings.intake.max_pixels,
    )
    check = CalibrationCheck(settings.lidar)
    with open_source(user_path(input), options) as source:
        say(f"{source.kind} {input}")
        with waiting(out, "looking at how the sensors turned"):
            for sample in source:
                if not isinstance(sample, CompanionFrame):
                    check.add(sample)
        for note in source.summary():
            warn(note)
        compared = check.compare(_mountings(source.rig))
        doubt = source.rig.frame_doubt
    if not compared:
        warn("There is no IMU, no odometry and no LiDAR to compare the camera with.")
    # Offsets of the configuration are not in the recording's stamps.
    said = [finding for comparison in compared for finding in findings(comparison, {})]
    said += of_image_frame(doubt, compared)
    for finding in said:
        label = Text("change", "bold red") if finding.wrong else Text("open", "yellow") if finding.open else "fine"
        out.print(label, end="  ")
        say(finding.sentence)
    if any(finding.wrong for finding in said):
        raise typer.Exit(TO_CHANGE)


def _mountings(rig: Rig) -> dict[str, Array | None]:
    """Rotations sensor_from_camera [3, 3] as the recording knows them."""
    if rig.body_from_camera is None:
        return {}
    camera = rig.body_from_camera[:3, :3]
    others = {"imu": rig.body_from_imu, "lidar": rig.body_from_lidar}
    known: dict[str, Array | None] = {
        sensor: None if mount is None else mount[:3, :3].T @ camera for sensor, mount in others.items()
    }
    return known | {"odometry": camera}
