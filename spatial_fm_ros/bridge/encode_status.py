"""ReconstructionStatus from the pipeline's state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spatial_fm_ros.bridge.encode import header
from spatial_fm_ros.core.calibration.told import sentences
from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import ScaleState, Update, WindowState
from spatial_fm_ros.msg import ReconstructionStatus

SCALE_STATES = {
    ScaleState.RELATIVE: ReconstructionStatus.RELATIVE,
    ScaleState.METRIC: ReconstructionStatus.METRIC,
    ScaleState.UNOBSERVABLE: ReconstructionStatus.UNOBSERVABLE,
    ScaleState.CONFLICT: ReconstructionStatus.CONFLICT,
}
WINDOW_CODES = {
    WindowState.OK: ReconstructionStatus.WINDOW_OK,
    WindowState.NO_PARALLAX: ReconstructionStatus.WINDOW_NO_PARALLAX,
    WindowState.NO_TEXTURE: ReconstructionStatus.WINDOW_NO_TEXTURE,
    WindowState.FAILED: ReconstructionStatus.WINDOW_FAILED,
}


def scale_state(state: ScaleState | None) -> int:
    """The constant of a state of scale; None: nobody says."""
    return ReconstructionStatus.SCALE_UNKNOWN if state is None else SCALE_STATES[state]


@dataclass(frozen=True)
class NodeFacts:
    """What the node knows beside its pipeline.

    frames: images that arrived, skipped of them before the gate; bad: unusable messages of all inputs; newest_ns:
    stamp of the newest mapped keyframe.
    """

    frames: int
    skipped: int
    bad: int
    latency_p95_s: float
    newest_ns: int
    paused: bool
    tf_problem: str
    reset_reason: str


def empty_status(note: str, map_frame: str, model: str) -> ReconstructionStatus:
    """Before there is a pipeline: `note` says why. Nothing is said of a scale."""
    return ReconstructionStatus(
        header=header(0, map_frame),
        model=model,
        note=note,
        scale_state=ReconstructionStatus.SCALE_UNKNOWN,
        scale_sigma=math.inf,
        scale_value=math.nan,
        loaded_scale_state=ReconstructionStatus.SCALE_UNKNOWN,
    )


def encode_status(pipeline: Pipeline, last: Update | None, facts: NodeFacts, config: RosConfig) -> ReconstructionStatus:
    """The state now. `last`: newest update."""
    stats, scale = pipeline.stats, pipeline.scale
    status = ReconstructionStatus(
        header=header(facts.newest_ns, config.map_frame),
        paused=facts.paused,
        held_back=config.require_metric and scale.state is not ScaleState.METRIC,
        tf_problem=facts.tf_problem,
        scale_state=SCALE_STATES[scale.state],
        scale_value=float(scale.value),
        scale_sigma=float(scale.sigma),
        scale_observers=list(scale.observers),
        scale_rejected=list(scale.rejected),
        scale_reason=scale.reason,
        calibration=sentences(pipeline.corrections, pipeline.config.calibration, pipeline.config.intake),
        model=pipeline.config.model.name,
        weights=pipeline.model.weights,
        window_limit=pipeline.window_size,
        window_time_mean_s=stats.window_time_mean_s,
        window_time_p95_s=stats.window_time_p95_s,
        latency_p95_s=facts.latency_p95_s,
        windows=stats.windows,
        failed_windows=stats.failed_windows,
        frames_received=facts.frames,
        frames_rejected=sum(stats.rejected.values()) + facts.skipped,
        keyframes=stats.keyframes,
        keyframes_thinned=pipeline.thinned,
        keyframes_waiting=pipeline.waiting,
        messages_bad=facts.bad,
        submaps=stats.submaps,
        map_points=pipeline.map_size,
        resets=stats.resets,
        reset_reason=facts.reset_reason,
        maps_aside=len(pipeline.maps_aside()),
    )
    _add_loaded(status, pipeline)
    if last is not None:
        _add_window(status, last)
    return status


def _add_loaded(status: ReconstructionStatus, pipeline: Pipeline) -> None:
    status.loaded_scale_state = ReconstructionStatus.SCALE_UNKNOWN
    loaded = pipeline.loaded
    if loaded is None:
        return
    status.loaded_points = len(loaded.cloud)
    status.loaded_scale_state = scale_state(loaded.facts.scale_state)
    status.loaded_note = loaded_note(pipeline)


def loaded_note(pipeline: Pipeline) -> str:
    """What is loaded and how it is shown, a sentence; empty where nothing is loaded."""
    loaded = pipeline.loaded
    if loaded is None:
        return ""
    what = f"The loaded map '{loaded.name}' is in {loaded.facts.unit}"
    if pipeline.loaded_joins:
        return f"{what}; ~/map and ~/save_map hold it with what is mapped."
    return (
        f"{what}, what is mapped now is not known to be: ~/map holds the loaded map alone, ~/save_map writes what is "
        "mapped. ~/reset drops the loaded one."
    )


def _add_window(status: ReconstructionStatus, last: Update) -> None:
    status.window_state = last.state.value
    status.window_code = WINDOW_CODES[last.state]
    status.window_size = len(last.keyframes)
    status.note = last.note
    status.scale_correction = math.expm1(last.scale_correction)
    if last.seam is not None:
        status.seam_known = True
        status.seam_accepted = last.seam.accepted
        status.seam_residual = float(last.seam.residual)
        status.seam_inlier_share = float(last.seam.inlier_share)
        status.seam_reason = last.seam.reason
