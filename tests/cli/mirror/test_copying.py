"""The copy: acked when it is stored, in order, in batches of bounded size, until nothing is left."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.cli.mirror.conftest import Opener
from tidings import BrokerUnavailable, Capability, Client, LeaseLost, Receipt, TopicOptions, UnsupportedFeature
from tidings.cli.interrupts import Interrupts
from tidings.cli.mirror import copying, patience
from tidings.cli.mirror.copying import Copying, Rest
from tidings.cli.mirror.patience import Patience
from tidings.cli.mirror.places import Places
from tidings.cli.mirror.progress import Progress
from tidings.model.topics import parse_topics

GROUP = "mirror"
ALL = parse_topics("**")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(patience, "FIRST_DELAY_SECONDS", 0.001)


def copy(source: Client, target: Client) -> list[int]:
    """Copy all there is; return the sizes of the batches."""
    sizes: list[int] = []

    class Counted(Progress):
        def add(self, copied: int, repeated: int) -> None:
            sizes.append(copied)

    with Interrupts() as interrupts:
        patient = Patience(interrupts)
        work = Copying(source, target, Places(source, target, patient, False), patient)
        rest = Rest(source, GROUP, ALL, follow=False)
        subscription = source.subscribe("**", consumer_group=GROUP, auto_ack=False, from_beginning=True)
        with subscription:
            work.run(subscription, rest, Counted(rest.count), interrupts)
    return sizes


def read(client: Client, topic: str) -> list[Any]:
    with client.subscribe(topic, from_beginning=True, auto_ack=False) as subscription:
        return [message.data for message in subscription.fetch(10_000, 0)]


def test_everything_is_copied_and_acked(opened: Opener) -> None:
    source, target = opened(), opened()
    source.publish_batch("a", range(1200))
    source.publish_batch("b", list("xyz"))
    source.create_topic("once", TopicOptions(delivery="exactly_once"))
    source.publish("once", 1, message_id="mine")
    copy(source, target)
    assert [read(target, topic) for topic in ("a", "b", "once")] == [list(range(1200)), list("xyz"), [1]]
    assert {info.lag for info in source.groups()} == {0}
    assert copy(source, target) == []
    source.publish("b", "more")
    assert copy(source, target) == [1]


def test_what_the_target_has_is_counted_and_not_stored_twice(opened: Opener) -> None:
    source, target = opened(), opened()
    source.create_topic("once", TopicOptions(delivery="exactly_once"))
    receipts = source.publish_batch("once", range(10))
    target.create_topic("once", TopicOptions(delivery="exactly_once"))
    target.publish_batch("once", range(4), message_ids=[receipt.message_id for receipt in receipts[:4]])
    told: list[tuple[int, int]] = []

    class Counted(Progress):
        def add(self, copied: int, repeated: int) -> None:
            told.append((copied, repeated))

    with Interrupts() as interrupts:
        patient = Patience(interrupts)
        rest = Rest(source, GROUP, ALL, follow=False)
        with source.subscribe("**", consumer_group=GROUP, auto_ack=False, from_beginning=True) as subscription:
            places = Places(source, target, patient, False)
            Copying(source, target, places, patient).run(subscription, rest, Counted(rest.count), interrupts)
    assert (sum(copied for copied, _ in told), sum(repeated for _, repeated in told)) == (10, 4)
    assert read(target, "once") == list(range(10))


class Failing:
    """Does something, but fails before or after it the first times."""

    def __init__(self, work: Any, *errors: tuple[str, Exception]) -> None:
        self.work = work
        self.errors = list(errors)

    def __call__(self, *arguments: Any) -> Any:
        when, error = self.errors.pop(0) if self.errors else ("", None)
        if when == "before" and error is not None:
            raise error
        result = self.work(*arguments)
        if error is not None:
            raise error
        return result


def test_what_fails_is_tried_again_in_order(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = opened(), opened()
    source.create_topic("a", TopicOptions(delivery="exactly_once"))
    source.publish_batch("a", range(1200))
    away = BrokerUnavailable("away")
    monkeypatch.setattr(target, "forward", Failing(target.forward, ("before", away), ("after", away), ("before", away)))
    copy(source, target)
    assert read(target, "a") == list(range(1200))


def test_nothing_is_acked_that_is_not_stored(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = opened(), opened()
    source.publish_batch("a", range(10))

    def forward(topic: str, messages: Iterable[Any]) -> list[Receipt]:
        raise RuntimeError("the program dies")

    with monkeypatch.context() as patched:
        patched.setattr(target, "forward", forward)
        with pytest.raises(RuntimeError):
            copy(source, target)
    assert [info.acked for info in source.groups()] == [0]
    copy(source, target)
    assert read(target, "a") == list(range(10))


def test_a_lost_lease_is_told_and_the_copy_goes_on(opened: Opener, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = opened(), opened()
    source.publish_batch("a", range(3))
    interrupts = Interrupts()
    work = Copying(source, target, Places(source, target, Patience(interrupts), False), Patience(interrupts))
    with source.subscribe("a", consumer_group=GROUP, auto_ack=False, from_beginning=True) as subscription:
        found = subscription.fetch(3, 10)

        class Lost:
            def ack(self, messages: object) -> None:
                raise LeaseLost("a", (0,))

        work._ack(Lost(), found)  # type: ignore[arg-type]
    assert "copied twice" in capsys.readouterr().err


def test_what_the_target_cannot_take_is_told_with_a_way_out(opened: Opener) -> None:
    source, target = opened(), opened(Capability.PRIORITY)
    source.publish("a", 1, priority="high")
    with pytest.raises(UnsupportedFeature, match="priorities") as refused:
        copy(source, target)
    assert refused.value.__notes__ == ["There are such messages on topic 'a'; give --force to leave that out."]
    assert {info.acked for info in source.groups()} == {0}


def test_where_there_is_no_room_for_all_some_are_stored(opened: Opener) -> None:
    source, target = opened(), opened()
    source.publish_batch("a", range(6))
    target.create_topic("a", TopicOptions(max_length=4))
    target.create_group("a", "slow")
    source.alter_topic("a", max_length=4)
    patient = Patience(Interrupts())
    work = Copying(source, target, Places(source, target, patient, False), patient)
    with source.subscribe("a", consumer_group=GROUP, auto_ack=False, from_beginning=True) as subscription:
        found = subscription.fetch(6, 10)
        assert work._store("a", found[:4]) == 0
        assert read(target, "a") == [0, 1, 2, 3]
        with target.subscribe("a", consumer_group="slow", auto_ack=False) as slow:
            slow.ack(slow.fetch(3, 10))
            assert work._store("a", found[3:6]) == 0
    assert read(target, "a") == [0, 1, 2, 3, 3, 4, 5]


def test_large_messages_come_in_small_batches(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "BATCH_MESSAGES", 8)
    monkeypatch.setattr(copying, "BATCH_BYTES", 4000)
    source, target = opened(), opened()
    source.publish_batch("a", [b"x" * 1000] * 20)
    sizes = copy(source, target)
    assert (sizes[0], sizes[1], sum(sizes)) == (8, 4, 20)
    source.publish_batch("a", [b"x" * 9000] * 3 + [b""] * 30)
    assert {1, 8} <= set(copy(source, target))


def test_the_rest_is_what_the_group_has_not_done(opened: Opener) -> None:
    source = opened()
    source.publish_batch("a", range(5))
    source.publish_batch("b", range(7))
    source.create_group(["a", "b"], GROUP, from_beginning=True)
    source.create_group("a", "other", from_beginning=True)
    assert Rest(source, GROUP, parse_topics("a"), follow=False).count() == 5
    assert Rest(source, GROUP, ALL, follow=False).count() == 12
    assert not Rest(source, GROUP, ALL, follow=False).is_done()
    assert Rest(source, "nobody", ALL, follow=False).is_done()
    assert not Rest(source, "nobody", ALL, follow=True).is_done()


def test_a_source_that_cannot_count_ends_when_nothing_comes(opened: Opener) -> None:
    source, target = opened(Capability.LAG), opened()
    assert Rest(source, GROUP, ALL, follow=False).count() is None
    source.publish_batch("a", range(5))
    copy(source, target)
    assert read(target, "a") == list(range(5))
