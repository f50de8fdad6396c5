"""Connections that many use at once: each gets its own answer, and all are told when it breaks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse, ResponseError

from tidings.engines.redis.server.options import Target
from tidings.engines.redis.server.pipe import Ear, Pipe
from tidings.model.url import parse_url


@pytest.fixture
def lost() -> list[Exception]:
    """With what connections ended."""
    return []


@pytest.fixture
async def pipe(redis_url: str, lost: list[Exception]) -> AsyncIterator[Pipe]:
    connection: Any = Target(parse_url(redis_url)).connection()
    await connection.connect()
    made = Pipe(connection, lost.append)
    yield made
    await made.close()


@pytest.fixture
def heard() -> asyncio.Queue[tuple[bytes, ...]]:
    """What an ear heard."""
    return asyncio.Queue()


@pytest.fixture
async def ear(redis_url: str, lost: list[Exception], heard: asyncio.Queue[Any]) -> AsyncIterator[Ear]:
    connection: Any = Target(parse_url(redis_url)).connection()
    await connection.connect()
    made = Ear(connection, lost.append, lambda *message: heard.put_nowait(message))
    yield made
    await made.close()


async def break_off(pipe: Pipe, raw: Redis) -> None:
    """Let the server end the connection."""
    await raw.client_kill_filter(_id=str(await pipe.send("CLIENT", "ID")))


async def test_everybody_gets_the_answer_of_their_own(pipe: Pipe) -> None:
    futures = [pipe.send("ECHO", f"{number}") for number in range(2000)]
    assert await asyncio.gather(*futures) == [b"%d" % number for number in range(2000)]


async def test_a_refusal_concerns_only_who_asked(pipe: Pipe) -> None:
    before, refused, after = pipe.send("ECHO", "1"), pipe.send("NOSUCH"), pipe.send("ECHO", "2")
    with pytest.raises(ResponseError, match="NOSUCH"):
        await refused
    assert (await before, await after) == (b"1", b"2")


async def test_an_answer_inside_an_answer_is_no_refusal_of_the_others(pipe: Pipe) -> None:
    script = "return {redis.pcall('NOSUCH'), 'x'}"
    nested, after = pipe.send("EVAL", script, 0), pipe.send("ECHO", "2")
    assert (await asyncio.gather(nested, return_exceptions=True))[0] is not None
    assert await after == b"2"


async def test_who_is_cancelled_takes_no_answer_from_others(pipe: Pipe) -> None:
    futures = [pipe.send("ECHO", f"{number}") for number in range(3)]
    futures[1].cancel()
    assert (await futures[0], await futures[2]) == (b"0", b"2")


async def test_bytes_of_all_kinds_come_back(pipe: Pipe) -> None:
    body = bytes(range(256)) + b"\r\n" + b"x" * 100_000
    assert await pipe.send("ECHO", body) == body


async def test_all_who_wait_are_told_that_it_broke(pipe: Pipe, raw: Redis, lost: list[Exception]) -> None:
    number = str(await pipe.send("CLIENT", "ID"))
    waiting = [pipe.send("BLPOP", uuid4().hex, 0), pipe.send("PING")]
    await raw.client_kill_filter(_id=number)
    for each in waiting:
        with pytest.raises((Disconnected, OSError)):
            async with asyncio.timeout(5):
                await each
    assert len(lost) == 1
    with pytest.raises(type(lost[0])):
        await pipe.send("PING")
    pipe.end(Disconnected("once more"))
    assert len(lost) == 1


async def test_what_is_sent_afterwards_fails_without_a_word_to_nobody(
    pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    before = pipe.send("BLPOP", uuid4().hex, 0)
    pipe.end(Disconnected("away"))
    after = pipe.send("PING")
    assert isinstance(after.exception(), Disconnected)
    del before, after
    pipe.send("PING")
    gc.collect()
    assert not caplog.records


async def test_closing_ends_what_waits(pipe: Pipe, lost: list[Exception]) -> None:
    waiting = pipe.send("BLPOP", uuid4().hex, 0)
    await pipe.close()
    with pytest.raises(Disconnected):
        await waiting
    assert len(lost) == 1


async def test_an_ear_hears_what_is_said(ear: Ear, raw: Redis, heard: asyncio.Queue[Any]) -> None:
    name = uuid4().hex
    for command in (("SUBSCRIBE", f"{name}/a"), ("PSUBSCRIBE", f"{name}/b*")):
        await ear.send(*command)
    await raw.publish(f"{name}/a", b"one")
    await raw.publish(f"{name}/bc", b"two\xff")
    name_of = partial("{}/{}".format, name)
    assert await heard.get() == (name_of("a").encode(), name_of("a").encode(), b"one")
    assert await heard.get() == (name_of("b*").encode(), name_of("bc").encode(), b"two\xff")


async def test_an_ear_answers_while_it_hears(ear: Ear, raw: Redis, heard: asyncio.Queue[Any]) -> None:
    name = uuid4().hex
    await ear.send("SUBSCRIBE", name)
    for number in range(100):
        await raw.publish(name, str(number))
    assert (await ear.send("PING"))[0] == b"pong"
    assert [heard.get_nowait()[2] for _ in range(100)] == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("nonsense", [b"?what is this\r\n", b"+nobody asked\r\n"], ids=["no answer", "no question"])
async def test_a_server_that_talks_nonsense_is_left(pipe: Pipe, lost: list[Exception], nonsense: bytes) -> None:
    pipe.data_received(nonsense)
    assert len(lost) == 1
    with pytest.raises(type(lost[0])):
        await pipe.send("PING")


async def test_who_waits_for_room_goes_one_after_the_other(pipe: Pipe) -> None:
    went: list[int] = []

    async def go(number: int) -> None:
        await pipe.room()
        went.append(number)
        if number == 1:
            pipe.pause_writing()  # so does the transport when that was too much again

    pipe.pause_writing()
    going = [asyncio.create_task(go(number)) for number in range(4)]
    await asyncio.sleep(0)
    pipe.resume_writing()
    assert pipe.stalled, "who comes now has to wait behind them"
    await asyncio.wait(going[:2])
    for _ in going:
        await asyncio.sleep(0)
    assert went == [0, 1]
    pipe.resume_writing()
    await asyncio.gather(*going)
    assert (went, pipe.stalled) == ([0, 1, 2, 3], 0)


async def test_who_is_cancelled_while_it_closes_harms_nobody(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    closing = asyncio.create_task(pipe.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await pipe.close()
    assert not caplog.records


async def test_who_cannot_bear_what_it_hears_ends_the_connection_as_one_that_was_lost(
    redis_url: str, raw: Redis, lost: list[Exception]
) -> None:
    connection: Any = Target(parse_url(redis_url)).connection()
    await connection.connect()
    name = uuid4().hex

    def heard(native: bytes, channel: bytes, payload: bytes) -> None:
        payload.decode()

    ear = Ear(connection, lost.append, heard)
    await ear.send("SUBSCRIBE", name)
    waiting = ear.send("SUBSCRIBE", f"{name}/other") if await raw.publish(name, b"\xff\xfe") else None
    assert waiting is not None
    with pytest.raises(Disconnected, match="unreadable"):
        await waiting
    assert [type(error) for error in lost] == [Disconnected]
    await ear.close()


async def test_who_waits_gets_nonsense_as_an_error_of_the_driver(pipe: Pipe) -> None:
    waiting = pipe.send("BLPOP", uuid4().hex, 0)
    pipe.data_received(b"?what is this\r\n")
    with pytest.raises(InvalidResponse):
        await waiting
