"""The files of all processes become one history, and the views on it say what happened."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.testing.story import TOPIC, Story
from tidings.testing.events import AckOk, CommitOk, Delivered, Drained, HistoryWriter, Invoked, Nacked
from tidings.testing.history import History


def _all_kinds() -> Story:
    story = Story().declared().opened().invoked("a").receipt("a", 0).invoked("b").failed("b").invoked("c").unknown("c")
    story.delivered("a", 0).refused("a").nacked("a").acked("a").died().skipped(1).invoked("d", due=9).cancelled("d")
    story.output("x", "t").committed("t", "a").output("y", "u").uncommitted("u", "a").rejected("c")
    return story.healed().drained(pending=1).buried("c").counted(2, acked=1, dead=1).waiting(0)


def test_files_merge_by_time_and_an_empty_file_is_a_history(tmp_path: Path) -> None:
    events = _all_kinds().events
    for name, part in (("a", events[::2]), ("b", events[1::2]), ("c", [])):
        with HistoryWriter(tmp_path / name) as writer:
            for event in part:
                writer.append(event)
    assert History.merge(sorted(tmp_path.iterdir())).events == events


def test_retries_of_one_id_are_one_publish() -> None:
    story = Story().invoked("a").unknown("a").invoked("a").receipt("a", 4)
    (publish,) = story.history().publishes.values()
    assert (publish.attempts, publish.first.at, publish.failed, publish.unknown) == (2, 1, False, False)
    assert publish.receipt is not None
    assert publish.receipt.offset == 4


def test_a_publish_is_failed_only_when_every_attempt_failed() -> None:
    story = Story().invoked("a").failed("a").invoked("b").unknown("b").invoked("b").failed("b").invoked("c")
    publishes = story.history().publishes
    assert [(p.failed, p.unknown) for p in publishes.values()] == [
        (True, False),
        (False, True),
        (False, True),
    ]


def test_a_receipt_below_the_surviving_level_promises_nothing() -> None:
    story = Story().invoked("a").receipt("a", 0, "os")
    assert story.history().publishes["a"].receipt is not None
    weak = story.history(surviving=frozenset({"disk"})).publishes["a"]
    assert weak.receipt is None
    assert weak.unknown


def test_a_reader_collects_its_own_events() -> None:
    reader = _all_kinds().history().readers["billing"]
    assert [type(event) for event in reader.deliveries] == [Delivered]
    assert isinstance(reader.acks["a"], AckOk)
    assert [type(nack) for nack in reader.nacks("a")] == [Nacked]
    assert [letter.reason for letter in reader.dead["c"]] == ["rejected"]
    assert list(reader.rejects) == ["c"]
    assert reader.counted[TOPIC].dead == 1
    assert isinstance(reader.drained, Drained)
    assert (reader.durable, reader.skipped, reader.reach) == (True, 1, {(TOPIC, 0, ""): (0, 0)})


@pytest.mark.parametrize(
    ("story", "settled"),
    [
        (Story().delivered("a", 0), False),
        (Story().delivered("a", 0).acking("a"), True),
        (Story().delivered("a", 0).refused("a"), False),
        (Story().delivered("a", 0).refused("a").acking("a", "c2"), True),
        (Story().delivered("a", 0).nacked("a"), False),
        (Story().delivered("a", 0).nacked("a", requeue=False), True),
        (Story().delivered("a", 0).nacked("a", requeue=False).lost("a"), False),
        (Story().delivered("a", 0).nacked("a").buried("a"), True),
        (Story().delivered("a", 0).committing("t", "a"), True),
        (Story().delivered("a", 0).uncommitted("t", "a"), False),
        (Story().delivered("a", 0).acking("a").delivered("a", 0, "c2", attempt=2), False),
    ],
)
def test_what_counts_as_settled(story: Story, settled: bool) -> None:
    assert story.history().readers["billing"].settled("a") is settled


def test_a_group_owes_what_was_published_after_it_was_opened_on_its_topics() -> None:
    history = Story().invoked("early").opened().invoked("late").history()
    reader = history.readers["billing"]
    assert [reader.owes(publish) for publish in history.publishes.values()] == [False, True]


def test_a_reader_with_a_filter_wants_and_owes_what_that_lets_through() -> None:
    story = Story().opened(filter="total > 60").opened("ledger").invoked("a").invoked("b", matches=("total > 60",))
    history = story.invoked("c", topic="invoices", matches=("total > 60",)).history()
    publishes, readers = history.publishes.values(), history.readers
    assert [readers["billing"].wants(publish) for publish in publishes] == [False, True, True]
    assert [readers["billing"].owes(publish) for publish in publishes] == [False, True, False]
    assert [readers["ledger"].wants(publish) for publish in publishes] == [True, True, True]


def test_events_of_ids_never_invoked_are_no_publishes() -> None:
    history = Story().receipt("ghost", 0).failed("ghost").history()
    assert history.publishes == {}
    assert isinstance(Story().invoked("a").history().events[0], Invoked)


def test_a_commit_answers_for_all_of_its_inputs() -> None:
    reader = (
        Story().delivered("a", 0).delivered("b", 1).acked("b").committed("t", "a", "b").history().readers["billing"]
    )
    assert isinstance(reader.acks["a"], CommitOk)
    assert isinstance(reader.acks["b"], AckOk)
    assert reader.acked_alone == {"b"}


def test_a_refusal_answers_the_last_call_of_its_consumer() -> None:
    story = Story().delivered("a", 0).delivered("a", 0, "c2", attempt=2).acking("a").nacked("a").acking("a", "c2")
    reader = story.lost("a").history().readers["billing"]
    assert [(type(call).__name__, call.consumer) for call in reader.calls["a"]] == [
        ("AckInvoked", "c1"),
        ("AckInvoked", "c2"),
    ]
    assert (reader.refused, reader.nacked) == (1, 1)


def test_a_transaction_is_dropped_unless_it_may_have_been_committed() -> None:
    story = Story().output("x", "given up").output("y", "refused").uncommitted("refused", "a")
    story.output("z", "done").committed("done", "a").output("q", "unanswered").committing("unanswered", "b")
    found = story.history().transactions
    assert {name: each.dropped for name, each in found.items()} == {
        "given up": True,
        "refused": True,
        "done": False,
        "unanswered": False,
    }
    assert [output.id for output in found["done"].outputs] == ["z"]
    assert found["done"].ok is not None
    assert found["unanswered"].ok is None


def test_what_was_taken_back_and_when_it_expires() -> None:
    story = Story().scheduled("a", "b", "c", due=9).cancelled("a").cancelling("b").cancelled("c", done=False)
    story.invoked("d", expires=5).unknown("d").invoked("d", expires=8)
    publishes = story.history().publishes
    assert [(each.cancelling, each.cancelled) for each in publishes.values()] == [
        (True, True),
        (True, False),
        (True, False),
        (False, False),
    ]
    assert (publishes["a"].scheduled, publishes["d"].scheduled, publishes["d"].expires) == (True, False, 8)


def test_seen_is_what_somebody_got_or_what_died() -> None:
    assert Story().invoked("a").delivered("b", 0).buried("c").history().seen == {"b", "c"}
