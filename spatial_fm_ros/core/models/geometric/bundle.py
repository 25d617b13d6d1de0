"""Bundle adjustment of a few views through pycolmap (Ceres)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatial_fm_ros.core.models.geometric.tracks import Tracks
from spatial_fm_ros.core.signals import keeping_handler
from spatial_fm_ros.core.types import Array

with keeping_handler():
    import pycolmap

# Ceres retries a failed factorisation by itself; its warnings tell a user nothing.
pycolmap.logging.minloglevel = int(pycolmap.logging.ERROR)


@dataclass(frozen=True, eq=False)
class Adjusted:
    """camera_from_world [N, 4, 4], points [M, 3], K [N, 3, 3] after adjustment."""

    camera_from_world: Array
    points: Array
    K: Array


def bundle_adjust(
    tracks: Tracks,
    points: Array,
    camera_from_world: Array,
    K: Array,
    fixed: NDArray[np.bool_],
    *,
    refine_focal: bool = False,
    loss_px: float = 1.0,
    iterations: int = 30,
    threads: int = 1,
) -> Adjusted:
    """Refines poses and points (and one focal length for all views) over the reprojection error.

    `tracks` names the observations of `points` [tracks.count, 3]; every view it names needs a pose. Poses
    of views in `fixed` [N] stay; with fewer than two of them the gauge is held by two views.
    """
    used = np.unique(tracks.view)
    scene = pycolmap.Reconstruction()
    shared = refine_focal
    for view in used:
        camera_id = 1 if shared else int(view) + 1
        if not (shared and scene.exists_camera(camera_id)):
            k = K[view]
            model, params = (
                ("SIMPLE_PINHOLE", [0.5 * (k[0, 0] + k[1, 1]), k[0, 2], k[1, 2]])
                if shared
                else ("PINHOLE", [k[0, 0], k[1, 1], k[0, 2], k[1, 2]])
            )
            size = (int(2 * k[0, 2]) + 1, int(2 * k[1, 2]) + 1)
            scene.add_camera_with_trivial_rig(
                pycolmap.Camera(model=model, width=size[0], height=size[1], params=params, camera_id=camera_id)
            )
    slot = np.empty(len(tracks.view), np.int64)
    for view in used:
        mine = np.flatnonzero(tracks.view == view)
        slot[mine] = np.arange(len(mine))
        image = pycolmap.Image(
            name=str(view), keypoints=tracks.xy[mine], camera_id=1 if shared else int(view) + 1, image_id=int(view) + 1
        )
        scene.add_image_with_trivial_frame(image, pycolmap.Rigid3d(camera_from_world[view, :3]))
    bounds = np.searchsorted(tracks.track, np.arange(tracks.count + 1))
    views, slots = (tracks.view + 1).tolist(), slot.tolist()
    element = pycolmap.TrackElement
    for i in range(tracks.count):
        track = pycolmap.Track([element(views[j], slots[j]) for j in range(bounds[i], bounds[i + 1])])
        scene.add_point3D(points[i], track)

    config = pycolmap.BundleAdjustmentConfig()
    for view in used:
        config.add_image(int(view) + 1)
        if fixed[view]:
            config.set_constant_rig_from_world_pose(int(view) + 1)
    if int(fixed[used].sum()) < 2:
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = refine_focal
    options.refine_extra_params = False
    options.refine_sensor_from_rig = False
    options.print_summary = False
    ceres = options.ceres
    ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    ceres.loss_function_scale = loss_px
    ceres.solver_options.max_num_iterations = iterations
    ceres.solver_options.num_threads = threads
    ceres.solver_options.function_tolerance = 1e-5
    pycolmap.create_default_bundle_adjuster(options, config, scene).solve()

    poses, moved, adjusted_K = camera_from_world.copy(), points.copy(), K.copy()
    for view in used:
        poses[view, :3] = scene.image(int(view) + 1).cam_from_world().matrix()
    for index, point in scene.points3D.items():
        moved[index - 1] = point.xyz
    if refine_focal:
        adjusted_K[:, 0, 0] = adjusted_K[:, 1, 1] = scene.camera(1).params[0]
    return Adjusted(poses, moved, adjusted_K)
