"""Topics as the dotted names that brokers route by, reversibly: subjects of NATS, routing keys of AMQP.

A segment of a topic is a token. The separator `.` is the broker's own; any other one stays at the head of its token:

    orders.placed    orders.placed
    orders/placed    orders./placed
    user:7/login     user.:7./login
    $SYS.a b.>.5%    %24SYS.a%20b.%3E.5%25

So the three topics `a.b`, `a/b` and `a:b` stay three, the wildcards of the broker see the segments, and who publishes
`orders.placed` with another program reaches the topic of that name. What a subject of NATS cannot hold (a blank), what
it takes for a wildcard (`>`), and a `$` at the head, which commands the server, are percent-encoded.
"""

from __future__ import annotations

import re

from tidings.model.topics import Pattern

_SEPARATOR = re.compile(r"(?=[/:])")
_KEPT = re.compile(r"\.(?=[/:])")
_PIECES = re.compile(r"[/.:]?[^/.:]+")
_UNSAFE = re.compile(r"^\$|[ %>]")
_ENCODED = re.compile(r"%(2[045]|3E)")


def to_dotted(topic: str) -> str:
    """Return the dotted name of a topic."""
    return _SEPARATOR.sub(".", _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", topic))


def from_dotted(name: str) -> str:
    """Return the topic of a dotted name."""
    return _ENCODED.sub(lambda found: chr(int(found[1], 16)), _KEPT.sub("", name))


def to_wildcard(pattern: Pattern, one: str, many: str) -> str:
    """Return a wildcard of the broker that takes all topics which the pattern matches, and perhaps others.

    `one` stands for one token, `many` for any number of them, also none; it is at the end only.
    """
    tokens = _tokens(pattern)
    return ".".join([many if token == "**" else one if token == "*" else token for token in tokens])


def to_wildcards(pattern: Pattern, one: str, many: str) -> list[str]:
    """Return the same for a broker whose `many` stands for at least one token: no topic is taken by two of them."""
    tokens = _tokens(pattern)
    wildcard = to_wildcard(pattern, one, many)
    if tokens[-1] == "**" and tokens[:-1]:
        return [wildcard.removesuffix(f".{many}"), wildcard]
    return [wildcard]


def _tokens(pattern: Pattern) -> list[str]:
    """Return the tokens of a pattern: literal ones, `*` for one that may be any, and at the end `**` for any others."""
    if pattern.literal is not None:
        return [to_dotted(pattern.literal)]
    if pattern.regex is not None:
        return ["**"]
    tokens: list[str] = []
    for piece in _PIECES.findall(pattern.text.replace("#", "**")):
        if piece.endswith("**"):
            return [*tokens, "**"]
        tokens.append("*" if "*" in piece else to_dotted(piece).removeprefix("."))
    return tokens
