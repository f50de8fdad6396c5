# Generated from aio/transaction.py by scripts/generate_blocking.py; do not edit.
"""Publishing and acking together, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, Unpack

from tidings.client import outgoing
from tidings.client.blocking import runtime
from tidings.client.outgoing import PublishTerms
from tidings.errors import Closed, InvalidOption
from tidings.model.message import Message, Record
from tidings.model.options import PublishOptions
from tidings.model.topics import validate_topic
from tidings.spi import Output

X = TypeVar("X", bound="Transaction")


class Transaction:
    """What is published and acked in the block takes effect when it ends normally: all of it or nothing, whatever dies
    meanwhile. An exception out of the block drops it all; the messages stay as they were.

    Raises `LeaseLost` at the end of the block when a message had gone to another consumer, or `EngineError`: nothing
    took effect. Cancelling the end of the block leaves open which of the two happened. Made by
    `message.transaction()` and `subscription.transaction(messages)`.
    """

    def __init__(self, messages: Sequence[Message], engine: outgoing.Target, commit: runtime.Committing) -> None:
        self._messages = messages
        self._engine = engine
        self._commit = commit
        self._acked: dict[Message, None] = {}
        self._outputs: list[Output] = []
        self._entered = self._ended = False

    def publish(self, topic: str, data: Any, **terms: Unpack[PublishTerms]) -> str:
        """Publish a message with the transaction; return its id. The parameters and errors are those of
        `client.publish`; the durability is that of the transaction."""
        engine = self._engine
        record = outgoing.make_record(
            data, terms.get("partition_key"), terms.get("headers"), terms.get("message_id"), engine.max_message_bytes
        )
        self._add(validate_topic(topic), record, outgoing.apply(engine, terms, (record,)))
        return record.id

    def forward(
        self, topic: str, message: Message, *, headers: Mapping[str, str], message_id: str | None = None
    ) -> None:
        """Publish the bytes of a message as they are, with its key, priority and (unless another is given) its id."""
        record = record_of(message, headers, message_id)
        durability = self._engine.default_durability
        self._add(validate_topic(topic), record, PublishOptions(durability, message.priority))

    def _add(self, topic: str, record: Record, options: PublishOptions) -> None:
        self._check()
        self._outputs.append(Output(topic, record, options))

    def ack(self, messages: Message | Iterable[Message] | None = None) -> None:
        """Ack the messages of the transaction, or some of them, with it."""
        self._check()
        chosen = self._messages if messages is None else some_messages(messages)
        self._acked.update(dict.fromkeys(chosen))

    def _check(self) -> None:
        if self._ended:
            raise Closed("the transaction has ended")

    def __enter__(self: X) -> X:
        if self._entered:
            raise Closed("the transaction was begun before; make another one")
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        if error is None and (self._acked or self._outputs):
            self._commit(list(self._acked), self._outputs)


def record_of(message: Message, headers: Mapping[str, str], message_id: str | None) -> Record:
    """Return the record that publishes the bytes of a message as they are, with its key and, unless another is given,
    its id."""
    old = message.record
    return Record(message_id or old.id, old.content_type, old.data, old.key, dict(headers) or None)


def some_messages(messages: Message | Iterable[Message]) -> list[Message]:
    """Return the messages that are meant, also when it is one. Raises `InvalidOption` for anything else."""
    chosen = [messages] if isinstance(messages, Message) else list(messages)
    for message in chosen:
        if not isinstance(message, Message):
            raise InvalidOption("messages", message, "give a message, or a list of messages")
    return chosen
