"""Compressed data and back: three formats, one frame per message, and never more memory than the reader allows."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from io import BytesIO
from typing import Any, Protocol

from tidings.errors import DecompressionBomb, InvalidOption, PackageMissing, UnreadableData

CHUNK_BYTES = 64 * 1024
"""Bytes taken in and given out by one step of decompression: small beside any limit, large enough that the steps do
not count. A driver may copy or make room for as much, whatever the frame claims."""

ZSTD_WINDOW_LOG = 23
"""Largest window of a zstd frame, as a power of two: the 8 MiB that RFC 8878 asks every reader to support. A frame may
claim gigabytes, and a decompressor makes room for its window before it has seen a byte of data."""


class Compression(StrEnum):
    """How data is compressed: lz4 is the fastest, zstd the smallest for its speed, gzip is read everywhere."""

    LZ4 = "lz4"
    ZSTD = "zstd"
    GZIP = "gzip"


_MAGIC = {Compression.LZ4: b"\x04\x22\x4d\x18", Compression.ZSTD: b"\x28\xb5\x2f\xfd", Compression.GZIP: b"\x1f\x8b"}
"""How a frame begins. What the drivers would skip as empty (skippable frames) begins otherwise."""


def choose(value: object) -> Compression | None:
    """Return the compression that the parameter `compression` asks for, or raise `InvalidOption`."""
    if value is None:
        return None
    try:
        return Compression(value)  # type: ignore[arg-type]  # what is no text is refused like any other
    except ValueError:
        reason = f"give {', '.join(map(repr, map(str, Compression)))}, or None for none"
        raise InvalidOption("compression", value, reason) from None


def compress(kind: Compression, data: bytes) -> bytes:
    """Return `data` as one frame, with its checksum. Raises `PackageMissing`."""
    return _COMPRESSORS[kind](data)


def decompress(kind: Compression, data: bytes, limit: int) -> bytes:
    """Return what `compress` was given, of at most `limit` bytes.

    The memory it takes is that of the result and a constant, whatever the frame claims. `data` is exactly one frame: a
    second one is refused like any other bytes behind the first, so that a cut at the end of a frame never looks whole.

    Raises `DecompressionBomb` when there is more than `limit`, `UnreadableData` when this is no whole frame, and
    `PackageMissing`.
    """
    if not data.startswith(_MAGIC[kind]):
        raise UnreadableData(kind, "it does not begin as such a frame does")
    stream, failure = _DECOMPRESSORS[kind]()
    try:
        return _read(kind, stream, data, limit)
    except failure as error:
        raise UnreadableData(kind, str(error)) from error


class _Stream(Protocol):
    """A decompressor whose output is bounded per step, in the manner of the standard library."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _read(kind: Compression, stream: _Stream, data: bytes, limit: int) -> bytes:
    result = BytesIO()  # unlike joined pieces, it gives its bytes away without a second copy
    place = 0
    while not stream.eof:
        piece = data[place : place + CHUNK_BYTES] if stream.needs_input else b""
        place += len(piece)
        made = stream.decompress(piece, CHUNK_BYTES)
        if not made and place >= len(data) and stream.needs_input and not stream.eof:
            raise UnreadableData(kind, "it ends before its frame does")
        if result.tell() + len(made) > limit:
            raise DecompressionBomb(limit)
        result.write(made)
    if stream.unused_data or place < len(data):
        raise UnreadableData(kind, "something follows the end of its frame; one message is one frame")
    return result.getvalue()


class _GzipStream:
    """zlib in the manner of the other two: it keeps the input that it has not come to."""

    def __init__(self, zlib: Any) -> None:
        self._zlib = zlib.decompressobj(wbits=_GZIP_WBITS)

    @property
    def eof(self) -> bool:
        return bool(self._zlib.eof)

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return bytes(self._zlib.unused_data)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return bytes(self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length))


_GZIP_WBITS = 31  # zlib's word for: the largest window, in the format of gzip


def _lz4() -> Any:
    try:
        import lz4.frame
    except ImportError as error:
        raise PackageMissing("compression='lz4'", "lz4") from error
    return lz4.frame


def _zstd() -> Any:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise PackageMissing("compression='zstd'", "backports.zstd") from error
    return zstd


def _zlib() -> Any:
    import zlib

    return zlib


def _compress_lz4(data: bytes) -> bytes:
    return bytes(_lz4().compress(data, store_size=True, content_checksum=True))


def _compress_zstd(data: bytes) -> bytes:
    zstd = _zstd()
    return bytes(zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}))


def _compress_gzip(data: bytes) -> bytes:
    return bytes(_zlib().compress(data, wbits=_GZIP_WBITS))


def _decompress_lz4() -> tuple[_Stream, type[Exception]]:
    return _lz4().LZ4FrameDecompressor(), RuntimeError  # the driver has no exception of its own


def _decompress_zstd() -> tuple[_Stream, type[Exception]]:
    zstd = _zstd()
    window = {zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=window), zstd.ZstdError


def _decompress_gzip() -> tuple[_Stream, type[Exception]]:
    zlib = _zlib()
    return _GzipStream(zlib), zlib.error


_COMPRESSORS: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.LZ4: _compress_lz4,
    Compression.ZSTD: _compress_zstd,
    Compression.GZIP: _compress_gzip,
}

_DECOMPRESSORS: dict[Compression, Callable[[], tuple[_Stream, type[Exception]]]] = {
    Compression.LZ4: _decompress_lz4,
    Compression.ZSTD: _decompress_zstd,
    Compression.GZIP: _decompress_gzip,
}
