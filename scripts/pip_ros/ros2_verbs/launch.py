"""`ros2 launch`: run a launch file in a process group of its own, so that it always ends whole.

launch itself counts on the terminal to send Ctrl-C to every node and orphans its nodes on SIGTERM. Here
the command stays in front of a child that runs the launch file, and passes SIGINT and SIGTERM on to the
child's whole group as SIGINT.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
from ros2cli.command import CommandExtension

ENDINGS = (".py", ".xml", ".yaml", ".yml")
PR_SET_PDEATHSIG = 1


class LaunchCommand(CommandExtension):
    """Run a launch file."""

    def add_arguments(self, parser: argparse.ArgumentParser, cli_name: str) -> None:
        parser.add_argument("-s", "--show-args", "--show-arguments", action="store_true", help="show the arguments")
        parser.add_argument("-d", "--debug", action="store_true", help="verbose output of launch itself")
        parser.add_argument("-n", "--noninteractive", action="store_true", help="no terminal is attached")
        parser.add_argument("package_name", help="ROS package, or the path of a launch file")
        parser.add_argument("rest", nargs=argparse.REMAINDER, help="launch file of the package, then NAME:=VALUE")

    def main(self, *, parser: argparse.ArgumentParser, args: argparse.Namespace) -> int | str:
        rest = list(args.rest)
        if Path(args.package_name).is_file():
            path = Path(args.package_name)
        elif not rest or ":=" in rest[0]:
            return f"'{args.package_name}' is no launch file; expected: ros2 launch PACKAGE FILE, or ros2 launch PATH"
        else:
            try:
                path = find_launch_file(args.package_name, rest.pop(0))
            except LookupError as error:
                return str(error)
        # REMAINDER swallows options that follow the file, so they are taken out here.
        show = args.show_args or bool({"-s", "--show-args", "--show-arguments"} & set(rest))
        debug = args.debug or bool({"-d", "--debug"} & set(rest))
        rest = [word for word in rest if not word.startswith("-")]
        wrong = [word for word in rest if ":=" not in word]
        if wrong:
            return f"Expected launch arguments as NAME:=VALUE, got '{wrong[0]}'"
        if show:
            return show_arguments(path)
        arguments = [(word.partition(":=")[0], word.partition(":=")[2]) for word in rest]
        return in_own_group(lambda: run(path, arguments, debug))


def find_launch_file(package: str, name: str) -> Path:
    """The installed launch file of that name. Raises LookupError with the names there are."""
    try:
        share = Path(get_package_share_directory(package))
    except (PackageNotFoundError, ValueError):
        raise LookupError(f"Package '{package}' not found; is its workspace built and sourced?") from None
    files = sorted(file for file in share.rglob("*") if file.name.endswith(ENDINGS) and file.is_file())
    found = [file for file in files if file.name == name]
    if len(found) == 1:
        return found[0]
    known = ", ".join(file.name for file in files if "launch" in file.name) or "none"
    count = "several files" if found else "no file"
    raise LookupError(f"Package '{package}' has {count} '{name}' below {share}; its launch files: {known}")


def run(path: Path, arguments: Sequence[tuple[str, str]], debug: bool) -> int:
    """Run the launch file until it ends or is interrupted."""
    words = [f"{name}:={value}" for name, value in arguments]
    service = LaunchService(argv=words, debug=debug)
    source = AnyLaunchDescriptionSource(str(path))
    service.include_launch_description(
        LaunchDescription([IncludeLaunchDescription(source, launch_arguments=list(arguments))])
    )
    return int(service.run())


def show_arguments(path: Path) -> int:
    """Print the arguments a launch file declares."""
    service = LaunchService()
    description = AnyLaunchDescriptionSource(str(path)).get_launch_description(service.context)
    print("Arguments (pass arguments as '<name>:=<value>'):")
    for argument in description.get_launch_arguments():
        print(f"\n    '{argument.name}':\n        {argument.description}")
        if argument.choices:
            print(f"        one of: {', '.join(argument.choices)}")
        if argument.default_value is not None:
            value = "".join(part.describe() for part in argument.default_value)
            print(f"        (default: {value})")
    return 0


def in_own_group(work) -> int:  # type: ignore[no-untyped-def]
    """Run `work` in a child with a process group of its own; its exit status.

    SIGINT and SIGTERM go on to the group as SIGINT, which ROS nodes end on cleanly; when this process
    is killed outright the kernel tells the child, which does the same.
    """
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGUSR1, lambda signum, frame: os.killpg(0, signal.SIGINT))
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
        if os.getppid() != parent:
            os._exit(1)
        status = 1
        try:
            status = work()
        finally:
            os._exit(status)

    def pass_on(signum: int, frame: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGINT)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, pass_on)
    _, status = os.waitpid(child, 0)
    # Nodes that outlived launch (it kills them after some seconds) must not stay behind.
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)
