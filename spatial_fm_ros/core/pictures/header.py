"""What a picture says of itself before it is decoded, and which formats are read at all."""

from __future__ import annotations

from dataclasses import dataclass

from spatial_fm_ros.core.errors import InputError
from spatial_fm_ros.core.io.names import shown

#: Photographs unpack to some 10 or 50 times their size. What unpacks to more must stay below this.
_UNPACKED_RATIO = 256
_UNPACKED_BYTES = 2**28


@dataclass(frozen=True)
class PictureHeader:
    """Size and kind of a picture, of the pixels as they are stored.

    channels: colour channels, alpha among them. bits: of a channel. orientation: EXIF's 1 to 8, how the stored pixels
    are turned to stand upright; 1 = as they are. frames: pictures in the file where that is known (animations, pages);
    only the first is decoded. content: the bytes for the decoder, without what does not belong to the first picture.
    """

    format: str
    width: int
    height: int
    channels: int
    bits: int
    content: bytes
    orientation: int = 1
    frames: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height

    def bounded(self, max_pixels: int) -> PictureHeader:
        """Itself. Raises InputError for a picture without pixels and for one with more than `max_pixels`.

        Also for one that unpacks to very much more than it is: a blank sheet, or an attack.
        """
        if self.width < 1 or self.height < 1:
            raise damaged(self.format, f"its header says {self.width}x{self.height} pixels")
        if self.width * self.height > max_pixels:
            raise InputError(
                f"A {self.format} says that it has {self.width}x{self.height} pixels, more than intake.max_pixels = "
                f"{max_pixels}; it is not decoded. Raise that parameter if the picture is real."
            )
        unpacked = self.width * self.height * self.channels * self.bits // 8
        if unpacked > max(_UNPACKED_BYTES, _UNPACKED_RATIO * len(self.content)):
            raise InputError(
                f"A {self.format} of {len(self.content)} bytes says that it has {self.width}x{self.height} pixels, "
                f"more than {_UNPACKED_RATIO} times what it is; it is not decoded."
            )
        return self


def damaged(format: str, why: str) -> InputError:
    """The error of a picture that is not whole; `why` completes 'Damaged PNG: …', the same for all with this fault."""
    return InputError(f"Damaged {format}: {why}; check the file, or the link and the driver.")


def truncated(format: str, why: str) -> InputError:
    """The error of a picture that ends too early; `why` completes 'Truncated PNG: …'."""
    return InputError(f"Truncated {format}: {why}; check the file, or the link and the driver.")


def unsupported(what: str) -> InputError:
    """The error of a kind of picture that is known but not read."""
    return InputError(f"{what} is not read; expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}. Convert it to PNG.")


#: What is read. Everything else is refused by name.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WebP", "PGM", "PPM")

# First bytes of what people have and what is not read.
_REFUSED = (
    (b"GIF8", "GIF"),
    (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"v/1\x01", "OpenEXR"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"qoif", "QOI"),
    (b"PF\n", "PFM"),
    (b"Pf\n", "PFM"),
    (b"P7\n", "PAM"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
    (b"\0\0\1\0", "ICO"),
    (b"version https://git-lfs", "A Git LFS pointer (the file itself was not fetched)"),
)
_BOXES = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF"}


def read_header(content: bytes) -> PictureHeader:
    """What the picture says of itself; nothing is decoded.

    Raises InputError for what is no picture, one of a format that is not read, and one whose structure is damaged or
    cut off, or that is too short for the pixels its header promises.
    """
    from spatial_fm_ros.core.pictures import jpeg, plain, png, tiff, webp

    readers = (
        (content.startswith(b"\xff\xd8"), jpeg.read),
        (content.startswith(png.SIGNATURE), png.read),
        (content[:4] in (b"II*\0", b"MM\0*"), tiff.read),
        (content[:4] == b"RIFF" and content[8:12] == b"WEBP", webp.read),
        (content.startswith(b"BM"), plain.read_bmp),
        (content[:1] == b"P" and content[1:2] in b"2356" and content[2:3] in b" \t\r\n#", plain.read_pnm),
    )
    for fits, read in readers:
        if fits:
            return read(content)
    if not content:
        raise InputError("A picture came without data; check the file, or the camera driver.")
    if content[:4] in (b"II+\0", b"MM\0+"):
        raise unsupported("BigTIFF")
    name = next((name for start, name in _REFUSED if content.startswith(start)), None)
    if content[4:8] == b"ftyp":
        name = _BOXES.get(content[8:12], "A video or another container")
    if name is not None:
        raise unsupported(name)
    raise InputError(
        f"Bytes beginning with {shown(content[:4])} are no readable picture; "
        f"expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
    )
