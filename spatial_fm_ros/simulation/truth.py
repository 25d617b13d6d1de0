"""Exact ground truth of a scenario: poses and depth at any stamp, surface points, distances."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.types import Array, Camera, Depth
from spatial_fm_ros.simulation.camera import SimulatedCamera, pixel_rays
from spatial_fm_ros.simulation.motions import build_motion
from spatial_fm_ros.simulation.scenario import Scenario, load_scenario
from spatial_fm_ros.simulation.trajectory import Trajectory
from spatial_fm_ros.simulation.world import Field, World
from spatial_fm_ros.simulation.worlds import build_world


class Truth:
    """What really is. Poses come from the trajectory alone; the world is built when first needed."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rig = scenario.rig()
        assert self.rig.body_from_camera is not None  # a scenario's rig is complete
        self._body_from_camera: Array = self.rig.body_from_camera
        self.trajectory: Trajectory = build_motion(
            scenario.motion, scenario.duration_s, scenario.seed, self._body_from_camera
        )
        self._renderers: dict[tuple[object, ...], SimulatedCamera] = {}

    @cached_property
    def world(self) -> World:
        s = self.scenario
        return build_world(s.world, s.seed, s.detail, s.low_texture)

    def seconds(self, stamp_ns: int) -> float:
        """Time on the trajectory of a stamp; InputError when the stamp lies outside the run."""
        seconds = (stamp_ns - self.scenario.start_ns) / 1e9
        if not -1e-6 <= seconds <= self.scenario.duration_s + 1e-6:
            end = self.scenario.start_ns + int(self.scenario.duration_s * 1e9)
            raise InputError(
                f"Stamp {stamp_ns} ns lies outside scenario {self.scenario.name} "
                f"({self.scenario.start_ns} to {end} ns): the truth of another run?"
            )
        return seconds

    def world_from_body(self, stamp_ns: int) -> Array:
        """True pose float64 [4, 4] of base_link in metres."""
        return np.asarray(self.trajectory.world_from_body(np.array([self.seconds(stamp_ns)]))[0])

    def world_from_camera(self, stamp_ns: int, frame_id: str = "") -> Array:
        """True pose float64 [4, 4] of the camera's optical frame in metres, or of the rig's other camera `frame_id`."""
        return self.world_from_body(stamp_ns) @ self.body_from_camera(frame_id)

    def body_from_camera(self, frame_id: str = "") -> Array:
        """Mount of the camera, or of the rig's other camera that sends in `frame_id`."""
        companion = self.rig.companions.get(frame_id)
        return self._body_from_camera if companion is None else self._body_from_camera @ companion

    def world_from_cameras(self, stamps_ns: Array) -> Array:
        """True poses float64 [N, 4, 4] at stamps int64 [N]."""
        seconds = np.array([self.seconds(int(stamp)) for stamp in stamps_ns])
        return self.trajectory.world_from_body(seconds) @ self._body_from_camera

    def depth(self, stamp_ns: int, camera: Camera | None = None, frame_id: str = "") -> Depth:
        """True depth along z float32 [H, W] in metres, NaN where only sky is, for the pixels of
        `camera` (any size and distortion; by default those of the delivered images)."""
        return self.renderer(camera).depth(self.world_from_camera(stamp_ns, frame_id))

    def renderer(self, camera: Camera | None = None) -> SimulatedCamera:
        """A camera in this world; kept for the next call with the same calibration."""
        camera = camera or self.scenario.camera()
        key = (camera.width, camera.height, camera.K.tobytes(), camera.distortion_model, camera.distortion)
        if key not in self._renderers:
            if len(self._renderers) >= 8:
                self._renderers.pop(next(iter(self._renderers)))
            seed = self.scenario.seed
            self._renderers[key] = SimulatedCamera(self.world, camera, self.scenario.camera_model, seed)
        return self._renderers[key]

    def surface_points(self, count: int, seed: int = 0) -> Array:
        """`count` points float64 [count, 3] evenly over all surfaces of the world, hidden ones too."""
        return self.world.sample_surface(count, seed)

    def visible_points(self, count: int, stamps_ns: list[int], max_depth_m: float = 30.0, seed: int = 0) -> Array:
        """About `count` points float64 [<= count, 3] on the surfaces that the camera sees at the
        given stamps, one per 2 cm at most: the reference for a map's completeness."""
        small = self.scenario.with_size(160).camera()
        renderer = self.renderer(small)
        grid = np.stack(np.meshgrid(np.arange(small.width), np.arange(small.height)), 2).reshape(-1, 2)
        rays = pixel_rays(small, grid.astype(np.float64))
        seen = []
        for stamp in stamps_ns:
            pose = self.world_from_camera(stamp)
            depth = renderer.depth(pose).reshape(-1, 1).astype(np.float64)
            points = (rays * depth)[(depth[:, 0] < max_depth_m)]
            seen.append(points @ pose[:3, :3].T + pose[:3, 3])
        points = np.concatenate(seen)
        _, first = np.unique(np.floor(points / 0.02).astype(np.int64), axis=0, return_index=True)
        points = points[first]
        if len(points) > count:
            points = points[np.random.default_rng([seed, 8]).choice(len(points), count, replace=False)]
        return points

    def distance_to_surface(self, points: Array) -> Field:
        """Exact distance in metres of world points [N, 3] to the nearest surface: a map's accuracy."""
        return self.world.distance_to_surface(points)


def load_truth(path: str | Path) -> Truth:
    """Truth of a recorded run: `path` is scenario.json, a folder with it, or one with truth/scenario.json.
    Raises InputError when there is none."""
    place = Path(path)
    for candidate in (place, place / "scenario.json", place / "truth" / "scenario.json"):
        if candidate.is_file():
            return Truth(load_scenario(candidate))
    raise InputError(f"No scenario.json at {place} or in its truth folder; give the folder that a simulated run wrote.")
