"""Errors of estimated depth images: AbsRel, delta < 1.25, RMSE, with confidence taken into account.

Definitions as in Eigen et al., 'Depth Map Prediction from a Single Image', NIPS 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.geometry.cameras import pinhole_rays
from spatial_fm_ros.core.types import Array, Depth
from spatial_fm_ros.evaluation.depth_files import DepthEntry, grid_camera, open_depth, read_confidence, read_depth
from spatial_fm_ros.evaluation.trajectory import associate

SCALINGS = ("none", "global", "image")
BINS = 10


@dataclass(frozen=True)
class DepthErrors:
    """Over pixels where both depths are known and confidence reaches the threshold.

    abs_rel and rmse (truth's unit) over all such pixels; delta_125: share with max(e/t, t/e) < 1.25;
    within_5: share with less than 5 % error; share: such pixels over all with known truth.
    scale: factor put on the estimate ('global': one; 'image': median of the factors).
    reliability: per confidence bin (low, high, pixels, share within 5 %).
    """

    images: int
    pixels: int
    share: float
    abs_rel: float
    rmse: float
    delta_125: float
    within_5: float
    median_abs_rel: float
    scaling: str
    scale: float
    min_confidence: float
    reliability: list[tuple[float, float, int, float]] = field(default_factory=list)
    per_image: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class DepthPair:
    """An estimate with the truth on the same pixels, float32 [h, w], NaN unknown; confidence may lack."""

    name: str
    estimate: Depth
    truth: Depth
    confidence: Depth | None = None


def evaluate_depth(pairs: Iterable[DepthPair], *, scaling: str = "none", min_confidence: float = 0.0) -> DepthErrors:
    """Errors over all pairs. Raises InputError when no pixel can be compared."""
    if scaling not in SCALINGS:
        raise InputError(f"Scaling is one of {', '.join(SCALINGS)}, got '{scaling}'.")
    estimates, truths, confidences, per_image, factors = [], [], [], [], []
    known_pixels = 0
    names = []
    for pair in pairs:
        if pair.estimate.shape != pair.truth.shape:
            raise InputError(
                f"The depth images of {pair.name} differ in size: {pair.estimate.shape} and {pair.truth.shape}."
            )
        known = np.isfinite(pair.truth) & (pair.truth > 0)
        both = known & np.isfinite(pair.estimate) & (pair.estimate > 0)
        known_pixels += int(known.sum())
        confidence = np.ones_like(pair.estimate) if pair.confidence is None else pair.confidence
        e, t = pair.estimate[both].astype(np.float64), pair.truth[both].astype(np.float64)
        c = confidence[both].astype(np.float64)
        used = c >= min_confidence
        if scaling == "image" and used.any():
            factors.append(float(np.median(t[used] / e[used])))
            e = e * factors[-1]
        estimates.append(e)
        truths.append(t)
        confidences.append(c)
        names.append((pair.name, int(known.sum())))
    e, t, c = (np.concatenate(parts) if parts else np.zeros(0) for parts in (estimates, truths, confidences))
    if not (c >= min_confidence).any():
        raise InputError(
            f"No pixel can be compared: {len(names)} image pairs with {known_pixels} pixels of known truth, "
            f"none with an estimate of confidence {min_confidence:g} or more."
        )
    factor = float(np.median(factors)) if factors else 1.0
    if scaling == "global":
        used = c >= min_confidence
        factor = float(np.median(t[used] / e[used]))
        e = e * factor
        estimates = [part * factor for part in estimates]
    for (name, count), pe, pt, pc in zip(names, estimates, truths, confidences):
        used = pc >= min_confidence
        per_image.append({"name": name, **_figures(pe[used], pt[used]), "share": float(used.sum() / max(1, count))})
    used = c >= min_confidence
    figures = _figures(e[used], t[used])
    return DepthErrors(
        images=len(names),
        share=float(used.sum() / max(1, known_pixels)),
        scaling=scaling,
        scale=factor,
        min_confidence=min_confidence,
        reliability=_reliability(e, t, c),
        per_image=per_image,
        **figures,
    )


def _figures(e: Array, t: Array) -> dict[str, Any]:
    nan = float("nan")
    if not len(e):
        return {
            "pixels": 0, "abs_rel": nan, "median_abs_rel": nan, "rmse": nan, "delta_125": nan, "within_5": nan
        }  # fmt: skip
    relative = np.abs(e - t) / t
    return {
        "pixels": len(e),
        "abs_rel": float(relative.mean()),
        "median_abs_rel": float(np.median(relative)),
        "rmse": float(np.sqrt(np.mean((e - t) ** 2))),
        "delta_125": float(np.mean(np.maximum(e / t, t / e) < 1.25)),
        "within_5": float(np.mean(relative < 0.05)),
    }


def _reliability(e: Array, t: Array, c: Array) -> list[tuple[float, float, int, float]]:
    """How often depth is within 5 % where the confidence says so, per bin of confidence."""
    index = np.clip((c * BINS).astype(np.int64), 0, BINS - 1)
    good = np.abs(e - t) / t < 0.05
    counts = np.bincount(index, minlength=BINS)
    hits = np.bincount(index, weights=good, minlength=BINS)
    return [
        (b / BINS, (b + 1) / BINS, int(counts[b]), float(hits[b] / counts[b]) if counts[b] else float("nan"))
        for b in range(BINS)
    ]


def on_grid(truth: Depth, truth_K: Array | None, shape: tuple[int, ...], K: Array | None) -> Depth:
    """Truth looked up (nearest pixel) at the pixels of another depth image of the same camera pose.

    With both K known the same rays are compared; otherwise both images must show the same view.
    """
    height, width = shape[0], shape[1]
    if K is not None and truth_K is not None:
        rays = pinhole_rays(K, width, height)
        pixels = rays[..., :2] @ truth_K[:2, :2].T + truth_K[:2, 2]
        u, v = pixels[..., 0], pixels[..., 1]
    else:
        u, v = np.meshgrid(
            (np.arange(width) + 0.5) * truth.shape[1] / width - 0.5,
            (np.arange(height) + 0.5) * truth.shape[0] / height - 0.5,
        )
    column, row = np.round(u).astype(np.int64), np.round(v).astype(np.int64)
    inside = (column >= 0) & (column < truth.shape[1]) & (row >= 0) & (row < truth.shape[0])
    found = np.full(shape, np.nan, np.float32)
    found[inside] = truth[row[inside], column[inside]]
    return found


def matched_pairs(
    estimate: Path,
    truth: Path,
    *,
    truth_unit: float | None = None,
    estimate_unit: float | None = None,
    tolerance_s: float = 0.01,
    submap: int | None = None,
) -> list[Callable[[], DepthPair]]:
    """Depth images of two folders that belong together, by stamp where both have stamps, else by name.

    `truth` may be the truth folder of a simulated run (scenario.json). Each is read when called.
    Raises InputError when nothing matches.
    """  # fmt: skip
    estimates = open_depth(estimate, estimate_unit)
    if submap is not None:
        estimates = [entry for entry in estimates if entry.submap == submap]
    if (truth / "scenario.json").is_file() or (truth / "truth" / "scenario.json").is_file():
        return _simulated(estimates, truth)
    truths = open_depth(truth, truth_unit)
    stamps_e = [entry.stamp_ns for entry in estimates]
    stamps_t = [entry.stamp_ns for entry in truths]
    if submap is not None and not estimates:
        raise InputError(f"No depth image of {estimate} belongs to map {submap}.")
    if None not in stamps_e and None not in stamps_t:
        estimates, truths = (sorted(entries, key=lambda each: each.stamp_ns or 0) for entries in (estimates, truths))
        index_e, index_t = associate(
            *(np.array([entry.stamp_ns for entry in entries], np.int64) for entries in (estimates, truths)), tolerance_s
        )
        matched = [(estimates[i], truths[j]) for i, j in zip(index_e, index_t)]
    elif None not in stamps_e or None not in stamps_t:
        raise InputError(
            f"Only one of {estimate} and {truth} tells when its depth images were taken, and equal names would mean "
            "nothing: give a sequence folder, a run's folder or a simulation's truth for both, or plain files for both."
        )
    else:
        by_name = {entry.key: entry for entry in truths}
        matched = [(entry, by_name[entry.key]) for entry in estimates if entry.key in by_name]
    if not matched:
        raise InputError(
            f"No depth image of {estimate} ({len(estimates)}) belongs to one of {truth} ({len(truths)}): "
            f"neither stamps within {tolerance_s:g} s nor equal names."
        )
    return [lambda e=e, t=t: _pair(e, t) for e, t in matched]  # type: ignore[misc]


def _pair(e: DepthEntry, t: DepthEntry) -> DepthPair:
    depth = read_depth(e)
    return DepthPair(e.key, depth, on_grid(read_depth(t), t.K, depth.shape, e.K), read_confidence(e))


def _simulated(estimates: list[DepthEntry], place: Path) -> list[Callable[[], DepthPair]]:
    from spatial_fm_ros.simulation.truth import load_truth

    truth = load_truth(place)

    def pair(entry: DepthEntry) -> DepthPair:
        depth = read_depth(entry)
        camera = grid_camera(entry, depth)
        if camera is None or entry.stamp_ns is None:
            raise InputError(f"The depth image {entry.file} needs a stamp and K to be compared with a simulation.")
        return DepthPair(entry.key, depth, truth.depth(entry.stamp_ns, camera), read_confidence(entry))

    return [lambda entry=entry: pair(entry) for entry in estimates]  # type: ignore[misc]
