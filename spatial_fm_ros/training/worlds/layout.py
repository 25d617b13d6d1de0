"""What stands where: the geometry of a batch before it has materials, and the means to place bodies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spatial_fm_ros.training.worlds.random import Draw
from spatial_fm_ros.training.worlds.solids import SLOTS, kind_slices

#: Cells of a height field along one side.
HEIGHT_CELLS = 64


@dataclass(frozen=True, eq=False)
class Layout:
    """Bodies of B scenes and where cameras may be. Bodies: center, half, velocity [B, K, 3] (velocity in steps of
    the camera), yaw, tilt [B, K] radians, present [B, K]. Ground: grounded, flat [B], heights [B, G, G], extent [B].
    Cameras: between low and high [B, 3] (z above the ground), mostly of the target [B, 3]; `step` [B] is the largest
    distance between two views, orbit [B] the radius around the target; road [B] is true where there is a way along x.
    """

    center: Tensor
    half: Tensor
    velocity: Tensor
    yaw: Tensor
    tilt: Tensor
    present: Tensor
    grounded: Tensor
    flat: Tensor
    heights: Tensor
    extent: Tensor
    low: Tensor
    high: Tensor
    target: Tensor
    step: Tensor
    orbit: Tensor
    road: Tensor


class Bodies:
    """Bodies of B scenes while they are placed; nothing is present at first."""

    def __init__(self, draw: Draw, batch: int) -> None:
        total = sum(SLOTS.values())
        self.center = torch.zeros(batch, total, 3, device=draw.device)
        self.half = torch.ones(batch, total, 3, device=draw.device)
        self.velocity = torch.zeros(batch, total, 3, device=draw.device)
        self.yaw, self.tilt = torch.zeros(2, batch, total, device=draw.device)
        self.present = torch.zeros(batch, total, dtype=torch.bool, device=draw.device)
        self._kinds = kind_slices(SLOTS)

    def slots(self, kind: str, start: int, count: int) -> slice:
        first = self._kinds[kind].start + start
        assert first + count <= self._kinds[kind].stop
        return slice(first, first + count)

    def put(self, where: slice, center: Tensor, half: Tensor, present: Tensor, yaw: Tensor | float = 0.0) -> None:
        """Fill slots: center, half [B, n, 3], present [B, n], yaw [B, n] radians."""
        self.center[:, where], self.half[:, where], self.present[:, where] = center, half, present
        self.yaw[:, where] = yaw

    def fields(self) -> dict[str, Tensor]:
        """Those of Layout that tell of bodies."""
        return {
            "center": self.center,
            "half": self.half,
            "velocity": self.velocity,
            "yaw": self.yaw,
            "tilt": self.tilt,
            "present": self.present,
        }


def xyz(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """[..., 3] of three tensors that broadcast."""
    return torch.stack(torch.broadcast_tensors(x, y, z), dim=-1)


def flat_ground(draw: Draw, batch: int, grounded: bool) -> dict[str, Tensor]:
    """The fields of Layout for a level ground, or for none."""
    return {
        "grounded": torch.full((batch,), grounded, device=draw.device),
        "flat": torch.ones(batch, dtype=torch.bool, device=draw.device),
        "heights": torch.zeros(batch, HEIGHT_CELLS, HEIGHT_CELLS, device=draw.device),
        "extent": torch.full((batch,), 50.0, device=draw.device),
    }
