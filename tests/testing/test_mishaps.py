"""What goes wrong and when: chances, scripts, and what lies between a feed and its reader."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.errors import InvalidOption, PublishFailed, PublishUnknown
from tidings.model.message import Message, Record, StoredRecord
from tidings.spi import Settlement
from tidings.testing.mishaps import (
    APPLIES,
    HELD_FETCHES,
    KINDS,
    LOOK_SECONDS,
    Disconnected,
    Faults,
    Injected,
    NotStored,
    Patience,
    Post,
    calling,
    published,
    publishing,
)


def message(number: int) -> Message:
    return Message(StoredRecord(f"m{number}", "text/plain", b""), "topic", 0, number, 0.0, 1)


def numbers(messages: list[Message]) -> list[int]:
    return [each.offset for each in messages]


def sorted_by(faults: Faults, *counts: int) -> list[list[int]]:
    """Let a post sort so many new messages per fetch, and return what arrived at each."""
    post: Post[Message] = Post(faults)
    found, first = [], 0
    for count in counts:
        post.sort([message(number) for number in range(first, first + count)])
        first += count
        found.append(numbers(post.take(10**6)))
    return found


# -- chances


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [-0.1, 1.1, "0.5", True, None, float("nan")])
def test_what_is_no_chance_is_refused_by_name(kind: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        Faults(**{kind: value})
    assert caught.value.name == kind


def test_chances_are_at_most_one_together() -> None:
    with pytest.raises(InvalidOption, match="at most 1 in all"):
        Faults(lose=0.5, repeat=0.5, disconnect=0.01)
    assert Faults(lose=0.5, repeat=0.5).chances["lose"] == 0.5


@pytest.mark.parametrize("at", APPLIES)
def test_dice_strike_as_often_as_they_are_told(at: str) -> None:
    """Each kind that applies, with its own chance, and no other."""
    faults = Faults(seed=1, lose=0.1, repeat=0.2, delay=0.15, reorder=0.05, disconnect=0.3)
    drawn = Counter(faults.draw(at) for _ in range(4000))
    assert set(drawn) - {None} == set(APPLIES[at])
    for kind in APPLIES[at]:
        assert abs(drawn[kind] / 4000 - faults.chances[kind]) < 0.03, kind


def test_without_chances_nothing_happens() -> None:
    faults = Faults(seed=3)
    assert {faults.draw(at) for at in APPLIES for _ in range(100)} == {None}
    assert faults.injected == []


@given(seed=st.integers() | st.text(), calls=st.lists(st.sampled_from(list(APPLIES)), max_size=60))
def test_the_same_seed_and_calls_give_the_same_faults(seed: int | str, calls: list[str]) -> None:
    one, other = (Faults(seed, lose=0.2, repeat=0.2, delay=0.2, disconnect=0.2) for _ in range(2))
    for faults in (one, other):
        for call in calls:
            faults.draw(call, (call,))
    assert one.injected == other.injected


def test_other_seeds_give_other_faults() -> None:
    def draws(seed: int) -> list[str | None]:
        faults = Faults(seed, lose=0.5)
        return [faults.draw("publish") for _ in range(64)]

    assert len({tuple(draws(seed)) for seed in range(10)}) == 10


def test_places_and_feeds_have_dice_of_their_own() -> None:
    """What one thread does changes nothing for another one."""
    quiet, busy = (Faults(9, lose=0.3) for _ in range(2))
    seen: list[list[str | None]] = [[], []]
    for faults, found in zip((quiet, busy), seen):
        for _ in range(50):
            found.append(faults.draw("delivery", (), "1"))
            if faults is busy:
                faults.draw("publish")
                faults.draw("delivery", (), "2")
    assert seen[0] == seen[1]


# -- scripts


def test_what_is_asked_for_comes_next_and_in_order() -> None:
    faults = Faults()
    faults.next("disconnect", at="publish")
    faults.next(None, at="publish")
    faults.next("lose", at="publish")
    assert faults.draw("settle", ("s",)) is None
    assert [faults.draw("publish", (str(number),)) for number in range(4)] == ["disconnect", None, "lose", None]
    assert faults.injected == [Injected("disconnect", "publish", ("0",)), Injected("lose", "publish", ("2",))]


def test_without_a_place_it_strikes_where_it_can_first() -> None:
    faults = Faults()
    faults.next("delay")
    faults.next("disconnect")
    assert [faults.draw(at) for at in ("publish", "commit", "delivery")] == ["disconnect", None, "delay"]


def test_a_script_goes_before_the_dice() -> None:
    faults = Faults(lose=1.0, script=[("publish", None), ("publish", "repeat"), ("settle", "disconnect")])
    assert [faults.draw("publish") for _ in range(3)] == [None, "repeat", "lose"]
    assert faults.draw("settle") == "disconnect"


@pytest.mark.parametrize(
    ("kind", "at", "name"),
    [
        ("explode", None, "kind"),
        ("lose", "nowhere", "at"),
        ("delay", "publish", "at"),
        ("repeat", "settle", "at"),
        (None, None, "at"),
    ],
)
def test_what_cannot_happen_is_refused_by_name(kind: str | None, at: str | None, name: str) -> None:
    faults = Faults()
    with pytest.raises(InvalidOption) as caught:
        faults.next(kind, at=at)
    assert caught.value.name == name
    assert {faults.draw(place) for place in APPLIES} == {None}


# -- the post


def test_nothing_happens_to_deliveries_without_faults() -> None:
    assert sorted_by(Faults(), 3, 0, 2) == [[0, 1, 2], [], [3, 4]]


def test_a_lost_delivery_does_not_arrive() -> None:
    faults = Faults(script=[("delivery", None), ("delivery", "lose")])
    assert sorted_by(faults, 3, 1) == [[0, 2], [3]]
    assert faults.injected == [Injected("lose", "delivery", ("m1",))]


def test_a_repeated_delivery_comes_once_more_with_the_next_fetch() -> None:
    faults = Faults()
    faults.next("repeat")
    post: Post[Message] = Post(faults)
    first = message(0)
    post.sort([first, message(1)])
    (now, other) = post.take(5)
    post.sort([])
    (again,) = post.take(5)
    assert now is first
    assert again is not first
    assert (again.id, again.offset, again.attempt, other.offset) == (first.id, 0, 1, 1)
    post.sort([])
    assert post.take(5) == []


def test_a_delayed_delivery_is_overtaken() -> None:
    faults = Faults()
    faults.next("delay")
    assert sorted_by(faults, 2, *[1] * (HELD_FETCHES + 1)) == [[1], [2], [3, 0], [4]]


def test_a_reordered_fetch_is_complete_and_not_as_it_was() -> None:
    for seed in range(20):
        faults = Faults(seed, script=[("fetch", "reorder")])
        (found, after) = sorted_by(faults, 5, 3)
        assert sorted(found) == list(range(5))
        assert found != list(range(5))
        assert after == [5, 6, 7]
    faults = Faults(script=[("fetch", "reorder")])
    assert sorted_by(faults, 1, 2) == [[0], [2, 1]]


def test_a_fetch_takes_no_more_than_it_asked_for() -> None:
    post: Post[Message] = Post(Faults())
    post.sort([message(number) for number in range(5)])
    assert [numbers(post.take(2)) for _ in range(4)] == [[0, 1], [2, 3], [4], []]


def test_a_fetch_that_disconnects_leaves_everything_where_it_was() -> None:
    faults = Faults(script=[("fetch", "disconnect")])
    post: Post[Message] = Post(faults)
    post.sort([message(0)])
    with pytest.raises(Disconnected):
        post.begin()
    post.begin()
    assert numbers(post.take(1)) == [0]


@given(st.integers(0, 10**6), st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_the_post_loses_only_what_it_says(seed: int, counts: list[int]) -> None:
    """What arrived is what was sent, without what is noted as lost, with each repeated one twice."""
    faults = Faults(seed, lose=0.2, repeat=0.2, delay=0.2, reorder=0.2)
    found = Counter(number for each in sorted_by(faults, *counts, *[0] * HELD_FETCHES) for number in each)
    wanted = Counter(range(sum(counts)))
    for kind, _, about in faults.injected:
        if kind in ("lose", "repeat"):
            wanted[int(about[0][1:])] += 1 if kind == "repeat" else -1
    assert found == +wanted


# -- calls


def settlement(number: int) -> Settlement:
    return Settlement(message(number), "ack")


def test_a_settlement_is_lost_before_or_its_answer_after() -> None:
    post: Post[Message] = Post(Faults(script=[("settle", "lose"), ("settle", "disconnect")]))
    with pytest.raises(Disconnected, match="nothing was recorded"):
        post.settling([settlement(1)])
    lost = post.settling([settlement(1)])
    with pytest.raises(Disconnected, match="after the settlement"):
        post.settled(lost)
    post.settled(post.settling([settlement(1)]))


def test_a_commit_fails_before_it_took_effect() -> None:
    faults = Faults(script=[("commit", "disconnect")])
    post: Post[Message] = Post(faults)
    with pytest.raises(Disconnected, match="nothing took effect"):
        post.committing([settlement(1), settlement(2)])
    post.committing([settlement(1)])
    assert faults.injected == [Injected("disconnect", "commit", ("m1", "m2"))]


def test_a_publish_fails_before_or_after() -> None:
    records = [Record("a", "", b""), Record("b", "", b"")]
    faults = Faults(script=[("publish", "lose"), ("publish", "disconnect"), ("publish", "repeat")])
    with pytest.raises(PublishFailed) as failed:
        publishing(faults, records)
    assert failed.value.retryable
    assert isinstance(failed.value, NotStored)
    with pytest.raises(PublishUnknown) as unknown:
        published(publishing(faults, records), records)
    assert unknown.value.message_ids == ("a", "b")
    assert publishing(faults, records) == "repeat"
    published(publishing(faults, records), records)
    assert [each.about for each in faults.injected] == [("a", "b")] * 3


def test_while_the_connection_is_cut_nothing_goes() -> None:
    faults = Faults()
    post: Post[Message] = Post(faults)
    faults.disconnect()
    with pytest.raises(NotStored):
        publishing(faults, [])
    for call in (post.begin, lambda: post.settling([]), lambda: post.committing([]), lambda: calling(faults, "x")):
        with pytest.raises(Disconnected) as caught:
            call()
        assert caught.value.retryable
    with pytest.raises(Disconnected):
        post.sort([message(0)])
    assert faults.injected == []
    faults.reconnect()
    post.begin()
    assert numbers(post.take(1)) == [0]


def test_another_call_is_named() -> None:
    faults = Faults(script=[("other", "disconnect")])
    with pytest.raises(Disconnected, match="drop_topic"):
        calling(faults, "drop_topic")
    calling(faults, "drop_topic")
    assert faults.injected == [Injected("disconnect", "other", ("drop_topic",))]


# -- waiting


def test_the_time_of_a_fetch_is_parted() -> None:
    assert Patience(None).next() == LOOK_SECONDS
    assert Patience(100).next() == LOOK_SECONDS
    short = Patience(LOOK_SECONDS / 2).next()
    assert short is not None
    assert 0 < short <= LOOK_SECONDS / 2


def test_no_time_is_one_look() -> None:
    patience = Patience(0)
    assert [patience.next(), patience.next()] == [0.0, None]
