"""nano: VGGT's building blocks at a size that runs on a robot's processor, told the camera where it is known.

Trained only on worlds of this project (spatial_fm_ros/training in the repository; docs/training.md).
"""

from spatial_fm_ros.core.models.nano.network import SETTINGS, Nano, build

__all__ = ["SETTINGS", "Nano", "build"]
