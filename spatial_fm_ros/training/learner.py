"""The network with its optimizer and its running average, and one step of learning."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.nano import SETTINGS, Nano, build
from spatial_fm_ros.core.models.vggt.camera_head import ITERATIONS
from spatial_fm_ros.core.models.vggt.network import VggtOutput
from spatial_fm_ros.core.models.vit.block import Block, LayerScale
from spatial_fm_ros.training.losses import Losses, losses
from spatial_fm_ros.training.matching import matching_loss, partners
from spatial_fm_ros.training.measures import measures, summary
from spatial_fm_ros.training.settings import Settings, Size
from spatial_fm_ros.training.targets import targets
from spatial_fm_ros.training.worlds.generator import Batch, Generator
from spatial_fm_ros.training.worlds.random import Draw, mixed

#: LayerScale of fresh blocks: VGGT's 0.01 is for a backbone that was trained before.
FRESH_SCALE = 0.2
#: Steps in a row without a finite gradient that end a run.
MOST_SKIPPED = 20
#: The check's scenes come from this seed, which no run trains on.
CHECK_SEED = 0x5EED


class Learner:
    """Everything that changes during a run. `step` counts the finished ones."""

    def __init__(self, settings: Settings, device: torch.device | str) -> None:
        self.settings, self.device = settings, torch.device(device)
        torch.manual_seed(settings.seed)
        self.network = build(settings.network)
        prepare(self.network)
        self.network.to(self.device).train()
        self.average = [p.detach().clone() for p in self.network.parameters()]
        self.optimizer = _optimizer(self.network, settings)
        self.generator = self._generator(settings.seed)
        self.step, self.skipped = 0, 0
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        if settings.compile:
            for module in self.network.modules():
                if isinstance(module, Block):
                    module.compile(dynamic=True)

    def learn(self) -> tuple[Losses, float]:
        """One step; its losses and the length of the gradient. Raises ModelError where learning has broken down."""
        settings = self.settings
        batch = self.batch(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, settings)
        output, tokens = self._run(batch, mixed(settings.seed, 3, self.step))
        match = matching_loss(tokens, *partners(batch, self.network.config.patch_size))
        found = losses(output, targets(batch), settings.camera_weight, match, settings.match_weight)
        self.optimizer.zero_grad(set_to_none=True)
        found.total.backward()
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip))
        if math.isfinite(norm):
            self.optimizer.step()
            self.skipped = 0
        else:
            self.skipped += 1
            if self.skipped >= MOST_SKIPPED:
                raise ModelError(
                    f"The gradients of {MOST_SKIPPED} steps in a row up to step {self.step} are not finite: resume "
                    "from an earlier state with a lower learning rate."
                )
        self.step += 1
        decay = min(settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.network.parameters()), 1 - decay)
        return found, norm

    def batch(self, number: int) -> Batch:
        """Batch of step `number`: its shape and its scenes follow from seed and number alone."""
        settings = self.settings
        if settings.repeat:
            number %= settings.repeat
        shape = shape_of_step(settings, number)
        return self.generator.batch(number, shape.scenes, shape.views, shape.size)

    def look(self, batch: Batch, seed: int | None) -> VggtOutput:
        """The network's output; cameras are told for a share of scenes drawn with `seed`, or for all without one."""
        return self._run(batch, seed)[0]

    def _run(self, batch: Batch, seed: int | None) -> tuple[VggtOutput, Tensor]:
        """What `look` gives, and the patch tokens [B, V, P, C] of single views."""
        K = batch.K
        if seed is not None:
            known = Draw(seed, self.device).chance(self.settings.known_rays, len(K), 1, 1, 1)
            K = torch.where(known, K, torch.nan)
        height, width = batch.images.shape[-2:]
        with self._precision():
            tokens = self.network.embed(batch.images)
            output = self.network.relate(tokens, (height, width), K, frames_per_chunk=K.shape[0] * K.shape[1])
        return output, tokens

    def check(self) -> dict[str, float]:
        """Measures of the running average on unseen scenes, half of them without known cameras."""
        settings = self.settings
        generator = self._generator(CHECK_SEED)
        size, views = settings.sizes[0][0], settings.check_views
        per_batch = max(1, min(settings.check_scenes, settings.views_per_step // views))
        parts = []
        with self.averaged(), torch.no_grad():
            for i in range(-(-settings.check_scenes // per_batch)):
                batch = generator.batch(i, per_batch, views, size)
                parts.append(measures(self.look(batch, None), targets(batch), size))
        return {f"check_{name}": value for name, value in summary(parts).items()}

    def averaged(self) -> AbstractContextManager[None]:
        """The network with its running average for a while."""
        return _Averaged(self)

    def averaged_state(self) -> dict[str, Tensor]:
        """The running average under the names of the network's parameters."""
        return dict(zip((name for name, _ in self.network.named_parameters()), self.average, strict=True))

    def _generator(self, seed: int) -> Generator:
        settings = self.settings
        return Generator(seed, self.device, settings.textures, settings.texture_size, compiled=settings.compile)

    def _precision(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16)


class _Averaged(AbstractContextManager[None]):
    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._learner.network.parameters(), self._learner.average, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(kept)


def prepare(network: Nano) -> None:
    """Fresh weights from which all parts can learn: LayerScale that lets blocks speak, a camera that looks ahead."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, LayerScale):
                module.gamma.fill_(FRESH_SCALE)
        if network.camera_head is not None:
            last = network.camera_head.pose_branch.fc2
            last.weight.mul_(0.1)
            # Summed over the iterations: no turn, and a field of view of about 60 degrees, where ReLU has a gradient.
            start = torch.tensor([0, 0, 0, 0, 0, 0, 1.0, 0.9, 1.1])
            last.bias.copy_(start / ITERATIONS)


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up, then half a cosine (Loshchilov and Hutter, 2017)."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    progress = min(1.0, (step - settings.warmup) / max(1, settings.steps - settings.warmup))
    low = settings.last_lr
    return settings.lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True)
class Shape:
    """Of a batch; size = (height, width)."""

    scenes: int
    views: int
    size: Size


def shape_of_step(settings: Settings, number: int) -> Shape:
    """Scenes, views and image size of batch `number`, by the seed and how far the run is."""
    draw = Draw(mixed(settings.seed, 4, number), "cpu")
    progress = number / settings.steps
    grown = 1.0 if settings.views_grow <= 0 else min(1.0, progress / settings.views_grow)
    most = round(settings.fewest_views + (settings.most_views - settings.fewest_views) * grown)
    views = settings.fewest_views + int(draw.index(most - settings.fewest_views + 1, 1))
    size = settings.sizes[int(draw.weighted([share for _, share in settings.sizes], 1))][0]
    images = settings.views_per_step
    if progress < settings.coarse:
        full, size = size, halved(size, int(settings.network.get("patch_size", SETTINGS["patch_size"])))
        images = images * full[0] * full[1] // (size[0] * size[1])
    return Shape(max(1, images // views), views, size)


def halved(size: Size, patch: int) -> Size:
    """About half of a size, in whole patches."""
    height, width = (max(patch, patch * round(side / 2 / patch)) for side in size)
    return height, width


def _optimizer(network: nn.Module, settings: Settings) -> torch.optim.AdamW:
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    free = [p for p in network.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": free, "weight_decay": 0.0}]
    fused = next(network.parameters()).device.type == "cuda"
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)
