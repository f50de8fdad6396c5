"""Which partitions a consumer of an ordering group may read: each belongs to one of them at a time.

Shares are as even as can be, and stay where they are as long as that is so. A partition moves only when nothing of it
is held: from a consumer that has too many once it has settled what it has, from a dead one at once, from a stopped one
when its lease has run out. Whoever takes it over begins with what had been tried before, whatever the back-off says, as
what follows may have the same key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

Execute = Callable[..., Any]


class Member(Struct):
    """A consumer as it claims. `shards` is the JSON list of those it may claim from, `unleased` the ones that deliver
    at most once; `homes`, of an ordering consumer only, tells the partition of each shard by its shard of normal
    priority, and `shards` and `owned` are then what `share` has left of them. `levels`, in order of priority only: the
    shards that are claimed from one after the other. `merged`: what is claimed anew was cut to be in publish order."""

    group: int
    consumer: int
    shards: str
    lease_seconds: float
    homes: dict[int, int] | None = None
    levels: tuple[frozenset[int], ...] = ()
    merged: bool = False
    unleased: frozenset[int] = frozenset()
    owned: frozenset[int] | None = None
    gained: bool = False
    leaving: bool = False


def share(run: Execute, who: Member, now: float) -> set[int]:
    """Return the shards that the member may claim from now. `gained` is set when partitions changed hands, `leaving`
    when others wait for one that it still holds messages of."""
    assert who.homes is not None
    who.gained = who.leaving = False
    homes = sorted(set(who.homes.values()))
    readers = _readers(run, who, homes, now)
    owners = dict(run("SELECT partition, consumer FROM assignments WHERE group_id = ?", (who.group,)).fetchall())
    kept: set[int] = set()
    for members in set(readers.values()):
        kept |= _share(run, who, [home for home in homes if readers[home] == members], members, owners, now)
    shards = {shard for shard, home in who.homes.items() if home in kept}
    who.owned = frozenset(shards)
    who.shards = msgspec.json.encode(sorted(shards)).decode()
    return shards


def _readers(run: Execute, who: Member, homes: list[int], now: float) -> dict[int, tuple[int, ...]]:
    """Say what the member reads, and that it is there; return which members read each of its partitions."""
    told = msgspec.json.encode(homes).decode()
    query = "SELECT id, homes FROM consumers WHERE group_id = ? AND ordering AND (until > ? OR id = ?) ORDER BY id"
    others = dict(run(query, (who.group, now, who.consumer)).fetchall())
    who.gained = others[who.consumer] != told
    until = now + who.lease_seconds
    run("UPDATE consumers SET until = ?, homes = ? WHERE id = ?", (until, told, who.consumer))
    reads = {**{id: set(msgspec.json.decode(stored)) for id, stored in others.items()}, who.consumer: set(homes)}
    return {home: tuple(id for id, of in reads.items() if home in of) for home in homes}


def _share(
    run: Execute, who: Member, homes: list[int], members: tuple[int, ...], owners: dict[int, int], now: float
) -> set[int]:
    """Return what is the member's of partitions that the same members read."""
    quota = _quota(len(homes), members, who.consumer)
    mine = [home for home in homes if owners.get(home) == who.consumer]
    for home in mine[quota:]:
        _give_up(run, who, home)
    kept = set(mine[:quota])
    for home in homes:
        if len(kept) < quota and owners.get(home) not in members and _take(run, who, home, now):
            kept.add(home)
    return kept


def _quota(partitions: int, members: tuple[int, ...], consumer: int) -> int:
    """The first ones get one more where it does not come out even."""
    each, over = divmod(partitions, len(members))
    return each + (members.index(consumer) < over)


def _give_up(run: Execute, who: Member, home: int) -> None:
    held = f"SELECT 1 FROM pending WHERE consumer = ? AND {_AMONG} LIMIT 1"
    if run(held, (who.consumer, _shards(who, home))).fetchall():
        who.leaving = True
    else:
        run("DELETE FROM assignments WHERE group_id = ? AND partition = ?", (who.group, home))
        who.gained = True


def _take(run: Execute, who: Member, home: int, now: float) -> bool:
    """Take a partition over, unless somebody's lease on a message of it still runs."""
    shards = _shards(who, home)
    held = f"SELECT 1 FROM pending WHERE group_id = ? AND consumer <> ? AND due > ? AND {_AMONG} LIMIT 1"
    if run(held, (who.group, who.consumer, now, shards)).fetchall():
        return False
    run("INSERT OR REPLACE INTO assignments VALUES (?, ?, ?)", (who.group, home, who.consumer))
    # what a stopped one held is its no more, also when it goes on and renews
    free = "UPDATE pending SET due = 0, consumer = NULL, lease = 0 WHERE group_id = ? AND consumer IS NOT ?"
    run(f"{free} AND {_AMONG}", (who.group, who.consumer, shards))
    who.gained = True
    return True


_AMONG = "shard IN (SELECT value FROM json_each(?))"


def _shards(who: Member, home: int) -> str:
    assert who.homes is not None
    return msgspec.json.encode([shard for shard, of in who.homes.items() if of == home]).decode()
