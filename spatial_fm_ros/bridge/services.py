"""Services of the reconstruction node. Each has a group of its own: a long one blocks neither inputs nor the others."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from spatial_fm_ros.bridge.encode_status import scale_state
from spatial_fm_ros.core.errors import InputError, OutputError, SpatialFMError
from spatial_fm_ros.core.io.cloud_files import format_of, read_map, write_map
from spatial_fm_ros.core.io.names import shown, user_path
from spatial_fm_ros.core.io.writing import make_folder, sweep_parts
from spatial_fm_ros.core.mapping.loaded_map import LoadedMap, load
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.evaluation.tum import write_tum
from spatial_fm_ros.srv import LoadMap, SaveMap, SaveTrajectory

_IDLE = "The node is not configured; bring it to the state 'inactive' or 'active' first."
#: No answer is longer.
MAX_MESSAGE = 2000


class Configured(Protocol):
    """What the services need of a configured node."""

    pipeline: Pipeline

    def reset(self, why: str, loaded: LoadedMap | None = None) -> None: ...

    def set_running(self, running: bool) -> None: ...


class Services:
    """~/reset, ~/set_running, ~/save_map, ~/save_trajectory, ~/load_map. Each answers with a sentence, whatever
    happens."""

    def __init__(self, node: Node, session: Callable[[], Configured | None]) -> None:
        """`session` gives what is configured now, None before."""
        self._log = node.get_logger()
        self._session = session
        for kind, name, serve in (
            (Trigger, "~/reset", _reset),
            (SetBool, "~/set_running", _set_running),
            (SaveMap, "~/save_map", _save_map),
            (SaveTrajectory, "~/save_trajectory", _save_trajectory),
            (LoadMap, "~/load_map", _load_map),
        ):
            answer = self._answering(name, serve)
            node.create_service(kind, name, answer, callback_group=MutuallyExclusiveCallbackGroup())

    def _answering(self, name: str, serve: Callable[[Any, Any, Any], str]) -> Callable[[Any, Any], Any]:
        """`serve(session, request, response)` fills the response and returns its message; what it raises becomes the
        message of a refusal."""

        def answer(request: Any, response: Any) -> Any:
            refusal = type(response)()
            try:
                session = self._session()
                if session is None:
                    raise InputError(_IDLE)
                response.message = shown(serve(session, request, response), MAX_MESSAGE)
                response.success = True
                return response
            except SpatialFMError as error:
                refusal.message = shown(error, MAX_MESSAGE)
            except Exception as error:  # a client waits: whatever it is, it gets an answer
                self._log.error(f"Internal error in {name}:\n{traceback.format_exc()}")
                what = f"{type(error).__name__}: {shown(error)}"
                refusal.message = f"{name} failed ({what}); the node's log has more."
            refusal.success = False
            return refusal

        return answer


def _reset(session: Configured, _request: Any, _response: Any) -> str:
    session.reset("the service ~/reset was called")
    return "Map, poses and buffers are empty."


def _set_running(session: Configured, request: Any, _response: Any) -> str:
    session.set_running(bool(request.data))
    return "Images are taken." if request.data else "Images are ignored until set_running true."


def _save_map(session: Configured, request: Any, response: Any) -> str:
    path = _given_path(request.path, OutputError)
    form = format_of(path, request.format)
    pipeline = session.pipeline
    saved = pipeline.saved_map()
    aside = [(each.number, each.saved()) for each in pipeline.maps_aside()]
    if not (len(saved.cloud) or aside):
        raise OutputError("The map is empty; there is nothing to save yet.")
    _prepare(path.parent)
    written = []
    if len(saved.cloud):
        response.bytes = write_map(path, saved, form)
        response.path, response.points = _text(path), len(saved.cloud)
        written.append(f"{len(saved.cloud)} points in {saved.facts.unit} written to {shown(path)}.")
    response.scale_state, response.scale_sigma = scale_state(saved.facts.scale_state), saved.facts.scale_sigma
    response.frame_id = saved.facts.frame_id
    for number, other in aside:
        name = path.with_name(f"{path.stem}_aside_{number}{path.suffix}")
        write_map(name, other, form)
        response.aside.append(_text(name))
        written.append(f"A map set aside: {len(other.cloud)} points in {other.facts.unit} in {shown(name)}.")
    loaded = pipeline.loaded
    if loaded is not None and not pipeline.loaded_joins:
        written.append(f"The loaded map '{loaded.name}' is not known to have the same unit: it is not in the file.")
    return " ".join(written)


def _save_trajectory(session: Configured, request: Any, response: Any) -> str:
    path = _given_path(request.path, OutputError)
    facts = session.pipeline.map_facts()
    trajectories = sorted(session.pipeline.trajectories(), key=lambda each: -len(each.stamps_ns))
    filled = [each for each in trajectories if len(each.stamps_ns)]
    if not filled:
        raise OutputError("No keyframe has a pose yet; there is nothing to save.")
    _prepare(path.parent)
    names = [path, *(path.with_name(f"{path.stem}_{i}{path.suffix}") for i in range(1, len(filled)))]
    for name, trajectory in zip(names, filled, strict=True):
        write_tum(name, trajectory.stamps_ns, trajectory.world_from_camera)
    response.paths = [_text(name) for name in names]
    response.poses = sum(len(each.stamps_ns) for each in filled)
    response.scale_state, response.frame_id = scale_state(facts.scale_state), facts.frame_id
    response.bytes = sum(name.stat().st_size for name in names)
    return f"{response.poses} poses in {facts.unit} written to {', '.join(shown(name) for name in names)}."


def _load_map(session: Configured, request: Any, response: Any) -> str:
    path = _given_path(request.path, InputError)
    # The new map is whole before the old one goes.
    loaded = load(read_map(path), session.pipeline.config.map, bool(request.metres))
    session.reset(f"the map {shown(path)} was loaded", loaded)
    facts, frame = loaded.facts, session.pipeline.config.ros.map_frame
    response.points, response.frame_id = len(loaded.cloud), facts.frame_id
    response.scale_state, response.scale_sigma = scale_state(facts.scale_state), facts.scale_sigma
    message = f"{len(loaded.cloud)} points in {facts.unit} loaded from {shown(path)}; what was mapped is forgotten."
    if facts.scale_state is None:
        message += " Where you know that they are metres, load it with 'metres: true'."
    if facts.frame_id not in ("", frame):
        message += f" The file names the frame '{facts.frame_id}'; it is shown in '{frame}'."
    return f"{message} {loaded.note}".strip()


def _given_path(text: str, error: type[SpatialFMError]) -> Path:
    if not text:
        raise error("No path was given; give the file's path.")
    return user_path(text, error).absolute()


def _prepare(folder: Path) -> None:
    """Make a folder, and clear away what killed writers left in it."""
    make_folder(folder)
    sweep_parts(folder)


def _text(path: Path) -> str:
    """A path in a message: bytes that are no UTF-8 are escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode()
