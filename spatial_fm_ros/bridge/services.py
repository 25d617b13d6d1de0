"""Services of the reconstruction node. They live in a group of their own: a long one blocks no input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from spatial_fm_ros.core.errors import InputError, OutputError, SpatialFMError
from spatial_fm_ros.core.mapping.export import read_cloud, write_pcd, write_ply
from spatial_fm_ros.core.pipeline import Pipeline
from spatial_fm_ros.core.types import PointCloud
from spatial_fm_ros.srv import LoadMap, SaveMap

_WRITERS = {"ply": write_ply, "pcd": write_pcd}
_IDLE = "The node is not configured; bring it to the state 'inactive' or 'active' first."


class Configured(Protocol):
    """What the services need of a configured node."""

    pipeline: Pipeline

    def reset(self, why: str) -> None: ...

    def set_running(self, running: bool) -> None: ...


class Services:
    """~/reset, ~/set_running, ~/save_map, ~/load_map. Each answers with a sentence, whatever happens."""

    def __init__(
        self,
        node: Node,
        session: Callable[[], Configured | None],
    ) -> None:
        """`session` gives what is configured now, None before."""
        self._session = session
        group = MutuallyExclusiveCallbackGroup()
        node.create_service(Trigger, "~/reset", self._on_reset, callback_group=group)
        node.create_service(SetBool, "~/set_running", self._on_set_running, callback_group=group)
        node.create_service(SaveMap, "~/save_map", self._on_save, callback_group=group)
        node.create_service(LoadMap, "~/load_map", self._on_load, callback_group=group)

    def _on_reset(self, _request: Any, response: Any) -> Any:
        session = self._session()
        if session is None:
            response.success, response.message = False, _IDLE
            return response
        session.reset("the service ~/reset was called")
        response.success, response.message = True, "Map, poses and buffers are empty."
        return response

    def _on_set_running(self, request: Any, response: Any) -> Any:
        session = self._session()
        if session is None:
            response.success, response.message = False, _IDLE
            return response
        session.set_running(bool(request.data))
        response.success = True
        response.message = "Images are taken." if request.data else "Images are ignored until set_running true."
        return response

    def _on_save(self, request: Any, response: Any) -> Any:
        session = self._session()
        try:
            if session is None:
                raise OutputError(_IDLE)
            path = Path(request.path).expanduser().absolute()
            write = _writer(request.format or path.suffix.lstrip("."))
            cloud = session.pipeline.map_cloud()
            if not len(cloud):
                raise OutputError("The map is empty; there is nothing to save yet.")
            path.parent.mkdir(parents=True, exist_ok=True)
            model = session.pipeline.model
            write(path, cloud, model.weights if model.random_weights else "")
        except (SpatialFMError, OSError) as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.path, response.points = True, str(path), len(cloud)
        response.message = f"{len(cloud)} points ({session.pipeline.scale.state.value} scale) written to {path}."
        return response

    def _on_load(self, request: Any, response: Any) -> Any:
        session = self._session()
        try:
            if session is None:
                raise InputError(_IDLE)
            path = Path(request.path).expanduser().absolute()
            cloud = read_cloud(path)
            session.reset(f"the map {path} was loaded")
            session.pipeline.load_map(cloud)
        except (SpatialFMError, OSError) as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.points = True, len(cloud)
        response.message = f"{len(cloud)} points loaded from {path}; what was mapped before is forgotten."
        return response


def _writer(name: str) -> Callable[[Path, PointCloud, str], None]:
    writer = _WRITERS.get(name.lower())
    if writer is None:
        raise OutputError(f"A map is saved as ply or pcd, got '{name}'; end the path so or give the format.")
    return writer
