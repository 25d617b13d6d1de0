"""What a file that should be a checkpoint looks like, by its first bytes."""

from __future__ import annotations

import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.io.names import shown
from spatial_fm_ros.core.io.reading import open_regular
from spatial_fm_ros.core.models.weights.archive import TorchArchive
from spatial_fm_ros.core.models.weights.pickled import Hostile, look_through

#: How files of torch before 1.6 begin: a pickle of its magic number.
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
#: Most bytes of a safetensors header: some 100 for each tensor. (safetensors itself takes 100 MB.)
_LONGEST_HEADER = 16 * 2**20
_LFS_REMEDY = "Fetch the content with 'git lfs pull', or let spatial-fm weights get download it."
_PAGE_REMEDY = "Download the file itself (its address holds /resolve/, not /blob/), or use spatial-fm weights get."
_TENSORS_REMEDY = "Save the weights alone, with torch.save(model.state_dict(), ...) or as safetensors."
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
    """Look at a file. Raises ModelError where it does not exist, is none, or may not be read."""
    if os.path.isdir(path):
        return Appearance("", "a folder", _FOLDER_REMEDY)
    with open_regular(path, "checkpoint", error=ModelError) as file:
        try:
            return _of_file(file, os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise ModelError(f"The checkpoint {shown(path)} cannot be read ({error.strerror or error}).") from error


def _of_file(file: BinaryIO, size: int) -> Appearance:
    head = file.read(4096)
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
        return _of_zip(file, size)
    if size > 8 and 2 <= struct.unpack("<Q", head[:8])[0] <= _LONGEST_HEADER and head[8:9] == b"{":
        return Appearance("safetensors", "a safetensors file")
    if head.startswith(_OLD_TORCH):
        return _of_old_torch(file, size)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return Appearance("", "a pickle that torch did not write; it is not opened, since it could run code")
    if head.startswith(b"GGUF"):
        return Appearance("", "a GGUF file, a format for language models")
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head[:512]):
        start = head[:40].decode("ascii").split("\n")[0].strip()
        return Appearance("", f"a text file that begins with '{start}'")
    return Appearance("", "neither a safetensors nor a torch file")


def _damaged(size: int, error: Exception) -> Appearance:
    why = shown(error, 200) or type(error).__name__
    return Appearance("", f"a torch file that is damaged or not whole ({size} bytes; its pickle cannot be read: {why})")


def _of_old_torch(file: BinaryIO, size: int) -> Appearance:
    file.seek(0)
    try:
        look_through(file, old=True)
    except Hostile as fault:
        return Appearance("", f"a torch file of the old form that {fault}", _TENSORS_REMEDY)
    except ValueError as error:
        return _damaged(size, error)
    return Appearance("torch", "a torch file of the old form")


def _of_zip(file: BinaryIO, size: int) -> Appearance:
    try:
        archive = TorchArchive(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return Appearance(
            "", f"a torch file or other zip archive without its end ({size} bytes): not wholly downloaded"
        )
    names = archive.names
    if not archive.pickles:
        listed = ", ".join(shown(name, 80) for name in names[:3])
        return Appearance("", f"a zip archive without tensors (it holds {listed or 'nothing'})")
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        return Appearance("", "a TorchScript program, not weights", "Save its state_dict instead.")
    if fault := archive.fault(size):
        return Appearance("", f"a torch file that {shown(fault)}", _TENSORS_REMEDY)
    try:
        with archive.pickle() as content:
            look_through(content, old=False)
    except Hostile as fault_inside:
        return Appearance("", f"a torch file that {fault_inside}", _TENSORS_REMEDY)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        return _damaged(size, error)  # torch may be less particular: what was not looked through is not opened
    return Appearance("torch", "a torch file", mappable=any("/data/" in name for name in names))
