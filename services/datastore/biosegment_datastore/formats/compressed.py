"""Compressed voxels, unpacked once to a scratch file: never more of them than the file's header promises."""

from __future__ import annotations

import bz2
import gzip
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO, Final, Protocol

from biosegment.errors import InvalidArgument, ResourceExhausted
from biosegment_datastore.formats.source import unreadable

_PIECE_BYTES: Final = 1 << 20

_MAGIC: Final = {b"\x1f\x8b": "gzip", b"BZh": "bzip2"}

# The most that one compressed byte can become, generously: deflate repeats 258 bytes with two bits, bzip2 packs a block
# of 46 MB of equal bytes into some 40 bytes. A header that promises more is a lie, and found out before any work.
_MOST_EXPANSION: Final = {"gzip": 1100, "zlib": 1100, "bzip2": 2_000_000}

# Others need room beside us.
_DISK_SHARE: Final = 0.9


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def codec_of(head: bytes) -> str | None:
    """'gzip' or 'bzip2' when a file that begins with `head` is compressed as a whole."""
    return next((codec for magic, codec in _MAGIC.items() if head.startswith(magic)), None)


def peek(path: Path, head: bytes, size: int) -> bytes:
    """The first `size` bytes of what is in a file, unpacked when it is compressed; fewer when it is damaged.

    Args:
        path: The file.
        head: Its beginning.
        size: How many bytes are wanted, few.
    """
    codec = codec_of(head)
    if codec is None:
        return head[:size]
    try:
        with path.open("rb") as file, _decompressor(codec, file) as stream:
            return stream.read(size)
    except (OSError, EOFError, zlib.error, ValueError):
        return b""


def unpack(
    name: str, file: BinaryIO, codec: str, size: int, scratch_dir: Path, resources: ExitStack
) -> BinaryIO:
    """Unpack a stream that should hold `size` bytes.

    Args:
        name: Of the file, for messages.
        file: Positioned where the compressed stream begins.
        codec: 'gzip', 'bzip2' or 'zlib'.
        size: How many bytes the header promises.
        scratch_dir: Where the unpacked bytes go; nameless, so that they vanish with the process.
        resources: Closes the scratch file.

    Returns:
        The scratch file, `size` bytes long.

    Raises:
        InvalidArgument: TRUNCATED_FILE when it holds fewer bytes, UNREADABLE_FILE when it holds more or is damaged.
        ResourceExhausted: DISK_FULL.
    """
    place = file.tell()
    packed = file.seek(0, 2) - place
    file.seek(place)
    if size > (packed + 64) * _MOST_EXPANSION[codec]:
        raise truncated(name, f"it promises {size} bytes, more than its {packed} compressed ones can hold")
    with _decompressor(codec, file) as stream:
        pieces = iter(lambda: stream.read(_PIECE_BYTES), b"")
        return spool(name, pieces, size, scratch_dir, resources)


def spool(name: str, pieces: Iterator[bytes], size: int, scratch_dir: Path, resources: ExitStack) -> BinaryIO:
    """Write a decoder's output, `size` bytes, to a scratch file; arguments and errors as `unpack`'s."""
    free = shutil.disk_usage(scratch_dir).free
    if size > free * _DISK_SHARE:
        raise ResourceExhausted(
            "DISK_FULL",
            f"{name!r} unpacks to {size} bytes and the server has room for {int(free * _DISK_SHARE)} in its scratch "
            "folder; make room, or convert the file to an uncompressed one",
        )
    scratch = resources.enter_context(_scratch_file(scratch_dir))
    written = 0
    try:
        for piece in pieces:
            if written + len(piece) > size:
                raise unreadable(name, f"it unpacks to more than the {size} bytes that its header promises")
            scratch.write(piece)
            written += len(piece)
        scratch.flush()
    except EOFError as error:
        raise truncated(name, f"its compressed data ends after {written} of {size} bytes") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise unreadable(name, f"its compressed data is damaged ({error})") from error
    except OSError as error:
        if error.errno is not None:  # the disk's; a damaged bzip2 stream has none
            raise
        raise unreadable(name, f"its compressed data is damaged ({error})") from error
    if written < size:
        raise truncated(name, f"it unpacks to {written} of {size} bytes")
    return scratch


def _scratch_file(scratch_dir: Path) -> BinaryIO:
    return tempfile.TemporaryFile(dir=scratch_dir, prefix="unpacked-")


def _decompressor(codec: str, file: BinaryIO) -> IO[bytes] | _Zlib:
    if codec == "gzip":
        return gzip.open(file, "rb")  # type: ignore[return-value]
    if codec == "bzip2":
        return bz2.open(file, "rb")
    return _Zlib(file.read)


class _Zlib:
    """A zlib stream read piece by piece."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read, self._decoder = read, zlib.decompressobj()

    def read(self, size: int) -> bytes:
        while not self._decoder.eof:
            packed = self._decoder.unconsumed_tail or self._read(_PIECE_BYTES)
            if not packed:
                raise EOFError("the stream has no end")
            if piece := self._decoder.decompress(packed, size):
                return piece
        return b""

    def __enter__(self) -> _Zlib:
        return self

    def __exit__(self, *exception: object) -> None:
        """The file belongs to somebody else."""


def truncated(name: str, why: str) -> InvalidArgument:
    """The error for a file that holds less than its header promises."""
    return InvalidArgument("TRUNCATED_FILE", f"{name!r} is not complete: {why}; copy it again")
