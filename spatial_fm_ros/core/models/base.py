"""The contract every spatial model fulfils: a window in, a prediction in the model's own gauge out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.types import Prediction, Window


@dataclass(frozen=True)
class Supports:
    """What a model can take and give."""

    min_views: int = 2
    max_views: int = 64
    intrinsics: bool = False  # uses known K
    poses: bool = False  # uses odom_from_camera priors
    metric: bool = False  # its gauge is in metres


class SpatialModel(ABC):
    """One architecture. Create it with its configuration, `load` once, then `infer` many times.

    A model is used from one thread at a time. It may cache per-keyframe work by `Keyframe.id`, in
    bounded memory, and must drop the cache in `reset`.
    """

    name: str
    supports: Supports
    #: Where the weights come from and what their licence allows, for people; empty for models without a checkpoint.
    weights: str = ""
    #: The weights were drawn, to try speed and memory: nothing that is published says anything about the world.
    random_weights: bool = False

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    @property
    def window_limit(self) -> int:
        """Most keyframes a window may have now; it can change from window to window with the free memory."""
        return self.supports.max_views

    @abstractmethod
    def load(self) -> None:
        """Bring weights to the device. Raises ModelError with the reason and the remedy."""

    @abstractmethod
    def infer(self, window: Window) -> Prediction:
        """Cameras and depth of the window. Weak evidence is said through confidence, `posed` and
        `state`, never invented. Raises ModelError only when the model itself is unusable."""

    def reset(self) -> None:
        """Forget everything learnt from earlier windows."""
        return None
