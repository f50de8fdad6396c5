"""JetStream's own requests: streams, consumers, and storing one message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from tidings.engines.nats.server.errors import CODES, NoAnswer, NoResponder, Refusal, translate
from tidings.engines.nats.server.link import Link, Outcome, Request
from tidings.errors import BrokerUnavailable

FIRST_PAUSE_SECONDS = 0.02
"""Before a request is repeated that the server could not take: an election of a leader may be over by then."""

MAX_PAUSE_SECONDS = 0.5
"""The longest pause: each one is twice the one before."""

Answer: TypeAlias = dict[str, Any]

T = TypeVar("T")


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


def read_ack(result: Outcome) -> PubAck | Exception:
    """Return what the server says of a publish, or why that is not known."""
    if isinstance(result, Exception):
        return result
    try:
        ack = _ack_decoder.decode(result.data)
    except msgspec.MsgspecError:
        return NoAnswer("the answer to the publish was not JetStream's")
    return ack if ack.error is None else Refusal(ack.error.err_code, ack.error.code, ack.error.description)


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
        return await self.repeat(requests, _read)

    async def repeat(self, requests: Sequence[Request], read: Callable[[Outcome], T | Exception]) -> list[T | Refusal]:
        """Ask for what may be asked for again, until `read` finds an answer, or a refusal, everywhere."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self.seconds, FIRST_PAUSE_SECONDS
        answers: dict[int, T | Refusal] = {}
        while left := [index for index in range(len(requests)) if index not in answers]:
            failed: Exception | None = None
            for index, result in zip(left, await self._link.requests([requests[at] for at in left]), strict=True):
                found = read(result)
                if isinstance(found, Exception) and not (isinstance(found, Refusal) and not _may_pass(found)):
                    failed = found
                else:
                    answers[index] = found
            if failed is not None:
                if loop.time() + pause > deadline:
                    raise translate(failed, requests[left[0]][0])
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
        return [answers[index] for index in range(len(requests))]

    async def store(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> PubAck:
        """Store one message. Raises `Refusal`, `NoAnswer`, `NoResponder`, `BrokerUnavailable`."""
        ack = read_ack(await self._link.request(subject, body, headers))
        if isinstance(ack, Exception):
            raise ack
        return ack


def _may_pass(refusal: Refusal) -> bool:
    return CODES.get(refusal.code) is BrokerUnavailable or (refusal.code not in CODES and refusal.status == 503)


def _read(result: Outcome) -> Answer | Exception:
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
