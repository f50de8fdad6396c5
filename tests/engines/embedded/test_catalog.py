"""Topics by name: made once, the same for every process, with logs that open when used and close when many are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.child import Child
from tests.engines.hands import Hands
from tests.engines.sample import records
from tidings.engines.embedded import catalog as module
from tidings.engines.embedded.catalog import SEGMENT_BYTES, Catalog, shard_folder
from tidings.engines.embedded.control.database import Control
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.log.memorylog import MemoryLog
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.waking.board import TOPICS_CHANGED, Board
from tidings.errors import InvalidOption, InvalidTopic, TopicExists, TopicNotFound
from tidings.model.options import MOST_RETRIES, TopicOptions

OpenCatalog = Callable[[], Catalog]


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    (tmp_path / "topics").mkdir()
    return tmp_path


@pytest.fixture
def board(bus: Path) -> Iterator[Board]:
    board = Board(bus / "topics", fresh=True)
    yield board
    board.close()


@pytest.fixture
def open_catalog(bus: Path, board: Board) -> Iterator[OpenCatalog]:
    """Opens the catalog of the bus as another process does."""
    opened: list[tuple[Catalog, Control]] = []

    def open_one() -> Catalog:
        control = Control(bus, None)
        opened.append((Catalog(control, bus, Hands(), board, SEGMENT_BYTES), control))
        return opened[-1][0]

    yield open_one
    for catalog, control in opened:
        catalog.close()
        control.close()


def test_a_topic_is_made_once(open_catalog: OpenCatalog) -> None:
    one, other = open_catalog(), open_catalog()
    options = TopicOptions(partitions=3, retention_messages=100)
    topic, made = one.create("orders", options)
    assert made
    assert [shard.partition for shard in topic.shards] == [0, 1, 2]
    for again in (options, None):
        found, made = other.create("orders", again)
        assert (found.id, found.options, made) == (topic.id, options, False)
        assert [shard.id for shard in found.shards] == [shard.id for shard in topic.shards]
    with pytest.raises(TopicExists, match="partitions is 3"):
        other.create("orders", TopicOptions())
    with pytest.raises(InvalidTopic):
        one.create("or ders/*", None)


def test_shards_have_numbers_of_their_own_also_after_a_drop(open_catalog: OpenCatalog) -> None:
    catalog = open_catalog()
    numbers = []
    for name in ("a", "b", "a"):
        topic, _ = catalog.create(name, TopicOptions(partitions=2))
        numbers += [shard.id for shard in topic.shards]
        if name == "a":
            catalog.drop("a")
    assert len(set(numbers)) == 6


def test_others_learn_of_topics_when_the_board_says_so(open_catalog: OpenCatalog, board: Board) -> None:
    one, other = open_catalog(), open_catalog()
    seen: list[str] = []
    other.on_new = lambda topics: seen.extend(topic.name for topic in topics)
    other.refresh()
    for name in ("a", "b"):
        one.create(name, None)
    other.refresh()
    assert (seen, set(other.topics)) == ([], set())
    board.bump(TOPICS_CHANGED)
    other.refresh()
    assert (sorted(seen), set(other.topics)) == (["a", "b"], {"a", "b"})
    one.drop("a")
    board.bump(TOPICS_CHANGED)
    other.refresh()
    assert (sorted(seen), set(other.topics)) == (["a", "b"], {"b"})


def test_finding_looks_again_before_it_gives_up(open_catalog: OpenCatalog) -> None:
    one, other = open_catalog(), open_catalog()
    topic, _ = one.create("orders", None)
    assert other.find("orders").id == topic.id
    with pytest.raises(TopicNotFound):
        other.find("bills")


def test_a_dropped_topic_leaves_nothing(open_catalog: OpenCatalog, bus: Path) -> None:
    one, other = open_catalog(), open_catalog()
    one.create("orders", TopicOptions(partitions=2))
    held = other.find("orders").shards[0]
    held.log.append(records(b"x"))
    one.drop("orders")
    assert [path.name for path in (bus / "topics").iterdir()] == ["board"]
    with pytest.raises(LogGone):
        held.log.append(records(b"y"))
    with pytest.raises(TopicNotFound):
        one.drop("orders")
    topic, made = other.create("orders", None)
    assert made
    assert topic.shards[0].log.extent()[:2] == (0, 0)


def test_a_topic_that_another_process_dropped_is_not_found(open_catalog: OpenCatalog) -> None:
    one, other = open_catalog(), open_catalog()
    one.create("orders", None)[0].shards[0].log.append(records(b"x"))
    other.drop("orders")
    with pytest.raises(TopicNotFound):
        one.drop("orders")
    assert one.topics == {}


FORKING = """
    import os, signal, sys
    from pathlib import Path
    from tidings.engines.embedded import catalog
    from tidings.engines.embedded.bus import Bus, BusOptions
    from tidings.model.message import Record
    from tidings.model.options import Durability, PublishOptions
    bus = Bus(Path(sys.argv[1]), BusOptions())
    bus.create_topic("orders", None)
    with catalog._making:  # as another thread would hold it
        child = os.fork()
        if child == 0:
            signal.alarm(5)  # whoever waits for ever is killed
            bus.append("orders", [Record("id", "t", b"x")], PublishOptions(Durability.OS))
            os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_that_was_forked_while_a_log_was_made_makes_its_own(bus: Path) -> None:
    with Child(FORKING, bus / "bus") as child:
        assert child.line() == "0"


def test_equal_keys_share_a_shard_and_others_take_turns(open_catalog: OpenCatalog) -> None:
    one, other = open_catalog(), open_catalog()
    topic, _ = one.create("orders", TopicOptions(partitions=4))
    keys = [f"user{number}" for number in range(100)]
    places = [topic.partition_for(key) for key in keys]
    assert places == [other.find("orders").partition_for(key) for key in keys]
    assert set(places) == {0, 1, 2, 3}
    assert sorted(topic.partition_for(None) for _ in range(8)) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_logs_are_made_and_files_opened_only_when_used(
    open_catalog: OpenCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_LOGS", 3)
    catalog = open_catalog()
    shards = [catalog.create(f"t{number}", None)[0].shards[0] for number in range(6)]
    assert [shard._log for shard in shards] == [None] * 6
    for shard in shards:
        catalog.use(shard)
        shard.log.append(records(b"x"))
    logs = [shard.log for shard in shards]
    assert all(isinstance(log, FileLog) for log in logs)
    assert [log._active is not None for log in logs if isinstance(log, FileLog)] == [False] * 3 + [True] * 3
    assert [shard.log.append(records(b"y"))[0] for shard in shards] == [1] * 6


def test_offsets_that_groups_have_seen_are_the_floor_of_a_log(open_catalog: OpenCatalog, bus: Path) -> None:
    catalog = open_catalog()
    topic, _ = catalog.create("orders", None)
    with catalog._control.write() as run:
        run("INSERT INTO cursors (group_id, shard, next) VALUES (1, ?, 12)", (topic.shards[0].id,))
    assert topic.shards[0].log.append(records(b"x"))[0] == 12
    assert (shard_folder(bus, topic.id, 0) / f"{12:020}.log").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (TopicOptions(), (SEGMENT_BYTES, None, None)),
        (TopicOptions(retention_bytes=1_000_000), (100_000, None, None)),
        (TopicOptions(retention_bytes=10), (4096, None, None)),
        (TopicOptions(retention_messages=1000), (SEGMENT_BYTES, 100, None)),
        (TopicOptions(retention_messages=3), (SEGMENT_BYTES, 1, None)),
        (TopicOptions(retention_period=600), (SEGMENT_BYTES, None, 60)),
    ],
)
def test_a_segment_is_a_tenth_of_what_is_kept(
    open_catalog: OpenCatalog, options: TopicOptions, expected: tuple[int, int | None, float | None]
) -> None:
    log = open_catalog().create("orders", options)[0].shards[0].log
    assert isinstance(log, FileLog)
    limits = log._limits
    assert (limits.segment_bytes, limits.segment_messages, limits.segment_seconds) == expected
    assert (limits.keep_bytes, limits.keep_messages, limits.keep_seconds) == (
        options.retention_bytes,
        options.retention_messages,
        options.retention_period,
    )


def test_in_memory_a_bus_ends_somewhere() -> None:
    control = Control(None, None)
    catalog = Catalog(control, None, Hands(), None, SEGMENT_BYTES)
    log = catalog.create("orders", None)[0].shards[0].log
    assert isinstance(log, MemoryLog)
    assert log._limits.keep_bytes == module.MEMORY_BYTES
    catalog.drop("orders")
    assert catalog.topics == {}
    control.close()


# -- priorities and other options


def test_a_priority_has_shards_from_its_first_use_on(open_catalog: OpenCatalog, bus: Path) -> None:
    """With numbers of their own, the same for every process; the home of each is the one of normal priority."""
    one, other = open_catalog(), open_catalog()
    topic, _ = one.create("orders", TopicOptions(partitions=2))
    one.create("bills", None)
    for catalog in (one, other, one):
        catalog.add_level(catalog.find("orders"), 9)
    other.add_level(other.find("orders"), 0)
    one.load()
    found = [[(s.id, s.priority, s.partition, s.home) for s in each.find("orders").shards] for each in (one, other)]
    assert found[0] == found[1]
    homes = [shard.id for shard in topic.levels[5]]
    assert [(priority, partition, home) for _, priority, partition, home in found[0]] == [
        (priority, partition, homes[partition]) for priority in (9, 5, 0) for partition in (0, 1)
    ]
    assert len({number for number, *_ in found[0]} | {one.find("bills").shards[0].id}) == 7
    assert (shard_folder(bus, topic.id, 1, 9)).is_dir()


def test_a_new_priority_is_shown_to_who_reads_the_topic(open_catalog: OpenCatalog, board: Board) -> None:
    one, other = open_catalog(), open_catalog()
    one.create("orders", None)
    other.load()
    seen: list[str] = []
    other.on_new = lambda topics: seen.extend(topic.name for topic in topics)
    one.add_level(one.find("orders"), 9)
    board.bump(TOPICS_CHANGED)
    other.refresh()
    assert (seen, set(other.find("orders").levels)) == (["orders"], {5, 9})


def test_a_topic_that_was_dropped_gets_no_more_priorities(open_catalog: OpenCatalog) -> None:
    one, other = open_catalog(), open_catalog()
    topic, _ = one.create("orders", None)
    other.drop("orders")
    with pytest.raises(TopicNotFound):
        one.add_level(topic, 9)


def test_another_process_learns_of_other_options(open_catalog: OpenCatalog, board: Board) -> None:
    one, other = open_catalog(), open_catalog()
    one.create("orders", None)
    log = other.find("orders").shards[0].log
    options = TopicOptions(delivery="at_most_once", max_length=5, overflow="block", retention_messages=10)
    one.alter("orders", options)
    board.bump(TOPICS_CHANGED)
    other.refresh()
    topic = other.find("orders")
    assert (topic.options, topic.is_plain, topic.shards[0].log) == (options, False, log)
    assert (other.blocking, other.unleased) == ({"orders"}, {"orders"})
    assert isinstance(log, FileLog)
    assert log._limits.keep_messages == 10, "an open log keeps the old limits"
    one.alter("orders", TopicOptions())
    other.load()
    assert (other.blocking, other.unleased, topic.is_plain) == (set(), set(), True)


def test_the_number_of_partitions_stays(open_catalog: OpenCatalog) -> None:
    catalog = open_catalog()
    catalog.create("orders", TopicOptions(partitions=2))
    with pytest.raises(InvalidOption, match="partitions"):
        catalog.alter("orders", TopicOptions(partitions=3))
    with pytest.raises(TopicNotFound):
        catalog.alter("nowhere", TopicOptions())


def test_every_schema_that_a_topic_had_is_known(open_catalog: OpenCatalog) -> None:
    catalog = open_catalog()
    topic, _ = catalog.create("orders", TopicOptions(schema=["a INT"]))
    for schema in (["a INT"], ["a INT", "b STRING"], None):
        catalog.alter("orders", TopicOptions(schema=schema))
    versions = catalog.schemas()[topic.id]
    assert [version.version for version in versions] == [1, 2, 3]
    assert [version.schema is None for version in versions] == [False, False, True]
    catalog.drop("orders")
    assert catalog.schemas() == {}


def test_a_dead_letter_topic_gives_nothing_up(open_catalog: OpenCatalog) -> None:
    """Made by publishing to it; who makes it himself says what he wants."""
    catalog = open_catalog()
    made = catalog.create("dead-letters/orders", None)[0].options
    assert (made.max_retries, made.dead_letter_topic) == (MOST_RETRIES, None)
    chosen = TopicOptions(max_retries=1)
    assert catalog.create("dead-letters/bills", chosen)[0].options == chosen
    assert catalog.create("orders", None)[0].options == TopicOptions()
