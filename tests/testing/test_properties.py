"""Each property holds for right histories, and each kind of bug is caught by exactly the property that
forbids it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing.simulated import SimulatedQueue
from tests.testing.story import GROUP, TOPIC, Story
from tidings.testing.history import DEAD_LETTERS, Delivered, Receipt
from tidings.testing.properties import (
    PROPERTIES,
    recovery_idempotent,
    storage_clean,
    violations,
)


def _broken(story: Story) -> set[str]:
    return {violation.property for violation in violations(story.history())}


def _begin() -> Story:
    return Story().opened()


RIGHT: dict[str, Callable[[], Story]] = {
    "nothing at all": Story,
    "everything consumed": lambda: _begin().published("a", "b").consumed("a", "b").healed().drained(),
    "not drained, so nothing is lost yet": lambda: _begin().published("a", "b").consumed("a"),
    "published before the group": lambda: Story().published("a").opened().healed().drained(),
    "unknown and gone": lambda: _begin().invoked("a").unknown("a").healed().drained(),
    "unknown and there": lambda: _begin().invoked("a").unknown("a").consumed("a").drained(),
    "killed in publish and there": lambda: _begin().invoked("a").consumed("a").drained(),
    "failed, retried, there": lambda: _begin().invoked("a").failed("a").published("a").consumed("a").drained(),
    "redelivered after a death": lambda: (
        _begin().published("a").delivered("a", 0).died().delivered("a", 0, "c2", attempt=2).acked("a", "c2").drained()
    ),
    "redelivered after a nack": lambda: (
        _begin().published("a").delivered("a", 0).nacked("a").delivered("a", 0, attempt=2).acked("a").drained()
    ),
    "redelivered after two deaths": lambda: (
        _begin()
        .published("a")
        .delivered("a", 0)
        .died()
        .delivered("a", 0, "c2", attempt=2)
        .died("c2")
        .delivered("a", 0, "c3", attempt=3)
        .acked("a", "c3")
        .drained()
    ),
    "killed in ack, effective": lambda: _begin().published("a").delivered("a", 0).acking("a").died().drained(),
    "killed in ack, ineffective": lambda: (
        _begin()
        .published("a")
        .delivered("a", 0)
        .acking("a")
        .died()
        .delivered("a", 0, "c2", attempt=2)
        .acked("a", "c2")
        .drained()
    ),
    "rejected": lambda: _begin().published("a").delivered("a", 0).nacked("a", requeue=False).drained(),
    "dead-lettered and read there": lambda: (
        _begin()
        .published("a")
        .delivered("a", 0)
        .nacked("a", requeue=False)
        .delivered("a", 0, group="undertaker", topic=DEAD_LETTERS + TOPIC)
        .drained()
    ),
    "a zombie hands out its old copy": lambda: (
        _begin()
        .published("a")
        .expired("c1")
        .delivered("a", 0, "c2", attempt=2)
        .acked("a", "c2")
        .delivered("a", 0, "c1", attempt=1)
        .refused("a", "c1")
        .drained()
    ),
    "two consumers side by side": lambda: (
        _begin().published("a", "b").consumed("b", start=1, consumer="c2").consumed("a").drained()
    ),
    "given back by an ended consumer": lambda: (
        _begin()
        .published("a", "b")
        .died("c1")
        .consumed("b", start=1, consumer="c2")
        .consumed("a", consumer="c2")
        .drained()
    ),
    "overlapping publishes in either order": lambda: (
        _begin().invoked("a").invoked("b").receipt("b", 0).receipt("a", 1).consumed("b", "a").drained()
    ),
    "counted as skipped": lambda: _begin().published("a", "b").skipped(1).consumed("b", start=1).drained(),
    "pending as reported": lambda: _begin().published("a").delivered("a", 0).drained(pending=1),
    "temporary subscriptions miss what they like": lambda: (
        Story().opened("tail", durable=False).published("a", "b").delivered("b", 1, group="tail").healed()
    ),
}

SEEDED_BUGS: dict[str, tuple[str, Callable[[], Story]]] = {
    "receipt before the write is durable": (
        "P1",
        lambda: _begin().published("a", "b", "c").consumed("a", "b").drained(),
    ),
    "a log begun anew": ("P1", lambda: _begin().published("a", "b", "c").consumed("c", start=2).drained()),
    "a hole in the log": (
        "P1",
        lambda: _begin().published("a", "b", "c").consumed("a").consumed("c", start=2).drained(),
    ),
    "more lost than counted": (
        "P1",
        lambda: _begin().published("a", "b", "c").skipped(1).consumed("c", start=2).drained(),
    ),
    "a message from nowhere": ("P2", lambda: _begin().delivered("ghost", 0).acked("ghost").drained()),
    "damaged bytes": (
        "P2",
        lambda: _begin().published("a").delivered("a", 0, hash="#b").acked("a").drained(),
    ),
    "another topic's message": (
        "P2",
        lambda: _begin().invoked("a").delivered("a", 0, topic="invoices").acked("a").drained(),
    ),
    "failed and delivered": ("P3", lambda: _begin().invoked("a").failed("a").consumed("a").drained()),
    "dropped dedupe key": (
        "P4",
        lambda: _begin().published("a").delivered("a", 0).nacked("a").delivered("a", 1).acked("a").drained(),
    ),
    "a retry stored twice": (
        "P4",
        lambda: _begin().invoked("a").unknown("a").published("a", start=1).consumed("a").drained(),
    ),
    "an offset reused after a crash": (
        "P4",
        lambda: _begin().published("a").consumed("a").published("b").consumed("b").drained(),
    ),
    "one consumer reads backwards": (
        "P5",
        lambda: _begin().published("a", "b").consumed("b", start=1).consumed("a").drained(),
    ),
    "an ordered group splits a key": (
        "P5",
        lambda: (
            Story()
            .opened(ordered=True)
            .published("a", "b", key="k")
            .consumed("b", start=1, consumer="c2")
            .consumed("a", consumer="c1")
            .drained()
        ),
    ),
    "the log against real time": (
        "P5",
        lambda: _begin().published("a", start=1).published("b", start=0).consumed("b", "a").drained(),
    ),
    "cursor before handler": ("P6", lambda: _begin().published("a").delivered("a", 0).died().drained()),
    "a refused ack settles": ("P6", lambda: _begin().published("a").delivered("a", 0).refused("a").drained()),
    "a nacked message forgotten": (
        "P6",
        lambda: _begin().published("a").delivered("a", 0).nacked("a").drained(),
    ),
    "a stored message passed over": (
        "P6",
        lambda: (
            _begin()
            .invoked("u")
            .delivered("u", 0, group="tail")
            .published("b", start=1)
            .consumed("b", start=1)
            .drained()
        ),
    ),
    "acked and given again": (
        "P7",
        lambda: (
            _begin().published("a").consumed("a").died().delivered("a", 0, "c2", attempt=2).acked("a", "c2").drained()
        ),
    ),
    "two holders at once": (
        "P9",
        lambda: _begin().published("a").delivered("a", 0).delivered("a", 0, "c2", attempt=2).acked("a", "c2").drained(),
    ),
    "twice after one death": (
        "P9",
        lambda: (
            _begin()
            .published("a")
            .delivered("a", 0)
            .died()
            .delivered("a", 0, "c2", attempt=2)
            .delivered("a", 0, "c3", attempt=3)
            .acked("a", "c3")
            .drained()
        ),
    ),
    "a subscription gets a copy twice": (
        "P9",
        lambda: (
            Story().opened("t", durable=False).published("a").delivered("a", 0, group="t").delivered("a", 0, group="t")
        ),
    ),
    "never drained": ("P11", lambda: _begin().published("a").consumed("a").healed()),
    "drained too late": ("P11", lambda: _begin().published("a").healed(limit=1).consumed("a").drained()),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_history_violates_nothing(name: str) -> None:
    assert violations(RIGHT[name]().history()) == []


@pytest.mark.parametrize("name", SEEDED_BUGS)
def test_a_seeded_bug_is_caught_by_exactly_its_property(name: str) -> None:
    expected, story = SEEDED_BUGS[name]
    assert _broken(story()) == {expected}


def test_every_property_has_a_seeded_bug() -> None:
    documented = {(judge.__doc__ or "").split(":")[0] for judge in PROPERTIES}
    assert documented == {expected for expected, _ in SEEDED_BUGS.values()}


def test_a_violation_carries_its_evidence() -> None:
    (violation,) = violations(_begin().published("a").drained().history())
    assert violation.evidence[-1] == Receipt(at=3, id="a", topic=TOPIC, partition=0, offset=0, durability="disk")
    assert f"group {GROUP}" in violation.text


def test_what_only_a_weak_receipt_promised_may_be_lost_in_a_power_cut() -> None:
    story = _begin().invoked("a").receipt("a", 0, "os").published("b").consumed("b").drained()
    assert violations(story.history(surviving=frozenset({"disk"}))) == []
    assert {"P1", "P4"} == _broken(story)


def test_a_power_cut_may_take_back_what_was_read_before_it_was_acknowledged() -> None:
    story = _begin().invoked("a").delivered("a", 0).died().drained()
    assert violations(story.history(surviving=frozenset({"disk"}))) == []
    assert _broken(story) == {"P6"}
    acknowledged = _begin().published("a").delivered("a", 0).died().drained()
    assert [v.property for v in violations(acknowledged.history(surviving=frozenset({"disk"})))] == ["P6"]


def test_a_second_recovery_that_changes_something_is_named() -> None:
    assert recovery_idempotent({"a.log": "1", "b.log": "2"}, {"a.log": "1", "b.log": "2"}) == []
    found = recovery_idempotent({"a.log": "1", "b.log": "2"}, {"a.log": "3", "c.log": "4"})
    assert [violation.text.split(":")[0] for violation in found] == ["a.log", "b.log", "c.log"]
    assert {violation.property for violation in found} == {"P12"}


def test_every_problem_of_the_files_is_a_violation() -> None:
    assert storage_clean([]) == []
    assert [(v.property, v.text) for v in storage_clean(["a stray file"])] == [("P13", "a stray file")]


STEPS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(["ok", "ok", "appeared", "vanished", "killed", "failed"])),
    st.tuples(st.just("attach"), st.none()),
    st.tuples(st.sampled_from(["claim", "deliver", "ack", "nack", "stall"]), st.integers(0, 3)),
    st.tuples(st.just("kill"), st.integers(0, 7)),
)


def _step(queue: SimulatedQueue, action: str, argument: str | int | None) -> None:
    if action == "publish":
        queue.publish(str(argument))
    elif action == "attach" or not queue.held:
        queue.attach()
    else:
        number = int(argument or 0)
        consumer = list(queue.held)[number % len(queue.held)]
        match action:
            case "claim":
                queue.claim(consumer)
            case "deliver":
                queue.deliver(consumer)
            case "ack" | "nack":
                queue.finish(consumer, action)
            case _:
                queue.end(consumer, "killed" if action == "kill" else "stalled", effective=number > 3)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=80))
def test_a_queue_that_keeps_its_promises_is_never_accused(steps: list[tuple[str, str | int | None]]) -> None:
    queue = SimulatedQueue()
    for action, argument in steps:
        _step(queue, action, argument)
    queue.drain()
    assert violations(queue.story.history()) == []


@settings(max_examples=80, deadline=None)
@given(st.lists(STEPS, max_size=60), st.data())
def test_one_acknowledged_message_taken_out_is_always_missed(
    steps: list[tuple[str, str | int | None]], data: st.DataObject
) -> None:
    queue = SimulatedQueue()
    queue.publish("ok")
    for action, argument in steps:
        _step(queue, action, argument)
    queue.drain()
    acked = [message for message, publish in queue.story.history().publishes.items() if publish.receipt]
    victim = data.draw(st.sampled_from(acked))
    story = Story()
    story.events = [event for event in queue.story.events if not (isinstance(event, Delivered) and event.id == victim)]
    assert "P1" in _broken(story)


def test_a_long_history_is_judged_whole() -> None:
    story = _begin()
    names = [f"m{n}" for n in range(5000)]
    story.published(*names).consumed(*names).drained()
    assert violations(story.history()) == []
    story.events = [event for event in story.events if event.at != 1 + 2 * 5000 + 3 * 2500 + 1]
    assert [violation.property for violation in violations(story.history())] == ["P1"]
