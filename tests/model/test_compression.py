"""Compressed data comes back whole or not at all, and no frame can make a reader take more memory than it allows."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import tracemalloc
import zlib

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.errors import DecompressionBomb, InvalidOption, PackageMissing, UnreadableData
from tidings.model import compression
from tidings.model.compression import CHUNK_BYTES, Compression, choose, compress, decompress

MEBIBYTE = 1 << 20
KINDS = st.sampled_from(Compression)
DATA = bytes(range(256)) * 3 + b"tidings" * 50


def zeros(kind: Compression, size: int) -> bytes:
    return compress(kind, bytes(size))


class TestRoundTrip:
    @given(KINDS, st.binary() | st.binary(max_size=50).map(lambda seed: seed * 5000))
    def test_data_comes_back(self, kind: Compression, data: bytes) -> None:
        assert decompress(kind, compress(kind, data), len(data)) == data

    @pytest.mark.parametrize("kind", Compression)
    @pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * MEBIBYTE + 3])
    def test_around_the_size_of_a_step(self, kind: Compression, size: int) -> None:
        noise = b"".join(zlib.crc32(i.to_bytes(4)).to_bytes(4) for i in range(size // 4 + 1))[:size]
        for data in (noise, bytes(size)):
            assert decompress(kind, compress(kind, data), size) == data

    @pytest.mark.parametrize("kind", Compression)
    def test_it_is_smaller_and_the_same_every_time(self, kind: Compression) -> None:
        assert len(compress(kind, DATA)) < len(DATA)
        assert compress(kind, DATA) == compress(kind, DATA)

    def test_the_formats_are_those_of_everybody_else(self) -> None:
        assert lz4.frame.decompress(compress(Compression.LZ4, DATA)) == DATA
        assert lz4.frame.get_frame_info(compress(Compression.LZ4, DATA))["content_size"] == len(DATA)
        assert zlib.decompress(compress(Compression.GZIP, DATA), wbits=31) == DATA
        assert compression._zstd().decompress(compress(Compression.ZSTD, DATA)) == DATA


class TestLimit:
    @given(KINDS, st.binary(min_size=1, max_size=200), st.integers(1, 2000), st.data())
    def test_one_byte_too_many(self, kind: Compression, seed: bytes, times: int, drawn: st.DataObject) -> None:
        data = seed * times
        limit = drawn.draw(st.integers(0, len(data) - 1))
        with pytest.raises(DecompressionBomb) as caught:
            decompress(kind, compress(kind, data), limit)
        assert caught.value.limit == limit
        assert "max_message_bytes" in str(caught.value)

    @pytest.mark.parametrize(
        ("kind", "size"),
        [(Compression.LZ4, 64 * MEBIBYTE), (Compression.ZSTD, 256 * MEBIBYTE), (Compression.GZIP, 256 * MEBIBYTE)],
    )
    def test_a_bomb_takes_no_more_memory_than_allowed(self, kind: Compression, size: int) -> None:
        """Measured in a process of its own, where also what the drivers take outside of Python is seen."""
        program = f"""
            import re, sys
            from pathlib import Path
            from tidings.errors import DecompressionBomb
            from tidings.model.compression import compress, decompress
            bomb = sys.stdin.buffer.read()
            decompress({str(kind)!r}, compress({str(kind)!r}, b"warm"), 4)
            def peak():
                return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
            before = peak()
            try:
                decompress({str(kind)!r}, bomb, {MEBIBYTE})
            except DecompressionBomb:
                print(peak() - before)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], input=zeros(kind, size), capture_output=True, check=True
        )
        assert int(done.stdout) * 1024 < 16 * MEBIBYTE

    @pytest.mark.parametrize("kind", Compression)
    def test_what_fits_is_held_once(self, kind: Compression) -> None:
        size = 32 * MEBIBYTE
        frame = zeros(kind, size)
        tracemalloc.start()
        try:
            assert len(decompress(kind, frame, size)) == size
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < size * 1.3

    def test_a_window_of_gigabytes_is_refused(self) -> None:
        zstd = compression._zstd()
        options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
        stream = zstd.ZstdCompressor(options=options)
        frame = stream.compress(DATA) + stream.flush()
        assert zstd.decompress(frame) == DATA
        with pytest.raises(UnreadableData, match="memory"):
            decompress(Compression.ZSTD, frame, len(DATA))

    def test_a_header_that_lies_about_the_size(self) -> None:
        honest = compress(Compression.LZ4, DATA)
        claim = honest.index(len(DATA).to_bytes(8, "little"))
        for size in (len(DATA) + 1, len(DATA) - 1, 2**63):
            header = honest[:claim] + size.to_bytes(8, "little")
            checksum = _lz4_header_checksum(header[4:])
            with pytest.raises(UnreadableData, match=r"[sS]ize"):
                decompress(Compression.LZ4, header + checksum + honest[len(header) + 1 :], len(DATA))


def _lz4_header_checksum(descriptor: bytes) -> bytes:
    """The one byte that lz4 checks its header with, found by trying."""
    for byte in range(256):
        try:
            lz4.frame.get_frame_info(b"\x04\x22\x4d\x18" + descriptor + bytes([byte]) + bytes(8))
        except RuntimeError:
            continue
        return bytes([byte])
    raise AssertionError("no checksum fits")


class TestDamage:
    @pytest.mark.parametrize("kind", Compression)
    def test_cut_anywhere(self, kind: Compression) -> None:
        for frame in (compress(kind, DATA), compress(kind, b"")):
            for end in range(len(frame)):
                with pytest.raises(UnreadableData):
                    decompress(kind, frame[:end], len(DATA))

    @pytest.mark.parametrize("kind", Compression)
    def test_cut_in_the_middle_of_many_steps(self, kind: Compression) -> None:
        frame = zeros(kind, 20 * MEBIBYTE)
        for end in (len(frame) // 2, len(frame) - 1):
            with pytest.raises(UnreadableData):
                decompress(kind, frame[:end], 20 * MEBIBYTE)

    @pytest.mark.parametrize("kind", Compression)
    def test_a_flipped_bit_anywhere(self, kind: Compression) -> None:
        frame = compress(kind, DATA)
        told = 0
        for bit in range(len(frame) * 8):
            flipped = bytearray(frame)
            flipped[bit // 8] ^= 1 << bit % 8
            try:
                assert decompress(kind, bytes(flipped), len(DATA)) == DATA
            except (UnreadableData, DecompressionBomb):
                told += 1
        assert told > len(frame) * 8 * 0.8  # the rest are fields of no consequence, such as gzip's time

    @given(KINDS, st.binary(max_size=100), st.booleans())
    def test_noise(self, kind: Compression, noise: bytes, disguised: bool) -> None:
        data = compression._MAGIC[kind] * disguised + noise
        try:
            assert len(decompress(kind, data, 1000)) <= 1000
        except (UnreadableData, DecompressionBomb):
            pass  # and no other error

    @pytest.mark.parametrize("kind", Compression)
    @pytest.mark.parametrize("size", [0, 10, 3 * CHUNK_BYTES])
    def test_something_behind_the_frame(self, kind: Compression, size: int) -> None:
        noise = b"".join(zlib.crc32(i.to_bytes(4)).to_bytes(4) for i in range(size // 4))
        frame = compress(kind, noise)
        for behind in (b"\0", b"garbage", frame, bytes(2 * CHUNK_BYTES)):
            with pytest.raises(UnreadableData, match="follows"):
                decompress(kind, frame + behind, 10 * len(noise) + 10)

    def test_a_second_frame_at_the_edge_of_a_step(self) -> None:
        for size in range(CHUNK_BYTES - 40, CHUNK_BYTES):
            noise = b"".join(zlib.crc32(i.to_bytes(4)).to_bytes(4) for i in range(CHUNK_BYTES // 4))[:size]
            for kind in Compression:
                with pytest.raises(UnreadableData, match="follows"):
                    decompress(kind, compress(kind, noise) + compress(kind, b"second"), MEBIBYTE)

    @pytest.mark.parametrize("kind", [Compression.LZ4, Compression.ZSTD])
    def test_a_frame_to_be_skipped_is_no_data(self, kind: Compression) -> None:
        with pytest.raises(UnreadableData, match="begin"):
            decompress(kind, b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip", 100)

    def test_another_format(self) -> None:
        for kind in Compression:
            for other in set(Compression) - {kind}:
                with pytest.raises(UnreadableData, match=f"{kind}.*begin"):
                    decompress(kind, compress(other, DATA), len(DATA))


class TestChoose:
    @pytest.mark.parametrize(
        ("value", "chosen"),
        [(None, None), ("lz4", Compression.LZ4), ("zstd", Compression.ZSTD), (Compression.GZIP, Compression.GZIP)],
    )
    def test_chosen(self, value: object, chosen: Compression | None) -> None:
        assert choose(value) is chosen

    @pytest.mark.parametrize("value", ["", "LZ4", "brotli", True, 0, [], b"lz4"])
    def test_refused(self, value: object) -> None:
        with pytest.raises(InvalidOption, match=re.escape("give 'lz4', 'zstd', 'gzip', or None")) as caught:
            choose(value)
        assert (caught.value.name, caught.value.value) == ("compression", value)


class TestDrivers:
    def test_they_are_loaded_by_the_first_use(self) -> None:
        program = (
            "import sys; from tidings.model.compression import *; drivers = {'lz4', 'backports', 'zlib'};"
            "before = set(sys.modules) & {'lz4', 'backports', 'compression'};"
            "print(sorted(before)); compress(Compression.LZ4, b''); print('lz4' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.split("\n")[:2] == ["[]", "True"]

    @pytest.mark.parametrize(
        ("kind", "modules", "package"),
        [
            (Compression.LZ4, ["lz4", "lz4.frame"], "lz4"),
            (Compression.ZSTD, ["backports", "backports.zstd", "compression", "compression.zstd"], "backports.zstd"),
        ],
    )
    def test_a_missing_one_is_named(
        self, kind: Compression, modules: list[str], package: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(PackageMissing, match=f"pip install {re.escape(package)}"):
            compress(kind, b"")
        with pytest.raises(PackageMissing, match=f"compression='{kind}'"):
            decompress(kind, compression._MAGIC[kind], 0)
