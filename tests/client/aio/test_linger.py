"""Publishes that share an append: who goes together, when they go, and what each of them is told."""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from tidings import AsyncClient, Closed, Durability, InvalidOption, PublishFailed, PublishUnknown
from tidings.client.aio import linger as module
from tidings.client.aio import runtime
from tidings.client.aio.linger import MAX_LINGER_SECONDS, Linger, check_linger, for_one
from tidings.errors import InvalidTopic, StorageFull, TopicFull
from tidings.model.codec import encode
from tidings.model.message import Receipt, Record
from tidings.model.options import PublishOptions
from tidings.testing.conformance.stage.place import until

PLAIN = PublishOptions(Durability.MEMORY)


def record(number: int, size: int = 1) -> Record:
    return Record(f"id-{number}", "text/plain", b"x" * size)


class FakePublish:
    """An engine's publish: `calls` are the ids that were stored together. `failures` are raised by the calls to come,
    `bad` is an id that it refuses."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.topics: list[tuple[str, PublishOptions]] = []
        self.failures: deque[BaseException | None] = deque()
        self.bad = ""
        self.before: Callable[[], Awaitable[object]] | None = None

    async def __call__(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        self.calls.append([each.id for each in records])
        self.topics.append((topic, options))
        if self.before is not None:
            await self.before()
        failure = self.failures.popleft() if self.failures else None
        if failure is not None:
            raise failure
        if self.bad in self.calls[-1]:
            raise InvalidTopic(topic, f"{self.bad} is not for it")
        return [Receipt(each.id, topic, 0, offset, options.durability) for offset, each in enumerate(records)]


@pytest.fixture
def engine() -> FakePublish:
    return FakePublish()


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> float:
    """A wait that no test sits out."""
    monkeypatch.setattr(module, "MAX_LINGER_SECONDS", 3600.0)
    return 3600.0


def begin(linger: Linger, numbers: Sequence[int], topic: str = "topic", size: int = 1) -> list[asyncio.Task[Receipt]]:
    return [asyncio.ensure_future(linger.publish(topic, record(number, size), PLAIN)) for number in numbers]


def ids(numbers: Sequence[int]) -> list[str]:
    return [f"id-{number}" for number in numbers]


# -- who goes together, and when


async def test_publishes_at_the_same_time_share_an_append(engine: FakePublish) -> None:
    linger = Linger(0.01, engine)
    receipts = await asyncio.gather(*begin(linger, range(50)))
    assert engine.calls == [ids(range(50))]
    assert [(receipt.message_id, receipt.offset) for receipt in receipts] == [(f"id-{n}", n) for n in range(50)]


async def test_one_alone_waits_as_long_as_was_said_and_no_longer(engine: FakePublish) -> None:
    clock = asyncio.get_running_loop().time
    linger = Linger(0.03, engine)
    begun = clock()
    receipt = await linger.publish("topic", record(1), PLAIN)
    assert 0.02 <= clock() - begun < 5
    assert (receipt.message_id, engine.calls) == ("id-1", [["id-1"]])
    for each in (record(2), record(3)):
        await linger.publish("topic", each, PLAIN)
    assert engine.calls == [["id-1"], ["id-2"], ["id-3"]], "one after the other stays in order, and is not gathered"


async def test_only_equal_topics_and_options_go_together(engine: FakePublish) -> None:
    linger = Linger(0.01, engine)
    high = PublishOptions(Durability.MEMORY, 8)
    await asyncio.gather(
        linger.publish("a", record(1), PLAIN),
        linger.publish("b", record(2), PLAIN),
        linger.publish("a", record(3), high),
        linger.publish("a", record(4), PublishOptions(Durability.MEMORY)),
    )
    assert sorted(engine.calls) == [["id-1", "id-4"], ["id-2"], ["id-3"]]
    assert sorted(engine.topics, key=repr) == sorted([("a", PLAIN), ("b", PLAIN), ("a", high)], key=repr)


@pytest.mark.parametrize("limit", ["MAX_BATCH_MESSAGES", "MAX_BATCH_BYTES"])
async def test_a_full_batch_does_not_wait(
    engine: FakePublish, monkeypatch: pytest.MonkeyPatch, never: float, limit: str
) -> None:
    monkeypatch.setattr(module, limit, 3)
    linger = Linger(never, engine)
    waiting = begin(linger, range(7))
    await until(lambda: len(engine.calls) == 2)
    assert engine.calls == [ids([0, 1, 2]), ids([3, 4, 5])]
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True] * 6 + [False]
    await linger.close()
    assert engine.calls[2:] == [["id-6"]]


async def test_a_batch_is_never_larger_than_one_append_may_be(
    engine: FakePublish, monkeypatch: pytest.MonkeyPatch, never: float
) -> None:
    """One that has no more room is stored at once; a single message may be larger."""
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 10)
    linger = Linger(never, engine)
    waiting = [*begin(linger, [0, 1], size=4), *begin(linger, [2], size=5), *begin(linger, [3], size=99)]
    await asyncio.wait_for(asyncio.gather(*waiting), 15)
    assert engine.calls == [ids([0, 1]), ids([2]), ids([3])]


async def test_batches_do_not_wait_for_each_other(engine: FakePublish) -> None:
    stuck = asyncio.Event()
    engine.before = stuck.wait
    linger = Linger(0.001, engine)
    first = begin(linger, [1])
    await until(lambda: engine.calls == [["id-1"]])
    engine.before = None
    await asyncio.wait_for(asyncio.gather(*begin(linger, [2]), *begin(linger, [3], "other")), 5)
    assert not first[0].done()
    stuck.set()
    assert (await first[0]).message_id == "id-1"


async def test_nothing_is_left_of_what_was_stored(engine: FakePublish) -> None:
    linger = Linger(0.001, engine)
    engine.failures.append(PublishFailed("no"))
    await asyncio.gather(*(begin(linger, [n], f"topic {n}")[0] for n in range(20)), return_exceptions=True)
    assert (linger._open, linger._under_way) == ({}, set())
    await until(lambda: runtime._going_on == set())
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("seconds", [-0.001, MAX_LINGER_SECONDS + 0.1, float("nan"), None, True, "1"])
async def test_a_time_that_makes_no_sense_is_refused(engine: FakePublish, seconds: Any) -> None:
    for refuse in (check_linger, lambda value: Linger(value, engine)):
        with pytest.raises(InvalidOption, match=r"^linger_seconds="):
            refuse(seconds)


async def test_not_waiting_at_all_is_fine(engine: FakePublish) -> None:
    linger = Linger(0, engine)
    assert (await asyncio.wait_for(linger.publish("topic", record(1), PLAIN), 5)).message_id == "id-1"


# -- errors


async def failed(tasks: Sequence[asyncio.Task[Receipt]]) -> list[BaseException]:
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert all(isinstance(outcome, BaseException) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, BaseException)]


@pytest.mark.parametrize(
    "error",
    [PublishFailed("broken"), StorageFull("full"), TopicFull("topic", 10, "group")],
    ids=lambda e: type(e).__name__,
)
async def test_each_gets_the_error_as_an_instance_of_its_own(engine: FakePublish, error: PublishFailed) -> None:
    error.add_note("a note")
    engine.failures.append(error)
    errors = await failed(begin(Linger(0.001, engine), range(3)))
    assert [type(each) for each in errors] == [type(error)] * 3
    assert [str(each) for each in errors] == [str(error)] * 3
    assert len({id(each) for each in (*errors, error)}) == 4
    errors[0].add_note("of the first one")
    assert [each.__notes__ for each in errors[1:]] == [["a note"]] * 2
    assert "raise failure" in "".join(traceback.format_exception(errors[2])), "it says where it came from"
    if isinstance(errors[0], TopicFull):
        assert (errors[0].topic, errors[0].max_length, errors[0].group, errors[0].retryable) == (
            "topic",
            10,
            "group",
            True,
        )
    assert len(engine.calls) == 1


async def test_what_may_be_stored_names_the_message_of_the_caller_only(engine: FakePublish) -> None:
    engine.failures.append(PublishUnknown("no proof", tuple(ids(range(3)))))
    errors = await failed(begin(Linger(0.001, engine), range(3)))
    assert [each.message_ids for each in errors if isinstance(each, PublishUnknown)] == [
        ("id-0",),
        ("id-1",),
        ("id-2",),
    ]
    assert str(errors[0]) == "no proof"


async def test_an_error_that_nobody_foresaw_may_have_stored_it(engine: FakePublish) -> None:
    bug = ZeroDivisionError("a bug")
    engine.failures.append(bug)
    errors = await failed(begin(Linger(0.001, engine), range(2)))
    assert [each.message_ids for each in errors if isinstance(each, PublishUnknown)] == [("id-0",), ("id-1",)]
    assert [each.__cause__ for each in errors] == [bug, bug]
    assert "ZeroDivisionError('a bug')" in str(errors[0])


async def test_the_mistake_of_one_is_not_that_of_the_others(engine: FakePublish) -> None:
    """A call that was wrong stores nothing, so each is tried by itself, in order."""
    engine.bad = "id-1"
    tasks = begin(Linger(0.001, engine), range(3))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in outcomes] == [Receipt, InvalidTopic, Receipt]
    assert engine.calls == [ids(range(3)), ["id-0"], ["id-1"], ["id-2"]]


def test_a_copy_has_all_that_the_error_has() -> None:
    cause = ValueError("cause")
    with pytest.raises(TopicFull) as told:
        raise TopicFull("topic", 10, "group") from cause
    error, copy = told.value, for_one(told.value, "id")
    assert copy is not error
    assert (type(copy), vars(copy), copy.args) == (TopicFull, vars(error), error.args)
    assert (copy.__cause__, copy.__traceback__) == (cause, error.__traceback__)


# -- cancelling and closing


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("when", ["gathering", "storing"])
async def test_who_is_cancelled_disturbs_nobody(engine: FakePublish, who: int, when: str) -> None:
    """Neither the one who opened the batch nor one who came later."""
    go_on = asyncio.Event()
    engine.before = go_on.wait
    linger = Linger(0.02 if when == "gathering" else 0.001, engine)
    tasks = begin(linger, range(3))
    await asyncio.sleep(0)
    if when == "storing":
        await until(lambda: engine.calls)
    tasks[who].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[who]
    gc.collect()
    go_on.set()
    del tasks[who]
    assert [receipt.message_id for receipt in await asyncio.wait_for(asyncio.gather(*tasks), 5)] == [
        f"id-{n}" for n in range(3) if n != who
    ]
    assert engine.calls == [ids(range(3))]


async def test_a_storing_that_is_cut_off_leaves_nobody_waiting(engine: FakePublish) -> None:
    """As when the event loop ends: the engine was interrupted, so nobody knows."""
    engine.before = asyncio.Event().wait
    tasks = begin(Linger(0.001, engine), range(2))
    await until(lambda: engine.calls)
    (storing,) = runtime._going_on
    storing.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert isinstance(outcomes[1], PublishUnknown)
    assert outcomes[1].message_ids == ("id-1",)


async def test_closing_stores_what_was_gathered_and_waits_for_it(engine: FakePublish, never: float) -> None:
    linger = Linger(never, engine)
    tasks = [*begin(linger, range(3)), *begin(linger, [3], "other")]
    await asyncio.sleep(0)
    go_on = asyncio.Event()
    engine.before = go_on.wait
    closing = [asyncio.ensure_future(linger.close()) for _ in range(2)]
    await until(lambda: len(engine.calls) == 2)
    closing[0].cancel()
    await asyncio.wait(closing, timeout=0.01)
    assert not closing[1].done()
    with pytest.raises(Closed):
        await linger.publish("topic", record(9), PLAIN)
    go_on.set()
    await asyncio.wait_for(closing[1], 5)
    assert sorted(engine.calls) == [ids(range(3)), ["id-3"]]
    assert [receipt.message_id for receipt in await asyncio.gather(*tasks)] == ids(range(4))
    await linger.close()


# -- on a real engine


async def test_on_a_real_engine(bus_url: str) -> None:
    async with AsyncClient(bus_url) as client:
        linger = Linger(0.005, client._engine.publish)

        async def publish(publisher: int) -> list[Receipt]:
            return [
                await linger.publish("topic", Record(f"{publisher}-{n}", *encode(n), f"key {publisher}"), PLAIN)
                for n in range(10)
            ]

        receipts = await asyncio.gather(*map(publish, range(20)))
        await linger.close()
        assert len({receipt.offset for each in receipts for receipt in each}) == 200
        async with client.subscribe("topic", from_beginning=True) as subscription:
            seen: dict[str | None, list[int]] = {f"key {n}": [] for n in range(20)}
            async for message in subscription:
                seen[message.key].append(message.data)
                assert receipts[int(message.id.split("-")[0])][message.data].offset == message.offset
                if sum(map(len, seen.values())) == 200:
                    break
    assert seen == {f"key {n}": list(range(10)) for n in range(20)}
