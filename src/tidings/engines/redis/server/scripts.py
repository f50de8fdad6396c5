"""The scripts that Redis runs, each whole or not at all: a file of `lua/`, with those that it shares code with."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

PARTS = {
    "put": ("put",),
    "ack": ("ack",),
    "publish": ("lib", "publish"),
    "cancel": ("lib", "cancel"),
    "read": ("lib", "reading", "read"),
    "claim": ("lib", "reading", "members", "claim"),
    "settle": ("lib", "settle"),
    "attach": ("lib", "members", "places", "attach"),
    "leave": ("lib", "members", "leave"),
    "topics": ("lib", "topics"),
    "groups": ("lib", "places", "groups"),
    "describe": ("lib", "reading", "members", "describe"),
}

SOURCES = {
    name: "\n".join(files(__package__).joinpath("lua", f"{part}.lua").read_text() for part in parts).encode()
    for name, parts in PARTS.items()
}
"""Name to the text of a script."""

SUMS = {name: sha1(source, usedforsecurity=False).hexdigest().encode() for name, source in SOURCES.items()}
"""Name to what Redis knows a script by once it was loaded."""
