"""Projection and rays of pinhole cameras with the distortion models of sensor_msgs/CameraInfo.

Normalised coordinates are x/z, y/z of the camera frame (x right, y down, z forward); pixels are (u, v)
with the centre of the top-left pixel at (0, 0).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from spatial_fm_ros.core.types import Array, Camera


def pixel_grid(width: int, height: int) -> Array:
    """Pixel centres (u, v) of an image, float64 [height, width, 2]."""
    u, v = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    return np.stack([u, v], axis=-1)


def distort(camera: Camera, normalised: ArrayLike) -> Array:
    """Normalised coordinates [..., 2] of the ideal ray to those the lens makes of it.

    The formulas of OpenCV's camera models (Brown 1966 for plumb_bob; its rational extension, with thin prism and tilted
    sensor where 12 or 14 coefficients say so; Kannala and Brandt 2006 for equidistant). OpenCV's own functions also
    compute a Jacobian that nobody asked for, which takes several times as long; they are the oracle of the tests.
    """
    xy = np.asarray(normalised, dtype=np.float64)
    if camera.is_pinhole:
        return xy.copy()
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    if camera.distortion_model == "equidistant":
        r = np.sqrt(r2)
        angle = np.arctan(r)
        t2 = angle * angle
        k1, k2, k3, k4 = camera.distortion
        bent = angle * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
        factor: Array = np.where(r > 1e-8, bent / np.maximum(r, 1e-8), 1.0)
        return xy * factor[..., None]
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tilt_x, tilt_y = (*camera.distortion, *(0.0,) * 14)[:14]
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    cross = 2 * x * y
    bent = np.stack(
        [
            x * radial + p1 * cross + p2 * (r2 + 2 * x * x) + r2 * (s1 + r2 * s2),
            y * radial + p2 * cross + p1 * (r2 + 2 * y * y) + r2 * (s3 + r2 * s4),
        ],
        axis=-1,
    )
    return _tilted(bent, tilt_x, tilt_y) if tilt_x or tilt_y else bent


def _tilted(xy: Array, tilt_x: float, tilt_y: float) -> Array:
    """Where a sensor that is turned by tilt_x, then tilt_y (rad, Scheimpflug) sees what a straight one sees at xy."""
    cos_x, sin_x, cos_y, sin_y = np.cos(tilt_x), np.sin(tilt_x), np.cos(tilt_y), np.sin(tilt_y)
    turn = np.array([[cos_y, 0, -sin_y], [0, 1, 0], [sin_y, 0, cos_y]]) @ np.array(
        [[1, 0, 0], [0, cos_x, sin_x], [0, -sin_x, cos_x]]
    )
    along = np.array([[turn[2, 2], 0, -turn[0, 2]], [0, turn[2, 2], -turn[1, 2]], [0, 0, 1]])
    through = along @ turn
    seen = xy @ through[:, :2].T + through[:, 2]
    tilted: Array = seen[..., :2] / seen[..., 2:]
    return tilted


def project(camera: Camera, points: ArrayLike) -> Array:
    """Pixels [..., 2] of points [..., 3] of the camera frame; NaN for points not in front of it."""
    X = np.asarray(points, dtype=np.float64)
    z = X[..., 2:]
    in_front = z > 0
    xy = distort(camera, X[..., :2] / np.where(in_front, z, 1.0))
    pixels = xy @ camera.K[:2, :2].T + camera.K[:2, 2]
    return np.where(in_front, pixels, np.nan)


def unproject(K: ArrayLike, depth: ArrayLike) -> Array:
    """Points [..., h, w, 3] of depth images [..., h, w] along z of a pinhole K [..., 3, 3]; NaN stays NaN."""
    z = np.asarray(depth, dtype=np.float64)
    K = np.asarray(K, dtype=np.float64)
    rays = pinhole_rays(K, z.shape[-1], z.shape[-2])
    return rays * z[..., None]


def pinhole_rays(K: ArrayLike, width: int, height: int) -> Array:
    """Rays with z = 1, [..., height, width, 3], of every pixel of pinhole cameras K [..., 3, 3]."""
    K = np.asarray(K, dtype=np.float64)
    grid = pixel_grid(width, height)
    centred = grid - K[..., None, None, :2, 2]
    y = centred[..., 1] / K[..., 1, 1, None, None]
    x = (centred[..., 0] - K[..., 0, 1, None, None] * y) / K[..., 0, 0, None, None]
    return np.stack([x, y, np.ones_like(x)], axis=-1)


def distortion_limit(camera: Camera) -> float:
    """Largest x/z radius up to which the lens still maps outwards, at most tan(85 deg).

    Polynomial models fold back beyond it: two rays share a pixel there, so nothing can be undistorted.
    """
    horizon = float(np.tan(np.radians(85.0)))
    if camera.is_pinhole:
        return horizon
    angles = np.radians(np.linspace(0.0, 85.0, 1701))
    radii = np.tan(angles)
    limits = [horizon]
    for direction in np.radians(np.arange(0.0, 360.0, 45.0)):
        axis = np.array([np.cos(direction), np.sin(direction)])
        mapped = distort(camera, radii[:, None] * axis) @ axis
        falling = np.flatnonzero(~(np.diff(mapped) > 0))
        if len(falling):
            limits.append(float(radii[falling[0]]))
    return min(limits)
