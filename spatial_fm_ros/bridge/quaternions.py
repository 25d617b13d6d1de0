"""Rotation to message quaternion through tf_transformations, or through transforms3d, which it wraps,
where it is not installed (it is on no package index)."""

from __future__ import annotations

from spatial_fm_ros.core.types import Array

try:
    from tf_transformations import quaternion_from_matrix as _xyzw
except ImportError:
    from transforms3d.quaternions import mat2quat

    def _xyzw(matrix: Array) -> Array:
        w, x, y, z = mat2quat(matrix[:3, :3])
        return x, y, z, w  # type: ignore[return-value]


def quaternion_xyzw(matrix: Array) -> tuple[float, float, float, float]:
    """Unit quaternion (x, y, z, w) of the rotation of a 4x4 pose."""
    x, y, z, w = (float(value) for value in _xyzw(matrix))
    return x, y, z, w
