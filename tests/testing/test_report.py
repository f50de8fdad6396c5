"""The verdict counts what a person asks for first, and says so in words."""

from __future__ import annotations

from tests.testing.story import Story
from tidings.testing.properties import Lost, Violation
from tidings.testing.report import SHOWN_VIOLATIONS, check


def _faulty_but_correct() -> Story:
    story = Story().opened().published("a", "b", "c").invoked("u").unknown("u").invoked("f").failed("f")
    story.consumed("a").delivered("b", 1).died()
    story.delivered("b", 1, "c2", attempt=2).refused("b", "c2").acked("b", "c2").nacked("c")
    return story.consumed("c", start=2, consumer="c2").consumed("u", start=3, consumer="c2").healed().drained()


def test_figures_of_a_correct_history() -> None:
    report = check(_faulty_but_correct().history())
    figures = report.figures
    assert report.ok, report
    assert (figures.published, figures.acked, figures.failed) == (5, 3, 1)
    assert (figures.unknown, figures.unknown_appeared) == (1, 1)
    assert (figures.delivered, figures.redelivered, figures.duplicates) == (5, 1, 1)
    assert (figures.settled, figures.refused, figures.nacked, figures.deaths) == (4, 1, 1, 1)
    assert figures.lost == Lost()
    assert figures.redelivery_delays == (1,)


def test_a_loss_is_counted_where_it_lies() -> None:
    story = Story().opened().published("a", "b", "c", "d", "e").consumed("b", start=1).consumed("d", start=3).drained()
    report = check(story.history())
    assert report.figures.lost == Lost(prefix=1, middle=1, postfix=1)
    assert report.figures.lost.total == 3
    assert "lost: prefix 1, middle 1, postfix 1" in str(report)


def test_the_text_of_a_clean_report() -> None:
    text = str(check(_faulty_but_correct().history()))
    assert "published 5: acked 3, failed 1, unknown 1 (of which 1 appeared)" in text
    assert "no property is violated" in text


def test_the_text_names_violations_with_evidence_and_is_bounded() -> None:
    story = Story().opened().published(*(f"m{n}" for n in range(SHOWN_VIOLATIONS + 5))).drained()
    report = check(story.history())
    assert not report.ok
    text = str(report)
    assert f"P1 {SHOWN_VIOLATIONS + 5} times" in text
    assert "m0 was acknowledged and group billing never got it" in text
    assert "and 5 more" in text
    assert "Invoked(" in text


def test_violations_found_by_other_means_join_the_report() -> None:
    report = check(Story().history(), [Violation(property="P13", text="a stray file")])
    assert not report.ok
    assert "P13: a stray file" in str(report)


def test_phantoms_are_counted() -> None:
    assert check(Story().delivered("ghost", 0).history()).figures.phantoms == 1


def test_filters_are_counted_and_told_when_there_are_some() -> None:
    assert "filters" not in str(check(_faulty_but_correct().history()))
    story = Story().opened(filter="total > 60").opened("t", durable=False, filter="total > 90").published("a")
    story.published("b", start=1, matches=("total > 60",)).consumed("b", start=1).drained()
    report = check(story.counted(2, acked=1, filtered=1).history())
    assert report.ok, report
    assert "filters let through 1, groups passed over 1" in str(report)


def test_delivery_policies_are_counted_and_told_when_they_were_used() -> None:
    assert "transactions" not in str(check(_faulty_but_correct().history()))
    story = Story().opened(ordered=True).opened("ledger", topic="invoices").declared().published("a", "b", "c", key="k")
    story.scheduled("d", due=1000).cancelled("d").published("a").delivered("a", 0).output("x", "t")
    story.committing("t", "a").died().delivered("b", 1, "c2").output("y", "u").committed("u", "b", consumer="c2")
    story.delivered("c", 2, "c2").output("z", "v").rejected("c", "c2").healed().drained().invoiced("x", "y")
    story.buried("c", 2).counted(3, acked=2, dead=1)
    report = check(story.history())
    assert report.ok, report
    text = str(report)
    assert "published 4: acked 4" in text
    assert "committed 1, dropped 1, without an answer 1 (of which 1 took effect), outputs 2" in text
    assert "published again with the same id 1" in text
    assert "dead letters 1, redriven 0, expired 0" in text
    assert "scheduled 1, taken back 1" in text
    assert "ordered keys 1, partitions handed over 1" in text
