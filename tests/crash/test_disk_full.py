"""A full disk is a typed error: nothing acknowledged is lost, consumers go on, and room is all that it takes
to recover.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.experiment import inspect
from tidings import Client, StorageFull

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")

SIZE = 4 << 20
FILLER = 2 << 20
PAYLOAD = {"pad": "x" * 20_000}
MOST = SIZE // 20_000 * 2  # more than fits


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of `SIZE` bytes, half of it taken by the file `filler`."""
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", mount], check=True, timeout=30)
    try:
        (mount / "filler").write_bytes(bytes(FILLER))
        yield mount
    finally:
        subprocess.run(["umount", "-l", mount], check=True, timeout=30)


def _fill(client: Client) -> list[int]:
    """Publish until the disk is full; return the numbers that were acknowledged."""
    for number in range(MOST):
        try:
            client.publish("orders", PAYLOAD | {"number": number})
        except StorageFull:
            return list(range(number))
    raise AssertionError("the disk was never full")


def _drain(client: Client, count: int) -> list[int]:
    with client.subscribe("orders", consumer_group="billing", auto_ack=False) as subscription:
        numbers: list[int] = []
        while len(numbers) < count:
            messages = subscription.fetch(max_messages=50, timeout=10)
            assert messages, f"{numbers} and no more"
            numbers += [message["number"] for message in messages]
            subscription.ack(messages)
        assert subscription.fetch(max_messages=1, timeout=0.05) == []
        return numbers


def test_consumers_drain_a_full_disk_and_publishing_goes_on_when_there_is_room(small_disk: Path) -> None:
    bus = small_disk / "bus"
    with Client(f"file:{bus}") as client:
        client.create_group("orders", "billing")
        acked = _fill(client)
        with pytest.raises(StorageFull):
            client.publish_batch("orders", [PAYLOAD] * 10)
        assert _drain(client, len(acked)) == acked
        (small_disk / "filler").unlink()
        client.publish("orders", {"number": MOST})
        assert _drain(client, 1) == [MOST]
    assert inspect(bus) == []


def test_a_bus_that_was_full_opens_again_while_it_is_full(small_disk: Path) -> None:
    bus = small_disk / "bus"
    with Client(f"file:{bus}") as client:
        client.create_group("orders", "billing")
        acked = _fill(client)
    with Client(f"file:{bus}") as client:
        assert _drain(client, len(acked)) == acked
        assert client.get_consumer_lag("orders", "billing") == 0
