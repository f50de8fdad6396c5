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
    part = Part("reader", "w", url, "a", 1000, "g", parent=1)
    parents = chain(repeat(1, 3), repeat(2))  # it dies when the third batch is done
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    with Client(url) as client, Interrupts() as interrupts:
        client.publish_batch("a", worker.bodies(range(45, 70)))
        with client.subscribe("a", consumer_group="g", from_beginning=True, auto_ack=False) as subscription:
            subscription.fetch(10, 5)[3].nack(delay_seconds=0)
            worker.read(subscription, interrupts, part)
        assert client.get_consumer_lag("a", "g") == 9, "what was fetched before is not its to ack"
    told = notes(capsysbinary.readouterr().out)
    assert sorted(chain(*(note.numbers for note in told))) == [48, *range(55, 70)]
    assert sum(note.redelivered for note in told) == 1
    assert (worker.paced(1000), sum(len(note.paced) for note in told)) == (50, 1)
    assert min(chain(*(note.flooded for note in told))) > 0
    assert all(len(note.numbers) <= worker.at_once(1000) == 10 for note in told)


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
