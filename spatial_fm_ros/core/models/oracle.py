"""Model `oracle`: exact cameras and depth from ground truth, in a random gauge, with chosen noise.

It drives the tests of everything behind the model: what a seam, a scale or a map makes of a window
can then be compared with the truth, and every kind of model error can be dialled in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from spatial_fm_ros.core.config import ModelConfig, OracleConfig
from spatial_fm_ros.core.errors import InputError, ModelError
from spatial_fm_ros.core.geometry.similarity import Sim3
from spatial_fm_ros.core.models.base import SpatialModel, Supports
from spatial_fm_ros.core.models.oracle_errors import erring
from spatial_fm_ros.core.models.oracle_sequence import SequenceTruth
from spatial_fm_ros.core.types import Array, Camera, Depth, Keyframe, Prediction, Window

#: Long side of the depth grid in pixels, as large as the geometric model's.
GRID_SIDE = 320


class Truth(Protocol):
    """Exact answers by stamp; InputError for a stamp the truth does not reach."""

    def world_from_camera(self, stamp_ns: int, frame_id: str = "") -> Array:
        """Pose of the camera that sends in this frame; where there is but one camera, of that."""
        ...

    def depth(self, stamp_ns: int, camera: Camera, frame_id: str = "") -> Depth:
        """Depth along z in metres as the pinhole `camera` in that frame sees it, NaN where unknown."""
        ...


class OracleModel(SpatialModel):
    """Give it a truth, or let `load` read the one `model.oracle.truth` names."""

    name = "oracle"
    supports = Supports(min_views=1, intrinsics=True, metric=True)

    def __init__(self, config: ModelConfig, truth: Truth | None = None) -> None:
        super().__init__(config)
        self.truth = truth

    def load(self) -> None:
        if self.truth is not None:
            return
        folder = self.config.oracle.truth
        if not folder:
            raise ModelError(
                "Model 'oracle' needs the ground truth of what it sees: set model.oracle.truth to a sequence "
                "folder or a simulated run; for images without ground truth use model 'geometric'."
            )
        try:
            self.truth = _read_truth(Path(folder))
        except InputError as error:
            raise ModelError(f"Model 'oracle' has no truth at model.oracle.truth: {error}") from error

    def infer(self, window: Window) -> Prediction:
        if self.truth is None:
            raise ModelError("Model 'oracle' was not loaded; call load() first.")
        options = self.config.oracle
        rng = np.random.default_rng([options.seed, window.index])
        views = [self._view(self.truth, keyframe) for keyframe in window.keyframes]
        poses = np.stack([pose for pose, _, _ in views])
        depth = np.stack([d for _, d, _ in views])
        posed: NDArray[np.bool_] = np.asarray(np.isfinite(poses).all(axis=(1, 2)))
        confidence = np.isfinite(depth).astype(np.float32)
        depth, confidence = _disturbed_depth(depth, confidence, options, rng)
        poses = _disturbed_poses(poses, posed, options.pose_noise, rng)
        # A stream of its own: what was drawn before stays the same whatever a network's errors are.
        depth, poses = erring(depth, poses, posed, options, np.random.default_rng([options.seed, window.index, 1]))
        if options.random_gauge:
            rotation = Rotation.random(random_state=rng).as_matrix()
            gauge = Sim3(float(np.exp(rng.uniform(-1.5, 1.5))), rotation, rng.normal(0, 5, 3))
            poses = np.stack([gauge.apply_pose(p) if ok else p for p, ok in zip(poses, posed, strict=True)])
            depth = (depth * gauge.scale).astype(np.float32)
        return Prediction(
            world_from_camera=poses,
            K=np.stack([camera.K for _, _, camera in views]),
            depth=depth,
            confidence=confidence,
            posed=posed,
            metric=not options.random_gauge,
        )

    @staticmethod
    def _view(truth: Truth, keyframe: Keyframe) -> tuple[Array, Depth, Camera]:
        camera = keyframe.camera
        if camera is None:
            raise ModelError(
                "Model 'oracle' needs the camera's calibration to look up depth; publish CameraInfo."
            )
        factor = min(1.0, GRID_SIDE / max(camera.width, camera.height))
        grid = camera.resized(round(camera.width * factor), round(camera.height * factor))
        try:
            stamp, frame = keyframe.stamp_ns, keyframe.frame_id
            return truth.world_from_camera(stamp, frame), truth.depth(stamp, grid, frame), grid
        except InputError:
            unknown = np.full((grid.height, grid.width), np.nan, np.float32)
            return np.full((4, 4), np.nan), unknown, grid


def _read_truth(folder: Path) -> Truth:
    """A recorded sequence answers from its files, a simulated run from its scenario."""
    if (folder / "sequence.json").is_file() and (folder / "poses.txt").is_file():
        return SequenceTruth(folder)
    # The simulation builds on core; core asks for it only here, when a user does.
    from spatial_fm_ros.simulation.truth import load_truth

    return load_truth(folder)


def _disturbed_depth(
    depth: Depth, confidence: Depth, options: OracleConfig, rng: np.random.Generator
) -> tuple[Depth, Depth]:
    """Noise proportional to depth; outliers off by a factor, in patches as real ones are."""
    if options.noise > 0:
        depth = (depth * np.exp(rng.normal(0.0, options.noise, depth.shape))).astype(np.float32)
    if options.outliers > 0:
        n, h, w = depth.shape
        coarse = rng.random((n, -(-h // 8), -(-w // 8))) < options.outliers
        wrong = np.stack([cv2.resize(c.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST) for c in coarse])
        factor = np.exp(rng.normal(0.0, 0.7, depth.shape)).astype(np.float32)
        depth = np.where(wrong.astype(bool), depth * factor, depth)
        if not options.confident_outliers:
            confidence = np.where(wrong.astype(bool), 0.1 * confidence, confidence).astype(np.float32)
    return depth, confidence


def _disturbed_poses(poses: Array, posed: NDArray[np.bool_], noise: float, rng: np.random.Generator) -> Array:
    """Positions off by `noise` times the window's extent, orientations by `noise` radians."""
    if noise <= 0 or posed.sum() < 2:
        return poses
    centres = poses[posed][:, :3, 3]
    extent = float(np.linalg.norm(np.ptp(centres, axis=0)))
    noisy = poses.copy()
    for i in np.flatnonzero(posed):
        noisy[i, :3, :3] = Rotation.from_rotvec(rng.normal(0.0, noise, 3)).as_matrix() @ poses[i, :3, :3]
        noisy[i, :3, 3] += rng.normal(0.0, noise * extent, 3)
    return noisy
