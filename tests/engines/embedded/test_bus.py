"""One open bus: publishing across partitions and drops, the life of consumers, sharing in a process, fork and boot."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engines.child import Child
from tests.engines.embedded.control.desk import applicant, entry
from tests.engines.hands import Hands
from tests.engines.sample import contents, file_log, records
from tidings.engines.embedded import bus as module
from tidings.engines.embedded.bus import CARE_SECONDS, DROPS, Bus, BusOptions
from tidings.engines.embedded.catalog import Log, Shard, Topic
from tidings.engines.embedded.control.members import Members
from tidings.engines.embedded.disk import place
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.log.memorylog import MemoryLog
from tidings.engines.embedded.log.segments import LogGone
from tidings.errors import BusBusy, PublishFailed, PublishUnknown, StorageFull
from tidings.model.message import Record
from tidings.model.options import Durability, PublishOptions, TopicOptions

OpenBus = Callable[[], Bus]
OS = PublishOptions(Durability.OS)


@pytest.fixture(params=["memory", "file"])
def open_bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenBus]:
    """Opens a bus; on disk a second one is like that of another process. Its hands may be set back."""
    opened: list[Bus] = []

    def open_one() -> Bus:
        folder = None if request.param == "memory" else tmp_path / "bus"
        opened.append(Bus(folder, BusOptions(), Hands()))
        return opened[-1]

    yield open_one
    for bus in opened:
        bus.close()


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[OpenBus]:
    opened: list[Bus] = []

    def open_one() -> Bus:
        opened.append(Bus(tmp_path / "bus", BusOptions(), Hands()))
        return opened[-1]

    yield open_one
    for bus in opened:
        bus.close()


def keyed(count: int) -> list[Record]:
    return [Record(f"id-{number}", "t", b"%d" % number, key=f"k{number % 5}") for number in range(count)]


def stored(log: Log) -> list[tuple[int, bytes]]:
    assert isinstance(log, (FileLog, MemoryLog))
    return contents(log)


def test_receipts_say_where_each_message_is(open_bus: OpenBus) -> None:
    bus = open_bus()
    topic = bus.create_topic("orders", TopicOptions(partitions=3))
    given = keyed(20)
    receipts, points = bus.append("orders", given, OS)
    assert [receipt.message_id for receipt in receipts] == [record.id for record in given]
    for receipt, record in zip(receipts, given, strict=True):
        assert stored(topic.shards[receipt.partition].log)[receipt.offset] == (receipt.offset, record.data)
        assert receipt.partition == topic.partition_for(record.key)
    assert {log for log, _ in points} == {topic.shards[receipt.partition].log for receipt in receipts}
    (single,), _ = bus.append("orders", given[:1], OS)
    assert (single.partition, single.durability) == (receipts[0].partition, Durability.OS)


def test_a_topic_that_does_not_exist_is_made(open_bus: OpenBus) -> None:
    bus = open_bus()
    (receipt,), _ = bus.append("new", records(b"x"), OS)
    assert (receipt.topic, receipt.partition, receipt.offset) == ("new", 0, 0)
    assert bus.catalog.topics["new"].options == TopicOptions()


def test_a_failure_in_a_later_partition_is_unknown_and_names_what_is_stored(
    open_bus: OpenBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = open_bus()
    bus.create_topic("orders", TopicOptions(partitions=3))
    given = keyed(20)
    append, calls = bus._append, []

    def failing(topic: Topic, shard: Shard, part: list[Record], options: PublishOptions, wait: float) -> object:
        calls.append([record.id for record in part])
        if len(calls) == 2:
            raise StorageFull("full")
        return append(topic, shard, part, options, wait)

    monkeypatch.setattr(bus, "_append", failing)
    with pytest.raises(PublishUnknown, match="of 20 messages were stored") as unknown:
        bus.append("orders", given, OS)
    assert list(unknown.value.message_ids) == calls[0]
    calls[:] = [[]]
    with pytest.raises(PublishFailed):
        bus.append("orders", given, OS)


def test_a_publish_follows_a_topic_that_is_dropped_and_made_again(on_disk: OpenBus) -> None:
    one, other = on_disk(), on_disk()
    one.append("orders", records(b"old"), OS)
    one.drop_topic("orders")
    other.catalog.load()
    one.create_topic("orders", None)
    (receipt,), _ = other.append("orders", records(b"new"), OS)
    assert receipt.offset == 0
    assert stored(one.topic("orders").shards[0].log) == [(0, b"new")]


def test_following_drops_has_an_end(open_bus: OpenBus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = open_bus()
    log = bus.topic("orders").shards[0].log
    calls = []

    def gone(*_: object) -> None:
        calls.append(1)
        raise LogGone

    monkeypatch.setattr(log, "append", gone)
    with pytest.raises(BusBusy):
        bus.append("orders", records(b"x"), OS)
    assert len(calls) == DROPS


def test_publishing_moves_the_board_so_that_others_see_it(on_disk: OpenBus) -> None:
    one, other = on_disk(), on_disk()
    one.append("orders", records(b"a", b"b"), OS)
    shard = other.topic("orders").shards[0].id
    assert one.topic("orders").shards[0].id == shard
    assert other.hub.written(shard) == 2


def test_the_board_never_goes_back(on_disk: OpenBus) -> None:
    """Whoever stores later says so later: the end that the board tells is the end of the log."""
    buses = [on_disk(), on_disk()]
    shard = buses[0].topic("orders").shards[0]
    buses[1].catalog.load()
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(publish_many, buses[number % 2]) for number in range(4)]
        for run in runs:
            run.result(30)
    assert shard.log.end() == 400
    assert buses[0].hub.written(shard.id) == 400


def publish_many(bus: Bus) -> None:
    for _ in range(100):
        bus.append("orders", records(b"x"), OS)


def test_a_process_has_one_slot_and_a_dead_one_s_consumers_are_buried(on_disk: OpenBus) -> None:
    one, other = on_disk(), on_disk()
    assert (one.slot(), one.slot(), other.slot()) == (0, 0, 1)
    group = one.groups.bind("billing", ["orders"], {}, 0.0)
    one.members.join(applicant(group, "ann", 0), {})
    other.members.join(applicant(group, "ghost", 7), {})
    other.bury()
    assert one.members.peers() == {100}
    assert one.presence is not None
    one.presence.close()
    other.bury()
    assert other.members.peers() == set()


def test_a_new_process_in_an_old_slot_is_not_taken_for_its_predecessor(on_disk: OpenBus) -> None:
    one, other = on_disk(), on_disk()
    group = one.groups.bind("billing", ["orders"], {}, 0.0)
    one.members.join(applicant(group, "left behind", 0), {})
    one.outbox.add([entry("left", mover=0, shard=1, floor=0)], 1.0, False)
    assert other.slot() == 0
    assert other.members.peers() == set()
    assert other.control.read("SELECT mover FROM staged") == [(None,)]


def test_care_is_for_one_and_not_too_often(open_bus: OpenBus) -> None:
    bus = open_bus()
    clock = bus.clock
    assert isinstance(clock, Hands)
    assert [bus.needs_care() for _ in range(3)] == [True, False, False]
    clock.at += CARE_SECONDS
    assert [bus.needs_care() for _ in range(3)] == [True, False, False]


def test_care_removes_what_retention_no_longer_keeps(open_bus: OpenBus) -> None:
    bus = open_bus()
    clock = bus.clock
    assert isinstance(clock, Hands)
    log = bus.create_topic("orders", TopicOptions(retention_period=100)).shards[0].log
    for _ in range(3):
        bus.append("orders", records(b"x"), OS)
        clock.at += 50
    clock.at += 80
    bus.care()
    assert log.extent()[0] > 0
    assert log.extent()[1] == 3


def test_after_a_start_of_the_machine_hints_and_leases_mean_nothing(
    on_disk: OpenBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Bus(tmp_path / "bus", BusOptions(), Hands())
    bus.append("orders", records(b"a", b"b"), OS)
    shard = bus.topic("orders").shards[0].id
    group = bus.groups.bind("billing", ["orders"], {}, 0.0)
    bus.members.join(applicant(group, "ann", bus.slot()), {})
    bus.close()
    same = Bus(tmp_path / "bus", BusOptions(), Hands())
    assert (same.hub.written(shard), same.members.peers()) == (2, {100})
    same.close()
    monkeypatch.setattr(place, "boot_id", lambda: "another start")
    after = on_disk()
    assert (after.hub.written(shard), after.members.peers()) == (0, set())
    assert after.topic("orders").shards[0].log.end() == 2


def test_a_boot_whose_first_process_died_at_once_is_noted_by_the_next(
    on_disk: OpenBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new boot and the end of all leases are written together."""
    before = on_disk()
    before.members.join(applicant(1, "ann", 7), {})
    monkeypatch.setattr(place, "boot_id", lambda: "another start")

    def die(*arguments: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Members, "forget", die)
        with pytest.raises(SystemExit):
            on_disk()
    assert on_disk().members.peers() == set()


@pytest.mark.parametrize("log_is_gone", [False, True])
def test_after_a_drop_that_broke_off_no_receipt_is_given_for_what_nobody_can_read(
    on_disk: OpenBus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log_is_gone: bool
) -> None:
    here, there = on_disk(), on_disk()
    here.append("orders", records(b"0"), OS)
    real = FileLog.drop

    def break_off(log: FileLog) -> None:
        if log_is_gone:
            real(log)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(FileLog, "drop", break_off)
        with pytest.raises(SystemExit):
            there.drop_topic("orders")
    try:
        (receipt,), _ = here.append("orders", records(b"1"), OS)
    except BusBusy:
        assert log_is_gone
    else:
        assert (receipt.offset, b"1") in stored(on_disk().catalog.find("orders").shards[0].log)
    on_disk().drop_topic("orders")
    assert [path.name for path in (tmp_path / "bus" / "topics").iterdir()] == ["board"]
    (receipt,), _ = there.append("orders", records(b"new"), OS)
    assert stored(on_disk().catalog.find("orders").shards[0].log) == [(receipt.offset, b"new")]


def test_who_names_the_same_place_shares_one_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Bus] = []

    def make() -> Bus:
        made.append(Bus(None, BusOptions()))
        return made[-1]

    first, second = module.acquire("memory:x", make), module.acquire("memory:x", make)
    assert first is second
    module.release("memory:x")
    assert first.members.peers() == set()
    module.release("memory:x")
    third = module.acquire("memory:x", make)
    assert third is not first
    module.release("memory:x")


FORKING = """
    import os, sys
    from pathlib import Path
    from tidings.engines.embedded.bus import Bus, BusOptions
    from tidings.model.message import Record
    from tidings.model.options import Durability, PublishOptions
    OS = PublishOptions(Durability.OS)
    bus = Bus(Path(sys.argv[1]), BusOptions())
    publish = lambda data: bus.append("orders", [Record("id", "t", data)], OS)[0][0].offset
    assert publish(b"parent") == 0 and bus.slot() == 0
    if os.fork() == 0:
        assert bus.stale and bus.current() is bus and bus.generation == 1
        print("child", publish(b"child"), bus.slot())
        os._exit(0)
    os.wait()
    print("parent", publish(b"parent again"), bus.slot(), bus.generation)
"""


def test_a_forked_child_opens_its_own(tmp_path: Path) -> None:
    with Child(FORKING, tmp_path / "bus") as child:
        assert child.line() == "child 1 1"
        assert child.line() == "parent 2 0 0"


def test_what_is_open_when_a_process_dies_does_not_matter(tmp_path: Path) -> None:
    program = """
        import sys
        from pathlib import Path
        from tidings.engines.embedded.bus import Bus, BusOptions
        from tidings.model.message import Record
        from tidings.model.options import Durability, PublishOptions
        bus = Bus(Path(sys.argv[1]), BusOptions())
        bus.append("orders", [Record("id", "t", b"0")], PublishOptions(Durability.OS))
        print(bus.slot())
        sys.stdin.read()
    """
    with Child(program, tmp_path / "bus") as child:
        assert child.line() == "0"
        child.send(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    bus = Bus(tmp_path / "bus", BusOptions())
    assert bus.slot() == 0
    assert bus.append("orders", records(b"1"), OS)[0][0].offset == 1
    (folder,) = (tmp_path / "bus" / "topics").glob("*/*")
    assert contents(file_log(folder)) == [(0, b"0"), (1, b"1")]
    bus.close()


def test_closing_leaves_no_descriptor_open(tmp_path: Path) -> None:
    bus = Bus(tmp_path / "bus", BusOptions())
    bus.append("orders", records(b"x"), OS)
    bus.slot()
    bus.close()
    links = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert [link for link in links if link.startswith(str(tmp_path))] == []
