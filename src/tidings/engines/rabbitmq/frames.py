"""Reading frames, also those whose properties a foreign program has written wrongly.

The driver gives up a connection whose frame it cannot read: one message with a time in nanoseconds, or a name that is
no UTF-8, would come back for ever and let nobody read anything. Here such a message has no properties.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiormq.connection import FrameReceiver
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp.frame import unmarshal

HEAD_BYTES = 7
"""Of a frame: its type, its channel, the length of its payload."""

CONTENT_HEADER = 2
"""The type of a frame that holds the properties of a message."""

FIXED_BYTES = 12
"""Of a content header before the flags: the class, the weight and the size of the body."""


class Frames(FrameReceiver):
    """What the driver reads frames with."""

    async def get_frame(self) -> Any:
        try:
            head = await self.reader.readexactly(HEAD_BYTES)
            data = head + await self.reader.readexactly(int.from_bytes(head[3:], "big") + 1)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise AMQPConnectionError(f"the connection was lost: {error}") from error
        try:
            return unmarshal(data)
        except Exception as error:  # whatever bytes can do to those who read them
            if data[0] != CONTENT_HEADER:
                raise InvalidFrameError(str(error)) from error
            return unmarshal(without_properties(data))


def without_properties(data: bytes) -> bytes:
    """Return a content header that says nothing but the size of the body, in as many bytes."""
    kept = data[: HEAD_BYTES + FIXED_BYTES]
    return kept + bytes(len(data) - len(kept) - 1) + data[-1:]
