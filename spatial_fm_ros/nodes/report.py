"""What the reconstruction tells /diagnostics: one finding each for node, inputs, messages, poses,
calibration and map."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from spatial_fm_ros.bridge.encode_status import loaded_note
from spatial_fm_ros.bridge.health import ERROR, OK, WARN, Finding, device_memory
from spatial_fm_ros.bridge.topics import inspect_topic
from spatial_fm_ros.core.calibration.told import in_words, sentences
from spatial_fm_ros.core.intake.clocks import SAMPLES
from spatial_fm_ros.core.types import ScaleState

if TYPE_CHECKING:
    from spatial_fm_ros.core.pipeline import Pipeline
    from spatial_fm_ros.nodes.reconstruct import Reconstruct


#: Images' stamps further than this from the simulated clock are of another time.
OTHER_TIME_S = 60.0
#: So many windows in a row without any pose are no accident.
UNPOSED = 2


class HealthReport:
    """Reads a Reconstruct node; changes nothing."""

    def __init__(self, node: Reconstruct) -> None:
        self._node = node
        self._bad_before = self._failed_before = 0
        self._missing_before: list[str] = []

    def tasks(self) -> dict[str, Callable[[], Finding]]:
        return {
            "model": self._model,
            "inputs": self._inputs,
            "messages": self._messages,
            "poses": self._poses,
            "calibration": self._calibration,
            "map": self._map,
        }

    def _model(self) -> Finding:
        node = self._node
        name = ("model", node.config.model.name)
        session = node.session
        if session is None:
            return Finding(OK if node.is_loading else ERROR, node.problem, [name])
        pipeline, outputs = session.pipeline, session.outputs
        stats = pipeline.stats
        values = [
            name,
            *([("weights", pipeline.model.weights)] if pipeline.model.weights else []),
            ("keyframes a window holds", str(pipeline.window_size)),
            ("windows", str(stats.windows)),
            ("failed windows", str(stats.failed_windows)),
            ("window time mean", f"{stats.window_time_mean_s:.2f} s"),
            ("window time p95", f"{stats.window_time_p95_s:.2f} s"),
            ("latency p95", f"{outputs.latency_p95_s:.2f} s"),
            ("keyframes", str(stats.keyframes)),
            ("keyframes thinned", str(pipeline.thinned)),
            ("frames rejected: paused, or before camera_info", str(session.intake.skipped)),
            *([("companion images in windows", str(stats.companions))] if pipeline.sensors.companions.cameras else []),
            *[(f"frames rejected: {reason}", str(count)) for reason, count in sorted(stats.rejected.items())],
            *device_memory(),
        ]
        if pipeline.model.random_weights:
            return Finding(WARN, f"{pipeline.model.weights}.", values)
        if stats.windows and stats.failed_windows == stats.windows:
            return Finding(WARN, "No window could be used so far; ~/status says why.", values)
        if pipeline.window_size < pipeline.config.window.size:
            return Finding(OK, "Memory holds fewer keyframes than window.size: windows are smaller.", values)
        if pipeline.thinned:
            return Finding(OK, "The model is slower than the camera; keyframes are thinned.", values)
        return Finding(OK, "Working." if stats.windows else "Loaded; no window yet.", values)

    def _inputs(self) -> Finding:
        """Missing inputs by name, wrong types and incompatible QoS by publisher."""
        node, session = self._node, self._node.session
        intake = session.intake if session is not None else None
        if intake is None or not intake.inputs:
            return Finding(OK if node.is_loading else WARN, node.problem)
        values = node.health.rows()
        missing = node.health.missing(node.config.ros.missing_after_s)
        troubles: list[str] = []
        for wanted in intake.inputs:
            for trouble in inspect_topic(node, wanted):
                if trouble.kind != "absent" or any(each.startswith(f"{wanted.role} ") for each in missing):
                    troubles.append(trouble.sentence)
        values += [(f"problem {i + 1}", sentence) for i, sentence in enumerate(troubles)]
        self._log_missing(missing, troubles)
        if missing:
            level = ERROR if any(each.startswith("image ") for each in missing) else WARN
            return Finding(level, f"Missing: {', '.join(missing)}. {' '.join(troubles)}".strip(), values)
        if problem := self._simulated_time():
            troubles.append(problem)
        if troubles:
            return Finding(WARN, " ".join(troubles), values)
        if not intake.running:
            return Finding(OK, "Paused by ~/set_running; images are ignored.", values)
        return Finding(OK, "All inputs arrive.", values)

    def _log_missing(self, missing: list[str], troubles: list[str]) -> None:
        """Once for each input that falls silent, and once when all are there again."""
        new = [each for each in missing if each not in self._missing_before]
        if new:
            said = " ".join(text for text in troubles if any(text.startswith(f"{each.split()[0]}:") for each in new))
            self._node.get_logger().warning(f"Missing: {', '.join(new)}. {said}".strip())
        elif self._missing_before and not missing:
            self._node.get_logger().info("All inputs arrive.")
        self._missing_before = missing

    def _simulated_time(self) -> str:
        """What is wrong with the clock of a node with use_sim_time; empty without it."""
        clock, session = self._node.get_clock(), self._node.session
        if not clock.ros_time_is_active or session is None:
            return ""
        now = clock.now().nanoseconds
        if not now:
            return "use_sim_time is true, but nobody publishes /clock."
        newest = session.intake.newest_stamp_ns
        apart_s = 0.0 if newest is None else (newest - now) / 1e9
        if abs(apart_s) < OTHER_TIME_S:
            return ""
        return (
            f"Images are stamped {abs(apart_s):.0f} s {'after' if apart_s > 0 else 'before'} the time of /clock: is "
            "their sender on simulated time too (use_sim_time)?"
        )

    def _messages(self) -> Finding:
        bad = self._node.health.bad.copy()
        total = sum(bad.values())
        fresh, self._bad_before = total - self._bad_before, total
        values = [(reason, str(count)) for reason, count in bad.most_common()]
        session = self._node.session
        remarks = session.intake.remarks if session is not None else []
        remarks += self._node.tf_remarks
        if remarks:
            values += remarks
            if not fresh:
                return Finding(WARN, " ".join(f"{role}: {remark}" for role, remark in remarks), values)
        if fresh:
            return Finding(WARN, f"{fresh} bad messages in the last second, {total} in all, by reason below.", values)
        return Finding(OK, f"{total} bad messages in all.", values)

    def _poses(self) -> Finding:
        session = self._node.session
        if session is None:
            return Finding(OK, "Not configured.")
        poses, transform, pipeline = session.poses, session.transform, session.pipeline
        values = [("body frame", poses.body_frame or "unknown"), ("pose jumps", str(pipeline.pose_jumps))]
        if poses.lidar is not None:
            values += [
                ("LiDAR odometry restarts", str(poses.lidar.restarts)),
                ("LiDAR scans dropped", str(poses.lidar.dropped)),
            ]
        values += [(f"{role}, seen from the camera", place) for role, place in poses.companion_places]
        for sensor in SAMPLES:
            later = pipeline.sensors.clocks.later_s(sensor)
            if later is not None:
                values.append((f"{sensor}: stamps later than those of images that arrive with them", f"{later:.2f} s"))
        unpaired = pipeline.sensors.companions.problem
        rig = poses.companion_problem or (unpaired and f"Rig: {unpaired}.")
        clocks = [_as_sentence(problem) for problem in (pipeline.sensors.clock_problem(sensor) for sensor in SAMPLES)]
        frames = session.outputs.pose_frames
        values += [("base frame in the map (~/pose)", frames.base or "TF does not tie it to the camera (yet)")]
        said = (poses.problem, *clocks, rig, transform.problem, frames.problem, pipeline.image_frame_problem)
        problems = [text for text in said if text]
        if problems:
            return Finding(WARN, " ".join(problems), values)
        if not poses.gives_poses:
            return Finding(OK, "No poses are configured.", values)
        return Finding(*_of_use(pipeline), values)

    def _calibration(self) -> Finding:
        session, config = self._node.session, self._node.config
        if session is None or not config.calibration.refine:
            return Finding(OK, "Clocks and mountings are taken as told (calibration.refine is off).")
        states = session.pipeline.corrections
        values = [(f"{each.sensor}: {key}", value) for each in states for key, value in in_words(each)]
        told = sentences(states, config.calibration, config.intake)
        beyond = any(each.offset_beyond or each.rotation_beyond for each in states)
        return Finding(WARN if beyond else OK, " ".join(told) or "Nothing is corrected.", values)

    def _map(self) -> Finding:
        session = self._node.session
        if session is None:
            return Finding(OK, "Not configured.")
        pipeline = session.pipeline
        scale = pipeline.scale
        values = [
            ("scale state", scale.state.value),
            ("scale value", f"{scale.value:.6g}"),
            ("scale sigma", f"{scale.sigma:.4g}"),
            ("submaps", str(pipeline.stats.submaps)),
            ("points", str(pipeline.map_size)),
            ("resets", str(pipeline.stats.resets)),
            *_set_aside(pipeline),
            ("autosave", session.autosave.state),
            *([("loaded map", loaded_note(pipeline))] if pipeline.loaded is not None else []),
        ]
        failures = dict(session.outputs.failures)
        values += [(f"output {name} failed", f"{count} times: {why}") for name, (count, why) in failures.items()]
        total = sum(count for count, _ in failures.values())
        fresh, self._failed_before = total > self._failed_before, total
        if fresh:
            return Finding(WARN, f"Outputs failed in the last second: {', '.join(failures)}; see the log.", values)
        if session.autosave.problem:
            return Finding(WARN, session.autosave.problem, values)
        if not pipeline.loaded_joins:
            return Finding(WARN, loaded_note(pipeline), values)
        if scale.state is ScaleState.METRIC:
            return Finding(OK, "Metric.", values)
        level = WARN if self._node.config.ros.require_metric or scale.state is ScaleState.CONFLICT else OK
        held = " Outputs are held back (require_metric)." if self._node.config.ros.require_metric else ""
        return Finding(level, f"Scale is {scale.state.value}: {scale.reason}.{held}", values)


def _of_use(pipeline: Pipeline) -> tuple[bytes, str]:
    """Whether keyframes get poses."""
    if not len(pipeline.sensors.poses):
        return OK, "No pose has come yet."
    if pipeline.stats.unposed_windows >= UNPOSED:
        return WARN, "Poses come, but none is of the time of the last windows' keyframes: too late, or too far apart."
    if not pipeline.sensors.poses_reach_images:
        return OK, "Poses come; none is of the time of an image yet."
    return OK, "Poses are used."


def _as_sentence(reason: str) -> str:
    return reason and f"{reason[0].upper()}{reason[1:]}."


def _set_aside(pipeline: Pipeline) -> list[tuple[str, str]]:
    """Maps that automatic resets set aside, and what of them had to give way."""
    said = [
        (f"map {each.number} set aside", f"{each.size} points ({each.scale.state.value} scale): {each.why}")
        for each in pipeline.maps_aside()
    ]
    if pipeline.aside_forgotten:
        said.append(("points of maps aside forgotten (map.max_voxels)", str(pipeline.aside_forgotten)))
    return said
