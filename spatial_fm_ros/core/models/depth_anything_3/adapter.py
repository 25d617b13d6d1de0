"""Model `depth_anything_3`: Depth Anything 3 on windows of keyframes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from spatial_fm_ros.core.errors import InputError, ModelError
from spatial_fm_ros.core.geometry.rotations import invert_pose, pose_from
from spatial_fm_ros.core.models.base import Supports
from spatial_fm_ros.core.models.depth_anything_3 import build
from spatial_fm_ros.core.models.depth_anything_3.backbone import ViewTokens
from spatial_fm_ros.core.models.depth_anything_3.metric_head import NON_SKY, metres, sky_filled
from spatial_fm_ros.core.models.depth_anything_3.nested import Nested, align, in_metres
from spatial_fm_ros.core.models.depth_anything_3.network import AnyView, Metric
from spatial_fm_ros.core.models.depth_anything_3.posed import centres, normalised_extrinsics, predicted_from_given
from spatial_fm_ros.core.models.depth_anything_3.preprocess import normalised
from spatial_fm_ros.core.models.depth_anything_3.presets import HUB_NAMES, PATCH, PRESETS, NetworkConfig
from spatial_fm_ros.core.models.foundation.features import Features
from spatial_fm_ros.core.models.foundation.images import Canvas
from spatial_fm_ros.core.models.foundation.model import FoundationModel
from spatial_fm_ros.core.models.foundation.output import NetworkOutput
from spatial_fm_ros.core.types import Array, Keyframe

#: Share of sky in a window that leaves nothing to measure.
NOTHING_BUT_SKY = 0.98
#: A network whose camera centres miss the given ones by more than this share of their extent has not followed them.
MAX_MISFIT = 0.5
#: A size for `checkpoint: random:tiny`, which runs anywhere in milliseconds.
TINY = {
    "embed_dim": 48,
    "depth": 6,
    "num_heads": 3,
    "out_layers": [2, 3, 4, 5],
    "features": 16,
    "out_channels": [8, 12, 16, 20],
    "alt_start": 2,
    "qknorm_start": 2,
    "rope_start": 2,
    "cat_token": True,
}


class DepthAnything3Model(FoundationModel):
    """Cameras and depth in the frame of a reference view, up to scale; in metres from a nested checkpoint.

    Known cameras of all keyframes (odometry and intrinsics) are given to the network. It then answers with cameras
    of its own, which the images had their say in; only their scale is set to that of the odometry. A METRIC
    checkpoint gives depth alone, in metres: the cameras are then the odometry's.
    """

    name = "depth_anything_3"
    supports = Supports(min_views=1, max_views=64, intrinsics=True, poses=True)
    trained_width = 504
    margin = 0.449  # the mean grey of the training images: nothing, after normalisation
    even_confidence = 0.0

    def build(self, settings: Mapping[str, Any], variant: str) -> AnyView | Metric | Nested:
        network = build(self._configuration(settings, variant))
        if isinstance(network, Metric) and _preset(settings) != "metric-large":
            raise ModelError(
                "METRIC and MONO checkpoints of Depth Anything 3 hold the same tensors, and MONO depth, which has no "
                "common scale, cannot be mapped. For METRIC name depth-anything/DA3METRIC-LARGE, or put a config.json "
                'with {"model_name": "da3metric-large"} beside the file; else take an any-view checkpoint such as '
                "depth-anything/DA3-BASE."
            )
        if self.config.foundation.points_from == "points":
            raise ModelError("Depth Anything 3 has no point head; set model.foundation.points_from to depth.")
        return network

    @staticmethod
    def _configuration(settings: Mapping[str, Any], variant: str) -> Mapping[str, Any] | str:
        """Sizes beside the checkpoint, else a preset by the name beside it, by its tensors, or by the user."""
        if "embed_dim" in settings or settings.get("kind") == "nested":
            known = {field.name for field in fields(NetworkConfig)} | {"anyview", "metric"}
            return {key: value for key, value in settings.items() if key in known}
        if variant == "tiny":
            return TINY
        return _preset(settings) or variant or "base"

    def embed(self, network: nn.Module, images: Tensor) -> Features:
        images = normalised(images)[None]
        if isinstance(network, Metric):
            metric = network(images)
            return metric.raw_depth[0], metric.sky[0]
        anyview = network.da3 if isinstance(network, Nested) else cast(AnyView, network)
        views = anyview.view_tokens(images)
        features = [views.tokens[0], views.describing[0], *(views.taps[i][0] for i in sorted(views.taps))]
        if isinstance(network, Nested):
            metric = network.da3_metric(images)
            features += [metric.raw_depth[0], metric.sky[0]]
        return tuple(features)

    def relate(
        self, network: nn.Module, features: Features, canvas: Canvas, keyframes: Sequence[Keyframe]
    ) -> NetworkOutput:
        if isinstance(network, Metric):
            return _metric_depth(features, canvas, keyframes)
        anyview = network.da3 if isinstance(network, Nested) else cast(AnyView, network)
        width, height = canvas.size
        images = canvas.images[None]
        tapped = [i for i in anyview.config.out_layers if i < anyview.trunk.joint_start]
        tokens, describing, *rest = (feature[None] for feature in features)
        views = ViewTokens(tokens, describing, (height // PATCH, width // PATCH), dict(zip(tapped, rest)))
        given = self._given_cameras(keyframes, canvas)
        found = anyview(images, *self._conditions(given, images), views=views, rays=False)
        sky, note = None, ""
        if isinstance(network, Nested):
            raw_metric, raw_sky = rest[-2:]
            metric_depth = sky_filled(raw_metric, raw_sky)
            found = in_metres(
                found, raw_sky, align(found.depth, found.depth_conf, found.intrinsics, metric_depth, raw_sky)
            )
            sky = (raw_sky[0] >= NON_SKY).cpu().numpy()
            note = "hardly anything but sky is in view" if sky.mean() > NOTHING_BUT_SKY else ""
        K = found.intrinsics[0].double().cpu().numpy()
        K[:, :2, 2] -= 0.5  # to pixel centres at integers
        camera_from_world = found.extrinsics[0].double().cpu().numpy()
        poses, scale = _in_given_world(camera_from_world, None if given is None or sky is not None else given[0])
        return NetworkOutput(
            world_from_camera=poses,
            K=K,
            depth=(found.depth[0].float() * scale).cpu().numpy(),
            confidence=found.depth_conf[0].float().cpu().numpy(),
            sky=sky,
            metric=isinstance(network, Nested),
            note=note,
        )

    @staticmethod
    def _conditions(given: tuple[Array, Array] | None, images: Tensor) -> tuple[Tensor, ...]:
        """The network's extrinsics and intrinsics, or nothing."""
        if given is None:
            return ()
        return tuple(torch.as_tensor(each)[None].to(images) for each in (normalised_extrinsics(given[0]), given[1]))

    def _given_cameras(self, keyframes: Sequence[Keyframe], canvas: Canvas) -> tuple[Array, Array] | None:
        """camera_from_odom [N, 4, 4] and K [N, 3, 3] of the canvas, its corner at (0, 0); None if one is unknown."""
        if not self.config.foundation.use_poses:
            return None
        poses, intrinsics = [], []
        for keyframe, at in zip(keyframes, canvas.placements, strict=True):
            if keyframe.odom_from_camera is None or keyframe.camera is None:
                return None
            poses.append(invert_pose(keyframe.odom_from_camera))
            intrinsics.append(at.K_on_canvas(keyframe.camera))
        K = np.stack(intrinsics)
        K[:, :2, 2] += 0.5
        return np.stack(poses), K


def _preset(settings: Mapping[str, Any]) -> str:
    """The preset that `model_name` means, as the hub or this package calls it; empty for none."""
    name = str(settings.get("model_name", ""))
    preset = HUB_NAMES.get(name, name)
    return preset if preset in PRESETS else ""


def _metric_depth(features: Features, canvas: Canvas, keyframes: Sequence[Keyframe]) -> NetworkOutput:
    """Depth in metres by the true focal length, at the odometry's poses: the metric network sees no cameras.

    It tells no confidence either; all of its depth has the even chance.
    """
    K = np.full((len(keyframes), 3, 3), np.nan)
    poses = np.full((len(keyframes), 4, 4), np.nan)
    for i, (keyframe, at) in enumerate(zip(keyframes, canvas.placements, strict=True)):
        if keyframe.camera is not None and keyframe.odom_from_camera is not None:
            K[i], poses[i] = at.K_on_canvas(keyframe.camera), keyframe.odom_from_camera
    raw_depth, sky = features
    depth = metres(sky_filled(raw_depth, sky), torch.as_tensor(K).to(raw_depth))
    unknown = int(np.isnan(K[:, 0, 0]).sum())
    return NetworkOutput(
        world_from_camera=poses,
        K=K,
        depth=depth.float().cpu().numpy(),
        confidence=np.full(depth.shape, 2.0, np.float32),
        sky=(sky >= NON_SKY).cpu().numpy(),
        metric=True,
        note=f"a METRIC checkpoint needs odometry and intrinsics, {unknown} keyframes have none" if unknown else "",
    )


def _in_given_world(camera_from_world: Array, given: Array | None) -> tuple[Array, float]:
    """world_from_camera [N, 4, 4] and the factor of all depths, in the world and scale of the `given` extrinsics.

    Where nothing is given, or the centres do not tell (fewer than three, on a line, or of another shape than the given
    ones), the network's own world stays: the pipeline finds the scale from longer stretches than one window.
    """
    rotation, translation = camera_from_world[:, :, :3], camera_from_world[:, :, 3]
    world_from_camera = invert_pose(pose_from(rotation, translation))
    if given is None or not np.isfinite(camera_from_world).all():
        return world_from_camera, 1.0
    try:
        own_from_given = predicted_from_given(camera_from_world, given)
    except InputError:
        return world_from_camera, 1.0
    given_from_own = own_from_given.inverse()
    wanted = centres(given)
    missed = given_from_own.apply(world_from_camera[:, :3, 3]) - wanted
    if np.linalg.norm(missed) > MAX_MISFIT * np.linalg.norm(wanted - wanted.mean(axis=0)):
        return world_from_camera, 1.0
    return given_from_own.apply_pose(world_from_camera), given_from_own.scale
