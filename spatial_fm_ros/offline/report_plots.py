"""The figures of a run's report."""

from __future__ import annotations

import cv2
import numpy as np
from matplotlib.figure import Figure

from spatial_fm_ros.core.types import Image
from spatial_fm_ros.evaluation.plots import COLORS, color_confidence, color_depth, new_figure
from spatial_fm_ros.offline.record import DepthSample, WindowRow


def plot_scale(rows: list[WindowRow]) -> Figure:
    """Metres per world unit after each window with its standard deviation, coloured by state."""
    figure, (ax,) = new_figure(9.0, 3.0)
    index = np.array([row.window for row in rows])
    value = np.array([row.scale.value for row in rows])
    sigma = np.array([row.scale.sigma for row in rows])
    known = np.isfinite(sigma)
    if known.any():
        low, high = value * np.exp(-np.where(known, sigma, 0)), value * np.exp(np.where(known, np.minimum(sigma, 1), 0))
        ax.fill_between(index, low, high, where=known.tolist(), color="#cfe3ea", label="one standard deviation")
    for number, state in enumerate(("metric", "relative", "unobservable", "conflict")):
        part = np.array([row.scale.state.value == state for row in rows])
        if part.any():
            ax.plot(index[part], value[part], ".", color=COLORS[number], label=state)
    ax.set_xlabel("window")
    ax.set_ylabel("metres per world unit")
    ax.legend(fontsize=8, frameon=False)
    return figure


def plot_seams(rows: list[WindowRow]) -> Figure:
    """Residual and inlier share of every seam; crosses are seams that began a new map."""
    figure, (left, right) = new_figure(9.0, 3.0, columns=2)
    for ax, field, label in ((left, "residual", "residual / depth"), (right, "inlier_share", "inlier share")):
        for accepted, marker, color in ((True, "o", COLORS[0]), (False, "x", COLORS[1])):
            part = [r for r in rows if r.seam is not None and r.seam.accepted == accepted]
            if part:
                label_of = "accepted" if accepted else "refused: new map"
                values = [getattr(r.seam, field) for r in part]
                ax.plot([r.window for r in part], values, marker, color=color, markersize=5, label=label_of)
        ax.set_xlabel("window")
        ax.set_ylabel(label)
        ax.set_ylim(bottom=0.0)
    if left.get_legend_handles_labels()[0]:
        left.legend(fontsize=8, frameon=False)
    return figure


def plot_timing(rows: list[WindowRow], wall_s: float) -> Figure:
    """Seconds of each window by stage."""
    figure, (ax,) = new_figure(9.0, 3.0)
    index = np.array([row.window for row in rows])
    stages = [s for s in dict.fromkeys(key for row in rows for key in row.timings_s) if s != "window"]
    bottom = np.zeros(len(rows))
    for number, stage in enumerate(stages):
        seconds = np.array([row.timings_s.get(stage, 0.0) for row in rows])
        ax.bar(index, seconds, bottom=bottom, width=0.85, color=COLORS[number % len(COLORS)], label=stage)
        bottom += seconds
    keyframes = sum(row.new_keyframes for row in rows)
    ax.set_title(
        f"{keyframes} keyframes in {wall_s:.1f} s: {keyframes / max(wall_s, 1e-9):.2f} keyframes/s", fontsize=10
    )
    ax.set_xlabel("window")
    ax.set_ylabel("seconds")
    if stages:
        ax.legend(fontsize=8, frameon=False)
    return figure


def depth_panel(sample: DepthSample, width: int = 360) -> Image:
    """Photo, depth and confidence side by side, RGB."""
    height = round(width * sample.image.shape[0] / sample.image.shape[1])
    pictures = [
        cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_AREA),
        cv2.resize(color_depth(sample.depth), (width, height), interpolation=cv2.INTER_NEAREST),
        cv2.resize(color_confidence(sample.confidence), (width, height), interpolation=cv2.INTER_NEAREST),
    ]
    gap = np.full((height, 6, 3), 255, np.uint8)
    return np.concatenate([pictures[0], gap, pictures[1], gap, pictures[2]], axis=1)
