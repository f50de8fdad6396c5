"""Whose turn it is: equal keys one after the other, the oldest first, and nobody overtakes a message that failed."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from tidings import InvalidOption, Message
from tidings.client import lanes as module
from tidings.client.lanes import MAX_QUEUED, MAX_WORKERS, Lanes, check_workers
from tidings.model.message import StoredRecord


def made(offset: int, key: str | None = "a", *, topic: str = "topic", partition: int = 0) -> Message:
    return Message(StoredRecord(f"id-{offset}", "text/plain", b"", key), topic, partition, offset, 0.0, 1, 7)


def filled(*messages: Message, ordering: bool = False) -> Lanes[Message]:
    lanes = Lanes[Message](ordering)
    lanes.begin_fetch()
    assert all(lanes.add(message) for message in messages)
    return lanes


def take_all(lanes: Lanes[Message]) -> list[int]:
    taken = []
    while (message := lanes.take()) is not None:
        taken.append(message.offset)
    return taken


def test_a_lane_is_busy_until_what_was_taken_is_finished() -> None:
    first, second, other = made(0), made(1), made(2, "b")
    lanes = filled(first, second, other)
    assert lanes.has_ready()
    assert lanes.take() is first
    assert lanes.take() is other
    assert not lanes.has_ready()
    assert lanes.take() is None
    lanes.finish(other)
    assert lanes.take() is None
    lanes.finish(first)
    assert lanes.take() is second


def test_the_oldest_whose_turn_it_is_comes_first() -> None:
    """A follower that had to wait is older than what came for free lanes after it."""
    first = made(0)
    lanes = filled(first, made(1), made(2, "b"), made(3, "c"))
    assert lanes.take() is first
    lanes.finish(first)
    assert take_all(lanes) == [1, 2, 3]


@pytest.mark.parametrize("ordering", [False, True])
def test_what_makes_a_lane(ordering: bool) -> None:
    """Topic, partition and key; without a key everybody is free, unless the subscription is ordering."""
    keyed = [made(0), made(1, topic="other"), made(2, partition=1), made(3, "b"), made(4), made(5, partition=1)]
    assert take_all(filled(*keyed, ordering=ordering)) == [0, 1, 2, 3]
    keyless = [made(0, None), made(1, None), made(2, None, partition=1), made(3, None, topic="other"), made(4, "a")]
    assert take_all(filled(*keyless, ordering=ordering)) == ([0, 2, 3, 4] if ordering else [0, 1, 2, 3, 4])


def test_a_message_without_a_lane_has_no_followers() -> None:
    message = made(0, None)
    lanes = filled(message, made(1, None))
    assert lanes.take() is message
    assert lanes.remove_followers(message) == []
    lanes.finish(message)
    assert take_all(lanes) == [1]


def test_after_a_failure_the_followers_wait_for_the_retry() -> None:
    failed = made(0)
    lanes = filled(failed, made(1), made(2), made(3, "b"), ordering=True)
    assert lanes.take() is failed
    assert [message.offset for message in lanes.remove_followers(failed)] == [1, 2]
    lanes.finish(failed)
    assert take_all(lanes) == [3]
    lanes.begin_fetch()
    assert all(lanes.add(made(offset)) for offset in (0, 1, 2))
    assert take_all(lanes) == [0]


def test_a_fetch_that_was_on_its_way_brings_nobody_past_a_failed_one() -> None:
    """Whether it comes back before the lane is free again or after that; other lanes do not mind."""
    failed = made(0)
    lanes = filled(failed, ordering=True)
    assert lanes.take() is failed
    lanes.begin_fetch()
    assert lanes.remove_followers(failed) == []
    assert not lanes.add(made(1))
    assert lanes.add(made(2, "b"))
    lanes.finish(failed)
    assert not lanes.add(made(3))
    assert take_all(lanes) == [2]


def test_nobody_enters_a_lane_before_its_failure_is_settled() -> None:
    """A fetch begun meanwhile may bring what was claimed before, too."""
    failed = made(0)
    lanes = filled(failed, ordering=True)
    assert lanes.take() is failed
    lanes.remove_followers(failed)
    lanes.begin_fetch()
    assert not lanes.add(made(1))
    lanes.finish(failed)
    assert not lanes.add(made(2))
    lanes.begin_fetch()
    assert lanes.add(made(0))


def test_when_it_has_ended_it_returns_the_rest_and_takes_no_more() -> None:
    first = made(0)
    lanes = filled(first, made(1), made(2, "b"), made(3, "b"), made(4, None))
    assert lanes.take() is first
    assert sorted(message.offset for message in lanes.end()) == [1, 2, 3, 4]
    assert not lanes.add(made(5, "c"))
    lanes.finish(first)
    assert lanes.take() is None
    assert lanes.end() == []


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Lanes[Message](False).has_room()
    assert MAX_QUEUED >= 1000
    monkeypatch.setattr(module, "MAX_QUEUED", 3)
    first = made(0)
    lanes = filled(first, made(1))
    assert lanes.has_room()
    lanes.add(made(2))
    assert not lanes.has_room()
    assert lanes.take() is first
    assert lanes.has_room()
    lanes.add(made(3))
    assert not lanes.has_room()
    assert len(lanes.remove_followers(first)) == 3
    assert lanes.has_room()


def test_lanes_that_are_empty_are_forgotten() -> None:
    lanes: Lanes[Message] = Lanes(True)
    for offset in range(100):
        message = made(offset, f"key {offset}")
        lanes.add(message)
        assert lanes.take() is message
        lanes.remove_followers(message)
        lanes.finish(message)
        lanes.begin_fetch()
    assert not any(value for name, value in vars(lanes).items() if name not in ("_ordering", "_count"))


@pytest.mark.parametrize("seed", range(5))
def test_any_course_of_things_keeps_the_order_of_each_key(seed: int) -> None:
    """And leaves out nobody, and always takes the oldest that may be taken."""
    chance = random.Random(seed)
    lanes = Lanes[Message](False)
    waiting = [made(offset, chance.choice("abcde")) for offset in range(300)]
    queued: list[Message] = []
    running: list[Message] = []
    seen: defaultdict[str | None, list[int]] = defaultdict(list)
    while waiting or queued or running:
        what = chance.choice(["add", "take", "finish"])
        if what == "add" and waiting:
            queued.append(waiting.pop(0))
            assert lanes.add(queued[-1])
        elif what == "finish" and running:
            lanes.finish(running.pop(chance.randrange(len(running))))
        elif what == "take":
            busy = {message.key for message in running}
            expected = next((message for message in queued if message.key not in busy), None)
            assert lanes.take() is expected
            if expected is not None:
                queued.remove(expected)
                running.append(expected)
                seen[expected.key].append(expected.offset)
    assert sum(map(len, seen.values())) == 300
    assert all(offsets == sorted(offsets) for offsets in seen.values())


@pytest.mark.parametrize("workers", [0, -1, MAX_WORKERS + 1, 1.5, True, None, "2"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(workers: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^workers="):
        check_workers(workers)


def test_a_number_of_workers() -> None:
    assert [check_workers(number) for number in (1, 8, MAX_WORKERS)] == [1, 8, MAX_WORKERS]
