"""JetStream's own requests: streams, consumers, and storing one message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg

from tidings.engines.nats.server.errors import CODES, NoAnswer, NoResponder, Refusal, translate
from tidings.engines.nats.server.link import Link, Request
from tidings.errors import BrokerUnavailable

FIRST_PAUSE_SECONDS = 0.02
"""Before a request is repeated that the server could not take: an election of a leader may be over by then."""

MAX_PAUSE_SECONDS = 0.5
"""The longest pause: each one is twice the one before."""

Answer: TypeAlias = dict[str, Any]


class _Error(Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(Struct):
    """The server's word that a message, or a batch of them, is stored."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    count: int = 1
    error: _Error | None = None


_ack_decoder = msgspec.json.Decoder(PubAck)


def read_ack(message: Msg) -> PubAck:
    """Return what the server says of a publish. Raises `Refusal`, or `NoAnswer` for what is no such answer."""
    try:
        ack = _ack_decoder.decode(message.data)
    except msgspec.MsgspecError as error:
        raise NoAnswer("the answer to the publish was not JetStream's") from error
    if ack.error is not None:
        raise Refusal(ack.error.err_code, ack.error.code, ack.error.description)
    return ack


class JetStream:
    """Requests that may be repeated: until the server takes them, or the time for a request is over."""

    def __init__(self, link: Link, seconds: float) -> None:
        self._link = link
        self.seconds = seconds

    async def call(self, subject: str, body: object = None) -> Answer:
        """Ask for one thing. Raises `Refusal`, `BrokerUnavailable`."""
        (answer,) = await self.calls([(subject, body)])
        if isinstance(answer, Refusal):
            raise answer
        return answer

    async def calls(self, calls: Sequence[tuple[str, object]]) -> list[Answer | Refusal]:
        """Ask for many things at once."""
        requests: list[Request] = [
            (f"$JS.API.{subject}", b"" if body is None else msgspec.json.encode(body), None) for subject, body in calls
        ]
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self.seconds, FIRST_PAUSE_SECONDS
        answers: list[Answer | Refusal | None] = [None] * len(calls)
        while left := [index for index, answer in enumerate(answers) if answer is None]:
            results = await self._link.requests([requests[index] for index in left])
            failed: Exception | None = None
            for index, result in zip(left, results, strict=True):
                found = _read(result)
                if isinstance(found, dict) or (isinstance(found, Refusal) and not _may_pass(found)):
                    answers[index] = found
                else:
                    failed = found
            if failed is not None:
                if loop.time() + pause > deadline:
                    raise translate(failed, calls[left[0]][0])
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
        return [answer for answer in answers if answer is not None]

    async def store(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> PubAck:
        """Store one message. Raises `Refusal`, `NoAnswer`, `NoResponder`, `BrokerUnavailable`."""
        return read_ack(await self._link.request(subject, body, headers))


def _may_pass(refusal: Refusal) -> bool:
    return CODES.get(refusal.code) is BrokerUnavailable or (refusal.code not in CODES and refusal.status == 503)


def _read(result: Msg | Exception) -> Answer | Exception:
    if isinstance(result, Exception):
        return result
    try:
        answer: Answer = msgspec.json.decode(result.data)
    except msgspec.MsgspecError:
        return NoResponder("JetStream does not answer")
    error = answer.get("error")
    if error is None:
        return answer
    return Refusal(error.get("err_code", 0), error.get("code", 0), error.get("description", ""))
