"""What topics and groups are called on the server: subjects, streams, consumers, keys."""

from __future__ import annotations

import hashlib
import re

from msgspec import Struct

from tidings.brokers.routing import to_dotted

LONGEST_TOKEN = 180
"""Characters of a name that are kept: with what is put around them they fit a file's name, which is what the server
makes of a stream or consumer. What is longer ends in a hash."""

_ODD = re.compile(r"[^A-Za-z0-9-]")
_INBOX = re.compile(r"^_(?=INBOX)")


def token(text: str) -> str:
    """Return text as one token that streams, consumers and keys may be called: `a.b` becomes `a_b`, any other odd
    character `=` and its bytes in hexadecimal."""
    found = _ODD.sub(_escape, text)
    if len(found) <= LONGEST_TOKEN:
        return found
    return f"{found[: LONGEST_TOKEN - 34]}=={hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return "_" if character == "." else "".join(f"={byte:02X}" for byte in character.encode())


def to_subject(topic: str) -> str:
    """Return the subject of a topic: its dotted name, which is never that of an inbox."""
    return _INBOX.sub("%5F", to_dotted(topic))


class Shard(Struct, frozen=True):
    """One partition of a topic: its stream, the subject of its messages, and that of its scheduled ones."""

    topic: str
    partition: int
    stream: str
    subject: str
    later: str


class Names(Struct, frozen=True):
    """The names of one bus."""

    bus: str
    prefix: str = ""

    @property
    def own(self) -> str:
        """What the subjects begin with that no topic has."""
        return f"$TIDINGS.{token(self.bus)}"

    @property
    def bucket(self) -> str:
        return f"KV_{token(self.bus)}"

    @property
    def keys(self) -> str:
        """What the subjects of the bucket begin with."""
        return f"$KV.{token(self.bus)}"

    def key(self, kind: str, name: str) -> str:
        """Return the subject of what is kept about a topic ("t"), a group ("g") or a group's place ("p")."""
        return f"{self.keys}.{kind}.{token(name)}"

    @property
    def releases(self) -> str:
        """The stream that counts what was given back."""
        return f"{token(self.bus)}++released"

    def released(self, consumer: str, stream: str, sequence: int | str) -> str:
        """Return the subject that counts how often a message was given back."""
        return f"{self.own}.released.{consumer}.{stream}.{sequence}"

    def shard(self, topic: str, partition: int) -> Shard:
        """Return the names of a partition. The first one has the topic's own subject, for programs without tidings."""
        subject = f"{self.prefix}.{to_subject(topic)}" if self.prefix else to_subject(topic)
        stream = f"{token(self.bus)}+{token(topic)}"  # no token has a `+`
        if partition:
            stream = f"{stream}+{partition}"
            subject = f"{self.own}.p{partition}.{subject}"
        return Shard(topic, partition, stream, subject, f"{self.own}.later.{stream}")

    def consumer(self, group: str, born: float, generation: int) -> str:
        """Return the name of a group's consumer: another one when the group was moved, or the topic made anew, so that
        what was delivered before cannot be settled."""
        return f"{token(group)}+{int(born * 1e6):x}+{generation}"
