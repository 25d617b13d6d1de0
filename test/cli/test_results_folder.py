"""What a run may remove: files that a run wrote and nobody changed since, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spatial_fm_ros.core.errors import OutputError
from spatial_fm_ros.core.io.writing import make_folder, part_name, write_bytes
from spatial_fm_ros.offline.output_folder import prepare_output
from spatial_fm_ros.offline.result_list import HEADER, LIST, ResultList

RESULTS = ("depth/000001.png", "depth/confidence/000001.png", "map.ply", "trajectory.tum", "views/top.png")


def write_results(folder: Path, names: tuple[str, ...] = RESULTS, content: bytes = b"result") -> None:
    with ResultList(folder) as results:
        results.begin()
        for name in names:
            make_folder((folder / name).parent)
            write_bytes(folder / name, content, "result")


def all_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_another_run_removes_what_the_one_before_wrote(tmp_path):
    write_results(tmp_path)
    assert prepare_output(tmp_path, overwrite=True) == tmp_path
    assert all_files(tmp_path) == {LIST, *RESULTS}  # they stay until there is something new
    write_results(tmp_path, ("map.ply",), b"new")
    assert all_files(tmp_path) == {LIST, "map.ply"} and (tmp_path / "map.ply").read_bytes() == b"new"
    assert not (tmp_path / "depth").exists() and not (tmp_path / "views").exists()


def test_what_others_put_there_stays(tmp_path):
    """Names like ours, folders like ours, and a result that was changed."""
    write_results(tmp_path)
    foreign = ("map_2019_berlin.ply", "trajectory_1_gold.tum", "views/sub/thesis.tex", "depth/thesis.tex",
               "map_9dir.ply/inside.txt", "depth/notes/x.txt", "mine.txt")  # fmt: skip
    for name in foreign:
        make_folder((tmp_path / name).parent)
        (tmp_path / name).write_text("precious")
    (tmp_path / "sub").mkdir()
    (tmp_path / "views" / "elsewhere.png").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(OutputError, match="'views/elsewhere.png' in the output folder"):
        prepare_output(tmp_path, overwrite=True)
    (tmp_path / "views" / "elsewhere.png").unlink()
    prepare_output(tmp_path, overwrite=True)
    write_results(tmp_path, ("report.json",))
    assert all_files(tmp_path) == {LIST, "report.json", *foreign} and (tmp_path / "sub").is_dir()
    assert not (tmp_path / "depth" / "confidence").exists()


@pytest.mark.parametrize("name", ["map.ply", "report.html", "trajectory_3.tum", "depth/000099.png", "depth/index.json"])
def test_a_result_that_would_replace_something_else_is_refused_before_the_work(tmp_path, name):
    make_folder((tmp_path / name).parent)
    (tmp_path / name).write_text("precious")
    with pytest.raises(OutputError, match=f"'{name}' in the output folder .* would be replaced.*version 0.1"):
        prepare_output(tmp_path, overwrite=True)
    assert all_files(tmp_path) == {name}


def test_a_result_that_was_changed_since_is_refused(tmp_path):
    write_results(tmp_path)
    (tmp_path / "map.ply").write_bytes(b"edited")  # of the same size
    with pytest.raises(OutputError, match="'map.ply' in the output folder .* changed since"):
        prepare_output(tmp_path, overwrite=True)
    assert all_files(tmp_path) == {LIST, *RESULTS}


def test_files_and_links_where_folders_belong_are_refused(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out").mkdir()
    for make in (lambda place: place.symlink_to(elsewhere), lambda place: place.write_text("x")):
        make(tmp_path / "out" / "views")
        with pytest.raises(OutputError, match="'views' in the output folder"):
            prepare_output(tmp_path / "out", overwrite=True)
        (tmp_path / "out" / "views").unlink()


def test_output_and_input_lie_apart(tmp_path):
    recording, video = tmp_path / "bag", tmp_path / "videos" / "a.mp4"
    for name in ("bag/metadata.yaml", "bag/x.mcap", "videos/a.mp4"):
        make_folder((tmp_path / name).parent)
        (tmp_path / name).write_text("data")
    (tmp_path / "link").symlink_to(recording)
    for output in (recording, recording / "out", tmp_path / "link" / "new" / "out", tmp_path / "bag" / ".." / "bag"):
        for source in (recording, recording / "x.mcap"):
            with pytest.raises(OutputError, match="lies in the input"):
                prepare_output(output, True, [source])
    with pytest.raises(OutputError, match="The input .* lies in the output"):
        prepare_output(tmp_path, True, [tmp_path / "link"])
    assert all_files(recording) == {"metadata.yaml", "x.mcap"} and [p.name for p in recording.iterdir()]
    assert prepare_output(video.parent, True, [video]) == video.parent


def test_a_run_that_is_killed_leaves_a_list_of_what_it_wrote(tmp_path):
    """It dies between entering a file and the file's taking its place; its half-written parts go, too."""
    program = (
        "import os, sys, test_results_folder as t; from pathlib import Path\n"
        "real = os.replace\n"
        "def replace(a, b):\n"
        "    real(a, b) if 'map' not in str(b) else os._exit(9)\n"
        "os.replace = replace; t.write_results(Path(sys.argv[1]))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 9
    found = all_files(tmp_path)
    assert {"depth/000001.png", "depth/confidence/000001.png"} <= found and any(".sfm-part" in name for name in found)
    (tmp_path / part_name("mine")).write_bytes(b"")  # of a process that lives
    prepare_output(tmp_path, overwrite=True)
    write_results(tmp_path, ("map.ply",))
    left = all_files(tmp_path)
    assert {LIST, "map.ply"} < left and len(left) == 3


def test_two_runs_do_not_share_a_folder(tmp_path):
    with ResultList(tmp_path), pytest.raises(OutputError, match="Another run writes its results"):
        ResultList(tmp_path)
    assert not all_files(tmp_path)


@pytest.mark.parametrize("kind", ["foreign", "link", "hard link", "fifo", "folder"])
def test_a_list_that_is_none_is_refused_and_left(tmp_path, kind):
    victim = tmp_path / "victim"
    victim.write_text(f"{HEADER}\n")
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").write_text("")
    make = {
        "foreign": lambda: (out / LIST).write_text("my list"),
        "link": lambda: (out / LIST).symlink_to(victim),
        "hard link": lambda: (out / LIST).hardlink_to(victim),
        "fifo": lambda: os.mkfifo(out / LIST),
        "folder": lambda: (out / LIST).mkdir(),
    }
    make[kind]()
    with pytest.raises(OutputError, match="list of results"):
        prepare_output(out, overwrite=True)
    assert victim.read_text() == f"{HEADER}\n" and os.path.lexists(out / LIST)


PARTS = st.sampled_from(
    ["..", ".", "", "/", "map.ply", "depth", "views", "out", "precious", "link", "\0", "~", "é", "%s"]
)
LINES = st.one_of(
    st.builds(lambda parts, size: f"file {size} {'0' * 32} {'/'.join(parts)}", st.lists(PARTS), st.integers(-9, 9)),
    st.builds(lambda parts: f"folder {'/'.join(parts)}", st.lists(PARTS)),
    st.text(max_size=30),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=8), mark=st.booleans())
def test_a_list_of_any_kind_removes_nothing_foreign(tmp_path, lines, mark):
    """Not even one that states the true size and mark of a file elsewhere."""
    from spatial_fm_ros.offline.result_list import _size_and_mark

    victim, out = tmp_path / "precious", tmp_path / "out"
    for place in (victim, out / "precious", out / "depth" / "precious"):
        make_folder(place.parent)
        place.write_text("precious")
    if not os.path.lexists(out / "link"):
        (out / "link").symlink_to(tmp_path)
    size, digest = _size_and_mark(victim)
    lead = [
        f"file {size} {digest} {name}" for name in ("../precious", f"{victim}", "link/precious", "depth/../../precious")
    ]
    lines = [line.replace("0" * 32, digest) if mark else line for line in lines]
    (out / LIST).write_text("\n".join([HEADER, *lead, *lines, ""]), errors="replace")
    try:
        prepare_output(out, overwrite=True)
        write_results(out, ("new.ply",))
    except OutputError as told:
        assert len(str(told)) < 2000
    assert victim.read_text() == "precious" and (out / "link").is_symlink()
    if not mark:
        assert (out / "precious").exists() and (out / "depth" / "precious").exists()
