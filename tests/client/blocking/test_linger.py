"""Publishes of several threads that share an append; what else it does is generated, and tested with the async one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.conftest import wait_for
from tests.engines.child import Child
from tidings import Client, Closed, Durability, PublishFailed, PublishUnknown
from tidings.client.blocking import linger as module
from tidings.client.blocking.linger import Linger
from tidings.client.blocking.runtime import Signal
from tidings.model.codec import encode
from tidings.model.message import Receipt, Record
from tidings.model.options import PublishOptions

PLAIN = PublishOptions(Durability.MEMORY)
WAIT = 20.0


def record(number: int) -> Record:
    return Record(f"id-{number}", "text/plain", b"x")


class FakePublish:
    """An engine's publish. `calls` are the ids that were stored together."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.failure: BaseException | None = None
        self.before: Callable[[], object] = lambda: None

    def __call__(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        self.calls.append([each.id for each in records])
        self.before()
        if self.failure is not None:
            raise self.failure
        return [Receipt(each.id, topic, 0, offset, options.durability) for offset, each in enumerate(records)]


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> float:
    """A wait that no test sits out."""
    monkeypatch.setattr(module, "MAX_LINGER_SECONDS", 3600.0)
    return 3600.0


class Crowd(ThreadPoolExecutor):
    """Threads that publish at the same time."""

    def __init__(self, linger: Linger) -> None:
        super().__init__(32)
        self._linger = linger

    def publish(self, numbers: Sequence[int], topic: str = "topic") -> list[Future[Receipt]]:
        return [self.submit(self._linger.publish, topic, record(number), PLAIN) for number in numbers]


def gathered(linger: Linger) -> int:
    return sum(len(batch.records) for batch in list(linger._under_way))


def test_threads_share_an_append_and_each_gets_its_receipt(monkeypatch: pytest.MonkeyPatch, never: float) -> None:
    """A batch that is full does not wait."""
    monkeypatch.setattr(module, "MAX_BATCH_MESSAGES", 20)
    engine = FakePublish()
    linger = Linger(never, engine)
    with Crowd(linger) as crowd:
        receipts = [future.result(WAIT) for future in crowd.publish(range(20))]
    assert [sorted(call) for call in engine.calls] == [sorted(f"id-{number}" for number in range(20))]
    assert [receipt.message_id for receipt in receipts] == [f"id-{number}" for number in range(20)]
    assert (linger._open, linger._under_way) == ({}, set())


def test_it_waits_no_longer_than_said_and_needs_no_thread() -> None:
    engine = FakePublish()
    before = set(threading.enumerate())
    engine.before = lambda: engine.calls.append([str(len(set(threading.enumerate()) - before))])
    assert Linger(0.005, engine).publish("topic", record(1), PLAIN).message_id == "id-1"
    assert engine.calls == [["id-1"], ["0"]]


@pytest.mark.parametrize("error", [PublishFailed("broken"), PublishUnknown("no proof", ("id-1", "id-2"))])
def test_each_gets_the_error_as_an_instance_of_its_own(error: PublishFailed | PublishUnknown, never: float) -> None:
    engine = FakePublish()
    engine.failure = error
    linger = Linger(never, engine)
    with Crowd(linger) as crowd:
        futures = crowd.publish(range(3))
        wait_for(lambda: gathered(linger) == 3)
        linger.close()
        errors = [future.exception(WAIT) for future in futures]
    assert [type(each) for each in errors] == [type(error)] * 3
    assert len({id(each) for each in (*errors, error)}) == 4
    if isinstance(error, PublishUnknown):
        assert [getattr(each, "message_ids", None) for each in errors] == [("id-0",), ("id-1",), ("id-2",)]


@pytest.mark.parametrize("when", ["gathering", "storing"])
def test_an_interrupt_of_the_first_leaves_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, never: float, when: str
) -> None:
    """Ctrl-C may reach the thread that looks after the batch: the others get their receipt, or are told that it is not
    known."""
    engine = FakePublish()
    linger = Linger(never, engine)
    waits = Signal.wait

    def interrupt(*arguments: object) -> None:
        wait_for(lambda: gathered(linger) == 3)
        raise KeyboardInterrupt

    def wait(signal: Signal, timeout: float | None) -> None:
        waits(signal, None) if timeout is None else interrupt()

    if when == "gathering":
        monkeypatch.setattr(Signal, "wait", wait)
    else:
        engine.before = interrupt
    with Crowd(linger) as crowd:
        leader = crowd.publish([0])
        wait_for(lambda: gathered(linger) == 1)
        others = crowd.publish([1, 2])
        if when == "storing":
            wait_for(lambda: gathered(linger) == 3)
            linger.close()
        assert isinstance(leader[0].exception(WAIT), KeyboardInterrupt)
        errors = [future.exception(WAIT) for future in others]
    told = [None, None] if when == "gathering" else [("id-1",), ("id-2",)]
    assert [each and getattr(each, "message_ids", None) for each in errors] == told
    assert len(engine.calls) == 1


def test_closing_stores_what_was_gathered_and_waits_for_it(never: float) -> None:
    engine = FakePublish()
    go_on = threading.Event()
    engine.before = lambda: go_on.wait(WAIT)
    linger = Linger(never, engine)
    with Crowd(linger) as crowd:
        futures = [*crowd.publish(range(3)), *crowd.publish([3], "other")]
        wait_for(lambda: gathered(linger) == 4)
        closing = crowd.submit(linger.close)
        wait_for(lambda: len(engine.calls) == 2)
        with pytest.raises(Closed):
            linger.publish("topic", record(9), PLAIN)
        assert not closing.done()
        go_on.set()
        closing.result(WAIT)
        assert all(future.result(WAIT) for future in futures)
    linger.close()


def test_a_forked_child_waits_for_no_thread_of_its_parent() -> None:
    """What was gathered in the parent is stored there, once."""
    with Child(FORK) as program:
        assert program.line() == "child ['child'] 0"
        assert program.line() == "parent ['parent'] 0"
        assert program.wait() == 0


FORK = """
    import os, threading
    from tidings import Durability
    from tidings.client.blocking.linger import Linger
    from tidings.model.message import Receipt, Record
    from tidings.model.options import PublishOptions

    calls, gathered, options = [], threading.Event(), PublishOptions(Durability.MEMORY)

    def publish(topic, records, options):
        calls.extend(record.id for record in records)
        return [Receipt(record.id, topic, 0, 0, options.durability) for record in records]

    def one(name):
        linger.publish("topic", Record(name, "text/plain", b""), options)

    linger = Linger(1.0, publish)
    thread = threading.Thread(target=one, args=("parent",))
    thread.start()
    while not linger._under_way:
        pass
    linger._guard.acquire()        # as another thread may hold it at that very moment
    child = os.fork()
    if child:
        linger._guard.release()
        os.waitpid(child, 0)
        linger.close()
        thread.join()
    else:
        linger._seconds = 0.001
        one("child")
        linger.close()
    print("parent" if child else "child", calls, len(linger._under_way), flush=True)
    if not child:
        os._exit(0)
"""


def test_on_a_real_engine(bus_url: str) -> None:
    with Client(bus_url) as client, ThreadPoolExecutor(8) as threads:
        linger = Linger(0.002, client._engine.publish)

        def publish(publisher: int) -> list[Receipt]:
            return [
                linger.publish("topic", Record(f"{publisher}-{n}", *encode(n), f"key {publisher}"), PLAIN)
                for n in range(20)
            ]

        receipts = list(threads.map(publish, range(8)))
        linger.close()
        assert len({receipt.offset for each in receipts for receipt in each}) == 160
        with client.subscribe("topic", from_beginning=True) as subscription:
            seen: dict[str | None, list[int]] = {f"key {n}": [] for n in range(8)}
            for message in subscription:
                seen[message.key].append(message.data)
                if sum(map(len, seen.values())) == 160:
                    break
    assert seen == {f"key {n}": list(range(20)) for n in range(8)}
