"""The live reconstruction: one lifecycle node that starts itself, and on request a bag player and RViz.

Arguments left empty keep what the parameter files say, then the node's defaults (docs/parameters.md).
"""

import importlib.util
import os
import shutil
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from spatial_fm_ros.bridge.topic_names import camera_info_beside

#: Launch argument -> (parameter, description).
PARAMETERS = {
    "image_topic": ("ros.image_topic", "images; a name that ends in /compressed is a CompressedImage"),
    "camera_info_topic": ("ros.camera_info_topic", "calibration; empty: beside image_topic; 'none': there is none"),
    "companion_image_topics": ("ros.companion_image_topics", "the rig's other cameras, comma-separated"),
    "companion_camera_info_topics": (
        "ros.companion_camera_info_topics",
        "their calibration, in the same order; empty: beside each image topic",
    ),
    "points_topic": ("ros.points_topic", "LiDAR clouds"),
    "odometry_topic": ("ros.odometry_topic", "odometry"),
    "imu_topic": ("ros.imu_topic", "IMU"),
    "pose_source": ("ros.pose_source", "where metric poses come from: odometry, tf, lidar, none"),
    "map_frame": ("ros.map_frame", "frame of the map"),
    "odom_frame": ("ros.odom_frame", "odometry frame, for pose_source tf"),
    "base_frame": ("ros.base_frame", "robot body, for pose_source tf and lidar"),
    "model": ("model.name", "spatial model: geometric, vggt, depth_anything_3, nano, hybrid"),
    "checkpoint": ("model.checkpoint", "weights: a file, a folder or a hub id; empty: the default of the model"),
    "device": ("model.device", "auto, cpu, cuda, cuda:N"),
}
#: Launch argument -> (default, description).
OTHERS = {
    "config": ("", "parameter files, or names of this package's (realsense_d4xx, …), comma-separated"),
    "use_sim_time": ("", "time from /clock; empty: true with a bag, else false"),
    "autostart": ("true", "configure and activate by itself; false leaves it to a lifecycle manager"),
    "namespace": ("", "namespace of the nodes"),
    "log_level": ("info", "debug, info, warn, error"),
    "rviz": ("false", "open RViz beside it"),
    "bag": ("", "rosbag2 to play, with /clock"),
    "bag_rate": ("1.0", "speed of the bag"),
}


def generate_launch_description():
    arguments = {name: ("", words) for name, (_, words) in PARAMETERS.items()} | OTHERS
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=words)
        for name, (default, words) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=actions)])


def actions(context):
    values = {name: LaunchConfiguration(name).perform(context) for name in (*PARAMETERS, *OTHERS)}
    share = Path(get_package_share_directory("spatial_fm_ros"))
    started = [*transport_profile(share), reconstruct(values, share)]
    if values["bag"]:
        started.append(bag_player(values))
    if is_true(values["rviz"]):
        started.append(rviz(values, share))
    return started


def reconstruct(values, share):
    given = {parameter: values[name] for name, (parameter, _) in PARAMETERS.items() if values[name]}
    if values["image_topic"] and not values["camera_info_topic"]:
        given["ros.camera_info_topic"] = camera_info_beside(values["image_topic"])
    given |= {name: "" for name, value in given.items() if value == "none" and name.endswith(("_topic", "_topics"))}
    given["ros.autostart"] = is_true(values["autostart"])
    given["use_sim_time"] = sim_time(values)
    files = [parameter_file(name.strip(), share) for name in values["config"].split(",") if name.strip()]
    return Node(
        package="spatial_fm_ros",
        executable="reconstruct",
        name="reconstruct",
        namespace=values["namespace"],
        output="screen",
        parameters=[*files, given],
        arguments=["--ros-args", "--log-level", f"reconstruct:={values['log_level']}"],
    )


def parameter_file(name, share):
    for path in (Path(name).expanduser(), share / "config" / f"{name}.yaml"):
        if path.is_file():
            return str(path.resolve())
    known = ", ".join(sorted(path.stem for path in (share / "config").glob("*.yaml")))
    raise RuntimeError(f"config:={name} is neither a file nor one of this package's ({known}).")


def transport_profile(share):
    """Fast DDS's default shared memory loses images and clouds; a profile of the user's own is kept."""
    if any(os.environ.get(f"{name}_DEFAULT_PROFILES_FILE") for name in ("FASTRTPS", "FASTDDS")):
        return []
    try:
        small = shutil.disk_usage("/dev/shm").total < 1 << 29
    except OSError:
        small = True
    profile = share / "config" / ("fastdds_small.xml" if small else "fastdds.xml")
    return [SetEnvironmentVariable("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))]


def bag_player(values):
    if not Path(values["bag"]).expanduser().exists():
        raise RuntimeError(f"bag:={values['bag']} does not exist.")
    bag, rate = str(Path(values["bag"]).expanduser()), values["bag_rate"]
    if importlib.util.find_spec("ros2bag") is not None:
        command = ["ros2", "bag", "play", bag, "--clock", "100", "--rate", rate]
    else:
        command = ["ros2", "run", "spatial_fm_ros", "play_bag", bag, "--rate", rate]
        topic, namespace = values["image_topic"], values["namespace"].strip("/")
        if topic:
            command += ["--wait-for", topic if topic.startswith("/") or not namespace else f"/{namespace}/{topic}"]
    return ExecuteProcess(cmd=command, output="screen")


def rviz(values, share):
    try:
        get_package_share_directory("rviz2")
    except PackageNotFoundError as error:
        raise RuntimeError("rviz:=true needs RViz (apt install ros-$ROS_DISTRO-rviz2).") from error
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=values["namespace"],
        arguments=["-d", str(share / "config" / "reconstruct.rviz")],
        parameters=[{"use_sim_time": sim_time(values)}],
    )


def sim_time(values):
    return is_true(values["use_sim_time"]) if values["use_sim_time"] else bool(values["bag"])


def is_true(text):
    return text.strip().lower() in ("true", "1", "yes", "on")
