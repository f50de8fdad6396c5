"""What an engine may be able to do beyond plain fan-out: declared by the engine, asked for by the client."""

from __future__ import annotations

from enum import StrEnum


class Capability(StrEnum):
    """One ability. The conformance cases are keyed by these, and `UnsupportedFeature` names them."""

    GROUPS = "consumer groups"
    REPLAY = "replay from an earlier position"
    SEEK = "moving the place of a group"
    PARTITIONS = "partitions"
    PATTERNS = "wildcard and regex topics"
    RETENTION = "retention limits"
    LAG = "consumer lag"
    OS_DURABILITY = "durability os"
    DISK_DURABILITY = "durability disk"
    QUORUM_DURABILITY = "durability quorum"
    PROCESSES = "several processes on one bus"
    AT_MOST_ONCE = "at-most-once delivery"
    DEDUPLICATION = "exactly-once publishing"
    TRANSACTIONS = "transactions of acks and publishes"
    DEAD_LETTERS = "retry limits and dead letters"
    EXPIRY = "expiry of messages"
    DELAY = "delayed delivery"
    PRIORITY = "priorities"
    ORDERING = "ordered consumption in groups"
    MAX_LENGTH = "bounds on the length of a topic"
    MAX_SUBSCRIBERS = "bounds on the subscribers of a topic"
    COMPRESSION = "compression"
    SCHEMA = "schemas"
    ALTER = "changing the options of a topic"
    STATISTICS = "statistics of topics and groups"
    FILTERS = "filters on content"
    OFFSETS = "offsets"
    GROUP_REPLAY = "groups that begin earlier than now"
    GROUPS_AT_MOST_ONCE = "groups on topics that deliver at most once"
    EXACT_ATTEMPTS = "giving back without counting an attempt"
    DEATH_WATCH = "taking over at once from a consumer that was killed"
    CANCEL = "taking back a scheduled message"
    TOPICS = "topics that are kept, with options of their own"
