"""Cameras: fields of view, and how they move through a scene: by hand, driving, around something, along something."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from spatial_fm_ros.training.worlds.layout import Layout
from spatial_fm_ros.training.worlds.random import Draw
from spatial_fm_ros.training.worlds.scenes import SCENES

PATHS = ("handheld", "drive", "orbit", "inspect")
#: Shares of the paths in every kind of scene.
SHARES = {
    "room": (0.5, 0.15, 0.2, 0.15),
    "hall": (0.3, 0.45, 0.05, 0.2),
    "table": (0.25, 0.0, 0.65, 0.1),
    "street": (0.2, 0.6, 0.05, 0.15),
    "field": (0.35, 0.25, 0.3, 0.1),
}
#: Horizontal fields of view, degrees, and how far the principal point may be off the centre, as a share of the width.
NARROWEST, WIDEST, OFF_CENTER = 40.0, 110.0, 0.02


@dataclass(frozen=True, eq=False)
class Motion:
    """What is fixed of the cameras' motion in B scenes, so that views can be taken at any distances along it."""

    layout: Layout
    path: Tensor  # int64 [B]
    start: Tensor  # [B, 3]
    heading: Tensor  # [B]
    curvature: Tensor
    look: Tensor
    look_rate: Tensor
    pitch: Tensor
    roll: Tensor
    climb: Tensor
    radius: Tensor
    shake: Tensor  # [B, V, 6]: metres and radians of the hand
    when: Tensor  # [B, V]: places of the views in steps

    def poses(self, step: Tensor) -> Tensor:
        """world_from_camera [B, C, V, 4, 4] of views that are `step` [B, C] metres apart."""
        s = step[..., None] * self.when[:, None]  # [B, C, V]

        def of(x: Tensor) -> Tensor:
            return x[:, None, None]

        heading = of(self.heading)
        half_turn = of(self.curvature) * s / 2
        chord = s * torch.sinc(half_turn / torch.pi)
        forward = torch.stack(
            [chord * (heading + half_turn).cos(), chord * (heading + half_turn).sin(), of(self.climb) * s], -1
        )
        path = of(self.path)
        drive_yaw = heading + 2 * half_turn + of(self.look)
        hand_yaw = of(self.look) + of(self.look_rate) * s
        # Along a wall: the camera looks across its motion.
        inspect_yaw = heading + torch.pi / 2 + 0.3 * of(self.look)
        angle = heading + s / of(self.radius)
        around = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], -1) * of(self.radius)[..., None]
        target = of(self.layout.target)
        height = of(self.start)[..., 2] - target[..., 2] + of(self.climb) * s
        ring = target + around + torch.stack([torch.zeros_like(s), torch.zeros_like(s), height], -1)
        position = torch.where((path == 2)[..., None], ring, of(self.start) + forward)
        position = position + of_views(self.shake[..., :3])
        position = self._within(position)
        inward = target - position
        orbit_yaw = torch.atan2(inward[..., 1], inward[..., 0])
        orbit_pitch = torch.atan2(inward[..., 2], inward[..., :2].norm(dim=-1).clamp(min=0.1))
        yaw = torch.where(
            path == 0, hand_yaw, torch.where(path == 1, drive_yaw, torch.where(path == 2, orbit_yaw, inspect_yaw))
        )
        pitch = torch.where(path == 2, orbit_pitch.clamp(-1.2, 1.2), of(self.pitch))
        turn = of_views(self.shake[..., 3:])
        return pose_from_angles(position, yaw + turn[..., 0], pitch + turn[..., 1], of(self.roll) + turn[..., 2])

    def _within(self, position: Tensor) -> Tensor:
        """Positions [B, C, V, 3] kept where cameras may be; z from the ground up."""
        low, high = self.layout.low[:, None, None], self.layout.high[:, None, None]
        position = torch.minimum(torch.maximum(position, low), high)
        cells = self.layout.heights.shape[-1]
        extent = self.layout.extent[:, None, None, None]
        cell = ((position[..., :2] / extent + 1) / 2 * (cells - 1)).clamp(0, cells - 1)
        floor = cell.floor().long().clamp(max=cells - 2)
        flat = self.layout.heights.flatten(1)
        index = (floor[..., 1] * cells + floor[..., 0]).flatten(1)
        corners = [flat.gather(1, index + shift) for shift in (0, 1, cells, cells + 1)]
        w = (cell - floor).flatten(1, -2)
        below = torch.lerp(corners[0], corners[1], w[..., 0])
        above = torch.lerp(corners[2], corners[3], w[..., 0])
        ground = torch.lerp(below, above, w[..., 1]).view_as(position[..., 2])
        return torch.cat([position[..., :2], (position[..., 2] + ground)[..., None]], dim=-1)


def of_views(x: Tensor) -> Tensor:
    """[B, V, n] as [B, 1, V, n]."""
    return x[:, None]


def draw_motion(draw: Draw, layout: Layout, kind: Tensor, views: int) -> Motion:
    """How the cameras move in every scene. kind [B]: place in SCENES."""
    batch = len(kind)
    shares = torch.tensor([SHARES[name] for name in SCENES], device=draw.device)
    path = torch.multinomial(shares[kind], 1, generator=draw.generator)[:, 0]
    start = draw.uniform(layout.low, layout.high, batch, 3)
    heading = draw.uniform(0, 2 * torch.pi, batch)
    along = torch.where(start[:, 0] > 0, torch.pi, 0.0)  # the longer way
    heading = torch.where(layout.road & (path != 2), along + 0.05 * draw.normal(batch), heading)
    to_target = torch.atan2(layout.target[:, 1] - start[:, 1], layout.target[:, 0] - start[:, 0])
    mount = torch.where(
        draw.chance(0.8, batch), 0.1 * draw.normal(batch), draw.sign(batch) * draw.uniform(0.5, 1.6, batch)
    )
    look = torch.where(
        path == 0, to_target + 0.9 * draw.normal(batch), torch.where(path == 1, mount, draw.normal(batch))
    )
    hand = (path != 1).float()[:, None, None]
    size = draw.uniform(0, 1, batch, 1, 1) * (0.15 + 0.85 * hand)
    scale = torch.cat(
        [layout.step[:, None, None] * draw.normal(batch, views, 3) * 0.04, 0.06 * draw.normal(batch, views, 3)], -1
    )
    when = torch.arange(views, device=draw.device) + 0.2 * draw.uniform(-1, 1, batch, views)
    when = torch.where(draw.chance(0.12, batch, 1), when.gather(1, draw.order(batch, views)), when)
    return Motion(
        layout=layout,
        path=path,
        start=start,
        heading=heading,
        curvature=0.12 * draw.normal(batch) / layout.step,
        look=look,
        look_rate=0.4 * draw.normal(batch) / layout.step,
        pitch=torch.where(path == 1, -0.05 + 0.08 * draw.normal(batch), -0.18 + 0.2 * draw.normal(batch)),
        roll=torch.where(path == 1, 0.01, 0.07) * draw.normal(batch),
        climb=torch.where(path == 1, 0.0, 0.1) * draw.normal(batch),
        radius=layout.orbit.clamp(min=0.4),
        shake=size * scale,
        when=when,
    )


def pose_from_angles(position: Tensor, yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """world_from_camera [..., 4, 4]: looks along yaw (from x to y) and pitch (upwards), rolled about that axis."""
    cy, sy, cp, sp, cr, sr = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin(), roll.cos(), roll.sin()
    zero = torch.zeros_like(yaw)
    forward = torch.stack([cp * cy, cp * sy, sp], -1)
    right = torch.stack([sy, -cy, zero], -1)
    down = torch.linalg.cross(forward, right)
    x = cr[..., None] * right + sr[..., None] * down
    y = cr[..., None] * down - sr[..., None] * right
    top = torch.cat([torch.stack([x, y, forward], -1), position[..., None]], -1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], -2)


def draw_intrinsics(draw: Draw, batch: int, views: int, height: int, width: int) -> Tensor:
    """K [B, V, 3, 3], one camera a scene, pixel centres at integers."""
    fov = torch.deg2rad(draw.uniform(NARROWEST, WIDEST, batch))
    # The field of view is that of the long side, whichever way the camera is held.
    fx = max(width, height) / 2 / torch.tan(fov / 2)
    fy = fx * (1 + 0.01 * draw.normal(batch))
    cx = (width - 1) / 2 + OFF_CENTER * width * draw.uniform(-1, 1, batch)
    cy = (height - 1) / 2 + OFF_CENTER * height * draw.uniform(-1, 1, batch)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = [torch.stack([fx, zero, cx], -1), torch.stack([zero, fy, cy], -1), torch.stack([zero, zero, one], -1)]
    return torch.stack(rows, -2)[:, None].expand(-1, views, -1, -1)
