"""Every exception of tidings, in one tree, each with the fields a program needs to decide what to do next.

`UsageError` means the call was wrong (you), `EngineError` means the storage or the broker was (it). Nothing else leaks:
an engine translates its driver's errors in one place, so a caller never has to catch a driver's exception.
"""

from __future__ import annotations


class TidingsError(Exception):
    """The root of every error that tidings raises."""


class Closed(TidingsError):
    """The client, subscription or listener was closed, or belongs to the process this one was forked from."""


class UsageError(TidingsError, ValueError):
    """The call cannot work as it was made; nothing was stored or changed."""


class InvalidTopic(UsageError):
    """`topic` is not a topic name."""

    def __init__(self, topic: object, reason: str) -> None:
        super().__init__(f"topic {topic!r}: {reason}")
        self.topic = topic
        self.reason = reason


class InvalidPattern(UsageError):
    """`pattern` is neither a topic name, a wildcard pattern nor a regular expression in RE2 syntax."""

    def __init__(self, pattern: object, reason: str) -> None:
        super().__init__(f"pattern {pattern!r}: {reason}")
        self.pattern = pattern
        self.reason = reason


class InvalidOption(UsageError):
    """A parameter or option has a value that cannot be used."""

    def __init__(self, name: str, value: object, reason: str) -> None:
        super().__init__(f"{name}={value!r}: {reason}")
        self.name = name
        self.value = value
        self.reason = reason


class InvalidFilter(UsageError):
    """`filter` is no condition on messages. `reason` says why; for text, `line` and `column` (from 1) say where, and
    `expected` what could stand there."""

    def __init__(
        self, filter: object, reason: str, line: int = 0, column: int = 0, expected: tuple[str, ...] = ()
    ) -> None:
        super().__init__(_complaint("filter", filter, reason, line, column, expected))
        self.filter = filter
        self.reason = reason
        self.line = line
        self.column = column
        self.expected = expected


class InvalidStatement(UsageError):
    """`statement` is none that `execute` or `query` can run; the other fields are those of `InvalidFilter`."""

    def __init__(
        self, statement: str, reason: str, line: int = 0, column: int = 0, expected: tuple[str, ...] = ()
    ) -> None:
        super().__init__(_complaint("statement", statement, reason, line, column, expected))
        self.statement = statement
        self.reason = reason
        self.line = line
        self.column = column
        self.expected = expected


SHOWN_COLUMNS = 100
"""How much of a long line an error shows around the place that is wrong: what fits on a terminal."""


def _complaint(what: str, source: object, reason: str, line: int, column: int, expected: tuple[str, ...]) -> str:
    """Return what is wrong with a text, with the line in question and a caret under the place."""
    if expected:
        reason = f"{reason}; expected {', '.join(expected)}"
    code = getattr(source, "__code__", None)
    if code is not None:
        return f"{what} in {code.co_filename}, line {code.co_firstlineno}: {reason}"
    if not line or not isinstance(source, str):
        return f"{what} {source!r}: {reason}"
    text = (source.splitlines() or [""])[min(line, len(source.splitlines()) or 1) - 1]
    begin = max(0, column - 1 - SHOWN_COLUMNS // 2)
    shown = "".join(letter if letter.isprintable() else " " for letter in text[begin : begin + SHOWN_COLUMNS])
    caret = " " * (column - 1 - begin) + "^"
    return f"{what}, line {line}, column {column}: {reason}\n    {shown}\n    {caret}"


class InvalidURL(UsageError):
    """The URL names no engine, or holds an option the engine does not know."""


class UnencodableData(UsageError):
    """`data` (or a header) cannot travel; `reason` says what in it is the matter."""

    def __init__(self, argument: str, reason: str) -> None:
        super().__init__(f"{argument}: {reason}")
        self.argument = argument
        self.reason = reason


class MessageTooLarge(UsageError):
    """The encoded message has `size` bytes and the topic takes `limit`."""

    def __init__(
        self, size: int, limit: int, way_out: str = "open the client with a higher ?max_message_bytes="
    ) -> None:
        away = "store it elsewhere and publish a reference"
        super().__init__(f"data: {size} bytes encoded, the limit is {limit}; {away}, or {way_out}")
        self.size = size
        self.limit = limit


class UnsupportedFeature(UsageError):
    """`engine` cannot do `feature`; `way_out` names what can."""

    def __init__(self, engine: str, feature: str, way_out: str = "") -> None:
        self.engine = engine.removesuffix(":")
        way_out = way_out or "use an engine that can, such as file:, or one that docs/capabilities.md names"
        super().__init__(f"{self.engine}: cannot do {feature}: {way_out}")
        self.feature = feature
        self.way_out = way_out


class TopicNotFound(UsageError):
    """There is no topic of this name."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"topic {topic!r} does not exist; publish to it or create_topic({topic!r}) first")
        self.topic = topic


class TopicExists(UsageError):
    """A topic of this name exists with other options."""

    def __init__(self, topic: str, difference: str) -> None:
        super().__init__(f"topic {topic!r} exists already: {difference}; use it, alter_topic(), or drop_topic() first")
        self.topic = topic
        self.difference = difference


class GroupNotFound(UsageError):
    """The consumer group does not exist, or does not collect from the topic."""

    def __init__(self, group: str, topic: str | None = None) -> None:
        on = f" on topic {topic!r}" if topic else ""
        super().__init__(f"consumer group {group!r}{on} does not exist; create_group() or subscribe() makes it")
        self.group = group
        self.topic = topic


class GroupExists(UsageError):
    """The consumer group exists already, and not as it was asked for."""

    def __init__(self, group: str, difference: str) -> None:
        super().__init__(f"consumer group {group!r} exists already: {difference}; use it so, or drop_group() first")
        self.group = group
        self.difference = difference


class TooManySubscribers(UsageError):
    """The topic has as many subscriptions attached as its option `max_subscribers` allows."""

    def __init__(self, topic: str, limit: int) -> None:
        super().__init__(f"topic {topic!r} has {limit} subscribers, the most its max_subscribers allows")
        self.topic = topic
        self.limit = limit


class QueryTooLarge(UsageError):
    """A query takes more than `limit` allows: it was broken off."""

    def __init__(self, limit: str, way_out: str) -> None:
        super().__init__(f"the query was broken off at {limit}: {way_out}")
        self.limit = limit
        self.way_out = way_out


class EngineError(TidingsError):
    """The storage or the broker failed. `retryable`: the same call may succeed later."""

    retryable = False


class PublishFailed(EngineError):
    """Nothing of this call was stored and it will never be delivered; publishing again makes no duplicate."""


class StorageFull(PublishFailed):
    """The disk has no room. Nothing of this call was stored; what was acknowledged before is safe."""

    retryable = True


class TopicFull(PublishFailed):
    """The topic has `max_length` messages that a group has not settled. Nothing of this call was stored."""

    retryable = True

    def __init__(self, topic: str, max_length: int, group: str) -> None:
        super().__init__(
            f"topic {topic!r} is full: group {group!r} has {max_length} messages or more to settle (max_length); "
            "wait, add consumers, or drop_group() if nobody reads it any more"
        )
        self.topic = topic
        self.max_length = max_length
        self.group = group


class BusBusy(PublishFailed):
    """Somebody held a lock of the bus for longer than `LOCK_WAIT_SECONDS` (a stopped process, perhaps), or the topic
    was dropped again and again meanwhile."""

    retryable = True


class BrokerUnavailable(PublishFailed):
    """The broker cannot be reached, or did not answer in time. Nothing was done; when it is back, try again."""

    retryable = True


class Unroutable(PublishFailed):
    """Nothing on the broker would keep the message: no queue is bound for `topic`."""

    def __init__(self, topic: str, way_out: str) -> None:
        super().__init__(f"topic {topic!r}: the broker has nowhere to put the message; {way_out}")
        self.topic = topic
        self.way_out = way_out


class BrokerRefused(EngineError):
    """The broker understood and refused: the account may not do this, or its configuration does not allow it."""


class PublishUnknown(EngineError):
    """The messages may or may not be delivered: the write was made, its durability could not be proven.

    Publish again with the same `message_ids`: whoever deduplicates by id sees one copy.
    """

    retryable = True

    def __init__(self, message: str, message_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message_ids = message_ids


class StorageUnavailable(EngineError):
    """The bus directory cannot be used: permission, read-only, missing, or another kind of file system."""


class IncompatibleFormat(EngineError):
    """The bus directory was written by a newer version of tidings."""


class DamagedData(EngineError):
    """Stored bytes fail their checksum. They are never returned as data; `file` and `position` say where they are."""

    def __init__(self, file: str, position: int, reason: str, resume_offset: int | None = None) -> None:
        way = f"; the next readable offset is {resume_offset} (seek past it)" if resume_offset is not None else ""
        super().__init__(f"{file} at byte {position}: {reason}{way}")
        self.file = file
        self.position = position
        self.reason = reason
        self.resume_offset = resume_offset


class LeaseLost(EngineError):
    """The delivery is no longer this consumer's: its lease ran out or was taken over, so the settlement was refused."""

    def __init__(self, topic: str, offsets: tuple[int, ...]) -> None:
        shown = ", ".join(map(str, offsets[:5])) + (", ..." if len(offsets) > 5 else "")
        super().__init__(f"lease lost on {topic!r} offset {shown}: it has gone, or will go, to another consumer")
        self.topic = topic
        self.offsets = offsets


class UnreadableData(EngineError):
    """The compressed data of a message is not what `compression` makes; `reason` says what is the matter."""

    def __init__(self, compression: str, reason: str) -> None:
        super().__init__(f"data compressed with {compression} cannot be read: {reason}")
        self.compression = compression
        self.reason = reason


class DecompressionBomb(EngineError):
    """The compressed data of a message holds more than `limit` bytes. Reading stopped there."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the compressed data holds more than {limit} bytes; if its publisher can be trusted, "
            "open the client with a higher ?max_message_bytes="
        )
        self.limit = limit


class PackageMissing(UsageError):
    """`feature` needs a Python package that is not installed."""

    def __init__(self, feature: str, package: str) -> None:
        super().__init__(f"{feature} needs a package that is not installed: pip install {package}")
        self.feature = feature
        self.package = package


class IncompatibleSchema(UsageError):
    """The new schema of `topic` would not fit its messages, or break its readers, as `difference` says."""

    def __init__(self, topic: str, difference: str) -> None:
        super().__init__(f"schema of topic {topic!r}: {difference}; make a compatible change, or give force=True")
        self.topic = topic
        self.difference = difference


class SchemaMismatch(UsageError):
    """`data` does not fit the schema of `topic`: at `path` (such as `items[2].name`; empty: all), for `reason`."""

    def __init__(self, topic: str, path: str, reason: str) -> None:
        at = f" at {path!r}" if path else ""
        super().__init__(f"data does not fit the schema of topic {topic!r}{at}: {reason}")
        self.topic = topic
        self.path = path
        self.reason = reason
