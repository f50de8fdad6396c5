"""What a process of the demonstration says is what it did, and it does not outlive its parent."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import chain, repeat
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from tidings import Client
from tidings.cli.demo import worker
from tidings.cli.demo.account import Note
from tidings.cli.demo.worker import Part
from tidings.cli.interrupts import Interrupts


def notes(output: bytes) -> list[Note]:
    return [msgspec.json.decode(line, type=Note) for line in output.splitlines()]


@pytest.fixture
def url() -> str:
    return f"memory:{uuid4().hex}"


def test_the_publisher_numbers_its_messages(url: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with Client(url) as client:
        worker.main(Part("publisher", "publisher", url, "a", 5100, None, 1))
        told = notes(capsysbinary.readouterr().out)
        with client.subscribe("a", from_beginning=True) as subscription:
            stored = [message["number"] for message in subscription.fetch(10_000, 5)]
    assert stored == list(range(5100))
    assert list(chain(*(note.numbers for note in told))) == stored
    assert len(told) == worker.paced(5100) + 1 == 256


def test_a_reader_notes_and_acks(
    url: str, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = chain(repeat(1, 3), repeat(2))  # it dies when the second batch is done
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    with Client(url) as client, Interrupts() as interrupts:
        client.publish_batch("a", worker.bodies(range(worker.FETCH_MESSAGES + 50)))
        with client.subscribe("a", consumer_group="g", from_beginning=True, auto_ack=False) as subscription:
            worker.read(subscription, interrupts, Part("reader", "w", url, "a", 200, "g", parent=1))
        assert client.get_consumer_lag("a", "g") == 0
    first, second = notes(capsysbinary.readouterr().out)
    assert first.numbers + second.numbers == list(range(worker.FETCH_MESSAGES + 50))
    assert (len(first.paced), len(first.flooded)) == (10, worker.FETCH_MESSAGES - 10)
    assert min(first.paced) > 0
    assert first.redelivered == 0


def test_a_reader_does_not_outlive_its_parent(tmp_path: Path) -> None:
    part = msgspec.json.encode(Part("reader", "reader", f"file:{tmp_path / 'bus'}", "a", 100, None, 0)).decode()
    assert part.endswith('"parent":0}')
    for_me = part.removesuffix("0}") + "'$$'}"  # the shell knows its own number
    command = f"{sys.executable} -m tidings.cli.demo.worker '{for_me}' & wait"
    parent = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        assert notes(parent.stdout.readline()) == [Note(ready=True)]
        parent.kill()
        assert parent.stdout.read() == b"", "the worker holds this pipe until it ends"
    parent.wait()
