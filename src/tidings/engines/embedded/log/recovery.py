"""What to make of a segment whose end is not what it should be. Called only by the holder of the shard's lock.

A torn tail is what a writer leaves that died: it is cut off, since nobody was told that it is stored. Damage is
anything else that fails its checksum: it stays where it is, readers that come there are told, and writing goes on
after it.
"""

from __future__ import annotations

import os

from msgspec import Struct

from tidings.engines.embedded.log.frame import HEADER_BYTES, SEGMENT_HEADER_BYTES
from tidings.engines.embedded.log.segment import READ_BYTES, Segment


class Floor(Struct, frozen=True):
    """What is known of a log from elsewhere: offsets below `given` were given to a group, so they are not used again;
    messages below `written` were written in this boot of the machine, so missing ones are damage and no torn tail."""

    given: int = 0
    written: int = 0


def recover(segment: Segment, floor: Floor) -> None:
    """Verify bodies from the last verified batch on, and leave the segment ready to be appended to."""
    size = segment.size()
    while segment.end < size and not segment.sealed:
        if _advance(segment, size):
            continue
        if not segment.step_over(size):
            if segment.next_offset >= floor.written:
                os.ftruncate(segment.fd, segment.end)
                break
            segment.end, segment.next_offset = size, floor.written
    segment.next_offset = max(segment.next_offset, floor.given)


def _advance(segment: Segment, size: int) -> bool:
    header = segment.header_at(segment.end)
    if header is None or segment.end + HEADER_BYTES + header.length > size:
        return False
    if not segment.body_is_sound(header, segment.end):
        return False
    segment.advance(header)
    return True


def rewrite(segment: Segment, position: int) -> None:
    """Write the bytes from `position` on once more, in place.

    After a failed sync the kernel marks the pages as clean although the disk does not have them (Rebello et al., ATC
    2020): a later sync would succeed without writing them. Written again they are dirty again.
    """
    position = max(position, SEGMENT_HEADER_BYTES)
    while position < segment.end:
        data = os.pread(segment.fd, min(READ_BYTES, segment.end - position), position)
        position += os.pwrite(segment.fd, data, position)
