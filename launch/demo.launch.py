"""A simulated robot drives, reconstruct.launch.py rebuilds its world live, the scoreboard judges it.

Headless and ends by itself: when the scoreboard is done, everything is shut down, and a figure that
misses its floor makes the launch fail.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from spatial_fm_ros.bridge.domains import reserve_domain
from spatial_fm_ros.nodes import launching

ARGUMENTS = {
    "scenario": ("room_drive", "what the robot does: see docs/simulation.md"),
    "duration_s": ("60.0", "simulated seconds for the whole route: fewer drive faster"),
    "rate": ("0.5", "simulated seconds per second; half speed leaves two cores for rendering and mapping"),
    "camera_hz": ("5.0", "images per second"),
    "odometry_until_s": ("30.0", "odometry falls silent then, and LiDAR alone holds the metres; 0 = never"),
    "seed": ("0", "seed of world, noise and drift"),
    "model": ("geometric", "spatial model"),
    "output": ("spatial_fm_demo", "folder for map.ply, report.html, scores.json and views"),
    "rviz": ("false", "open RViz beside it"),
    **launching.COMMON,
}


def nodes(context):
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    output = Path(values["output"]).expanduser().resolve()
    output.mkdir(parents=True, exist_ok=True)
    share = Path(get_package_share_directory("spatial_fm_ros"))
    environment = launching.dds_environment(values["dds_profile"], share)
    numbers = {name: launching.number(name, values[name]) for name in ("duration_s", "rate", "camera_hz")}
    silent_from_s = launching.number("odometry_until_s", values["odometry_until_s"], least=0.0)
    robot = Node(
        package="spatial_fm_ros",
        executable="simulated_robot",
        namespace="robot",
        output="screen",
        parameters=[
            {
                "scenario": ParameterValue(values["scenario"], value_type=str),
                **numbers,
                "seed": launching.number("seed", values["seed"], int),
                "fault.odometry_until_s": silent_from_s,
                "truth_dir": ParameterValue(str(output / "truth"), value_type=str),
                "wait_for": ["/robot/image", "/robot/camera_info", "/robot/odometry", "/reconstruct/depth/image"],
            }
        ],
        additional_env=environment,
    )
    scoreboard = Node(
        package="spatial_fm_ros",
        executable="demo_scoreboard",
        output="screen",
        output_format="{line}",
        parameters=[
            {
                "robot": "/robot/simulated_robot",
                "truth_dir": ParameterValue(str(output / "truth"), value_type=str),
                "output": ParameterValue(str(output), value_type=str),
                "odometry_until_s": silent_from_s,
            }
        ],
        additional_env=environment,
    )
    live = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(share / "launch" / "reconstruct.launch.py")),
        launch_arguments={
            "image_topic": "/robot/image",
            "points_topic": "/robot/points",
            "odometry_topic": "/robot/odometry",
            "imu_topic": "/robot/imu",
            "config": "demo",
            "pose_frame": "camera",  # the scoreboard compares the path with the camera's true one
            "model": values["model"],
            "use_sim_time": "true",
            **{name: values[name] for name in ("rviz", *launching.COMMON)},
        }.items(),
    )
    stop = RegisterEventHandler(OnProcessExit(target_action=scoreboard, on_exit=end))
    said = launching.misspelt(context, "demo.launch.py", ARGUMENTS)
    return [*said, *own_domain(), robot, live, scoreboard, stop]


def own_domain():
    """A ROS domain of this demo's own, unless one was chosen: another demo on this machine has the same topics."""
    if os.environ.get("ROS_DOMAIN_ID"):
        return []
    domain = reserve_domain()
    if domain is None:
        return []
    words = f"The demo runs in ROS domain {domain}; to look into it: export ROS_DOMAIN_ID={domain}"
    return [SetEnvironmentVariable("ROS_DOMAIN_ID", str(domain)), LogInfo(msg=words)]


def end(event, context):
    if event.returncode:
        # An exception is what makes a launch end with a status other than 0.
        raise RuntimeError(
            "The demo missed a floor or could not be judged: see the scoreboard above. A machine that is busy with "
            "other work misses times and thins keyframes; try again on an idle one."
        )
    return [EmitEvent(event=Shutdown(reason="the demo has ended"))]


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=words)
        for name, (default, words) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])
