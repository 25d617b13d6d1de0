"""From what a network says of the canvas to the Prediction of a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.config import FoundationConfig
from spatial_fm_ros.core.geometry.rotations import is_pose
from spatial_fm_ros.core.models.foundation import cleaning
from spatial_fm_ros.core.models.foundation.confidence import chance
from spatial_fm_ros.core.models.foundation.focal import under_true_cameras
from spatial_fm_ros.core.models.foundation.images import Placement, to_grid
from spatial_fm_ros.core.types import Array, Depth, Image, Keyframe, Prediction, WindowState

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class NetworkOutput:
    """What a network says of N views on its canvas of h x w pixels, on the CPU.

    world_from_camera float64 [N, 4, 4] in a gauge of the network's; K float64 [N, 3, 3] of the canvas with pixel
    centres at integers; depth float32 [N, h, w] along z; confidence float32 [N, h, w] >= 1; sky bool [N, h, w],
    None from a network that does not tell. Nothing has to be finite. metric: the gauge is in metres.
    """

    world_from_camera: Array
    K: Array
    depth: Depth
    confidence: Depth
    sky: Mask | None = None
    metric: bool = False
    note: str = ""


def to_prediction(
    output: NetworkOutput,
    keyframes: Sequence[Keyframe],
    placements: Sequence[Placement],
    grid: tuple[int, int],
    config: FoundationConfig,
    half: float,
) -> Prediction:
    """The window's Prediction on depth images of size `grid` = (width, height).

    half: evidence of an even chance (confidence.py). Intrinsics that a keyframe knows replace the network's, and
    poses and depth are brought to them (focal.py). Without one finite camera and depth the window is FAILED.
    """
    depth = np.stack([to_grid(d, at, grid) for d, at in zip(output.depth, placements, strict=True)]).astype(np.float32)
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    K_net, K_true = _intrinsics(output.K, keyframes, placements, grid)
    has_pose = np.array([is_pose(pose) for pose in output.world_from_camera])
    posed: Mask = has_pose & np.isfinite(depth).any(axis=(1, 2)) & np.isfinite(K_true).all(axis=(1, 2))
    if not posed.any():
        return failed(keyframes, placements, grid, output.note or "the network gave no finite camera with depth")
    depth[~posed] = np.nan
    poses = np.where(posed[:, None, None], output.world_from_camera, np.nan)
    K_true[~np.isfinite(K_true).all(axis=(1, 2))] = np.median(K_true[posed], axis=0)
    images = np.stack([_at_grid(_as_uint8(keyframe.image), grid) for keyframe in keyframes])
    figures = {"focal_px": float(np.median(K_true[posed, 0, 0]))}
    if all(keyframe.camera is not None for keyframe in keyframes) and np.isfinite(K_net[posed]).all():
        grey = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images[posed]])
        true = under_true_cameras(poses[posed], K_net[posed], K_true[posed], depth[posed], grey)
        # A network that knows metres knows them from the focal length: depth is proportional to the true one.
        gauge = true.ratio / true.depth_factor if output.metric else 1.0
        poses[posed] = true.world_from_camera
        poses[:, :3, 3] *= gauge
        depth *= np.float32(true.depth_factor * gauge)
        figures["focal_ratio"] = true.ratio

    removed, doubted = _unbelievable(images, depth, output.sky, placements, grid, config)
    depth[removed] = np.nan
    evidence = np.stack([to_grid(c, at, grid) for c, at in zip(output.confidence, placements, strict=True)])
    confidence = chance(np.where(np.isfinite(depth), evidence, np.nan), config.even_confidence or half)
    confidence[doubted] = 0.0
    missing = int((~posed).sum())
    notes = [output.note, f"{missing} of {len(keyframes)} keyframes got no finite camera with depth" if missing else ""]
    return Prediction(
        world_from_camera=poses,
        K=K_true,
        depth=depth,
        confidence=confidence,
        posed=posed,
        metric=output.metric,
        note="; ".join(note for note in notes if note),
        figures=figures,
    )


def failed(
    keyframes: Sequence[Keyframe], placements: Sequence[Placement], grid: tuple[int, int], note: str
) -> Prediction:
    """A window of which nothing is known but the cameras' own intrinsics (a view of 60 degrees where not known)."""
    count, (width, height) = len(keyframes), grid
    guess = np.array([[0.866 * width, 0, (width - 1) / 2], [0, 0.866 * width, (height - 1) / 2], [0, 0, 1.0]])
    K = _intrinsics(np.full((count, 3, 3), np.nan), keyframes, placements, grid)[1]
    depth = np.full((count, height, width), np.nan, np.float32)
    return Prediction(
        world_from_camera=np.full((count, 4, 4), np.nan),
        K=np.where(np.isfinite(K), K, guess),
        depth=depth,
        confidence=np.zeros_like(depth),
        posed=np.zeros(count, dtype=bool),
        state=WindowState.FAILED,
        note=note,
    )


def _intrinsics(
    K_canvas: Array, keyframes: Sequence[Keyframe], placements: Sequence[Placement], grid: tuple[int, int]
) -> tuple[Array, Array]:
    """The network's [N, 3, 3] on the grid (NaN where they are no camera), and the true ones where they are known."""
    network, true = np.full((2, len(keyframes), 3, 3), np.nan)
    for i, (K, keyframe, at) in enumerate(zip(K_canvas, keyframes, placements, strict=True)):
        if np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0:
            network[i] = at.K_on_grid(K, grid)
        true[i] = network[i] if keyframe.camera is None else keyframe.camera.resized(*grid).K
    return network, true


def _unbelievable(
    images: Image,
    depth: Depth,
    sky: Mask | None,
    placements: Sequence[Placement],
    grid: tuple[int, int],
    config: FoundationConfig,
) -> tuple[Mask, Mask]:
    """Pixels [N, h, w] that show nothing at a distance, and those whose depth deserves no confidence."""
    removed, doubted = np.zeros((2, *depth.shape), dtype=bool)
    if config.edge_tolerance > 0:
        doubted |= cleaning.edges(depth, config.edge_tolerance)
    for i, (image, at) in enumerate(zip(images, placements, strict=True)):
        if config.sky == "network" and sky is not None:
            removed[i] |= to_grid(sky[i], at, grid).astype(bool)
        if config.sky == "colour":
            removed[i] |= cleaning.sky_by_colour(image, depth[i])
        if config.drop_white:
            removed[i] |= cleaning.white(image)
        if config.drop_black:
            removed[i] |= cleaning.black(image)
        if config.drop_saturated:
            doubted[i] |= cleaning.saturated(image)
    return removed, doubted


def _as_uint8(image: NDArray[np.generic]) -> Image:
    """RGB uint8 of an image that may be float in [0, 1]."""
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image, dtype=np.uint8)
    return (np.nan_to_num(image) * 255.0).clip(0, 255).astype(np.uint8)


def _at_grid(image: Image, grid: tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(image, grid, interpolation=cv2.INTER_AREA), dtype=np.uint8)
