"""What a file that should be a checkpoint looks like, by its first bytes."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from spatial_fm_ros.core.errors import ModelError

#: How files of torch before 1.6 begin: a pickle of its magic number.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: safetensors' own bound on its header.
_LONGEST_HEADER = 100_000_000
_LFS_REMEDY = "Fetch the content with 'git lfs pull', or let spatial-fm weights get download it."
_PAGE_REMEDY = "Download the file itself (its address holds /resolve/, not /blob/), or use spatial-fm weights get."
_FOLDER_REMEDY = "Name the file inside it, or a folder with model.safetensors or model.pt."


@dataclass(frozen=True)
class Appearance:
    """`kind` is 'safetensors', 'torch' or '' for what is no checkpoint; `words` stand after 'it is'.

    `mappable`: a torch file whose tensors can be mapped into memory.
    """

    kind: str
    words: str
    remedy: str = ""
    mappable: bool = False


def looks_like(path: Path) -> Appearance:
    """Look at a file. Raises ModelError where it does not exist or may not be read."""
    try:
        if path.is_dir():
            return Appearance("", "a folder", _FOLDER_REMEDY)
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise ModelError(f"The checkpoint {path} cannot be read: {error.strerror or error}.") from error
    return _of_file(path, size, head)


def _of_file(path: Path, size: int, head: bytes) -> Appearance:
    if not head:
        return Appearance("", "an empty file")
    text = head.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return Appearance("", "a Git LFS pointer of some lines, not the weights", _LFS_REMEDY)
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<error")):
        return Appearance("", "a web page, not the weights", _PAGE_REMEDY)
    if not head.strip(b"\0"):
        return Appearance("", f"{size} bytes that begin with zeros, as a download that was given up leaves them")
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(path, size)
    if size > 8 and 2 <= struct.unpack("<Q", head[:8])[0] <= _LONGEST_HEADER and head[8:9] == b"{":
        return Appearance("safetensors", "a safetensors file")
    if head.startswith(_OLD_TORCH):
        return Appearance("torch", "a torch file of the old form")
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return Appearance("", "a pickle that torch did not write; it is not opened, since it could run code")
    if head.startswith(b"GGUF"):
        return Appearance("", "a GGUF file, a format for language models")
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head[:512]):
        start = head[:40].decode("ascii").split("\n")[0].strip()
        return Appearance("", f"a text file that begins with '{start}'")
    return Appearance("", "neither a safetensors nor a torch file")


def _of_zip(path: Path, size: int) -> Appearance:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return Appearance(
            "", f"a torch file or other zip archive without its end ({size} bytes): not wholly downloaded"
        )
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
            return Appearance("", "a TorchScript program, not weights", "Save its state_dict instead.")
        return Appearance("torch", "a torch file", mappable=any("/data/" in name for name in names))
    return Appearance("", f"a zip archive without tensors (it holds {', '.join(names[:3]) or 'nothing'})")
