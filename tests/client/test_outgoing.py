"""What a publisher gives: each wrong thing is told by its name, and right ones become records in bounded batches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.child import Child
from tidings.client import outgoing
from tidings.client.outgoing import in_batches, level, make_record, make_records
from tidings.errors import InvalidOption, MessageTooLarge, UnencodableData, UsageError
from tidings.model.message import Record
from tidings.model.options import MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES, Durability


def test_a_record_holds_what_was_given() -> None:
    headers = {"source": "web"}
    record = make_record({"a": 1}, "key", headers, "id", 100)
    assert record == Record("id", "application/json", b'{"a":1}', "key", {"source": "web"})
    headers["source"] = "changed"
    assert record.headers == {"source": "web"}, "the publisher's dict stays the publisher's"
    assert make_record(b"", None, {}, None, 0).headers is None


@pytest.mark.parametrize("key", ["", 1, b"key", "k" * (MAX_KEY_BYTES + 1), "é" * (MAX_KEY_BYTES // 2 + 1), "\ud800"])
def test_a_bad_key_is_told(key: Any) -> None:
    for make in (lambda: make_record(1, key, None, None, 9), lambda: make_records([], None, {"partition_key": key}, 9)):
        with pytest.raises(InvalidOption) as told:
            make()
        assert (told.value.name, told.value.value) == ("partition_key", key)


@pytest.mark.parametrize("message_id", ["", 1, "x" * 129, "line\nbreak", "\ud800", b"id"])
def test_a_bad_id_is_told(message_id: Any) -> None:
    with pytest.raises(InvalidOption) as told:
        make_record(1, None, None, message_id, 9)
    assert (told.value.name, told.value.value) == ("message_id", message_id)


@pytest.mark.parametrize(
    "headers",
    [
        {"a": 1},
        {1: "a"},
        {"": "a"},
        {"a": None},
        {"a": "b\r\nInjected: c"},
        {"a\0": "b"},
        {"a": "\ud800"},
        {f"h{number}": "" for number in range(MAX_HEADERS + 1)},
        {"a": "x" * MAX_HEADER_BYTES},
        {"a": "é" * (MAX_HEADER_BYTES // 2)},
        [("a", "b")],
        "a: b",
    ],
)
def test_bad_headers_are_told(headers: Any) -> None:
    for make in (
        lambda: make_record(1, None, headers, None, 9),
        lambda: make_records([1], None, {"headers": headers}, 9),
    ):
        with pytest.raises(UsageError, match=r"^headers"):
            make()


def test_the_limits_themselves_are_allowed() -> None:
    headers = {f"h{number:02}": "" for number in range(MAX_HEADERS - 1)}
    headers["x"] = "x" * (MAX_HEADER_BYTES - 3 * (MAX_HEADERS - 1) - 1)
    record = make_record(b"x" * 9, "k" * MAX_KEY_BYTES, headers, "i" * 128, 9)
    assert (record.data, record.headers) == (b"x" * 9, headers)


def test_size_counts_encoded() -> None:
    for make in (lambda: make_record("é", None, None, None, 1), lambda: make_records(["e", "é"], None, {}, 1)):
        with pytest.raises(MessageTooLarge) as told:
            make()
        assert (told.value.size, told.value.limit) == (2, 1)


def test_many_share_key_and_headers_and_have_their_own_ids() -> None:
    first, second = make_records(iter([1, 2]), None, {"partition_key": "key", "headers": {"a": "b"}}, 9)
    assert (first.data, second.data) == (b"1", b"2")
    assert (first.key, first.headers) == (second.key, second.headers) == ("key", {"a": "b"})
    assert first.id != second.id
    with pytest.raises(UnencodableData):
        make_records([1, object()], None, {}, 9)


@settings(max_examples=100, deadline=None, database=None)
@given(sizes=st.lists(st.integers(0, 40), max_size=30), batch_size=st.integers(1, 12))
def test_batches_keep_the_order_within_both_bounds(sizes: list[int], batch_size: int) -> None:
    records = [Record(str(number), "", bytes(size)) for number, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outgoing, "MAX_BATCH_BYTES", 50)
        batches = list(in_batches(records, batch_size))
    assert [record for batch in batches for record in batch] == records
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or sum(len(record.data) for record in batch) <= 50


def test_the_durability_is_the_one_asked_for() -> None:
    assert level(None, Durability.OS) is Durability.OS
    assert level("disk", Durability.OS) is Durability.DISK
    assert level(Durability.MEMORY, Durability.OS) is Durability.MEMORY
    for wrong in ("fsync", 1, ""):
        with pytest.raises(InvalidOption, match="memory, os, disk") as told:
            level(wrong, Durability.OS)  # type: ignore[arg-type]
        assert told.value.name == "durability"


FORK = """
    import os
    from tidings.client.outgoing import new_id
    new_id()
    if child := os.fork():
        os.waitpid(child, 0)
    print(*[new_id() for _ in range(50)], flush=True)
"""


def test_a_forked_child_makes_other_ids() -> None:
    """Both go on counting at the same number."""
    with Child(FORK) as program:
        theirs, mine = program.line().split(), program.line().split()
        assert program.wait() == 0
    assert len(set(mine)) == len(set(theirs)) == 50
    assert not set(mine) & set(theirs)


@pytest.mark.parametrize("one", ["abc", b"abc", {"a": 1}])
def test_one_message_is_no_batch(one: Any) -> None:
    with pytest.raises(InvalidOption, match="messages"):
        outgoing.make_records(one, None, {}, 100)
