"""Frames: what goes out comes back, foreign ones are taken for what they look like."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.engines.zeromq.frames import MARK, UNNAMED, Sent, from_frames, to_frames, to_plain
from tidings.model.codec import decode, encode
from tidings.model.message import Record
from tidings.model.topics import Pattern

NOW = 1000.0
LIMIT = 1 << 20


def read(*frames: bytes) -> tuple[str, Any]:
    """What a subscriber sees: topic and data."""
    topic, record, _ = from_frames(frames, NOW, LIMIT)
    return topic, decode(record.content_type, record.data)


@pytest.mark.parametrize("value", [0, None, "", "25.5", "ünï\n", b"", b"\0\xff", {"a": [1]}, "{}"])
def test_values_come_back_as_they_went_in(value: Any) -> None:
    content_type, body = encode(value)
    record = Record("id-1", content_type, body, "key", {"a": "☃", "id": "x"}, {"expires": 2000.0})
    frames = to_frames(b"a/b", record, body, Sent(tidings=1, at=7.5, by="me", number=3))
    assert frames[:2] == [b"a/b", body]
    topic, back, sent = from_frames(frames, NOW, LIMIT)
    assert (topic, sent.at, sent.by, sent.number) == ("a/b", 7.5, "me", 3)
    assert (back.id, back.key, back.headers, back.expires_at) == ("id-1", "key", record.headers, 2000.0)
    assert repr(decode(back.content_type, back.data)) == repr(value)


def test_other_programs_can_read_the_envelope() -> None:
    frames = to_frames(b"a", Record("7", "application/json", b"1", None, {"lang": "de"}), b"1", Sent(tidings=1, at=1.0))
    assert msgspec.json.decode(frames[2]) == {
        "tidings": 1,
        "id": "7",
        "content_type": "application/json",
        "headers": {"lang": "de"},
        "at": 1.0,
    }


@pytest.mark.parametrize(
    ("frames", "topic", "data"),
    [
        ([b"sensor_001 25.5"], "sensor_001", 25.5),
        ([b"sensor_001 hot and dry"], "sensor_001", "hot and dry"),
        ([b"sensor_001 \xff\xfe"], "sensor_001", b"\xff\xfe"),
        ([b"heartbeat"], "heartbeat", ""),
        ([b'{"a": 1, "b": 2}'], UNNAMED, {"a": 1, "b": 2}),
        ([b'{"a":1}'], UNNAMED, {"a": 1}),
        ([b"[1, 2]"], UNNAMED, [1, 2]),
        ([b'"text" more'], UNNAMED, '"text" more'),
        ([b"\xff\0"], UNNAMED, b"\xff\0"),
        ([b"a//b 1"], UNNAMED, "a//b 1"),
        ([b""], UNNAMED, ""),
        ([b" x"], UNNAMED, " x"),
        ([b"a/b", b'{"x": 1}'], "a/b", {"x": 1}),
        ([b"a b", b"1"], "a b", 1),
        ([b"*", b"1"], UNNAMED, 1),
        ([b"a", b"1", b"2"], "a", 12),
        ([b"a", b"x", b'{"id": "no envelope"}'], "a", 'x{"id": "no envelope"}'),
        ([b"a", b"x", b"\xff"], "a", b"x\xff"),
        ([b"a", b"x", b'{"tidings": 2, "id": "7"}'], "a", 'x{"tidings": 2, "id": "7"}'),
        ([b"\xff", b"x", b'{"tidings": 1}'], UNNAMED, "x"),
        ([b"a..b", b"x", b'{"tidings": 1}'], UNNAMED, "x"),
        ([b"a", b"x", b'{"tidings": 1, "number": -1}'], "a", 'x{"tidings": 1, "number": -1}'),
        ([b"a", b"x", b'{"tidings": 1, "at": 1e300}'], "a", 'x{"tidings": 1, "at": 1e300}'),
        ([b"a", b"", b"", b"x"], "a", "x"),
    ],
)
def test_foreign_frames_are_taken_for_what_they_look_like(frames: list[bytes], topic: str, data: Any) -> None:
    assert read(*frames) == (topic, data)
    _, record, sent = from_frames(frames, NOW, LIMIT)
    assert record.id
    assert (sent.at, sent.number) == (NOW, 0)


def test_a_deep_envelope_is_no_error() -> None:
    deep = b'{"tidings": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert read(b"a", b"x", deep) == ("a", (b"x" + deep).decode())
    assert read(b"a " + b"[" * 100_000) == ("a", "[" * 100_000)


def test_plain_frames_come_back() -> None:
    assert to_plain(b"sensor_001", b"25.5") == [b"sensor_001 25.5"]
    assert read(*to_plain(b"sensor_001", b"25.5")) == ("sensor_001", 25.5)


@given(st.lists(st.binary(), min_size=1, max_size=5))
def test_nothing_foreign_is_an_error(frames: list[bytes]) -> None:
    """And the topic is one that can be subscribed to."""
    topic, _ = read(*frames)
    assert Pattern.parse(topic).literal == topic


def test_no_topic_begins_like_a_probe() -> None:
    assert not MARK.decode()[0].isprintable()
