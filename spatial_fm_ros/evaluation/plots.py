"""Plots of trajectories and depth as matplotlib figures, and pictures as PNG bytes. Needs no display."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

from spatial_fm_ros.core.errors import OutputError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.types import Array, Depth, Image

COLORS = ("#1f6f8b", "#d1495b", "#66a182", "#edae49", "#5e548e", "#8d6b94")
TRUTH = "#888888"


def new_figure(width: float = 9.0, height: float = 4.0, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Any]]:
    """A figure and its axes in reading order, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).reshape(-1)
    for ax in axes:
        ax.grid(True, color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return figure, list(axes)


def figure_png(figure: Figure, dpi: int = 110, software: str = "spatial_fm_ros") -> bytes:
    """PNG bytes; `software` stands in the file as what made it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": software})
    return buffer.getvalue()


def image_png(image: Image) -> bytes:
    """PNG bytes of an RGB picture."""
    ok, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise OutputError(f"A picture of shape {image.shape} cannot be encoded as PNG.")
    return data.tobytes()


def plot_trajectories(named: list[tuple[str, Array]], unit: str, truth: Array | None = None, title: str = "") -> Figure:
    """Positions [n, 3] of each named trajectory from above (x, y) and from the side (x, z)."""
    figure, (top, side) = new_figure(10.0, 4.4, columns=2)
    for ax, (i, j), words in ((top, (0, 1), "from above"), (side, (0, 2), "from the side")):
        if truth is not None:
            ax.plot(truth[:, i], truth[:, j], color=TRUTH, linewidth=1.2, linestyle="--", label="truth")
        for number, (name, positions) in enumerate(named):
            color = COLORS[number % len(COLORS)]
            style = {"color": color, "linewidth": 1.4, "marker": ".", "markersize": 4, "label": _label(name)}
            ax.plot(positions[:, i], positions[:, j], **style)
            ax.plot(*positions[0, [i, j]], color=color, marker="o", markersize=7)
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xlabel(f"x [{unit}]")
        ax.set_ylabel(f"{'xyz'[j]} [{unit}]")
        ax.set_title(f"{title} {words}".strip(), fontsize=10)
    if len(named) + (truth is not None) <= 8:
        top.legend(fontsize=8, frameon=False)
    return figure


def _label(name: str) -> str:
    """A name as a legend shows it: a dollar begins no formula, an underscore in front hides nothing."""
    text = shown(name, 60).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def plot_errors(times_s: Array, errors: list[tuple[str, Array]], unit: str) -> Figure:
    """Position error over time, one line per alignment."""
    figure, (ax,) = new_figure(10.0, 3.2)
    for number, (name, values) in enumerate(errors):
        ax.plot(times_s - times_s[0], values, color=COLORS[number], linewidth=1.3, label=name)
    ax.set_xlabel("time [s]")
    ax.set_ylabel(f"position error [{unit}]")
    ax.set_ylim(bottom=0.0)
    ax.legend(fontsize=8, frameon=False)
    return figure


def plot_reliability(bins: list[tuple[float, float, int, float]]) -> Figure:
    """How often depth is within 5 % of the truth against the confidence that promises it."""
    figure, (ax,) = new_figure(5.0, 4.4)
    middle = np.array([(low + high) / 2 for low, high, _, _ in bins])
    share = np.array([share for _, _, _, share in bins])
    count = np.array([count for _, _, count, _ in bins], dtype=np.float64)
    ax.bar(middle, count / max(1.0, count.sum()), width=0.08, color="#dddddd", label="share of pixels")
    ax.plot([0, 1], [0, 1], color=TRUTH, linestyle="--", linewidth=1.0, label="as promised")
    ax.plot(middle, share, color=COLORS[0], marker="o", label="within 5 %")
    ax.set_xlabel("confidence")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.legend(fontsize=8, frameon=False)
    return figure


def color_depth(depth: Depth, low: float | None = None, high: float | None = None) -> Image:
    """Depth as colours, near red to far blue by inverse depth; unknown is light grey."""
    known = np.isfinite(depth) & (depth > 0)
    picture = np.full((*depth.shape, 3), 225, np.uint8)
    if known.any():
        bounds = np.percentile(depth[known], [2, 98])
        near, far = low or float(bounds[0]), high or float(bounds[1])
        inverse = 1.0 / np.where(known, depth, far)
        span = max(1.0 / near - 1.0 / far, 1e-12)
        value = np.clip((inverse - 1.0 / far) / span, 0, 1)
        mapped = cv2.applyColorMap((value * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
        picture[known] = cv2.cvtColor(mapped, cv2.COLOR_BGR2RGB)[known]
    return picture


def color_confidence(confidence: Depth) -> Image:
    """Confidence as grey: white is certain."""
    grey = np.round(np.clip(np.nan_to_num(confidence), 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
