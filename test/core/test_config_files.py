"""Configuration files: round trips, ROS parameter files, and a sentence for every mistake."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.config import Config, MapConfig
from spatial_fm_ros.core.config_files import (
    describe,
    flatten,
    from_flat,
    load_config,
    parameter_table,
    read_values,
    to_yaml,
)
from spatial_fm_ros.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def changed():
    return replace(Config(), map=replace(MapConfig(), voxel_size=1e-4, max_voxels=1234))


def test_flat_names_and_docs():
    flat = flatten(Config())
    assert flat["window.size"] == Config().window.size
    assert flat["model.geometric.features"] == Config().model.geometric.features
    assert [p.name for p in describe()] == list(flat)
    for p in describe():
        assert p.doc and type(p.default) is p.type and p.type in (bool, int, float, str)
        from_flat({p.name: p.default})  # every default is within its own bounds
    assert from_flat(flat) == Config()
    assert from_flat({"map.max_voxels": 1234}, base=changed()) == changed()


@pytest.mark.parametrize("ros", [False, True])
def test_written_files_are_read_back(tmp_path, ros):
    config = replace(changed(), ros=replace(Config().ros, image_topic='odd "topic" \\ name: #1'))
    assert load_config([write(tmp_path / "c.yaml", to_yaml(config, ros))]) == config


@settings(deadline=None, max_examples=40)
@given(st.floats(1e-4, 1e300, allow_nan=False))
def test_every_float_survives(value):
    text = to_yaml(replace(Config(), map=replace(MapConfig(), voxel_size=value)))
    assert yaml.safe_load(text)["map"]["voxel_size"] == value


def test_later_files_and_overrides_win(tmp_path):
    first = write(tmp_path / "a.yaml", "window: {size: 6, overlap: 2}\nmap:\n  voxel_size: 1\n")
    second = write(tmp_path / "b.yaml", "window.size: 12\n")
    config = load_config([first, second], {"window.overlap": "4", "ros.publish_tf": "False", "map.stride": 3})
    assert (config.window.size, config.window.overlap, config.map.stride) == (12, 4, 3)
    assert config.map.voxel_size == 1.0 and isinstance(config.map.voxel_size, float)
    assert config.ros.publish_tf is False
    # What one file leaves odd, an override may put right.
    assert load_config([write(tmp_path / "c.yaml", "window: {size: 3}")], {"window.overlap": 2}).window.size == 3


@pytest.mark.parametrize(
    "text",
    [
        "/**:\n  ros__parameters:\n    window: {size: 10}\n",
        "/**:\n  ros__parameters:\n    window.size: 10\n    use_sim_time: true\n",
        "/robot/reconstruct:\n  ros__parameters:\n    window: {size: 10}\n",
        "/robot:\n  reconstruct:\n    ros__parameters:\n      window: {size: 10}\n",
        "reconstruct:\n  ros__parameters: {window: {size: 10}}\n/**:\n  ros__parameters: {window: {size: 11}}\n",
        "/other_node:\n  ros__parameters: {foreign: 1}\n/**/reconstruct:\n  ros__parameters: {window: {size: 10}}\n",
    ],
)
def test_ros_parameter_files(tmp_path, text):
    assert load_config([write(tmp_path / "c.yaml", text)]).window.size == 10


@pytest.mark.parametrize("key", ["/other_node", "other_node", "/*/other_node", "/robot/other"])
def test_files_for_other_nodes_only_are_named(tmp_path, key):
    file = write(tmp_path / "c.yaml", f"'{key}':\n  ros__parameters:\n    window: {{size: 10}}\n")
    with pytest.raises(ConfigError, match="other.*' only, none for 'reconstruct'; put them under"):
        load_config([file])


def test_empty_files_are_defaults(tmp_path):
    for text in ("", "# nothing\n", "/**:\n  ros__parameters:\n"):
        assert load_config([write(tmp_path / "c.yaml", text)]) == Config()


@pytest.mark.parametrize(
    "values, words",
    [
        ({"map.voxel_sise": 0.1}, "'map.voxel_sise'; did you mean 'map.voxel_size'"),
        ({"voxel_size": 0.1}, "did you mean 'map.voxel_size'"),
        ({"window": 3}, "Unknown parameter 'window'"),
        ({"map_frame": "m"}, "did you mean 'ros.map_frame'"),
        ({"/ros.map_frame": "m"}, "did you mean 'ros.map_frame'"),
        ({"map.map_frame": "m"}, "did you mean 'ros.map_frame'"),
        ({"Ros.Map_Frame": "m"}, "did you mean 'ros.map_frame'"),
        ({"reconstruct/ros/map-frame": "m"}, "did you mean 'ros.map_frame'"),
        ({"mapframe": "m"}, "did you mean 'ros.map_frame'"),
        ({"image_width": 3}, "did you mean 'intake.image_width' or 'model.foundation.image_width'"),
        ({"model": "nano"}, "a section of parameters: 'model.name'"),
        ({"zzzz": 3}, "docs/parameters.md"),
        ({"\x1b[2J": 3}, r"Unknown parameter '\\x1b"),
        ({"ros.map_frame": ""}, "'ros.map_frame' takes the name of a frame, got ''"),
        ({"ros.odom_frame": "/odom"}, "without leading slash, as tf2 does, got '/odom'; write 'odom'"),
        ({"ros.base_frame": "/"}, "'ros.base_frame' takes the name of a frame, got '/'"),
        ({"window.size": "eight"}, "'window.size' takes a whole number, got 'eight'"),
        ({"window.size": 8.0}, "takes a whole number, got 8.0"),
        ({"window.size": True}, "takes a whole number, got True"),
        ({"ros.publish_tf": 1}, "takes true or false, got 1"),
        ({"map.voxel_size": float("nan")}, "takes a number, got nan"),
        ({"map.voxel_size": None}, "takes a number, got None"),
        ({"ros.map_frame": 3}, "takes text, got 3"),
        ({"window.size": 1}, "at least 2, got 1"),
        ({"window.size": 65}, "at most 64, got 65"),
        ({"ros.pose_source": "gps"}, "one of odometry, tf, lidar, none, got 'gps'"),
        ({"window.size": 3}, "'window.overlap' must be below 'window.size', got 3 and 3"),
        ({"intake.dark_level": 250.0}, "'intake.dark_level' must be below"),
        ({"intake.min_interval_s": 9.0}, "'intake.min_interval_s' must not exceed"),
        ({"scale.metric_sigma": 0.5}, "'scale.metric_sigma' must not exceed"),
    ],
)
def test_mistakes_are_named(values, words):
    with pytest.raises(ConfigError, match=words):
        from_flat(values)


def test_broken_files_are_named(tmp_path):
    cases = {
        "a: [1": "is no YAML",
        "- 1\n- 2\n": "a list",
        "window: {sise: 3}": "did you mean 'window.size'",
        "window: {size: [1]}": r"takes a whole number, got \[1\]",
        "/**:\n  ros__parameters: [1]": "must hold names and values",
        "window: 3": "Unknown parameter 'window'",
        "1: 2": "The name '1' is a number; names of parameters are text",
        "map: {voxel_size: 1, voxel_size: 2}": "has the key 'voxel_size' twice in line 1",
        "map: {voxel_size: 1" + "0" * 400 + "}": "more than 64 bits at 'map.voxel_size'",
        "window: " + "[" * 50_000: "nested deeper than 64",
        "window: {size: !!python/name:os.system }": "python/name:os.system",
    }
    for i, (text, words) in enumerate(cases.items()):
        path = write(tmp_path / f"{i}.yaml", text)
        with pytest.raises(ConfigError, match=f"(?s){i}.yaml.*{words}"):
            load_config([path])
    with pytest.raises(ConfigError, match="gone.yaml.*No such file"):
        load_config([tmp_path / "gone.yaml"])
    with pytest.raises(ConfigError, match="no regular file but a folder"):
        load_config([tmp_path])
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="no regular file but a device"):
        load_config([tmp_path / "zero.yaml"])
    with pytest.raises(ConfigError, match="cannot be used .*full path"):
        load_config([Path("~nosuchuser/c.yaml")])
    with pytest.raises(ConfigError, match="'map.voxel_size' takes a number, got 1000.*…"):
        load_config([], {"map.voxel_size": 10**400})
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="is no text: byte 0 is not UTF-8"):
        load_config([tmp_path / "binary.yaml"])


def test_text_overrides_that_do_not_fit():
    with pytest.raises(ConfigError, match="takes a whole number, got 'many'"):
        load_config(overrides={"window.size": "many"})
    with pytest.raises(ConfigError, match="takes true or false, got 'yes'"):
        load_config(overrides={"ros.publish_tf": "yes"})


def test_generated_files_equal_the_code():
    got = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "write_config.py"), "--check"], capture_output=True, text=True
    )
    assert got.returncode == 0, got.stdout + got.stderr
    assert load_config([ROOT / "config" / "default.yaml"]) == Config()
    assert all(f"`{p.name}`" in parameter_table() for p in describe())


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_files_are_valid(path):
    load_config([ROOT / "config" / "default.yaml", path])
    assert "/**" in yaml.safe_load(path.read_text())


@pytest.mark.parametrize("name", ["realsense_d4xx", "zed2", "oak_d", "kitti_car"])
def test_sensor_overlays_name_their_topics(name):
    values = read_values(ROOT / "config" / f"{name}.yaml")
    # Its camera_info lies beside the images, so that another image topic brings its own.
    assert str(values["ros.image_topic"]).startswith("/") and "ros.camera_info_topic" not in values
    assert set(values) < set(flatten(Config()))


NAMES = st.sampled_from([p.name for p in describe()]) | st.text(max_size=12)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.dictionaries(NAMES, VALUES, max_size=4),
    ros=st.booleans(),
    cuts=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=3),
)
def test_any_file_is_a_configuration_or_a_sentence(tmp_path, values, ros, cuts):
    text = yaml.safe_dump({"/**": {"ros__parameters": values}} if ros else values, allow_unicode=True)
    damaged = bytearray(text.encode("utf-8", "replace"))
    for at, new in cuts:
        damaged[at % (len(damaged) + 1) : at % (len(damaged) + 1) + len(new)] = new
    file = tmp_path / "c.yaml"
    file.write_bytes(damaged)
    try:
        load_config([file])
    except ConfigError as told:
        assert len(str(told)) < 2000
