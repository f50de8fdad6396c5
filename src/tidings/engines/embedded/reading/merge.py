"""Publish order across the shards of a topic with messages of several priorities."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence

from tidings.engines.embedded.catalog import Shard
from tidings.engines.embedded.log.frame import Batch
from tidings.engines.embedded.sift import SIFT_MESSAGES, Sift

LOOKS = 10
"""How often the ends of the logs are looked at for a moment at which all of them stood still; publishers that are
faster than that publish at the same time, and messages published at the same time have no order."""


def stable_ends(shards: Sequence[Shard]) -> dict[int, int]:
    """Return the ends of several logs, by shard, as they were at one moment: whatever was published before a message
    that is below them is below them, too."""
    seen = {shard.id: shard.log.end() for shard in shards}
    for _ in range(LOOKS):
        again = {shard.id: shard.log.end() for shard in shards}
        if again == seen:
            break
        seen = again
    return seen


def first_published(
    shards: Mapping[int, Shard],
    places: Mapping[int, int],
    ends: Mapping[int, int],
    limit: int,
    sift: Sift | None = None,
) -> dict[int, int]:
    """Return up to where each log is to be read from its place so that, together, they give the `limit` messages (that
    a filter lets through) which were published first. With a filter no more than `SIFT_MESSAGES` are looked at."""
    found = {number: places.get(number, 0) for number in shards}
    room = SIFT_MESSAGES
    steps = heapq.merge(*(_steps(shards[number], found[number], ends[number]) for number in shards))
    for _, number, first, end, batch in steps:
        if sift is None or batch is None:
            taken, found[number] = min(end - first, limit), min(end, first + limit)
        else:
            end = min(end, first + room)
            room -= end - first
            taken, found[number] = sift.take(shards[number], batch, (first, end), limit)
        limit -= taken
        if limit <= 0 or room <= 0:
            break
    return found


Step = tuple[float, int, int, int, Batch | None]
"""Time, shard, first offset (retention may have removed some), end, and the batch itself."""


def _steps(shard: Shard, at: int, end: int) -> Iterator[Step]:
    """Yield the stored batches of a shard. What is missing at its end, after a loss of power, comes last: who claims it
    finds that out."""
    while at < end and (batches := shard.log.read(at)):
        for batch in batches:
            if batch.end > at and batch.base < end:
                yield batch.time_ns, shard.id, max(batch.base, at), min(batch.end, end), batch
        at = batches[-1].end
    if at < end:
        yield math.inf, shard.id, at, end, None
