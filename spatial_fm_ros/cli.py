"""`spatial-fm`: maps from recordings, and how good they are, without ROS."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spatial_fm_ros.commands import calibration, evaluate, weights
from spatial_fm_ros.commands.console import (
    DEBUG_VARIABLE,
    INTERRUPTED,
    NOTHING_MAPPED,
    any_text,
    ended_by,
    flush,
    in_sentences,
    out,
    say,
    warn,
)
from spatial_fm_ros.core import interrupts
from spatial_fm_ros.core.io.names import shown, user_path

if TYPE_CHECKING:
    from spatial_fm_ros.offline.mapper import RunSummary

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Metric coloured maps from camera recordings, with spatial foundation models.",
)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(weights.app, name="weights")
app.command("check-calibration")(calibration.check_calibration)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("spatial_fm_ros")
        except PackageNotFoundError:
            found = "not installed (run from its sources)"
        say(f"spatial-fm {found}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
) -> None:
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def _overrides(assignments: Sequence[str]) -> dict[str, object]:
    """From 'section.key=value' texts. Raises ConfigError for one without '='."""
    from spatial_fm_ros.core.errors import ConfigError

    values: dict[str, object] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set takes section.key=value, for example map.voxel_size=0.05; got '{shown(text)}'.")
        values[key.strip()] = value
    return values


@app.command("map")
@in_sentences
def map_command(
    input: Annotated[Path, typer.Argument(help="rosbag2, ROS 1 bag, image folder, video or sequence folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    config: Annotated[list[Path] | None, typer.Option("--config", "-c", help="Parameter file; repeatable.")] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; repeatable.")] = None,
    model: Annotated[str | None, typer.Option(help="geometric, vggt, depth_anything_3, nano, hybrid, oracle.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Weights: a file, a folder or a hub id.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N.")] = None,
    every: Annotated[int, typer.Option(help="Use every n-th image.")] = 1,
    start: Annotated[float, typer.Option(help="Begin this many seconds into the recording.")] = 0.0,
    stop: Annotated[float | None, typer.Option(help="End this many seconds into the recording.")] = None,
    rate: Annotated[float, typer.Option(help="Images per second of folders and videos; 0 = their own.")] = 0.0,
    intrinsics: Annotated[
        str, typer.Option(help="fx,fy,cx,cy[,distortion] in pixels; 'none' ignores known ones.")
    ] = "",
    image_topic: Annotated[str | None, typer.Option(help="Image topic; found by type when there is one.")] = None,
    camera_info_topic: Annotated[str | None, typer.Option(help="CameraInfo topic; 'none' for none.")] = None,
    companion_image_topics: Annotated[
        str | None, typer.Option(help="Images of the rig's other cameras, separated by commas; 'none' for none.")
    ] = None,
    companion_camera_info_topics: Annotated[
        str | None, typer.Option(help="Their CameraInfo in the same order; found beside each image topic.")
    ] = None,
    points_topic: Annotated[str | None, typer.Option(help="LiDAR topic; 'none' for none.")] = None,
    odometry_topic: Annotated[str | None, typer.Option(help="Odometry topic; 'none' for none.")] = None,
    imu_topic: Annotated[str | None, typer.Option(help="IMU topic; 'none' for none.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of an earlier run.")] = False,
) -> None:
    """Turn a recording into a trajectory, a coloured cloud, depth images and a report."""
    from spatial_fm_ros.core.config_files import load_config
    from spatial_fm_ros.offline.output_folder import prepare_output
    from spatial_fm_ros.sources.base import SourceOptions
    from spatial_fm_ros.sources.open_source import open_source

    values = _overrides(assign or [])
    for key, value in (("model.name", model), ("model.checkpoint", checkpoint), ("model.device", device)):
        if value is not None:
            values[key] = value
    settings = load_config(config or [], values)
    options = SourceOptions.from_ros(
        settings.ros,
        image_topic=image_topic,
        camera_info_topic=camera_info_topic,
        companion_image_topics=companion_image_topics,
        companion_camera_info_topics=companion_camera_info_topics,
        points_topic=points_topic,
        odometry_topic=odometry_topic,
        imu_topic=imu_topic,
        rate_hz=rate,
        every=every,
        start_s=start,
        stop_s=stop,
        intrinsics=intrinsics,
        max_pixels=settings.intake.max_pixels,
    )
    with open_source(user_path(input), options) as source:
        folder = prepare_output(output, overwrite, {user_path(input), source.path})
        frames = f", about {source.length} frames" if source.length else ""
        say(f"{source.kind} {shown(input)}{frames}")
        from spatial_fm_ros.offline.mapper import map_recording  # torch and Open3D: only once the input is known good

        summary = map_recording(source, folder, settings, out)
    _tell(summary)
    if summary.interrupted:
        raise typer.Exit(interrupts.exit_code() or INTERRUPTED)
    if not summary.report["counts"]["maps"]:
        raise typer.Exit(NOTHING_MAPPED)


def _tell(summary: RunSummary) -> None:
    report = summary.report
    for note in report["notes"]:
        warn(note)
    counts, timing = report["counts"], report["timing"]
    say(
        f"{counts['frames']} frames, {counts['keyframes']} keyframes, {counts['windows']} windows, "
        f"{counts['maps']} map{'s' if counts['maps'] != 1 else ''}: the largest has {counts['keyframes_largest']} "
        f"keyframes over {100 * report['coverage']:.0f} % of the time; {counts['map_points']} points; "
        f"scale {report['scale']['state']}; {timing['keyframes_per_s']:.2f} keyframes/s"
    )
    say(f"results: {summary.folder}  (open {summary.folder / 'report.html'})")


@app.command("config")
@in_sentences
def config_command(
    files: Annotated[list[Path] | None, typer.Argument(help="Parameter files to check; none prints defaults.")] = None,
    assign: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; repeatable.")] = None,
    ros: Annotated[bool, typer.Option("--ros", help="Print in the form of ROS 2 parameter files.")] = False,
) -> None:
    """Print all parameters with their meaning, as the files and --set leave them; wrong ones are named."""
    from spatial_fm_ros.core.config_files import load_config, to_yaml

    sys.stdout.write(to_yaml(load_config(files or [], _overrides(assign or [])), ros=ros))


@app.command("simulate")
@in_sentences
def simulate_command(
    scenario: Annotated[str, typer.Argument(help="Name of a scenario; 'list' names them.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write; it must not exist.")] = None,
    form: Annotated[str, typer.Option("--form", help="mcap, sqlite3 or sequence.")] = "mcap",
    seed: Annotated[int | None, typer.Option(help="Seed of world, motion and noise.")] = None,
    stereo: Annotated[float, typer.Option(help="A second camera so many metres to the right; 0 = none.")] = 0.0,
    duration: Annotated[float | None, typer.Option(help="Seconds for the whole route; fewer drive faster.")] = None,
    threads: Annotated[int, typer.Option(help="Threads that render.", min=1, max=256)] = 2,
) -> None:
    """Record a simulated robot, with its truth in a folder of its own."""
    from spatial_fm_ros.core.errors import InputError
    from spatial_fm_ros.simulation.scenario import SCENARIOS, get_scenario

    if scenario == "list":
        for name, known in SCENARIOS.items():
            say(f"{name}: {known.motion} through {known.world}, {known.duration_s:g} s")
        return
    if output is None:
        raise InputError("A simulation needs --output, the folder to write.")
    output = user_path(output)
    if form not in ("mcap", "sqlite3", "sequence"):
        raise InputError(f"The form of a recording is mcap, sqlite3 or sequence, got '{shown(form)}'.")
    changes = {key: value for key, value in (("seed", seed), ("duration_s", duration)) if value is not None}
    if form == "sequence":
        changes["start_ns"] = 0  # a sequence folder counts time from its first image
    chosen = get_scenario(scenario, **changes)
    if stereo:
        chosen = chosen.with_stereo(stereo)

    from spatial_fm_ros.offline.progress import RunProgress
    from spatial_fm_ros.simulation.recording import write_bag, write_sequence
    from spatial_fm_ros.simulation.simulator import Simulator

    total = round(chosen.duration_s * chosen.camera_hz)
    with RunProgress(out, "simulating", total) as progress:

        def show(share: float) -> None:
            progress.reach(round(share * total))

        simulator = Simulator(chosen)
        if form == "sequence":
            write_sequence(simulator, output, progress=show)
        else:
            write_bag(simulator, output, storage=form, threads=threads, progress=show)
    say(f"recording: {output}, its truth: {output / 'truth'}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `spatial-fm`: ends with SystemExit, whatever happens. `--debug` counts wherever it stands."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in given:
        given.remove("--debug")
        os.environ[DEBUG_VARIABLE] = "1"
    any_text()
    with interrupts.raising():
        try:
            app(args=given, prog_name="spatial-fm")
            code: Any = 0
        except SystemExit as ended:
            # Interrupted in typer's own code, it ends as it sees fit.
            code = interrupts.exit_code() or ended.code
        except BaseException as error:
            code = ended_by(error)
        sys.exit(flush() or code)


if __name__ == "__main__":
    main()
