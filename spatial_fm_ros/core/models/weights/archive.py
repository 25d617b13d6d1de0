"""The zip archive of a torch file, looked at before anything in it is read."""

from __future__ import annotations

import zipfile
from typing import BinaryIO

#: Most bytes of an archive's directory: some 70 for each tensor.
_DIRECTORY_BYTES = 16 * 2**20


class TorchArchive:
    """The directory of an archive. Raises zipfile.BadZipFile, also for one that is too long."""

    def __init__(self, file: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(_Bounded(file))
        self.names = self._archive.namelist()

    @property
    def pickles(self) -> list[str]:
        return [name for name in self.names if name.endswith("/data.pkl") or name == "data.pkl"]

    def fault(self, size: int) -> str:
        """What torch never writes, in words that stand after 'it'; '' for nothing. `size`: the file's bytes."""
        entries = self._archive.infolist()
        if packed := next((e for e in entries if e.compress_type != zipfile.ZIP_STORED), None):
            return (
                f"holds compressed records ('{packed.filename[-40:]}' of {packed.file_size} bytes), which torch never "
                "writes and which are not unpacked"
            )
        if any(entry.compress_size != entry.file_size for entry in entries):
            return "holds records that contradict their own sizes"
        if sum(entry.file_size for entry in entries) > size:
            return f"holds records that lie over each other (more bytes than the file's {size})"
        if len(self.pickles) > 1 or len(set(self.names)) < len(self.names):
            return "holds several records of one name"
        return ""

    def pickle(self) -> BinaryIO:
        """The pickle that names the tensors, open for reading."""
        return self._archive.open(self.pickles[0])  # type: ignore[return-value]


class _Bounded:
    """A file of which an archive's directory is read only where it has a believable length."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(min(count, _DIRECTORY_BYTES + 1) if count >= 0 else _DIRECTORY_BYTES + 1)
        if len(data) > _DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has more than {_DIRECTORY_BYTES} bytes")
        return data
