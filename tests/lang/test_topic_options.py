"""Options of topics in statements: every one can be named, and what is wrong is told where it stands."""

from __future__ import annotations

from typing import Any

import pytest
from lark import Token

from tidings.lang.faults import Fault
from tidings.lang.topic_options import OPTIONS, read_option
from tidings.model.options import PERIODS, TopicOptions

DEFAULTS = TopicOptions()
NAME, VALUE = Token("WORD", "name"), Token("TEXT", "value")


def read(name: str, value: Any) -> Any:
    option, found = read_option(Token("WORD", name), value, VALUE)
    assert option == name.lower()
    return found


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_takes_its_default(name: str) -> None:
    assert read(name, getattr(DEFAULTS, name)) == getattr(DEFAULTS, name)


def test_all_options_are_there_but_the_schema() -> None:
    assert {*OPTIONS, "schema"} == set(TopicOptions.__struct_fields__)
    assert {"retention_period", "message_ttl", "retry_delay", "dedup_window"} <= set(PERIODS)


@pytest.mark.parametrize("name", PERIODS)
def test_periods_are_text_or_seconds(name: str) -> None:
    assert read(name, "1 hour") == 3600
    assert read(name.upper(), 90.5) == 90.5


def test_sizes_are_text_or_bytes() -> None:
    assert read("retention_bytes", "10 MB") == 10_000_000
    assert read("retention_bytes", 1_000) == 1_000


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("max_retry", 3, "there is no option max_retry; did you mean max_retries?"),
        ("schema", "a INT", "there is no option schema; there are partitions, delivery, "),
        ("__class__", 3, "there is no option __class__; there are "),
        ("max_retries", -1, "max_retries cannot be this; give a whole number from 0 to 1000000"),
        ("max_retries", "3", "max_retries cannot be this; give a whole number"),
        ("max_retries", True, "max_retries cannot be this; give a whole number"),
        ("partitions", None, "partitions cannot be this; give a whole number from 1 to 256"),
        ("message_ttl", "3 fortnights", "message_ttl cannot be this; give a period such as '7 days'"),
        ("message_ttl", 0, "message_ttl cannot be this; give a number from 0.001"),
        ("retention_period", "9999 weeks 9999 weeks", "retention_period cannot be this; give a number from"),
        ("retention_bytes", "10 days", "retention_bytes cannot be this; give a size such as"),
        ("overflow", "explode", "overflow cannot be this; give one of reject, block, drop_oldest"),
        ("dead_letter_topic", "a//b", "dead_letter_topic cannot be this; it has an empty segment"),
        ("compression", "rar", "compression cannot be this; give 'lz4'"),
    ],
)
def test_what_cannot_be_is_refused_at_its_place(name: str, value: Any, reason: str) -> None:
    token = Token("WORD", name)
    with pytest.raises(Fault) as caught:
        read_option(token, value, VALUE)
    assert caught.value.reason.startswith(reason)
    assert caught.value.place is (token if "there is no option" in reason else VALUE)
