"""The pipeline's side of every network that turns a window of images into cameras and dense depth in one pass."""

from __future__ import annotations

import gc
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import ConfigError, InputError, ModelError
from spatial_fm_ros.core.memory import return_freed
from spatial_fm_ros.core.models.base import SpatialModel
from spatial_fm_ros.core.models.device import pick_device
from spatial_fm_ros.core.models.foundation.calibration import FocalMemory
from spatial_fm_ros.core.models.foundation.features import FeatureCache, Features
from spatial_fm_ros.core.models.foundation.images import Canvas, draw, grid_size
from spatial_fm_ros.core.models.foundation.memory import (
    LAST_RESERVE,
    ViewBudget,
    available_bytes,
    is_out_of_memory,
    peak_memory,
)
from spatial_fm_ros.core.models.foundation.output import NetworkOutput, to_prediction
from spatial_fm_ros.core.models.foundation.source import load_network
from spatial_fm_ros.core.types import Keyframe, Prediction, Window

#: Fewer views are tried after a pass ran out of memory: this share of them.
SHRINK = 0.75


class FoundationModel(SpatialModel):
    """Keyframes to tensors, the network within the memory there is, tensors to the Prediction.

    A subclass builds its network and says how to run it in two steps: `embed`, which sees every image alone and
    is kept for keyframes that the next window shares, and `relate`, which sees the whole window.
    """

    #: Long side of the images the published weights were trained on.
    trained_width: int
    #: Grey level of the canvas around images of another aspect.
    margin: float
    #: Network confidence above 1 that makes an even chance; 0: by the window's own (confidence.py).
    even_confidence: float

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.network: nn.Module | None = None
        self.budget = ViewBudget()
        self._features = FeatureCache()
        self._focal = FocalMemory()
        self._grid: tuple[int, int] | None = None

    @abstractmethod
    def build(self, settings: Mapping[str, Any], variant: str) -> nn.Module:
        """The network, as the settings beside a checkpoint (may be empty) or the name of a variant describe it.

        Raises ConfigError for settings that cannot be, ModelError for a network of no use here.
        """

    @abstractmethod
    def embed(self, network: nn.Module, images: Tensor) -> Features:
        """What the network sees in each of the images [M, 3, h, w], in [0, 1], alone; tensors [M, ...]."""

    @abstractmethod
    def relate(
        self, network: nn.Module, features: Features, canvas: Canvas, keyframes: Sequence[Keyframe]
    ) -> NetworkOutput:
        """Cameras and depth of all views from `features` [N, ...], what `embed` gave for the canvas."""

    def load(self) -> None:
        """Find, read and check the weights, and measure what one view needs. Raises ModelError."""
        self.device = pick_device(self.config.device)
        if self.device.type == "cpu":
            torch.set_num_threads(self.config.threads or len(os.sched_getaffinity(0)))
        try:
            found = load_network(self.name, self.config, self.device, self.build)
        except (ConfigError, InputError) as error:
            raise ModelError(f"Model '{self.name}' cannot be built: {error}") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise ModelError(f"The weights of '{self.name}' do not fit the memory of {self.device}.") from error
        self.network, self._weights = found.network, found
        self.weights, self.random_weights = found.words, found.random
        self._measure(found.network)

    def reset(self) -> None:
        self._features.clear()
        self._focal.clear()
        self._grid = None

    @property
    def window_limit(self) -> int:
        """Most views that fit the memory that is free now; 2 at least, since a window needs them."""
        if self.network is None:
            return self.supports.max_views
        return max(2, self.budget.limit(available_bytes(self.device), self.supports.max_views))

    def infer(self, window: Window) -> Prediction:
        """See SpatialModel. Where memory does not hold all keyframes, those in between are left unposed."""
        if self.network is None:
            raise ModelError(f"The model '{self.name}' was used before load(); call load() once first.")
        count = len(window.keyframes)
        fitting = min(count, max(1, self.budget.limit(available_bytes(self.device), count, LAST_RESERVE)))
        while True:
            chosen = _spread(count, fitting)
            keyframes = [window.keyframes[i] for i in chosen]
            try:
                prediction = self._predict(self.network, keyframes)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise ModelError(f"The network '{self.name}' failed on {len(chosen)} images: {error}") from error
            except InputError as error:
                raise ModelError(f"The network '{self.name}' refuses the window: {error}") from error
            else:
                return prediction if len(chosen) == count else _completed(prediction, chosen, count)
            # Outside of the except block, where the failed pass's tensors are no longer held.
            self._give_memory_back()
            self.budget.failed(fitting)
            if fitting == 1:
                raise ModelError(_too_large(self.name, self.device))
            fitting = max(1, int(fitting * SHRINK))

    def _predict(self, network: nn.Module, keyframes: Sequence[Keyframe]) -> Prediction:
        config = self.config.foundation
        canvas = draw([keyframe.image for keyframe in keyframes], self._long_side, self.device, self.margin)
        if self._grid is None:
            # The grid of the first image stays: seams compare pixels of two windows.
            first = canvas.placements[0]
            self._grid = (first.width, first.height)
        with peak_memory(self.device) as peak, torch.inference_mode():
            features = self._features.look(keyframes, canvas, lambda images: self.embed(network, images))
            output = self.relate(network, features, canvas, keyframes)
        self.budget.measured(len(keyframes), peak.bytes)
        calibrated = self._focal.calibrated(keyframes, canvas.placements, output.K)
        prediction = to_prediction(output, calibrated, canvas.placements, self._grid, config, self.even_confidence)
        return self._weights.marked(prediction)

    def _measure(self, network: nn.Module) -> None:
        """One grey square image through the network: what a view needs at most, and everything warm."""
        side = grid_size(1, 1, self._long_side)[0]
        blank = Keyframe(-1, 0, np.full((side, side, 3), 127, np.uint8), None, "", 0.0, "measure")
        try:
            self._predict(network, [blank])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise ModelError(f"The network '{self.name}' cannot run on {self.device}: {error}") from error
            raise ModelError(_too_large(self.name, self.device)) from error
        self.reset()

    def _give_memory_back(self) -> None:
        self._features.clear()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        else:
            return_freed()

    @property
    def _long_side(self) -> int:
        return self.config.foundation.image_width or self.trained_width


def _too_large(model: str, device: torch.device) -> str:
    return (
        f"Memory on {device} is not enough for a single image of '{model}'. Take a smaller checkpoint, a smaller "
        "model.foundation.image_width or another device."
    )


def _spread(count: int, chosen: int) -> list[int]:
    """`chosen` of `count` places, evenly, the first and the last among them."""
    if chosen == 1:
        return [count - 1]
    return [round(i * (count - 1) / (chosen - 1)) for i in range(chosen)]


def _completed(prediction: Prediction, chosen: Sequence[int], count: int) -> Prediction:
    """The prediction of `chosen` keyframes as one of all `count`; the others are not posed."""
    shape = (count, *prediction.depth.shape[1:])
    poses, depth = np.full((count, 4, 4), np.nan), np.full(shape, np.nan, np.float32)
    K, confidence = np.repeat(prediction.K[:1], count, axis=0), np.zeros(shape, np.float32)
    posed = np.zeros(count, dtype=bool)
    poses[chosen], K[chosen], posed[chosen] = prediction.world_from_camera, prediction.K, prediction.posed
    depth[chosen], confidence[chosen] = prediction.depth, prediction.confidence
    note = f"memory holds {len(chosen)} of {count} keyframes"
    return replace(
        prediction,
        world_from_camera=poses,
        K=K,
        depth=depth,
        confidence=confidence,
        posed=posed,
        note=f"{prediction.note}; {note}" if prediction.note else note,
    )
