"""Model `hybrid`: another model's cameras and depth, refined by the geometric one where images can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from spatial_fm_ros.core.config import ModelConfig
from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.models.base import SpatialModel, Supports
from spatial_fm_ros.core.models.foundation.source import MEANINGLESS
from spatial_fm_ros.core.models.geometric.dense import grid_size
from spatial_fm_ros.core.models.geometric.model import GeometricModel
from spatial_fm_ros.core.models.hybrid.alignment import completed
from spatial_fm_ros.core.models.hybrid.alone import Remembered, Spoken, alone, turned
from spatial_fm_ros.core.models.hybrid.assistance import PriorAssistance
from spatial_fm_ros.core.models.hybrid.cameras import CameraSolver
from spatial_fm_ros.core.models.hybrid.fusion import Bent
from spatial_fm_ros.core.models.hybrid.prior import PriorWindow
from spatial_fm_ros.core.models.hybrid.trust import Trust
from spatial_fm_ros.core.models.registry import create_model
from spatial_fm_ros.core.types import Prediction, Window, WindowState


class HybridModel(SpatialModel):
    """Who is believed, window by window:

    * The images solve it (`geometric`, helped by the prior's cameras): their cameras, which the prior's pull only as
      far as the images leave them open; keyframes that match nothing stand where the prior has them; depth is, pixel
      by pixel, the likelier of the sweep and of the prior bent onto it and searched around.
    * They see that the camera only turned: their rotations, the prior's depth, held to the depth remembered.
    * They see nothing: the prior, as it is.
    * The prior says nothing, or was found far off where images could judge it: `geometric` as if it were alone.
    """

    name = "hybrid"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.hybrid.prior == self.name:
            raise ModelError("Model 'hybrid' cannot be its own prior; set model.hybrid.prior to another model.")
        self.prior = create_model(replace(config, name=config.hybrid.prior))
        self.geometric = GeometricModel(replace(config, name="geometric"))
        known = self.prior.supports
        self.supports = Supports(known.min_views, known.max_views, True, True, known.metric)
        self.trust = Trust()
        self._said: dict[int, Remembered] = {}

    @property
    def window_limit(self) -> int:
        return min(self.prior.window_limit, self.geometric.window_limit)

    def load(self) -> None:
        self.prior.load()
        # The prior's passes use torch's own threads, the geometric model brings threads of its own.
        self._prior_threads = torch.get_num_threads()
        self.geometric.load()
        self.solver = CameraSolver(self.config.geometric, self.geometric.solver.threads, self.geometric.map.tasks)
        self.weights, self.random_weights = self.prior.weights, self.prior.random_weights

    def reset(self) -> None:
        self.prior.reset()
        self.geometric.reset()
        self.trust = Trust()
        self._said = {}

    def infer(self, window: Window) -> Prediction:
        if self.geometric.extractor is None:
            raise ModelError("The hybrid model was used before load(); call load() once first.")
        said, trouble = self._ask(window)
        height, width = window.keyframes[0].image.shape[:2]
        prior = None if said is None else PriorWindow.of(said, grid_size(height, width, self.config.geometric))
        if prior is None or prior.empty:
            result = self.geometric.infer(window)
            words = trouble or f"{self.prior.name} says nothing of this window"
            result, judged = replace(result, note=_joined(words, result.note)), [True] * len(window.keyframes)
        else:
            result, judged = self._combined(window, prior)
        self._remember(window, result, judged)
        return self._marked(result)

    def _ask(self, window: Window) -> tuple[Prediction | None, str]:
        """What the prior says; where it fails, geometric goes on alone and the note says why."""
        torch.set_num_threads(self._prior_threads)
        try:
            return self.prior.infer(window), ""
        except ModelError as error:
            return None, str(error)
        finally:
            torch.set_num_threads(1)

    def _combined(self, window: Window, prior: PriorWindow) -> tuple[Prediction, list[bool]]:
        """The answer, and of which views images bore out the depth."""
        geometric = self.geometric
        assistance = PriorAssistance(prior, self.trust, self.solver, geometric.focal, geometric.device)
        seen = geometric.infer_assisted(window, assistance)
        if seen.has_depth and assistance.bent is None and self.trust.believed:
            # Cameras and depth, but nothing to bring the prior's to them.
            return seen, [True] * len(window.keyframes)
        if not self.trust.believed:
            words = f"{self.prior.name} is far off where images judge it"
            return replace(seen, note=_joined(words, seen.note)), [True] * len(window.keyframes)
        if assistance.bent is not None:
            judged = [bool(posed) and assistance.bent.judged for posed in seen.posed]
            return self._solved(seen, prior, assistance.bent), judged
        remembered = [self._said.get(keyframe.id) for keyframe in window.keyframes]
        if seen.state is WindowState.NO_PARALLAX:
            spoken = turned(prior, seen, remembered, self.config.geometric.min_parallax_px)
            self.trust.learn(rotation=spoken.rotation_sigma)
        else:
            spoken = alone(prior, remembered)
        judged = [
            each is not None or (known is not None and known.judged)
            for each, known in zip(spoken.bent.corrections, remembered, strict=True)
        ]
        return self._spoken(window, seen, prior, spoken), judged

    def _solved(self, seen: Prediction, prior: PriorWindow, bent: Bent) -> Prediction:
        """What the images solved, with the keyframes that they left out where the prior has them."""
        told = np.where(prior.posed[:, None, None], prior.world_from_camera, np.nan)
        poses, known = completed(seen.world_from_camera, seen.posed, told, bent.scale)
        added = known & ~seen.posed
        depth, confidence = seen.depth.copy(), seen.confidence.copy()
        depth[added], confidence[added] = bent.depth[added], bent.chance[added]
        note = f"{int(added.sum())} keyframes stand where {self.prior.name} has them" if added.any() else ""
        # A gauge in metres stays one: by the scale between both, whose bend is already taken out.
        unit = bent.scale if prior.metric else 1.0
        poses[:, :3, 3] /= unit
        return replace(
            seen,
            world_from_camera=poses,
            depth=(depth / unit).astype(np.float32),
            confidence=confidence,
            posed=known,
            metric=prior.metric,
            note=_joined(note, "" if known.all() and not seen.posed.all() else seen.note),
            figures={**seen.figures, **self._figures(bent)},
        )

    def _spoken(self, window: Window, seen: Prediction, prior: PriorWindow, spoken: Spoken) -> Prediction:
        """What the prior says where the images do not solve the window; how it turned stays theirs."""
        bent, name = spoken.bent, self.prior.name
        posed: NDArray[np.bool_] = np.asarray(np.isfinite(spoken.world_from_camera).all(axis=(1, 2)))
        only_turned = seen.state is WindowState.NO_PARALLAX
        words = f"the images show a turn alone: depth from {name}" if only_turned else f"cameras and depth from {name}"
        # Where neither a calibration nor any window told the focal length, depth goes with the prior's.
        guessed = self.geometric.focal.information == 0.0 and all(k.camera is None for k in window.keyframes)
        unit = bent.scale if prior.metric else 1.0
        poses = spoken.world_from_camera.copy()
        poses[:, :3, 3] /= unit
        return replace(
            seen,
            world_from_camera=np.where(posed[:, None, None], poses, np.nan),
            K=prior.K if guessed else seen.K,
            depth=np.where(posed[:, None, None], bent.depth / unit, np.nan).astype(np.float32),
            confidence=np.where(posed[:, None, None], bent.chance, 0.0).astype(np.float32),
            posed=posed,
            state=seen.state if only_turned or not posed.any() else WindowState.OK,
            metric=prior.metric,
            note=words if only_turned else _joined(words, seen.note),
            figures={**seen.figures, **self._figures(bent)},
            continues=False,
        )

    def _figures(self, bent: Bent) -> dict[str, float]:
        figures = {"prior_depth_sigma": bent.raw} if bent.judged else {}
        if self.trust.rotation is not None:
            figures["prior_rotation_deg"] = float(np.degrees(self.trust.rotation))
        return figures

    def _remember(self, window: Window, result: Prediction, judged: Sequence[bool]) -> None:
        """Depth of this window's keyframes, for the next window that the images cannot solve."""
        self._said = {
            keyframe.id: Remembered(result.depth[i], result.confidence[i], judged[i])
            for i, keyframe in enumerate(window.keyframes)
            if result.posed[i] and np.isfinite(result.depth[i]).any()
        }

    def _marked(self, result: Prediction) -> Prediction:
        """With a prior of random weights everything says so, and no metres are."""
        if not self.random_weights:
            return result
        plain = result.note.replace(MEANINGLESS, "").strip("; ")
        return replace(result, note=_joined(MEANINGLESS, plain), metric=False)


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
