"""How often a message was given back: the server counts each delivery as an attempt, a consumer that did not want it
does not."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Protocol

from tidings.engines.nats.names import Names
from tidings.engines.nats.options import NatsOptions
from tidings.engines.nats.server.errors import (
    MESSAGE_NOT_FOUND,
    STREAM_NOT_FOUND,
    NoResponder,
    Refusal,
    translate,
    translated,
)
from tidings.engines.nats.server.jetstream import JetStream, PubAck, read_ack
from tidings.engines.nats.server.link import Outcome, Request

REMEMBER_SECONDS = 30 * 86400
"""How long it is remembered that a message was given back: longer than any retries take that are not told to."""

REMEMBERED = 1_000_000
"""How many of them, at most: the oldest are forgotten, and then count as attempts."""


class Given(Protocol):
    """What is needed of a message."""

    consumer: str
    stream: str
    sequence: int


class Released:
    """Counts kept in a stream of the bus, one message for each that was given back."""

    def __init__(self, jetstream: JetStream, names: Names, options: NatsOptions) -> None:
        self._jetstream = jetstream
        self._names = names
        self._options = options

    async def counts(self, messages: Sequence[Given]) -> list[int]:
        """Return how often each of these was given back."""
        calls = [(f"STREAM.MSG.GET.{self._names.releases}", {"last_by_subj": self._key(each)}) for each in messages]
        counts = []
        for answer in await self._jetstream.calls(calls):
            if isinstance(answer, Refusal):
                if answer.code not in (*MESSAGE_NOT_FOUND, STREAM_NOT_FOUND):
                    raise translate(answer, "counting attempts")
                counts.append(0)
            else:
                counts.append(int(base64.b64decode(answer["message"]["data"])))
        return counts

    async def note(self, messages: Sequence[Given], counts: Sequence[int]) -> None:
        """Keep that these were given back so often."""
        wanted: list[Request] = [
            (self._key(message), b"%d" % count, None) for message, count in zip(messages, counts, strict=True)
        ]
        stored = await self._jetstream.repeat(wanted, _read)
        if any(isinstance(each, Refusal) and each.code == STREAM_NOT_FOUND for each in stored):
            await self._make()
            stored = await self._jetstream.repeat(wanted, read_ack)
        for each in stored:
            if isinstance(each, Refusal):
                raise translate(each, "giving back")

    def _key(self, message: Given) -> str:
        return self._names.released(message.consumer, message.stream, message.sequence)

    async def _make(self) -> None:
        config = {
            "name": self._names.releases,
            "subjects": [self._names.released("*", "*", "*")],
            "max_msgs_per_subject": 1,
            "max_msgs": REMEMBERED,
            "max_age": int(REMEMBER_SECONDS * 1e9),
            "discard": "old",
            "storage": self._options.storage,
            "num_replicas": self._options.replicas,
        }
        with translated("giving back"):
            await self._jetstream.call(f"STREAM.CREATE.{self._names.releases}", config)


def _read(result: Outcome) -> PubAck | Exception:
    if isinstance(result, NoResponder):
        return Refusal(STREAM_NOT_FOUND, 404, "nobody keeps it")
    return read_ack(result)
