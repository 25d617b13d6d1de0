"""Launch files, looked into without starting a process: what is given reaches the nodes, and nothing else does."""

import importlib.util
import re
import textwrap
from pathlib import Path

import pytest
import yaml

pytest.importorskip("launch_ros", reason="these tests need ROS 2 (scripts/with_env)")

from launch import LaunchContext
from launch.actions import ExecuteProcess, LogInfo
from launch.utilities import perform_substitutions, visit_all_entities_and_collect_futures
from launch_ros.actions import Node

from spatial_fm_ros.nodes import launching

ROOT = Path(__file__).parents[2]
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "launch" / f"{name}.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words_of(process, context):
    """The command of a process, each word worked out."""
    found = []
    for part in process.cmd:
        try:
            found.append(perform_substitutions(context, part))
        except Exception:  # a name that is known only when it starts
            found.append("?")
    return found


class Started:
    """The actions of a launch file for some arguments; `state`: what files around it have set."""

    def __init__(self, name, arguments, state=None, command_line=()):
        module = load(name)
        context = self.context = LaunchContext(argv=list(command_line))
        context.launch_configurations.update(state or {})
        for declared in module.generate_launch_description().get_launch_arguments():
            context.launch_configurations[declared.name] = perform_substitutions(context, declared.default_value)
        context.launch_configurations.update(arguments)
        make = module.actions if name == "reconstruct" else module.nodes
        self.actions = make(context)
        for action in self.actions:
            if isinstance(action, Node):
                action._perform_substitutions(context)

    def process(self, name):
        """The process of this executable, its arguments worked out."""
        for action in self.actions:
            if isinstance(action, ExecuteProcess) and name in [Path(word).name for word in self.words(action)]:
                return action
        raise AssertionError(f"no process {name}")

    def words(self, process):
        return words_of(process, self.context)

    def parameters(self, word="reconstruct"):
        node = self.process(word)
        words = self.words(node)
        values = {}
        for before, file in zip(words, words[1:], strict=False):
            if before == "--params-file":
                (section,) = yaml.full_load(Path(file).read_text()).values()
                values |= section["ros__parameters"]
        return values

    @property
    def said(self):
        return [perform_substitutions(self.context, each.msg) for each in self.actions if isinstance(each, LogInfo)]


def environment(process, context):
    pairs = process.process_description.additional_env or []
    return {perform_substitutions(context, k): perform_substitutions(context, v) for k, v in pairs}


def test_what_is_not_given_is_left_to_files_and_defaults():
    started = Started("reconstruct", {})
    assert started.parameters() == {}
    assert "--log-level" not in started.words(started.process("reconstruct"))
    assert [type(each) for each in started.actions] == [Node]


@pytest.mark.parametrize(
    ("argument", "text", "parameter", "value"),
    [
        ("autostart", "false", "ros.autostart", False),
        ("publish_tf", "False", "ros.publish_tf", False),
        ("require_metric", "true", "ros.require_metric", True),
        ("image_rectified", "1", "ros.image_rectified", True),
        ("use_sim_time", "true", "use_sim_time", True),
        ("map_frame", "no", "ros.map_frame", "no"),
        ("map_frame", "1", "ros.map_frame", "1"),
        ("map_frame", "the map: 2", "ros.map_frame", "the map: 2"),
        ("image_transport", "compressed", "ros.image_transport", "compressed"),
        ("camera_info_topic", "none", "ros.camera_info_topic", "none"),
        ("checkpoint", "/my weights/a b.pt", "model.checkpoint", "/my weights/a b.pt"),
    ],
)
def test_arguments_reach_the_node_as_what_they_are(argument, text, parameter, value):
    assert Started("reconstruct", {argument: text}).parameters() == {parameter: value}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"autostart": "ture"}, "autostart:=ture is neither true nor false"),
        ({"log_level": "loud"}, "log_level:=loud is none of debug"),
        ({"config": "nowhere"}, "config:=nowhere is neither a file nor one of this package's"),
        ({"dds_profile": "/no/file.xml"}, "dds_profile:=/no/file.xml is neither auto nor none nor a file"),
        ({"bag": "/no/bag"}, "bag:=/no/bag does not exist"),
        ({"bag": "/tmp", "bag_rate": "0"}, "bag_rate:=0 is no number of 0.001 or more"),
    ],
)
def test_mistakes_are_sentences(arguments, words):
    with pytest.raises(RuntimeError, match=words):
        Started("reconstruct", arguments)


def test_the_demo_names_a_number_that_is_none(tmp_path):
    with pytest.raises(RuntimeError, match="duration_s:=long is no number"):
        Started("demo", {"duration_s": "long", "output": str(tmp_path)})
    robot = Started("demo", {"output": str(tmp_path / "a b")}).parameters("simulated_robot")
    assert robot["truth_dir"] == str(tmp_path / "a b" / "truth") and robot["seed"] == 0


def test_two_demos_on_one_machine_have_domains_of_their_own(tmp_path, monkeypatch):
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    domains = {load("demo").own_domain()[0].value[0].text for _ in range(2)}
    assert len(domains) == 2
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    assert load("demo").own_domain() == []


@pytest.mark.parametrize(
    ("namespace", "around", "logger"),
    [("", None, "reconstruct"), ("a/b", None, "a.b.reconstruct"), ("b", "/a", "a.b.reconstruct")]
    + [("/b", "/a", "b.reconstruct"), ("", "/a", "a.reconstruct")],
)
def test_the_log_level_is_that_of_the_nodes_logger(namespace, around, logger):
    state = {"ros_namespace": around} if around else {}
    started = Started("reconstruct", {"namespace": namespace, "log_level": "debug"}, state)
    node = started.process("reconstruct")
    words = started.words(node)
    assert words[words.index("--log-level") + 1] == f"{logger}:=debug"
    assert node.node_name == "/" + logger.replace(".", "/")


@pytest.fixture
def clean(monkeypatch):
    for name in (*PROFILES, "FASTDDS_BUILTIN_TRANSPORTS", "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("distribution", "variable"), [*((d, 0) for d in ("humble", "jazzy")), ("kilted", 1), ("lyrical", 1)]
)
def test_the_profile_goes_to_our_processes_by_the_variable_they_read(clean, tmp_path, distribution, variable):
    clean.setenv("ROS_DISTRO", distribution)
    clean.setenv(PROFILES[1 - variable], "of another version")
    started = Started("reconstruct", {})
    node = started.process("reconstruct")
    values = {"bag": str(tmp_path), "bag_rate": "1"}
    for process in (
        node,
        load("reconstruct").bag_player(values, "/reconstruct", launching.dds_environment("auto", ROOT)),
    ):
        given = environment(process, started.context)
        assert list(given) == [PROFILES[variable]] and Path(given[PROFILES[variable]]).name.startswith("fastdds")
    assert not [each for each in started.actions if type(each).__name__ == "SetEnvironmentVariable"]


@pytest.mark.parametrize(
    ("choice", "variables", "expected"),
    [
        ("none", {}, None),
        ("auto", {"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, None),
        ("auto", {"RMW_IMPLEMENTATION": "rmw_fastrtps_dynamic_cpp"}, "fastdds"),
        ("auto", {PROFILES[0]: "/mine.xml"}, None),
        ("auto", {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, None),
        ("fastdds_small", {PROFILES[0]: "/mine.xml"}, "fastdds_small"),
    ],
)
def test_a_profile_of_the_users_own_is_kept(clean, choice, variables, expected):
    for name, value in variables.items():
        clean.setenv(name, value)
    given = launching.dds_environment(choice, ROOT)
    assert Path(given[PROFILES[0]]).name.startswith(expected) if expected else given == {}


def test_the_bag_waits_for_the_node(tmp_path):
    folder = tmp_path / "my bag"
    folder.mkdir()
    started = Started("reconstruct", {"bag": str(folder), "namespace": "r"})
    gate = started.process("wait_until_active")
    assert started.words(gate)[-1] == "/r/reconstruct"
    assert started.parameters() == {"use_sim_time": True}
    with pytest.raises(AssertionError):  # not among what starts at once
        started.process("play_bag")


def test_rviz_shows_the_map_frame(tmp_path, monkeypatch):
    module = load("reconstruct")
    own = tmp_path / "own.yaml"
    own.write_text("/**:\n  ros__parameters:\n    ros: {map_frame: the world}\n")
    context = LaunchContext()
    assert module.map_frame(context, {"map_frame": ""}, []) == "map"
    assert module.map_frame(context, {"map_frame": ""}, [str(own)]) == "the world"
    assert module.map_frame(context, {"map_frame": "m"}, [str(own)]) == "m"
    context.launch_configurations["global_params"] = [("ros.map_frame", "earth")]
    assert module.map_frame(context, {"map_frame": ""}, []) == "earth"
    monkeypatch.setattr(module, "get_package_share_directory", lambda name: str(ROOT))
    context.launch_configurations.update({"namespace": "", "bag": "", "use_sim_time": ""})
    node = module.rviz({"namespace": "", "bag": "", "use_sim_time": ""}, "the world", ROOT, {})
    words = [perform_substitutions(context, part) for part in node.cmd[1:5]]
    assert words[words.index("-f") + 1] == "the world"


def test_several_robots_in_groups_do_not_clash(monkeypatch):
    """The recipe of docs/robots.md, word for word."""
    text = (ROOT / "docs" / "robots.md").read_text()
    code = textwrap.dedent("".join(re.findall(r"    from launch.actions import Group.*?\n\n\n?(?=\*)", text, re.S)))
    recipe = {}
    exec(code, recipe)
    started = []

    def remember(node, context):
        node._perform_substitutions(context)
        started.append(words_of(node, context))
        return []

    monkeypatch.setattr(Node, "execute", remember)
    context = LaunchContext()
    for entity in (recipe["robot"]("r1"), recipe["robot"]("r2")):
        visit_all_entities_and_collect_futures(entity, context)
    for name, words in zip(("r1", "r2"), started, strict=True):
        assert "/tf:=tf" in words and "/tf_static:=tf_static" in words
        (file,) = [after for before, after in zip(words, words[1:], strict=False) if before == "--params-file"]
        ((node, section),) = yaml.full_load(Path(file).read_text()).items()
        assert node == f"/{name}/reconstruct"
        assert section["ros__parameters"] == {"ros.image_topic": "camera/image_raw", "ros.odometry_topic": "odom"}


def test_misspelt_arguments_are_told():
    words = ["map_fram:=m", "ros.map_frame:=m", "map.voxel_size:=1", "camera_name:=front", "model:=nano", "-d"]
    said = Started("reconstruct", {}, command_line=words).said
    assert len(said) == 3 and all("did you mean 'map_frame'?" in sentence for sentence in said[:2])
    assert said[2].startswith("'map.voxel_size' is a parameter and no argument")
    demo = [f"{name}:=1" for name in load("demo").ARGUMENTS]
    assert not Started("reconstruct", {}, command_line=demo).said
