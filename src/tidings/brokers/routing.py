"""Topics as the dotted names that brokers route by, reversibly: subjects of NATS, routing keys of AMQP.

A segment of a topic is a token. The separator `.` is the broker's own; any other one stays at the head of its token:

    orders.placed    orders.placed
    orders/placed    orders./placed
    user:7/login     user.:7./login

So the three topics `a.b`, `a/b` and `a:b` stay three, the wildcards of the broker see the segments, and who publishes
`orders.placed` with another program reaches the topic of that name.
"""

from __future__ import annotations

import re

from tidings.model.topics import Pattern

_SEPARATOR = re.compile(r"(?=[/:])")
_KEPT = re.compile(r"\.(?=[/:])")
_PIECES = re.compile(r"[/.:]?[^/.:]+")


def to_dotted(topic: str) -> str:
    """Return the dotted name of a topic."""
    return _SEPARATOR.sub(".", topic)


def from_dotted(name: str) -> str:
    """Return the topic of a dotted name."""
    return _KEPT.sub("", name)


def to_wildcard(pattern: Pattern, one: str, many: str) -> str:
    """Return a wildcard of the broker that takes all topics which the pattern matches, and perhaps others.

    `one` stands for one token, `many` for any number of them (at the end, where a broker takes it only there).
    """
    if pattern.literal is not None:
        return to_dotted(pattern.literal)
    if pattern.regex is not None:
        return many
    tokens: list[str] = []
    for piece in _PIECES.findall(pattern.text.replace("#", "**")):
        if piece.endswith("**"):
            return ".".join([*tokens, many])
        tokens.append(one if "*" in piece else piece.removeprefix("."))
    return ".".join(tokens)
