"""How many steps fit into the time, from steps measured here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from spatial_fm_ros.training.learner import Learner
from spatial_fm_ros.training.settings import Settings

#: Steps that do not count, and those that do: of the largest scenes, because they are most of a run.
WARM, COUNTED = 3, 8


@dataclass(frozen=True)
class Plan:
    """seconds of one step, of which `rendering_s` to make its batch; bytes: most memory held (GPU only, else 0)."""

    step_s: float
    rendering_s: float
    check_s: float
    bytes: int

    def steps(self, minutes: float, settings: Settings) -> int:
        """Steps in so many minutes, checks and a tenth for saving and scatter taken off."""
        a_step = self.step_s + self.check_s / settings.check_every
        return max(1, int(0.9 * 60 * minutes / a_step))


def measure(settings: Settings, device: str) -> Plan:
    """Learns a few steps of a throw-away network with the settings' largest number of views."""
    learner = Learner(replace(settings, coarse=0.0, views_grow=0.0, fewest_views=settings.most_views), device)
    for _ in range(WARM):
        learner.learn()
    if learner.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(learner.device)
    step_s = _timed(learner, lambda: [learner.learn() for _ in range(COUNTED)]) / COUNTED
    rendering_s = _timed(learner, lambda: [learner.batch(i) for i in range(COUNTED)]) / COUNTED
    check_s = _timed(learner, learner.check)
    held = torch.cuda.max_memory_allocated(learner.device) if learner.device.type == "cuda" else 0
    return Plan(step_s, rendering_s, check_s, held)


def _timed(learner: Learner, work: Callable[[], object]) -> float:
    _wait(learner)
    began = time.perf_counter()
    work()
    _wait(learner)
    return time.perf_counter() - began


def _wait(learner: Learner) -> None:
    if learner.device.type == "cuda":
        torch.cuda.synchronize(learner.device)
