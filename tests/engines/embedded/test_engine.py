"""The blocking engine: one bus per place, honest levels of durability, and an end that lets go of everything."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_for
from tidings.engines.embedded import bus as buses
from tidings.engines.embedded import catalog
from tidings.engines.embedded.engine import EmbeddedEngine, open_engine
from tidings.errors import (
    Closed,
    EngineError,
    GroupNotFound,
    InvalidURL,
    PublishUnknown,
    TidingsError,
    TopicExists,
    TopicNotFound,
    UnsupportedFeature,
)
from tidings.model.capability import Capability
from tidings.model.message import Message, Record
from tidings.model.options import Durability, PublishOptions, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics
from tidings.model.url import parse_url
from tidings.spi import Settlement

Open = Callable[[str], EmbeddedEngine]

TURNS = 5


@pytest.fixture
def opened() -> Iterator[Open]:
    """`opened(url)`: an engine that is closed with the test."""
    engines: list[EmbeddedEngine] = []

    def open_it(url: str) -> EmbeddedEngine:
        engines.append(open_engine(parse_url(url)))
        return engines[-1]

    yield open_it
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(opened: Open, bus_url: str) -> EmbeddedEngine:
    return opened(bus_url)


def records(*data: str) -> list[Record]:
    return [Record(f"id-{text}", "text/plain; charset=utf-8", text.encode()) for text in data]


def at(durability: Durability) -> PublishOptions:
    return PublishOptions(durability)


def spec(*patterns: str, **options: Any) -> SubscriptionSpec:
    return SubscriptionSpec(patterns=parse_topics(list(patterns)), **options)


# -- one bus per place


def test_who_names_the_same_place_shares_the_bus(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    urls = ["file:./bus", "file:bus", f"file:{tmp_path}/bus", f"file://{tmp_path}/bus", "file:link/bus"]
    assert len({id(opened(url).bus) for url in urls}) == 1
    assert opened("file:other").bus is not opened("file:bus").bus


def test_memory_is_shared_by_name_only(opened: Open, tmp_path: Path) -> None:
    name = f"memory:{tmp_path.name}"
    assert opened(name).bus is opened(name).bus
    assert opened(name).bus is not opened(f"{name}x").bus
    assert opened("memory:").bus is not opened("memory:").bus


def descriptors() -> int:
    """How many are open in this process; those of other tests may be closing meanwhile."""
    return len(os.listdir("/proc/self/fd"))


def test_the_last_one_closes_the_bus(opened: Open, tmp_path: Path) -> None:
    """And with it every descriptor: a server that opens and closes buses never runs out of them."""
    url = f"file:{tmp_path / 'bus'}"
    before = descriptors()
    for turn in range(TURNS):
        one, other = opened(url), opened(url)
        feed = other.subscribe(spec("a", group="g"), Message)
        other.publish("a", records("x"), at(Durability.DISK))
        assert len(feed.fetch(2, 0)) == 2 - (turn == 0)
        one.close()
        one.close()
        assert other.publish("a", records("y"), at(Durability.DISK))[0].offset == 2 * turn + 1
        other.close()
    assert descriptors() - before < TURNS


def test_a_bus_that_cannot_be_opened_leaves_nothing_behind(opened: Open, tmp_path: Path) -> None:
    url = f"file:{tmp_path / 'bus'}"
    opened(url).close()
    good = (tmp_path / "bus" / "control.db").read_bytes()
    (tmp_path / "bus" / "control.db").write_bytes(b"no database" * 1000)
    before = descriptors()
    for _ in range(TURNS):
        with pytest.raises(EngineError):
            opened(url)
    assert descriptors() - before < TURNS
    (tmp_path / "bus" / "control.db").write_bytes(good)
    assert opened(url).topics() == []


@pytest.mark.parametrize(
    ("url", "clue"),
    [
        ("file:", "names no directory"),
        ("file:x?durabilty=os", "did you mean 'durability'"),
        ("file:x?durability=fsync", "durability"),
        ("memory:?max_message_bytes=much", "max_message_bytes"),
    ],
)
def test_a_bad_url_opens_nothing(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, clue: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidURL, match=clue):
        opened(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["lease_seconds=0", "lease_seconds=-1", "max_message_bytes=0", "segment_bytes=-5"])
def test_an_option_that_no_bus_can_keep_is_refused(opened: Open, tmp_path: Path, option: str) -> None:
    """A lease of no time would be renewed without a pause."""
    with pytest.raises(TidingsError, match=option.partition("=")[0]):
        opened(f"file:{tmp_path / 'bus'}?{option}")


# -- levels


def test_the_levels_are_what_they_say(opened: Open, tmp_path: Path) -> None:
    memory, disk = opened("memory:"), opened(f"file:{tmp_path}/a")
    assert (memory.name, memory.default_durability) == ("memory", Durability.MEMORY)
    assert (disk.name, disk.default_durability) == ("file", Durability.DISK)
    assert opened(f"file:{tmp_path}/b?durability=os").default_durability is Durability.OS
    for level in (Durability.OS, Durability.DISK):
        assert disk.publish("a", records("x"), at(level))[0].durability is level
        with pytest.raises(UnsupportedFeature, match="file:"):
            memory.publish("a", records("x"), at(level))
    assert disk.publish("a", records("x"), at(Durability.MEMORY))[0].durability is Durability.OS, "it is never worse"
    assert memory.publish("a", records("x"), at(Durability.MEMORY))[0].offset == 0, "what was refused was not stored"
    assert disk.capabilities - memory.capabilities >= {Capability.DISK_DURABILITY, Capability.PROCESSES}
    assert memory.capabilities < disk.capabilities


def test_only_disk_syncs(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sync for a whole batch, on each partition that it went to; none on level `os`."""
    engine = opened(f"file:{tmp_path}/bus")
    engine.create_topic("a", TopicOptions())
    engine.publish("a", records("first"), at(Durability.DISK))
    real, syncs = os.fdatasync, list[int]()

    def sync(fd: int) -> None:
        syncs.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", sync)
    engine.publish("a", records("x"), at(Durability.OS))
    assert syncs == []
    engine.publish("a", records("x", "y", "z"), at(Durability.DISK))
    assert len(syncs) == 1


def test_a_sync_that_fails_names_every_message(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(f"file:{tmp_path}/bus")
    engine.publish("a", records("before"), at(Durability.DISK))

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(PublishUnknown, match="Input/output") as told:
        engine.publish("a", records("x", "y"), at(Durability.DISK))
    assert told.value.message_ids == ("id-x", "id-y")
    monkeypatch.undo()
    assert engine.publish("a", records("again"), at(Durability.DISK))[0].durability is Durability.DISK


# -- topics and groups


def test_topics_are_listed_by_name(engine: EmbeddedEngine) -> None:
    for name in ("b", "a", "c"):
        engine.create_topic(name, TopicOptions(partitions=2))
    assert [topic.name for topic in engine.topics()] == ["a", "b", "c"]
    assert [topic.name for topic in engine.topics(["c", "nobody", "a"])] == ["a", "c"]
    assert engine.create_topic("a", TopicOptions(partitions=2)) == engine.topics(["a"])[0]
    with pytest.raises(TopicExists):
        engine.create_topic("a", TopicOptions(partitions=3))
    engine.drop_topic("a")
    with pytest.raises(TopicNotFound):
        engine.drop_topic("a")
    assert [topic.name for topic in engine.topics()] == ["b", "c"]


def test_a_topic_says_what_it_holds(engine: EmbeddedEngine) -> None:
    engine.create_topic("a", TopicOptions(retention_messages=1000))
    engine.publish("a", records("x", "y"), at(engine.default_durability))
    (info,) = engine.topics(["a"])
    (partition,) = info.partitions
    assert (partition.first_offset, partition.next_offset, info.messages) == (0, 2, 2)
    assert partition.bytes >= 2


def test_a_group_stands_where_it_was_put(engine: EmbeddedEngine) -> None:
    engine.publish("a/x", records("1", "2", "3"), at(engine.default_durability))
    engine.create_group(spec("a/*", group="g", start="beginning"))
    engine.create_group(spec("b", group="h"))
    assert [(info.group, info.topic, info.lag) for info in engine.groups()] == [("g", "a/x", 3), ("h", "b", 0)]
    assert [info.group for info in engine.groups("a/x")] == ["g"]
    for start, lag in (("end", 0), (1, 2), ("beginning", 3), (0.0, 3), (4e9, 0)):
        engine.seek_group("a/x", "g", start)
        assert engine.groups("a/x")[0].lag == lag
    with pytest.raises(TopicNotFound):
        engine.seek_group("nowhere", "g", 0)
    for topic, group in (("a/x", "nobody"), ("a/x", "h"), ("b", "g")):
        with pytest.raises(GroupNotFound):
            engine.seek_group(topic, group, 0)
    engine.drop_group("g")
    with pytest.raises(GroupNotFound):
        engine.drop_group("g")
    assert [info.group for info in engine.groups()] == ["h"]


# -- reading


def test_fetch_waits_as_long_as_it_is_told_and_no_longer(engine: EmbeddedEngine) -> None:
    feed = engine.subscribe(spec("a"), Message)
    assert feed.renew_every is None
    assert feed.fetch(1, 0) == []
    assert feed.fetch(1, 0.01) == []
    found: list[Message] = []
    reader = threading.Thread(target=lambda: found.extend(feed.fetch(5, None)), daemon=True)
    reader.start()
    engine.publish("a", records("x", "y"), at(engine.default_durability))
    reader.join(10)
    assert [message.data for message in found] == ["x", "y"]


def test_a_consumer_settles_through_its_feed(engine: EmbeddedEngine) -> None:
    feed = engine.subscribe(spec("a", group="g"), Message)
    engine.publish("a", records("x", "y", "z"), at(engine.default_durability))
    assert feed.renew_every == engine.bus.options.lease_seconds / 3
    one, two, three = feed.fetch(3, 1)
    feed.settle([Settlement(one, "ack"), Settlement(two, "nack"), Settlement(three, "reject")])
    (again,) = feed.fetch(3, 1)
    assert (again.data, again.attempt) == ("y", 2)
    feed.renew()
    (info,) = engine.groups("a")
    assert (info.lag, info.held, info.dead, info.acked, info.failed) == (1, 1, 1, 1, 2)
    feed.close()
    feed.close()
    assert engine.groups("a")[0].held == 0


# -- the end


def test_closing_ends_every_call(engine: EmbeddedEngine) -> None:
    waiting, group = engine.subscribe(spec("a"), Message), engine.subscribe(spec("a", group="g"), Message)
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            waiting.fetch(1, None)
        except Closed as error:
            ended.append(error)

    reader = threading.Thread(target=wait, daemon=True)
    reader.start()
    wait_for(lambda: waiting.feed.waker is not None)  # type: ignore[attr-defined]
    engine.close()
    reader.join(10)
    assert len(ended) == 1
    calls: list[Callable[[], object]] = [
        lambda: engine.publish("a", records("x"), at(engine.default_durability)),
        lambda: engine.subscribe(spec("a"), Message),
        lambda: engine.create_topic("b", TopicOptions()),
        lambda: engine.drop_topic("a"),
        engine.topics,
        engine.groups,
        lambda: engine.create_group(spec("a", group="h")),
        lambda: engine.drop_group("g"),
        lambda: engine.seek_group("a", "g", "end"),
        lambda: group.fetch(1, None),
        group.renew,
        lambda: group.settle([]),
    ]
    for call in calls:
        with pytest.raises(Closed):
            call()
    group.close()


def test_closing_from_many_threads_is_closing_once(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases: list[str] = []
    real = buses.release
    engine = opened(f"file:{tmp_path}/bus")
    engine.subscribe(spec("a", group="g"), Message)

    def release(key: str) -> None:
        releases.append(key)
        real(key)

    monkeypatch.setattr(buses, "release", release)
    threads = [threading.Thread(target=engine.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(releases) == 1


def test_feeds_that_were_closed_are_forgotten(engine: EmbeddedEngine) -> None:
    for _ in range(20):
        engine.subscribe(spec("a"), Message).close()
    assert len(engine._feeds) <= 1


def test_looking_at_many_topics_keeps_few_files_open(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they are listed or read from their beginnings; a bus may have more topics than a process descriptors."""
    monkeypatch.setattr(catalog, "OPEN_LOGS", 2)
    engine = opened(f"file:{tmp_path}/bus")

    def open_logs() -> int:
        links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return len([link for link in links if link.startswith(str(tmp_path)) and link.endswith(".log")])

    for number in range(6):
        engine.publish(f"t/{number}", records("x"), at(Durability.OS))
    assert open_logs() == 2
    assert len(engine.topics()) == 6
    assert open_logs() == 2
    feed = engine.subscribe(spec("t/*", start="beginning"), Message)
    assert open_logs() == 2
    assert len(feed.fetch(100, 0)) == 6
