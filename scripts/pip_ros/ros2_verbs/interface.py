"""`ros2 interface`: look up message, service and action definitions in the ament index."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ament_index_python import get_resource, get_resources
from ros2cli.command import CommandExtension

KINDS = {"msg": "Messages", "srv": "Services", "action": "Actions"}
BASIC = re.compile(r"^(bool|byte|char|u?int(8|16|32|64)|float(32|64)|w?string)\b")
FIELD = re.compile(r"^\s*([A-Za-z][\w/]*)(\[[^\]]*\])?\s+\w+\s*($|[^=\s\w]|[\w\"'\[-])")


class InterfaceCommand(CommandExtension):
    """Show information about ROS interfaces."""

    def add_arguments(self, parser: argparse.ArgumentParser, cli_name: str) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        verbs.add_parser("list", help="list all interfaces")
        verbs.add_parser("packages", help="list packages that have interfaces")
        package = verbs.add_parser("package", help="list the interfaces of one package")
        package.add_argument("package_name")
        show = verbs.add_parser("show", help="show a definition with the types inside it")
        show.add_argument("type", help="as in spatial_fm_ros/msg/ReconstructionStatus")

    def main(self, *, parser: argparse.ArgumentParser, args: argparse.Namespace) -> int | str:
        try:
            if args.verb == "packages":
                print("\n".join(sorted(get_resources("rosidl_interfaces"))))
            elif args.verb == "package":
                print("\n".join(interfaces_of(args.package_name)))
            elif args.verb == "list":
                names = [name for package in get_resources("rosidl_interfaces") for name in interfaces_of(package)]
                for kind, title in KINDS.items():
                    print(f"{title}:")
                    print("\n".join(f"    {name}" for name in sorted(names) if f"/{kind}/" in name))
            else:
                show_definition(args.type, sys.stdout, "")
        except LookupError as error:
            return str(error)
        return 0


def interfaces_of(package: str) -> list[str]:
    """Full names such as std_msgs/msg/Header. Raises LookupError for a package without interfaces."""
    try:
        content, _ = get_resource("rosidl_interfaces", package)
    except LookupError:
        raise LookupError(f"Package '{package}' is unknown or has no interfaces") from None
    files = (Path(line) for line in content.splitlines())
    # Goal, feedback and service-event parts of generated types carry an underscore.
    return sorted({f"{package}/{file.with_suffix('')}" for file in files if "_" not in file.stem})


def definition_file(name: str) -> Path:
    """The file that defines `package/kind/Name` or `package/Name`. Raises LookupError."""
    package, *middle, type_name = name.split("/")
    kinds = middle or list(KINDS)
    try:
        _, prefix = get_resource("rosidl_interfaces", package)
    except LookupError:
        raise LookupError(f"Package '{package}' is unknown or has no interfaces") from None
    for kind in kinds:
        file = Path(prefix) / "share" / package / kind / f"{type_name}.{kind}"
        if file.is_file():
            return file
    raise LookupError(f"No definition of '{name}'; `ros2 interface package {package}` lists what there is")


def show_definition(name: str, out, indent: str) -> None:  # type: ignore[no-untyped-def]
    """Print a definition; below each field of another type that type's definition, indented, without comments."""
    package = name.split("/")[0]
    for line in definition_file(name).read_text().splitlines():
        if indent and (not line.strip() or line.lstrip().startswith("#")):
            continue
        print(indent + line, file=out)
        match = FIELD.match(line)
        if match is None or BASIC.match(line.strip()):
            continue
        inner = match[1]
        if inner == "Header":
            inner = "std_msgs/Header"
        parts = inner.split("/")
        show_definition(f"{parts[0] if len(parts) > 1 else package}/msg/{parts[-1]}", out, indent + "\t")
