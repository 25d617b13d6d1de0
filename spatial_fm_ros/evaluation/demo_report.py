"""report.html and PNG views of a simulated run: the scoreboard, map and trajectory beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from spatial_fm_ros.core.io.writing import make_folder, write_bytes
from spatial_fm_ros.core.types import Image, PointCloud
from spatial_fm_ros.evaluation.depth import DepthPair
from spatial_fm_ros.evaluation.html_page import Page
from spatial_fm_ros.evaluation.plots import (
    color_confidence,
    color_depth,
    figure_png,
    image_png,
    plot_errors,
    plot_trajectories,
)
from spatial_fm_ros.evaluation.render import map_views
from spatial_fm_ros.evaluation.scoreboard import Score, score_rows
from spatial_fm_ros.evaluation.trajectory import TrajectoryErrors

DEPTH_PANELS = 4


def write_demo_report(
    folder: Path,
    title: str,
    scores: Sequence[Score],
    errors: TrajectoryErrors,
    pairs: Sequence[DepthPair],
    cloud: PointCloud,
    voxel_size: float,
) -> list[Path]:
    """Writes report.html and views/*.png into `folder`; returns what was written.

    Raises OutputError when a file cannot be written.
    """
    views = map_views(cloud, errors.estimate.poses, voxel_size)
    pictures = {f"map_{name}": image_png(picture) for name, picture in views.items()}
    pictures["trajectory"] = _trajectory_png(errors)
    pictures["errors"] = _errors_png(errors)
    for number, pair in enumerate(_chosen(pairs)):
        pictures[f"depth_{number}"] = image_png(depth_beside_truth(pair))
    page = Page(title)
    page.table(score_rows(scores))
    page.title("The map")
    page.pictures([(name.removeprefix("map_"), png) for name, png in pictures.items() if name.startswith("map_")])
    page.title("Trajectory")
    page.picture(pictures["trajectory"], "Keyframes as published, brought onto the truth by SE(3): no scale is fitted.")
    page.picture(pictures["errors"], "Position error over the run.")
    page.title("Depth")
    for name, png in pictures.items():
        if name.startswith("depth_"):
            page.picture(png, "Published depth, true depth, relative error (black 0, white 10 %), confidence.")
    written = [folder / "report.html"]
    page.write(written[0])
    make_folder(folder / "views")
    for name, png in pictures.items():
        written.append(folder / "views" / f"{name}.png")
        write_bytes(written[-1], png, "picture")
    return written


def depth_beside_truth(pair: DepthPair) -> Image:
    """Estimate, truth, relative error and confidence side by side, one colour scale for both depths."""
    low, high = (float(v) for v in np.nanpercentile(pair.truth, [2, 98]))
    relative = np.abs(pair.estimate - pair.truth) / pair.truth
    grey = np.nan_to_num(np.clip(relative / 0.1, 0, 1) * 255, nan=225).astype(np.uint8)
    confidence = pair.confidence if pair.confidence is not None else np.ones_like(pair.estimate)
    return np.hstack(
        [
            color_depth(pair.estimate, low, high),
            color_depth(pair.truth, low, high),
            cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB).astype(np.uint8),
            color_confidence(confidence),
        ]
    )


def _chosen(pairs: Sequence[DepthPair]) -> list[DepthPair]:
    index = np.unique(np.linspace(0, len(pairs) - 1, min(DEPTH_PANELS, len(pairs))).astype(int))
    return [pairs[i] for i in index]


def _trajectory_png(errors: TrajectoryErrors) -> bytes:
    named = [("estimate", errors.se3.poses[:, :3, 3])]
    return figure_png(plot_trajectories(named, "m", truth=errors.truth.positions))


def _errors_png(errors: TrajectoryErrors) -> bytes:
    truth = errors.truth.positions
    lines = [
        (name, np.linalg.norm(aligned.poses[:, :3, 3] - truth, axis=1))
        for name, aligned in (("after SE(3)", errors.se3), ("after Sim(3)", errors.sim3))
    ]
    return figure_png(plot_errors(errors.estimate.stamps_ns / 1e9, lines, "m"))
