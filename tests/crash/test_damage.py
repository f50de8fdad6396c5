"""Damaged files: what is read is what was written, or an error that says where; a torn tail is cut off."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.experiment import logs
from tidings import Client, DamagedData

MESSAGES = 200
DAMAGES = 40  # per kind; some milliseconds each
INDEXED_MESSAGES = 6000  # more than a megabyte, for several marks in the index
INDEX_DAMAGES = 10
TOPIC = "orders"


def _payload(number: int) -> dict[str, object]:
    return {"number": number, "pad": "abcdefgh" * (number % 40)}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed bus of a dozen segments whose message at offset n is `_payload(n)`."""
    bus = tmp_path_factory.mktemp("pristine") / "bus"
    with Client(f"file:{bus}?segment_bytes=4096&durability=os") as client:
        for number in range(0, MESSAGES, 2):
            client.publish_batch(TOPIC, [_payload(number), _payload(number + 1)])
    assert len(logs(bus)) > 5
    return bus


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed bus of one long segment with an index."""
    bus = tmp_path_factory.mktemp("indexed") / "bus"
    with Client(f"file:{bus}?durability=os") as client:
        client.publish_batch(TOPIC, [_payload(number) for number in range(INDEXED_MESSAGES)], batch_size=100)
    return bus


def _read(bus: Path, start: int = 0) -> tuple[dict[int, object], int]:
    """Everything that can be read, by offset, and how often an error told of damage; the reader goes on
    behind it.
    """
    read: dict[int, object] = {}
    errors = 0
    with Client(f"file:{bus}") as client:
        while errors <= MESSAGES:
            with client.subscribe(TOPIC, from_offset=start) as subscription:
                try:
                    while messages := subscription.fetch(max_messages=1000, timeout=0.0):
                        read |= {message.offset: message.data for message in messages}
                    return read, errors
                except DamagedData as damage:
                    errors += 1
                    if damage.resume_offset is None or damage.resume_offset <= start:
                        return read, errors
                    start = damage.resume_offset
    raise AssertionError("damage without end")


def _flip_a_bit(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _zero_a_block(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(0, len(data), 512)
    end = min(start + 512, len(data))
    data[start:end] = bytes(end - start)


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _swap_blocks(data: bytearray, rng: random.Random) -> None:
    one, other = (512 * rng.randrange(max(1, len(data) // 512)) for _ in range(2))
    data[one : one + 512], data[other : other + 512] = data[other : other + 512], data[one : one + 512]


@pytest.mark.parametrize("damage", [_flip_a_bit, _zero_a_block, _truncate, _swap_blocks])
def test_damage_in_a_log_is_told_and_never_read(
    pristine: Path, tmp_path: Path, damage: Callable[[bytearray, random.Random], None]
) -> None:
    rng = random.Random(damage.__name__)
    for number in range(DAMAGES):
        bus = tmp_path / str(number)
        shutil.copytree(pristine, bus)
        victim = rng.choice(logs(bus))
        before = victim.read_bytes()
        data = bytearray(before)
        damage(data, rng)
        victim.write_bytes(data)
        read, errors = _read(bus)
        assert {offset: _payload(offset) for offset in read} == read
        unchanged = bytes(data) == before
        assert errors or unchanged or len(read) == MESSAGES, f"{number}: {victim.name} lost data in silence"


@pytest.mark.parametrize("damage", [_flip_a_bit, _zero_a_block, _truncate])
def test_damage_in_an_index_is_harmless(
    indexed: Path, tmp_path: Path, damage: Callable[[bytearray, random.Random], None]
) -> None:
    rng = random.Random(damage.__name__)
    for number in range(INDEX_DAMAGES):
        bus = tmp_path / str(number)
        shutil.copytree(indexed, bus)
        (index,) = bus.rglob("*.index")
        data = bytearray(index.read_bytes())
        damage(data, rng)
        index.write_bytes(data)
        start = rng.randrange(INDEXED_MESSAGES)
        assert _read(bus, start) == ({offset: _payload(offset) for offset in range(start, INDEXED_MESSAGES)}, 0)


def test_a_torn_tail_is_cut_off_and_written_over(tmp_path: Path) -> None:
    """What a killed writer leaves: part of a batch, of any length, that nobody was told is stored."""
    bus = tmp_path / "bus"
    with Client(f"file:{bus}") as client:
        client.publish(TOPIC, _payload(0))
        (log,) = logs(bus)
        whole = log.stat().st_size
        client.publish(TOPIC, _payload(1))
    batch = log.read_bytes()[whole:]
    for length in range(0, len(batch), 7):
        torn = tmp_path / str(length)
        shutil.copytree(bus, torn)
        (log,) = logs(torn)
        log.write_bytes(log.read_bytes() + batch[:length])
        with Client(f"file:{torn}") as client:
            assert client.publish(TOPIC, _payload(2)).offset == 2
        assert _read(torn) == ({number: _payload(number) for number in range(3)}, 0)
