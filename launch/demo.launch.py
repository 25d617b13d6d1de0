"""A simulated robot drives, reconstruct.launch.py rebuilds its world live, the scoreboard judges it.

Headless and ends by itself: when the scoreboard is done, everything is shut down, and a figure that
misses its floor makes the launch fail.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

ARGUMENTS = {
    "scenario": ("room_drive", "what the robot does: see docs/simulation.md"),
    "duration_s": ("60.0", "length of the drive in simulated seconds"),
    "rate": ("0.5", "simulated seconds per second; half speed leaves two cores for rendering and mapping"),
    "camera_hz": ("5.0", "images per second"),
    "odometry_until_s": ("30.0", "odometry falls silent then, and LiDAR alone holds the metres; 0 = never"),
    "seed": ("0", "seed of world, noise and drift"),
    "model": ("geometric", "spatial model"),
    "output": ("spatial_fm_demo", "folder for map.ply, report.html, scores.json and views"),
    "rviz": ("false", "open RViz beside it"),
}


def nodes(context):
    values = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    output = Path(values["output"]).expanduser().resolve()
    output.mkdir(parents=True, exist_ok=True)
    reconstruct = Path(get_package_share_directory("spatial_fm_ros")) / "launch" / "reconstruct.launch.py"
    robot = Node(
        package="spatial_fm_ros",
        executable="simulated_robot",
        namespace="robot",
        output="screen",
        parameters=[
            {
                "scenario": values["scenario"],
                "duration_s": float(values["duration_s"]),
                "rate": float(values["rate"]),
                "camera_hz": float(values["camera_hz"]),
                "seed": int(values["seed"]),
                "fault.odometry_until_s": float(values["odometry_until_s"]),
                "truth_dir": str(output / "truth"),
                "wait_for": ["/robot/image", "/robot/camera_info", "/robot/odometry", "/reconstruct/depth/image"],
            }
        ],
    )
    scoreboard = Node(
        package="spatial_fm_ros",
        executable="demo_scoreboard",
        output="screen",
        output_format="{line}",
        parameters=[
            {
                "robot": "/robot/simulated_robot",
                "truth_dir": str(output / "truth"),
                "output": str(output),
                "odometry_until_s": float(values["odometry_until_s"]),
            }
        ],
    )
    live = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(reconstruct)),
        launch_arguments={
            "image_topic": "/robot/image",
            "camera_info_topic": "/robot/camera_info",
            "points_topic": "/robot/points",
            "odometry_topic": "/robot/odometry",
            "imu_topic": "/robot/imu",
            "model": values["model"],
            "use_sim_time": "true",
            "rviz": values["rviz"],
        }.items(),
    )
    stop = RegisterEventHandler(OnProcessExit(target_action=scoreboard, on_exit=end))
    return [robot, live, scoreboard, stop]


def end(event, context):
    if event.returncode:
        # An exception is what makes a launch end with a status other than 0.
        raise RuntimeError("The demo missed a floor or could not be judged: see the scoreboard above.")
    return [EmitEvent(event=Shutdown(reason="the demo has ended"))]


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=words)
        for name, (default, words) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=nodes)])
