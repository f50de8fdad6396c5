"""The account finds what is lost, doubled and invented; a missing number must not slip through."""

from __future__ import annotations

import msgspec

from tidings.cli.demo.account import Account, Note, Result

READERS = {"s": "s", "w1": "group", "w2": "group"}


def account(*notes: tuple[str, list[int]], messages: int = 4) -> Account:
    made = Account(messages, READERS)
    for second, (name, numbers) in enumerate(notes):
        made.take(name, Note(numbers=numbers), float(second))
    return made


ALL = [0, 1, 2, 3]


def test_everything_arrived() -> None:
    made = account(("publisher", ALL), ("s", ALL), ("w1", [0, 3]), ("w2", [1, 2]))
    result = made.result(unacked=0)
    assert made.complete
    assert result.ok
    assert [(reader.name, reader.delivered, reader.lost) for reader in result.readers] == [("s", 4, 0), ("group", 4, 0)]
    assert result.workers == {"w1": 2, "w2": 2}
    assert (result.publish_seconds, result.seconds) == (0.0, 3.0)
    assert result.delivered_per_second == 8 / 3


def test_a_missing_message_is_lost_for_whom_it_missed() -> None:
    made = account(("publisher", ALL), ("s", ALL), ("w1", [0]), ("w2", [1, 3]))
    result = made.result(unacked=0)
    assert not made.complete
    assert not result.ok
    assert [reader.lost for reader in result.readers] == [0, 1]
    assert result.lost == 1


def test_a_duplicate_is_no_substitute_for_a_missing_message() -> None:
    result = account(("publisher", ALL), ("s", [0, 1, 2, 2]), ("w1", ALL)).result(0)
    assert not result.ok
    assert (result.readers[0].lost, result.readers[0].duplicates) == (1, 1)


def test_a_duplicate_alone_is_counted_and_allowed() -> None:
    result = account(("publisher", ALL), ("s", ALL), ("w1", ALL), ("w2", [2] * 300)).result(0)
    assert result.ok
    assert result.readers[1].duplicates == 300


def test_what_nobody_published_is_wrong() -> None:
    early = account(("publisher", [0, 1, 2]), ("s", ALL), ("w1", ALL)).result(0)
    assert not early.ok
    assert [reader.invented for reader in early.readers] == [1, 1]
    foreign = account(("publisher", ALL), ("s", [*ALL, 4, -1]), ("w1", ALL)).result(0)
    assert not foreign.ok
    assert (foreign.readers[0].invented, foreign.readers[0].duplicates) == (2, 0)


def test_an_unfinished_publisher_and_missing_acks_are_wrong() -> None:
    assert not account(("publisher", [0]), ("s", [0]), ("w1", [0])).result(0).ok
    assert not account(("publisher", ALL), ("s", ALL), ("w1", ALL)).result(unacked=1).ok


def test_an_empty_account() -> None:
    result = Account(4, READERS).result(0)
    assert not result.ok
    assert (result.seconds, result.delivered_per_second, result.latency_one_at_a_time) == (0.0, 0.0, None)


def test_latencies_and_redeliveries_are_gathered() -> None:
    made = Account(2, READERS)
    made.take("s", Note(numbers=[0, 1], redelivered=1, paced=[1000], flooded=[5000]), 0.0)
    result = made.result(0)
    assert result.readers[0].redelivered == 1
    assert result.latency_one_at_a_time is not None
    assert result.latency_in_batches is not None
    assert (result.latency_one_at_a_time.p50, result.latency_in_batches.max) == (1.0, 5.0)
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result
