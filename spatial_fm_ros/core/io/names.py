"""Names of files and what files say, as they are shown to people and as people give them."""

from __future__ import annotations

import re
from pathlib import Path

from spatial_fm_ros.core.errors import InputError, SpatialFMError


def shown(text: object, most: int = 300) -> str:
    """Text from outside (a file name, a header, a topic) that is safe on a terminal and in any encoding.

    Control characters, escape sequences among them, and bytes that are no UTF-8 become \\x.. escapes; anything longer
    than `most` characters is cut, with '…'.
    """
    full = str(text)
    cut = full if len(full) <= most else f"{full[: most - 1]}…"
    return "".join(_shown(character) for character in cut)


def shown_address(text: object) -> str:
    """A network address as `shown`, without what opens it: a name and password before the host, a signed query."""
    return shown(re.sub(r"(?<=//)[^/?#]*@", "", str(text)).partition("?")[0])


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no UTF-8, as Python holds it
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def user_path(text: str | Path, error: type[SpatialFMError] = InputError) -> Path:
    """A path as a user gives it, with ~ and ~name replaced. Raises `error` for one that can be none."""
    try:
        path = Path(text).expanduser()
    except RuntimeError as reason:  # ~ of a user who does not exist
        why = str(reason).rstrip(".")
        raise error(f"The path '{shown(text)}' cannot be used ({why}); give its full path.") from reason
    if "\0" in str(path):
        raise error(f"The path '{shown(text)}' cannot be used: it holds a zero byte; no file has such a name.")
    return path
