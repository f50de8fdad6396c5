"""Names on the server: each thing has one of its own, which the server takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.engines.nats.names import LONGEST_TOKEN, Names, token

TEXTS = st.text("aA1-_=+./:*> \u00e9\u4e2d", min_size=1, max_size=40)
TOPICS = st.lists(st.text("ab-_=+p1\u00e9", min_size=1, max_size=12), min_size=1, max_size=3).map("/".join)
NAMES = Names("bus")


@given(TEXTS)
def test_a_token_is_what_streams_and_keys_may_be_called(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9=_-]+", token(text))


@given(st.lists(TEXTS | st.text("x", min_size=170, max_size=190), min_size=2, max_size=2, unique=True))
def test_different_texts_have_different_tokens(texts: list[str]) -> None:
    first, second = map(token, texts)
    assert first != second
    assert max(len(first), len(second)) <= LONGEST_TOKEN


@given(st.lists(st.tuples(TOPICS, st.integers(0, 12)), min_size=2, max_size=2, unique=True))
def test_no_two_partitions_share_a_stream_or_a_subject(parts: list[tuple[str, int]]) -> None:
    first, second = (NAMES.shard(*part) for part in parts)
    assert len({first.stream, second.stream}) == 2
    assert len({first.subject, second.subject}) == 2
    assert len({first.later, second.later}) == 2


@given(st.lists(st.tuples(st.text("ab-+", min_size=1, max_size=6), TOPICS), min_size=2, max_size=2, unique=True))
def test_buses_do_not_share_streams(places: list[tuple[str, str]]) -> None:
    first, second = (Names(bus).shard(topic, 0).stream for bus, topic in places)
    assert first != second


@pytest.mark.parametrize("topic", ["released", "KV_bus", "later", "p1", "bus"])
def test_no_topic_is_taken_for_what_the_bus_keeps(topic: str) -> None:
    assert NAMES.shard(topic, 0).stream not in (NAMES.releases, NAMES.bucket)
    assert not NAMES.shard(topic, 0).subject.startswith((NAMES.own, NAMES.keys))


@pytest.mark.parametrize(
    ("topic", "subject"),
    [("orders.placed", "orders.placed"), ("orders/placed", "orders./placed"), ("_INBOX.x", "%5FINBOX.x")],
)
def test_the_first_partition_has_the_topics_own_subject(topic: str, subject: str) -> None:
    assert NAMES.shard(topic, 0).subject == subject
    assert Names("bus", "app").shard(topic, 0).subject == f"app.{subject}"
    assert NAMES.shard(topic, 1).subject != subject


def test_a_consumer_is_another_one_when_its_group_was_moved_or_its_topic_made_anew() -> None:
    names = {NAMES.consumer("g", 1.0, 0), NAMES.consumer("g", 1.0, 1), NAMES.consumer("g", 2.0, 0)}
    assert len(names | {NAMES.consumer("h", 1.0, 0)}) == 4


def test_keys_tell_kinds_apart() -> None:
    assert len({NAMES.key(kind, "orders") for kind in "tgp"}) == 3
