"""Filters ask about each message once in a process; runs are what they let through."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.stage import Buses, consumer, counts, data, everything, numbered, polled, publish, settle, tail
from tidings.engines.embedded import sift as module
from tidings.engines.embedded.bus import Bus
from tidings.engines.embedded.catalog import Shard
from tidings.engines.embedded.sift import VERDICT_BYTES, Sift, Verdicts, messages_of
from tidings.model.message import Message
from tidings.model.predicate import Predicate, record

pytestmark = pytest.mark.parametrize("open_bus", ["memory", "file"], indirect=True)


def last_digit(*digits: int) -> Predicate:
    """What ends with one of these digits; the data of these tests is bare bytes, so it is told by the offset."""
    return record(lambda m: (m.offset % 10).is_in(digits))


class Counting:
    """A predicate that counts how often it is asked."""

    def __init__(self, predicate: Predicate) -> None:
        self.predicate = predicate
        self.root = predicate.root
        self.asked: list[int] = []

    def matches(self, message: Message) -> bool:
        self.asked.append(message.offset)
        return self.predicate.matches(message)


@pytest.fixture
def shard(one: Bus) -> Shard:
    numbered(one, 25)
    publish(one, "orders", *map(str, range(25, 50)))
    return one.topic("orders").shards[0]


class TestVerdicts:
    def test_each_message_is_asked_about_once(self, one: Bus, shard: Shard) -> None:
        counting: Any = Counting(last_digit(3))
        first, second = Sift(counting, one.verdicts), Sift(counting, one.verdicts)
        assert first.runs(shard, 0, 50, 100) == second.runs(shard, 0, 50, 100)
        assert counting.asked == list(range(50))

    def test_what_is_remembered_is_bounded(self, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_VERDICTS", 3 * (VERDICT_BYTES + 1))
        verdicts, predicate = Verdicts(), last_digit(3)
        batches = shard.log.read(0)[:10]
        for batch in batches:
            verdicts.of(predicate, shard, batch)
        assert [base for _, base, _ in verdicts._known] == [batch.base for batch in batches[-3:]]
        assert verdicts._cost == 3 * (VERDICT_BYTES + 1)

    def test_what_concerns_nobody_is_not_remembered(self, shard: Shard) -> None:
        verdicts, predicate = Verdicts(), last_digit(3)
        for batch in shard.log.read(0)[:10]:
            verdict = verdicts.of(predicate, shard, batch, messages_of(shard, batch))
            assert verdict == Verdicts().of(predicate, shard, batch)
        assert [base for _, base, _ in verdicts._known] == [3]


class TestRuns:
    @pytest.mark.parametrize(
        ("at", "end", "limit", "expected"),
        [
            (0, 50, 100, ([(3, 4), (13, 14), (23, 24), (33, 34), (43, 44)], 50)),
            (4, 24, 100, ([(4, 4), (13, 14), (23, 23)], 24)),
            (0, 50, 3, ([(3, 4), (13, 13)], 14)),
            (26, 50, 2, ([(33, 34)], 35)),
            (5, 13, 100, ([], 13)),
            (50, 50, 100, ([], 50)),
        ],
    )
    def test_they_are_what_is_wanted(
        self, one: Bus, shard: Shard, at: int, end: int, limit: int, expected: tuple[list[tuple[int, int]], int]
    ) -> None:
        assert Sift(last_digit(3, 4), one.verdicts).runs(shard, at, end, limit) == expected

    def test_a_look_is_bounded(self, one: Bus, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "SIFT_MESSAGES", 10)
        runs, end = Sift(last_digit(9), one.verdicts).runs(shard, 0, 50, 100)
        assert (runs, end) == ([(9, 9)], 10)

    def test_what_is_not_there_is_wanted(self, one: Bus, shard: Shard) -> None:
        """Only reading it can say that it is not there, or never was."""
        assert Sift(last_digit(9), one.verdicts).runs(shard, 50, 53, 100) == ([(50, 52)], 53)


class TestReaders:
    def test_a_temporary_subscription_gets_what_matches(self, one: Bus) -> None:
        feed = tail(one, "orders", filter=last_digit(3), start="beginning")
        numbered(one, 25)
        assert data(everything(feed)) == ["3", "13", "23"]

    def test_several_priorities_stay_in_publish_order(self, one: Bus) -> None:
        feed = tail(one, "orders", filter=record(lambda m: m.key == "k"))
        group = consumer(one, "orders", filter=record(lambda m: m.key == "k"))
        for number in range(40):
            publish(one, "orders", str(number), key="k" if number % 5 == 0 else "x", priority=number % 3 + 4)
        expected = [str(number) for number in range(0, 40, 5)]
        assert data(polled(group, 3)) == expected
        found = [message for _ in range(60) for message in feed.poll(3)]
        assert data(found) == expected

    def test_a_group_passes_over_the_rest(self, one: Bus) -> None:
        feed = consumer(one, "orders", filter=last_digit(3, 4))
        numbered(one, 25)
        found = polled(feed)
        assert data(found) == ["3", "4", "13", "14", "23", "24"]
        settle(feed, found[:4], "ack")
        assert counts(one) == {"lag": 2, "acked": 4, "filtered": 19}
        assert one.control.read("SELECT first, last FROM pending ORDER BY first") == [(23, 24)]

    def test_a_claim_has_no_more_than_was_asked_for(self, one: Bus) -> None:
        feed = consumer(one, "orders", filter=last_digit(1, 2, 3))
        numbered(one, 100)
        assert [len(feed.poll(7)) for _ in range(5)] == [7, 7, 7, 7, 2]

    def test_who_moves_the_group_back_has_it_judged_anew(self, one: Bus) -> None:
        feed = consumer(one, "orders", filter=last_digit(1))
        numbered(one, 30)
        settle(feed, polled(feed), "ack")
        one.groups.seek("billing", {shard.id: 5 for shard in one.topic("orders").shards}, 0.0)
        one.announce_groups()
        assert data(polled(feed)) == ["11", "21"]

    def test_a_group_that_was_moved_back_while_it_looked_claims_nothing_unseen(
        self, one: Bus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feed = consumer(one, "orders", filter=last_digit(1))
        numbered(one, 30)
        settle(feed, polled(feed), "ack")
        numbered(one, 10, first=30)
        shard, real = one.topic("orders").shards[0], feed._claims.claim

        def meanwhile(*arguments: Any) -> Any:
            monkeypatch.setattr(feed._claims, "claim", real)
            one.groups.seek("billing", {shard.id: 0}, 0.0)
            one.announce_groups()
            return real(*arguments)

        monkeypatch.setattr(feed._claims, "claim", meanwhile)
        assert data(polled(feed)) == ["1", "11", "21", "31"]

    def test_at_most_once_has_no_leases(self, one: Bus) -> None:
        from tidings.model.options import Guarantee, TopicOptions

        one.create_topic("orders", TopicOptions(delivery=Guarantee.AT_MOST_ONCE))
        feed = consumer(one, "orders", filter=last_digit(3, 4))
        numbered(one, 25)
        assert data(polled(feed)) == ["3", "4", "13", "14", "23", "24"]
        assert counts(one) == {"acked": 6, "filtered": 19}

    def test_an_ordering_group_does_not_wait_for_what_others_read(self, one: Bus) -> None:
        """What is left of a partition of another consumer is no reason to look again and again."""
        from tidings.model.options import TopicOptions

        one.create_topic("orders", TopicOptions(partitions=4))
        matching = record(lambda m: m.key == "wanted")
        ann = consumer(one, "orders", filter=matching, ordering=True)
        bob = consumer(one, "orders", filter=matching, ordering=True, consumer="bob")
        for _ in range(40):
            publish(one, "orders", "x", key="wanted")
        found = [message for _ in range(20) for feed in (ann, bob) for message in feed.poll(2)]
        assert len(found) == 40
        for feed in (ann, bob):
            feed.poll(2)
            assert not feed.is_ready()


def test_buses_are_closed_with_verdicts(open_bus: Buses) -> None:
    bus = open_bus.open()
    bus.close()
    assert bus.verdicts._known == {}
