"""The live reconstruction: one lifecycle node that starts itself, and on request a bag player and RViz.

Arguments left empty keep what parameter files and SetParameter say, then the node's defaults (docs/parameters.md).
"""

import importlib.util
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, ExecuteProcess, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from spatial_fm_ros.core.config import RosConfig
from spatial_fm_ros.core.config_files import describe, read_values
from spatial_fm_ros.core.errors import ConfigError
from spatial_fm_ros.nodes import launching

#: Launch argument -> (parameter, description).
PARAMETERS = {
    "image_topic": ("ros.image_topic", "images; a name that ends in /compressed is a CompressedImage"),
    "image_transport": ("ros.image_transport", "raw, or compressed: from /compressed below the image topics"),
    "image_rectified": ("ros.image_rectified", "the images are rectified already"),
    "camera_info_topic": ("ros.camera_info_topic", "calibration; empty: beside the images; 'none': there is none"),
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
    "pose_frame": ("ros.pose_frame", "frame of ~/odometry and ~/path: empty: the base; 'camera'; or a name in TF"),
    "publish_tf": ("ros.publish_tf", "publish the map's edge of the TF tree"),
    "require_metric": ("ros.require_metric", "hold depth, clouds and poses back until the scale is metric"),
    "autostart": ("ros.autostart", "configure and activate by itself; false leaves it to a lifecycle manager"),
    "model": ("model.name", "spatial model: geometric, vggt, depth_anything_3, nano, hybrid"),
    "checkpoint": ("model.checkpoint", "weights: a file, a folder or a hub id; empty: the default of the model"),
    "device": ("model.device", "auto, cpu, cuda, cuda:N"),
}
#: Launch argument -> (default, description).
OTHERS = {
    "config": ("", "parameter files, or names of this package's (realsense_d4xx, …), comma-separated"),
    "use_sim_time": ("", "time from /clock; empty: true with a bag, else as parameters say"),
    "namespace": ("", "namespace of the nodes"),
    "rviz": ("false", "open RViz beside it"),
    "bag": ("", "rosbag2 to play, with /clock, once the node is active"),
    "bag_rate": ("1.0", "speed of the bag"),
    **launching.COMMON,
}
NODE = "reconstruct"


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
    environment = launching.dds_environment(values["dds_profile"], share)
    files = [parameter_file(name.strip(), share) for name in values["config"].split(",") if name.strip()]
    name = launching.full_name(context, values["namespace"], NODE)
    node = reconstruct(values, files, name, environment)
    started = [*launching.misspelt(context, "reconstruct.launch.py", values), node]
    if values["bag"]:
        started += once_active(name, node, bag_player(values, name, environment))
    if launching.flag("rviz", values["rviz"]):
        started.append(rviz(values, map_frame(context, values, files), share, environment))
    return started


def reconstruct(values, files, name, environment):
    given = {parameter: typed(arg, parameter, values[arg]) for arg, (parameter, _) in PARAMETERS.items() if values[arg]}
    given |= sim_time(values)
    return Node(
        package="spatial_fm_ros",
        executable="reconstruct",
        name=NODE,
        namespace=values["namespace"],
        output="screen",
        parameters=[*files, *([given] if given else [])],
        arguments=launching.log_arguments(name, values["log_level"]),
        additional_env=environment,
    )


def typed(argument, parameter, text):
    """Text stays text: launch reads values as YAML, and a frame may be called 'no' or '1'."""
    kind = {entry.name: entry.type for entry in describe()}[parameter]
    return launching.flag(argument, text) if kind is bool else ParameterValue(text, value_type=str)


def parameter_file(name, share):
    for path in (Path(name).expanduser(), share / "config" / f"{name}.yaml"):
        if path.is_file():
            return str(path.resolve())
    known = ", ".join(sorted(path.stem for path in (share / "config").glob("*.yaml")))
    raise RuntimeError(f"config:={name} is neither a file nor one of this package's ({known}).")


def bag_player(values, name, environment):
    bag, rate = Path(values["bag"]).expanduser(), launching.number("bag_rate", values["bag_rate"], least=1e-3)
    if not bag.exists():
        raise RuntimeError(f"bag:={values['bag']} does not exist.")
    if importlib.util.find_spec("ros2bag") is not None:
        command = ["ros2", "bag", "play", str(bag), "--clock", "100", "--rate", str(rate), "--delay", "1"]
    else:
        command = ["ros2", "run", "spatial_fm_ros", "play_bag", str(bag), "--rate", str(rate), "--for-node", name]
    return ExecuteProcess(cmd=command, output="screen", additional_env=environment)


def once_active(name, node, player):
    """The player starts when the node is active, whoever activates it, and never when the node has ended."""
    gate = ExecuteProcess(cmd=["ros2", "run", "spatial_fm_ros", "wait_until_active", name], output="screen")

    def play(event, _context):
        return [player] if event.returncode == 0 else []

    ended = EmitEvent(event=ShutdownProcess(process_matcher=matches_action(gate)))
    return [
        RegisterEventHandler(OnProcessExit(target_action=gate, on_exit=play)),
        RegisterEventHandler(OnProcessExit(target_action=node, on_exit=[ended])),
        gate,
    ]


def map_frame(context, values, files):
    """The frame that the node will map in: argument, files, SetParameter, default, in this order."""
    frame = RosConfig().map_frame
    for given in context.launch_configurations.get("global_params") or []:
        if isinstance(given, tuple) and given[0] == "ros.map_frame":
            frame = given[1]
    for file in files:
        try:
            frame = read_values(Path(file)).get("ros.map_frame", frame)
        except ConfigError:  # the node says what is wrong with it
            continue
    return values["map_frame"] or str(frame)


def rviz(values, frame, share, environment):
    try:
        get_package_share_directory("rviz2")
    except PackageNotFoundError as error:
        raise RuntimeError("rviz:=true needs RViz (apt install ros-$ROS_DISTRO-rviz2).") from error
    given = sim_time(values)
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=values["namespace"],
        arguments=["-d", str(share / "config" / "reconstruct.rviz"), "-f", frame],
        parameters=[given] if given else [],
        additional_env=environment,
    )


def sim_time(values):
    given = launching.flag("use_sim_time", values["use_sim_time"])
    if given is None and values["bag"]:
        given = True
    return {} if given is None else {"use_sim_time": given}
