"""All properties together: a queue that keeps its promises is never accused, and each property can be broken."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing.properties import (
    test_conservation,
    test_consuming,
    test_effects,
    test_keyorder,
    test_publishing,
    test_timing,
)
from tests.testing.properties.judging import begin, broken
from tests.testing.simulated import SimulatedQueue
from tests.testing.story import Story
from tidings.testing.events import Buried, Delivered
from tidings.testing.properties import PROPERTIES, violations

MODULES = (test_publishing, test_consuming, test_effects, test_conservation, test_keyorder, test_timing)


def test_every_property_has_a_seeded_bug() -> None:
    documented = {(judge.__doc__ or "").split(":")[0] for judge in PROPERTIES}
    assert documented == {expected for module in MODULES for expected, _ in module.SEEDED_BUGS.values()}


STEPS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(["ok", "ok", "appeared", "vanished", "killed", "failed"])),
    st.tuples(st.just("attach"), st.none()),
    st.tuples(st.sampled_from(["claim", "stall"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["deliver", "ack", "nack", "reject", "commit"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["deliver", "ack", "nack", "reject", "commit"]), st.integers(0, 3)),
    st.tuples(st.just("kill"), st.integers(0, 15)),
)
SEQUENCES = st.lists(STEPS, min_size=40, max_size=80)
Steps = list[tuple[str, str | int | None]]


def _busy(steps: Steps, ordered: bool = False, sifted: bool = False) -> SimulatedQueue:
    """A queue that has been through all of this, and was read to its end."""
    queue = SimulatedQueue(ordered=ordered, sifted=sifted)
    queue.publish("ok")
    consumer = queue.attach()
    queue.deliver(consumer)
    queue.finish(consumer, "commit")
    for action, argument in steps:
        _step(queue, action, argument)
    queue.drain()
    return queue


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
            case "kill" | "stall":
                how = "killed" if action == "kill" else "stalled"
                queue.end(consumer, how, effective=number % 8 > 3, commits=number > 7)
            case _:
                queue.finish(consumer, action)


@settings(max_examples=200, deadline=None)
@given(SEQUENCES, st.booleans(), st.booleans())
def test_a_queue_that_keeps_its_promises_is_never_accused(steps: Steps, ordered: bool, sifted: bool) -> None:
    assert violations(_busy(steps, ordered, sifted).story.history()) == []


@settings(max_examples=80, deadline=None)
@given(SEQUENCES, st.booleans(), st.data())
def test_one_acknowledged_message_taken_out_is_always_missed(steps: Steps, sifted: bool, data: st.DataObject) -> None:
    queue = _busy(steps, sifted=sifted)
    publishes = queue.story.history().publishes.items()
    owed = [message for message, publish in publishes if publish.receipt and queue.wants(message)]
    acked = [message for message in owed if message not in queue.dead]
    assert "P1" in broken(_without(queue, data.draw(st.sampled_from(acked))))


@settings(max_examples=80, deadline=None)
@given(SEQUENCES, st.data())
def test_one_output_taken_out_is_always_missed(steps: Steps, data: st.DataObject) -> None:
    queue = _busy(steps)
    assert broken(_without(queue, data.draw(st.sampled_from(queue.outputs)))) == {"P8"}


@settings(max_examples=80, deadline=None)
@given(SEQUENCES, st.data())
def test_one_dead_letter_taken_out_is_always_missed(steps: Steps, data: st.DataObject) -> None:
    queue = _busy([*steps, ("attach", None), ("publish", "ok")])
    if queue.dead:
        assert "P10" in broken(_without(queue, data.draw(st.sampled_from(sorted(queue.dead)))))


def _without(queue: SimulatedQueue, victim: str) -> Story:
    """The story of a queue that lost a message, or its dead letter."""
    story = Story()
    lost = (event for event in queue.story.events if isinstance(event, Delivered | Buried) and event.id == victim)
    gone = {id(event) for event in lost}
    story.events = [event for event in queue.story.events if id(event) not in gone]
    return story


def test_a_long_history_is_judged_whole() -> None:
    story = begin()
    names = [f"m{n}" for n in range(5000)]
    story.published(*names).consumed(*names).drained()
    assert violations(story.history()) == []
    story.events = [event for event in story.events if event.at != 1 + 2 * 5000 + 3 * 2500 + 1]
    assert [violation.property for violation in violations(story.history())] == ["P1"]
