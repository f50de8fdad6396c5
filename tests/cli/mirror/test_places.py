"""Topics and groups on the target: as on the source, or refused by name, or left out and told."""

from __future__ import annotations

import pytest

from tests.cli.mirror.conftest import Opener
from tidings import Capability, Client, TopicExists, TopicOptions, UnsupportedFeature
from tidings.cli.interrupts import Interrupts
from tidings.cli.mirror.patience import Patience
from tidings.cli.mirror.places import Places, changed, matches, needed_by
from tidings.model.dead_letter import DEAD_LETTER_GROUP
from tidings.model.options import default_options
from tidings.model.topics import parse_topics

RICH = TopicOptions(partitions=3, delivery="exactly_once", message_ttl=60, max_retries=1, schema=["total INT"])
ALL = parse_topics("**")


def places(source: Client, target: Client, force: bool = False) -> Places:
    return Places(source, target, Patience(Interrupts()), force)


def test_topics_are_made_with_their_options(opened: Opener) -> None:
    source, target = opened(), opened()
    source.create_topic("orders/a", RICH)
    source.create_topic("orders/b")
    source.create_topic("other")
    source.create_topic("dead-letters/orders/a", default_options("dead-letters/orders/a"))
    made = places(source, target)
    made.make_all(parse_topics(["orders/*", "dead-letters/**"]))
    made.make("orders/a")
    made.make("gone")
    assert {info.name: info.options for info in target.topics()} == {
        "orders/a": RICH,
        "orders/b": TopicOptions(),
        "dead-letters/orders/a": default_options("dead-letters/orders/a"),
        "gone": TopicOptions(),
    }


def test_what_the_target_cannot_keep_is_told_by_name(opened: Opener, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = opened(), opened(Capability.PARTITIONS, Capability.SCHEMA)
    source.create_topic("orders", RICH)
    with pytest.raises(UnsupportedFeature, match=r"topic 'orders': partitions=3, schema=total INT: .*--force"):
        places(source, target).make("orders")
    assert target.topics() == []
    places(source, target, force=True).make("orders")
    kept = TopicOptions(delivery="exactly_once", message_ttl=60, max_retries=1)
    assert target.describe_topic("orders").options == kept
    told = capsys.readouterr().err
    assert "without these options of topic 'orders': partitions=3, schema=total INT" in told


def test_a_target_that_keeps_no_topics(opened: Opener, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = opened(), opened(Capability.TOPICS)
    source.create_topic("plain")
    source.create_topic("rich", TopicOptions(max_length=5))
    places(source, target).make("plain")
    with pytest.raises(UnsupportedFeature, match="max_length=5"):
        places(source, target).make("rich")
    places(source, target, force=True).make("rich")
    assert "max_length=5" in capsys.readouterr().err
    assert target.topics() == []


def test_a_source_that_keeps_no_topics(opened: Opener) -> None:
    source, target = opened(Capability.TOPICS), opened()
    made = places(source, target)
    made.make_all(ALL)
    made.make("t")
    assert [info.name for info in target.topics()] == ["t"]


def test_what_an_engine_refuses_in_its_own_words(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = opened(), opened()
    source.create_topic("t", TopicOptions(max_length=5))
    create = target.create_topic

    def picky(name: str, options: TopicOptions) -> object:
        if options.max_length:
            raise UnsupportedFeature("picky:", "a bound of 5", "take 6")
        return create(name, options)

    monkeypatch.setattr(target, "create_topic", picky)
    with pytest.raises(UnsupportedFeature, match="picky: cannot do a bound of 5"):
        places(source, target).make("t")
    places(source, target, force=True).make("t")
    assert "a bound of 5" in capsys.readouterr().err
    assert target.describe_topic("t").options == TopicOptions()


def test_a_topic_that_is_there_otherwise(opened: Opener) -> None:
    source, target = opened(), opened()
    source.create_topic("t", TopicOptions(partitions=2))
    target.create_topic("t")
    with pytest.raises(TopicExists) as refused:
        places(source, target).make("t")
    assert refused.value.__notes__ == ["Give --force to copy into it as it is."]
    places(source, target, force=True).make("t")
    assert target.describe_topic("t").options == TopicOptions()


def test_groups_get_what_is_copied_from_now_on(opened: Opener) -> None:
    source, target = opened(), opened()
    for group in ("billing", "mine", DEAD_LETTER_GROUP):
        source.create_group(["a", "b"], group, filter="total > 100" if group == "billing" else None)
    source.create_group("other", "strangers")
    places(source, target).make_groups(parse_topics(["a", "b"]), "mine")
    assert [(info.group, info.topic, info.filter) for info in target.groups()] == [
        ("billing", "a", "total > 100"),
        ("billing", "b", "total > 100"),
    ]


def test_a_group_that_the_target_cannot_have(opened: Opener, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = opened(), opened(Capability.FILTERS)
    source.create_group("a", "billing", filter="total > 100")
    source.create_group("a", "plain")
    with pytest.raises(UnsupportedFeature, match="filters") as refused:
        places(source, target).make_groups(ALL, "mine")
    assert "'billing'" in refused.value.__notes__[0]
    places(source, target, force=True).make_groups(ALL, "mine")
    assert [info.group for info in target.groups()] == ["plain"]
    assert "without group 'billing' on 'a'" in capsys.readouterr().err


def test_a_message_fits_when_it_is_made_to(opened: Opener) -> None:
    source, plain = opened(), opened(Capability.PRIORITY, Capability.EXPIRY)
    with source.subscribe("t") as subscription:
        source.publish("t", 1, priority="high", ttl_seconds=60, headers={"a": "b"})
        (message,) = subscription.fetch(1, 10)
    fit = places(source, plain, force=True).fit(message)
    assert (fit.priority, fit.expires_at, fit.id, fit.headers) == (5, None, message.id, {"a": "b"})
    assert message.expires_at is not None, "the message itself stays"
    plain.forward("t", fit)
    for kept in (places(source, plain), places(source, opened(), force=True)):
        assert kept.fit(message) is message
    with pytest.raises(UnsupportedFeature):
        plain.forward("t", message)


def test_which_options_and_what_they_need() -> None:
    assert changed(RICH) == ["partitions", "delivery", "message_ttl", "max_retries", "schema"]
    assert changed(TopicOptions()) == []
    assert needed_by("delivery", RICH) == {Capability.DEDUPLICATION}
    assert needed_by("max_retries", RICH) == {Capability.DEAD_LETTERS}
    assert matches(parse_topics(["a", "b/*"]), "b/c")
    assert not matches(parse_topics(["a", "b/*"]), "c")
