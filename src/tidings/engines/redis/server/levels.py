"""What a server is, and what it survives: asked for, not believed."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from redis.exceptions import ResponseError

from tidings.engines.redis.server.pipe import Pipe
from tidings.errors import BrokerRefused
from tidings.model.options import Durability

LEAST_VERSION = (7, 0)
"""Of the server: since then it counts what a group has not read."""

QUORUM = 3
"""Copies, with the primary's, of which one may be lost while the others are a majority."""

LEVELS = [*Durability]

LEAST_ROOM = 1024 * 1024
"""Bytes up to `maxmemory` below which memory counts as full: a batch or a larger message is refused then, although a
small one may still find room."""

ASKED = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy")


class Server(Struct, frozen=True):
    """A server: the durability that its configuration proves, what is the matter with it, and whether a majority of it
    and its replicas can be waited for."""

    level: Durability = Durability.MEMORY
    problems: tuple[str, ...] = ()
    quorum: bool = False

    def proves(self, asked: Durability) -> bool:
        """Whether a publish that asks for this durability is not refused."""
        return self.quorum if asked is Durability.QUORUM else LEVELS.index(asked) <= LEVELS.index(self.level)


async def examine(pipe: Pipe, replicas: int) -> Server:
    """Look at the server, which is one of `replicas`. Raises `BrokerRefused` for one that cannot have a bus."""
    information = read_information(await pipe.send("INFO", "server", "cluster"))
    version = information.get("redis_version", "0")
    numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
    if tuple(numbers) < LEAST_VERSION:
        raise BrokerRefused(f"redis {version}: a bus needs {'.'.join(map(str, LEAST_VERSION))} or newer")
    if information.get("redis_mode") == "cluster":
        raise BrokerRefused("redis: this is a Redis Cluster, and a bus has to be on one node")
    try:
        found = await pipe.send("CONFIG", "GET", *ASKED)
    except ResponseError:  # the account may not ask, so nothing is proven
        return Server()
    settings: dict[str, Any] = {found[at].decode(): found[at + 1].decode() for at in range(0, len(found), 2)}
    return judge(settings, replicas)


def read_information(text: bytes) -> dict[str, str]:
    """Return what INFO answers by its names."""
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def judge(settings: dict[str, str], replicas: int = 1) -> Server:
    """Return what the configuration of a server proves.

    With `appendfsync everysec` the server answers before it has written, while its disk is slow: what it acknowledged
    is in its own memory for up to two seconds then, and dies with it. So that proves no more than no file at all.
    """
    policy = settings.get("maxmemory-policy", "noeviction")
    if settings.get("maxmemory", "0") != "0" and policy.startswith("allkeys"):
        return Server(problems=(f"maxmemory-policy is {policy}: messages vanish when memory is short; set noeviction",))
    return Server(_level(settings), (), replicas >= QUORUM)


def lacks(told: dict[str, str], needed: int) -> list[str]:
    """Return what a server is short of, by what it tells now of its memory and its replicas."""
    found = []
    most, used = int(told.get("maxmemory", 0)), int(told.get("used_memory", 0))
    if most and told.get("maxmemory_policy") == "noeviction" and most - used < LEAST_ROOM:
        found.append(f"its memory is full: {used} of {most} bytes (maxmemory)")
    online = sum(name.startswith("slave") and "state=online" in told[name] for name in told)
    if online < needed:
        found.append(f"{online} replicas follow it, and a majority needs {needed}: durability quorum cannot be reached")
    return found


def _level(settings: dict[str, str]) -> Durability:
    if settings.get("appendonly") != "yes":
        return Durability.MEMORY
    sync = settings.get("appendfsync")
    if sync == "always" and settings.get("no-appendfsync-on-rewrite") == "no":
        return Durability.DISK
    return Durability.OS if sync in ("always", "no") else Durability.MEMORY
