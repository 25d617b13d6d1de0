"""From light to the 8-bit images of a cheap camera: exposure, colour cast, blur, vignetting, noise, tone curve."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spatial_fm_ros.training.worlds.random import Draw

#: Brightness the automatic exposure aims at, in linear light, and its range over scenes.
AIM, AIM_LOW, AIM_HIGH = 0.22, 0.08, 0.4
BLUR_TAPS = 7


@dataclass(frozen=True)
class Sensor:
    """How strong the faults of cameras may be; 0 turns one off. blur in pixels (deviation, and length of motion blur),
    noise as deviation at mid grey in grey levels, vignetting as loss in the corners."""

    blur: float = 0.9
    motion: float = 3.0
    noise: float = 6.0
    vignetting: float = 0.4
    cast: float = 0.05


def expose(light: Tensor, sensor: Sensor, draw: Draw) -> Tensor:
    """Images float32 [B, V, 3, H, W] in [0, 1] on whole grey levels, of linear light of that shape.

    A scene has one camera: its blur, cast, noise and tone curve are the scene's; exposure and motion blur a view's.
    """
    batch, views, _, height, width = light.shape
    x = _blurred(light, sensor, draw)
    aim = draw.uniform(AIM_LOW, AIM_HIGH, batch, 1) * (0.12 * draw.normal(batch, views)).exp()
    gain = aim / x.mean((2, 3, 4)).clamp(min=1e-4)
    # The scene's mean exposure, followed halfway by each view: automatic exposure lags.
    gain = (gain.log().mean(1, keepdim=True) * 0.5 + gain.log() * 0.5).exp()
    cast = (sensor.cast * draw.normal(batch, 1, 3, 1, 1)).exp()
    x = x * gain[..., None, None, None] * cast * _vignette(height, width, sensor, draw, batch)
    # A soft shoulder instead of a hard limit, then the display's gamma, each a little different.
    shoulder = draw.uniform(0.6, 1.0, batch, 1, 1, 1, 1)
    x = torch.where(x > shoulder, shoulder + (1 - shoulder) * (1 - (-(x - shoulder) / (1.001 - shoulder)).exp()), x)
    x = x.clamp(0, 1) ** (1 / draw.uniform(1.8, 2.6, batch, 1, 1, 1, 1))
    level = draw.uniform(0.0, sensor.noise, batch, 1, 1, 1, 1) / 255
    # Shot and read noise: the variance grows with the level.
    x = x + level * (0.3 + 0.7 * x * 2).sqrt() * draw.normal(*x.shape)
    return (x.clamp(0, 1) * 255).round() / 255


def _vignette(height: int, width: int, sensor: Sensor, draw: Draw, batch: int) -> Tensor:
    y = torch.linspace(-1, 1, height, device=draw.device)[:, None]
    x = torch.linspace(-1, 1, width, device=draw.device)
    radius2 = (x * x + y * y) / 2
    return 1 - draw.uniform(0, sensor.vignetting, batch, 1, 1, 1, 1) * radius2


def _blurred(light: Tensor, sensor: Sensor, draw: Draw) -> Tensor:
    """Defocus (Gaussian) and motion (a line), as one small kernel a view: grouped convolution over all of them."""
    batch, views, channels, height, width = light.shape
    half = BLUR_TAPS // 2
    at = torch.arange(-half, half + 1, device=light.device, dtype=light.dtype)
    sigma2 = draw.uniform(0.25, max(0.3, sensor.blur), batch, 1) ** 2
    length2 = (sensor.motion * draw.uniform(0, 1, batch, views) ** 3) ** 2 / 12  # variance of an even line
    angle = draw.uniform(0, 3.1416, batch, views)
    # The line is taken as a Gaussian of its variance, along its direction.
    along, across = sigma2 + length2, sigma2.expand(-1, views)
    c, s = angle.cos(), angle.sin()
    xx, yy, xy = (c * c * along + s * s * across, s * s * along + c * c * across, c * s * (along - across))
    determinant = xx * yy - xy * xy
    a, b, d = (yy / determinant, -xy / determinant, xx / determinant)
    y, x = at[:, None], at[None]
    form = a[..., None, None] * x * x + 2 * b[..., None, None] * x * y + d[..., None, None] * y * y
    kernel = (-0.5 * form).exp()
    kernel = kernel / kernel.sum((-1, -2), keepdim=True)
    kernel = kernel[:, :, None].expand(-1, -1, channels, -1, -1).reshape(-1, 1, BLUR_TAPS, BLUR_TAPS)
    padded = F.pad(light.reshape(1, -1, height, width), [half] * 4, mode="replicate")
    return F.conv2d(padded, kernel, groups=batch * views * channels).view_as(light)
