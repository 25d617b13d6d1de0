"""ReconstructionStatus from the pipeline's state."""

from __future__ import annotations

import math

from spatial_fm_ros.bridge.encode import header
from spatial_fm_ros.core.calibration.told import sentences
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import ScaleState, Update
from spatial_fm_ros.msg import ReconstructionStatus

SCALE_STATES = {
    ScaleState.RELATIVE: ReconstructionStatus.RELATIVE,
    ScaleState.METRIC: ReconstructionStatus.METRIC,
    ScaleState.UNOBSERVABLE: ReconstructionStatus.UNOBSERVABLE,
    ScaleState.CONFLICT: ReconstructionStatus.CONFLICT,
}


def empty_status(note: str, map_frame: str, model: str) -> ReconstructionStatus:
    """Before there is a pipeline: `note` says why."""
    return ReconstructionStatus(
        header=header(0, map_frame), model=model, note=note, scale_sigma=math.inf, scale_value=1.0
    )


def encode_status(
    pipeline: Pipeline,
    last: Update | None,
    frames: int,
    skipped: int,
    bad: int,
    latency_p95_s: float,
    newest_ns: int,
    map_frame: str,
) -> ReconstructionStatus:
    """The state now. `last`: newest update; `newest_ns`: stamp of the newest mapped keyframe;
    `frames`: images that arrived, `skipped` of them
    before the gate; `bad`: unusable messages of all inputs."""
    stats, scale = pipeline.stats, pipeline.scale
    status = ReconstructionStatus(
        header=header(newest_ns, map_frame),
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
        latency_p95_s=latency_p95_s,
        windows=stats.windows,
        failed_windows=stats.failed_windows,
        frames_received=frames,
        frames_rejected=sum(stats.rejected.values()) + skipped,
        keyframes=stats.keyframes,
        keyframes_thinned=pipeline.thinned,
        messages_bad=bad,
        submaps=stats.submaps,
        map_points=pipeline.map_size,
    )
    if last is None:
        return status
    status.window_state = last.state.value
    status.window_size = len(last.keyframes)
    status.note = last.note
    status.scale_correction = math.expm1(last.scale_correction)
    if last.seam is not None:
        status.seam_known = True
        status.seam_accepted = last.seam.accepted
        status.seam_residual = float(last.seam.residual)
        status.seam_inlier_share = float(last.seam.inlier_share)
        status.seam_reason = last.seam.reason
    return status
