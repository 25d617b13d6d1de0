"""The simulated robot's parameters: their list, their check, and what scenario and faults they mean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.simulation.faults import FaultPlan
from spatial_fm_ros.simulation.scenario import Scenario, get_scenario

#: name -> (default, description). Those named fault.* are the fields of FaultPlan.
PARAMETERS: dict[str, tuple[Any, str]] = {
    "scenario": ("room_drive", "name of the scenario"),
    "seed": (0, "seed of the world, the noise and the drift"),
    "duration_s": (0.0, "length of the run in simulated seconds; 0 = the scenario's own"),
    "image_width": (640, "width of the images in pixels; the field of view stays"),
    "stereo_baseline_m": (0.0, "a second camera so far to the right of the first, on camera_2/; 0 = none"),
    "detail": (1.0, "texture resolution, 1 = full"),
    "camera_hz": (-1.0, "images per second; -1 = the scenario's own, 0 = none"),
    "lidar_hz": (-1.0, "sweeps per second; -1 = the scenario's own, 0 = none"),
    "imu_hz": (-1.0, "IMU samples per second; -1 = the scenario's own, 0 = none"),
    "odometry_hz": (-1.0, "odometry poses per second; -1 = the scenario's own, 0 = none"),
    "scale_error": (-1.0, "odometry scale error as a share; -1 = the scenario's own"),
    "yaw_walk": (-1.0, "odometry heading drift in radians per root metre; -1 = the scenario's own"),
    "rate": (1.0, "simulated seconds per second; 0 = as fast as it renders"),
    "compressed": ("", "publish image/compressed as jpeg or png; empty = raw image"),
    "reliability": ("reliable", "QoS of image and points: reliable or best_effort"),
    "publish_tf": (True, "publish odom -> base_link on /tf"),
    "wait_for": ([""], "topics that must have a subscriber before the run starts"),
    "wait_timeout_s": (60.0, "start without them after this long"),
    "linger_s": (2.0, "stay this long after the end, so that late readers get the last messages"),
    "truth_dir": ("", "folder for poses.tum and scenario.json; empty = none"),
    "threads": (2, "render threads"),
}
for _field in dataclasses.fields(FaultPlan):
    _value = getattr(FaultPlan(), _field.name)
    PARAMETERS[f"fault.{_field.name}"] = (
        list(_value) if isinstance(_value, tuple) else _value, "see simulation/faults.py, FaultPlan",
    )  # fmt: skip


def declared(node: Node, table: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """Declare the parameters of a table like PARAMETERS; their values. Raises ConfigError for a wrong type."""
    values = {}
    for name, (default, doc) in table.items():
        # Dynamic typing lets `duration_s:=5` be a float; `checked` refuses what is really wrong.
        descriptor = ParameterDescriptor(description=doc, dynamic_typing=True)
        values[name] = checked(name, node.declare_parameter(name, default, descriptor).value, table)
    return values


def checked(name: str, value: Any, table: Mapping[str, tuple[Any, str]] = PARAMETERS) -> Any:
    """`value` in the type of the parameter's default; whole numbers count as floats. Raises ConfigError."""
    default = table[name][0]
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, list) and isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    if isinstance(default, str) and value is None:
        return ""
    if type(value) is not type(default):
        kind = type(default).__name__
        raise ConfigError(f"Parameter '{name}' needs a {kind} ({table[name][1]}), got {value!r}.")
    return value


def scenario_from(values: dict[str, Any]) -> Scenario:
    """The scenario that the parameters describe. Raises InputError or ConfigError."""
    changes: dict[str, Any] = {"seed": values["seed"], "detail": values["detail"]}
    if values["duration_s"] > 0:
        changes["duration_s"] = values["duration_s"]
    for name in ("camera_hz", "lidar_hz", "imu_hz", "odometry_hz"):
        if values[name] >= 0:
            changes[name] = values[name]
    scenario = get_scenario(values["scenario"], **changes)
    drift = {name: values[name] for name in ("scale_error", "yaw_walk") if values[name] >= 0}
    model = dataclasses.replace(scenario.odometry_model, **drift)
    if values["image_width"] < 16:
        raise ConfigError(f"Parameter 'image_width' must be at least 16, got {values['image_width']}.")
    baseline = values["stereo_baseline_m"]
    if not baseline >= 0 or math.isinf(baseline):
        raise ConfigError(f"Parameter 'stereo_baseline_m' must be a length or 0, got {baseline}.")
    scenario = dataclasses.replace(scenario, odometry_model=model).with_size(values["image_width"])
    return scenario.with_stereo(baseline) if baseline > 0 else scenario


def plan_from(values: dict[str, Any]) -> FaultPlan:
    """The faults that the parameters ask for. Raises InputError."""
    named = {key.removeprefix("fault."): value for key, value in values.items() if key.startswith("fault.")}
    named["streams"] = tuple(named["streams"])
    return FaultPlan(**named)
