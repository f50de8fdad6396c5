"""The record survives its writer: torn tails, several files, one real clock, and the views on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testing.story import TOPIC, Story
from tidings.testing.history import (
    AckOk,
    Delivered,
    Drained,
    History,
    HistoryDamaged,
    HistoryWriter,
    Invoked,
    Nacked,
    now,
    payload_hash,
    read_events,
)


def _all_kinds() -> Story:
    story = Story().opened().invoked("a").receipt("a", 0).invoked("b").failed("b").invoked("c").unknown("c")
    story.delivered("a", 0).refused("a").nacked("a").acked("a").died().skipped(1).healed().drained(pending=1)
    return story


def test_every_kind_of_event_comes_back_as_it_was_written(tmp_path: Path) -> None:
    story = _all_kinds()
    with HistoryWriter(tmp_path / "h") as writer:
        for event in story.events:
            writer.append(event)
    assert read_events(tmp_path / "h") == story.events


def test_an_event_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from tidings.testing.history import *\n"
        "w = HistoryWriter(pathlib.Path(sys.argv[1]))\n"
        "for n in range(50): w.append(AckOk(at=n, group='g', consumer='c', id=str(n)))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "h"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=30)
    assert done.returncode == -9
    assert [event.at for event in read_events(path)] == list(range(50))


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "h"
    with HistoryWriter(path) as writer:
        for event in _all_kinds().events[:3]:
            writer.append(event)
    whole = path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert read_events(path) == _all_kinds().events[:2]


def test_damage_before_the_last_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "h"
    with HistoryWriter(path) as writer:
        for event in _all_kinds().events:
            writer.append(event)
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:-4]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(HistoryDamaged) as caught:
        History.merge([path])
    assert (caught.value.path, caught.value.line) == (path, 3)


def test_an_event_of_an_unknown_kind_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "h"
    path.write_bytes(b'{"event":"miracle","at":1}\n')
    with pytest.raises(HistoryDamaged):
        read_events(path)


def test_a_file_belongs_to_one_writer(tmp_path: Path) -> None:
    HistoryWriter(tmp_path / "h").close()
    with pytest.raises(FileExistsError):
        HistoryWriter(tmp_path / "h")


def test_files_merge_by_time_and_an_empty_file_is_a_history(tmp_path: Path) -> None:
    events = _all_kinds().events
    for name, part in (("a", events[::2]), ("b", events[1::2]), ("c", [])):
        with HistoryWriter(tmp_path / name) as writer:
            for event in part:
                writer.append(event)
    assert History.merge(sorted(tmp_path.iterdir())).events == events


def test_the_clock_is_one_for_all_processes() -> None:
    before = now()
    code = "from tidings.testing.history import now; print(now())"
    between = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)
    assert before < int(between.stdout) < now()


def test_a_payload_hash_tells_single_bits_apart() -> None:
    data = os.urandom(64)
    flipped = [data[:n] + bytes([data[n] ^ 1]) + data[n + 1 :] for n in range(64)]
    assert len({payload_hash(each) for each in (data, *flipped)}) == 65


def test_retries_of_one_id_are_one_publish() -> None:
    story = Story().invoked("a").unknown("a").invoked("a").receipt("a", 4)
    (publish,) = story.history().publishes.values()
    assert (publish.attempts, publish.first.at, publish.failed, publish.unknown) == (2, 1, False, False)
    assert publish.receipt is not None
    assert publish.receipt.offset == 4


def test_a_publish_is_failed_only_when_every_attempt_failed() -> None:
    story = Story().invoked("a").failed("a").invoked("b").unknown("b").invoked("b").failed("b").invoked("c")
    publishes = story.history().publishes
    assert [(p.failed, p.unknown) for p in publishes.values()] == [
        (True, False),
        (False, True),
        (False, True),
    ]


def test_a_receipt_below_the_surviving_level_promises_nothing() -> None:
    story = Story().invoked("a").receipt("a", 0, "os")
    assert story.history().publishes["a"].receipt is not None
    weak = story.history(surviving=frozenset({"disk"})).publishes["a"]
    assert weak.receipt is None
    assert weak.unknown


def test_a_reader_collects_its_own_events() -> None:
    reader = _all_kinds().history().readers["billing"]
    assert [type(event) for event in reader.deliveries] == [Delivered]
    assert isinstance(reader.acks["a"], AckOk)
    assert [type(nack) for nack in reader.nacks["a"]] == [Nacked]
    assert isinstance(reader.drained, Drained)
    assert (reader.durable, reader.skipped, reader.reach) == (True, 1, {(TOPIC, 0, ""): (0, 0)})


@pytest.mark.parametrize(
    ("story", "settled"),
    [
        (Story().delivered("a", 0), False),
        (Story().delivered("a", 0).acking("a"), True),
        (Story().delivered("a", 0).refused("a"), False),
        (Story().delivered("a", 0).refused("a").acking("a", "c2"), True),
        (Story().delivered("a", 0).nacked("a"), False),
        (Story().delivered("a", 0).nacked("a", requeue=False), True),
    ],
)
def test_what_counts_as_settled(story: Story, settled: bool) -> None:
    assert story.history().readers["billing"].settled("a") is settled


def test_a_group_owes_what_was_published_after_it_was_opened_on_its_topics() -> None:
    history = Story().invoked("early").opened().invoked("late").history()
    reader = history.readers["billing"]
    assert [reader.owes(publish) for publish in history.publishes.values()] == [False, True]


def test_events_of_ids_never_invoked_are_no_publishes() -> None:
    history = Story().receipt("ghost", 0).failed("ghost").history()
    assert history.publishes == {}
    assert isinstance(Story().invoked("a").history().events[0], Invoked)
