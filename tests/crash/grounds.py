"""Responsible for one thing: the engines that a campaign runs on, and what goes wrong with each of them."""

from __future__ import annotations

import asyncio
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from tests.crash.experiment import Experiment
from tests.crash.workers.work import POLICIES
from tidings.client import connect
from tidings.model.capability import Capability
from tidings.testing.history import EVERY_LEVEL
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import NatsServer, RabbitmqServer, RedisServer, Server

SEGMENT_BYTES: Final = 1 << 16  # small, so that segments are sealed and followed all the time
AWAY_SECONDS: Final = 0.3  # at most, until a broker that died is started again
HOLE_SECONDS: Final = 0.5  # at most, for which nothing comes through: less than any timeout, and more
BROKER_LEASE_SECONDS: Final = 3.0  # the killed one's messages wait for it where the broker does not see its death
DEATHS, CUTS, HOLES = 0.05, 0.05, 0.03  # what befalls everybody at once, as shares of the times that somebody is killed
REQUEST_SECONDS: Final = 2.0  # some requests find a silent network, and the run has to end

NEEDED: Final[dict[str, frozenset[Capability]]] = {
    "transactions": frozenset({Capability.TRANSACTIONS}),
    "dying": frozenset({Capability.DEAD_LETTERS, Capability.STATISTICS, Capability.REPLAY, Capability.EXACT_ATTEMPTS}),
    "once": frozenset({Capability.DEDUPLICATION}),
    "ordering": frozenset({Capability.ORDERING, Capability.PARTITIONS}),
    "timed": frozenset({Capability.DELAY, Capability.EXPIRY, Capability.CANCEL, Capability.STATISTICS}),
    "priorities": frozenset({Capability.PRIORITY}),
}
"""What an engine must be able to do for a policy to be tried and judged."""

_pause = threading.Event().wait


class Ground(ABC):
    """Where the runs of a campaign take place, one after the other.

    `policies` are those that can be tried; `stops`: whether consumers have leases that run out; `fault_seconds`: how
    long a run has faults; `surviving`: the levels that the faults must not break.
    """

    policies: tuple[str, ...]
    stops: bool
    fault_seconds: float
    surviving: frozenset[str]

    def begin(self, rng: random.Random) -> Mapping[str, Any]:
        """Begin a run; return what its workers are told of the ground."""
        return {}

    @abstractmethod
    def url(self, folder: Path, lease_seconds: float) -> str:
        """The URL of a run's bus."""

    def bus(self, folder: Path) -> Path | None:
        """The directory of a run's bus, where it has one."""
        return None

    @abstractmethod
    def strike(self, experiment: Experiment, rng: random.Random) -> None:
        """Let something go wrong with what all workers share, or not."""


class Embedded(Ground):
    """Directories: nothing is shared that could fail, but for the disk."""

    policies = POLICIES
    stops = True
    fault_seconds = 0.5  # about ten kills: more per second would leave no time to store anything
    surviving = EVERY_LEVEL

    def url(self, folder: Path, lease_seconds: float) -> str:
        return f"file:{folder / 'bus'}?lease_seconds={lease_seconds}&segment_bytes={SEGMENT_BYTES}"

    def bus(self, folder: Path) -> Path | None:
        return folder / "bus"

    def strike(self, experiment: Experiment, rng: random.Random) -> None:
        """What goes wrong with the disk is tried elsewhere."""


class Kind(msgspec.Struct, frozen=True):
    """A kind of broker. `place`: the URL of a bus of its own there. `deadly`: the share of runs that kill the broker.

    `acks`: what an ack that returned survives: "death" of the broker, a "cut" connection, or for certain "nothing" as
    the broker does not confirm it. `stops`: see `Ground`.
    """

    make: Callable[[], Server]
    place: str
    deadly: float
    acks: Literal["death", "cut", "nothing"]
    stops: bool


KINDS: Final = {
    "nats": Kind(NatsServer, "{url}/{name}?subject_prefix={name}&", 0.7, acks="cut", stops=True),
    "redis": Kind(
        lambda: RedisServer(appendonly="yes", appendfsync="no"),
        "{url}?prefix={name}&",
        0.7,
        acks="death",
        stops=True,
    ),
    "rabbitmq": Kind(RabbitmqServer, "{url}?exchange={name}&", 0.2, acks="nothing", stops=False),
}
"""The brokers that a campaign can be run on; each starts with what its tests on this machine need to keep messages."""


class OnBroker(Ground):
    """A broker of its own behind a network that fails, and that fails itself."""

    fault_seconds = 3.0  # a few deaths of the broker, and time in between for all to find it again
    surviving = frozenset({"os", "disk", "quorum"})

    def __init__(self, kind: Kind, server: Server, proxy: FaultProxy) -> None:
        self._kind, self._server, self._proxy = kind, server, proxy
        self._runs, self._deadly = 0, False
        url = proxy.url(server.url)
        import_module(connect.ASYNC[url.partition(":")[0]].partition(":")[0])  # before workers are forked
        can = asyncio.run(_abilities(url))
        self.policies = tuple(policy for policy in POLICIES if can >= NEEDED[policy])
        self.stops = kind.stops
        self._lacks = tuple(each.value for each in Capability if each not in can)

    def begin(self, rng: random.Random) -> Mapping[str, Any]:
        self._deadly = rng.random() < self._kind.deadly
        return {
            "shaky": True,
            "lacks": self._lacks,
            "durability": ("memory",),  # that is: whatever the broker gives
            "acks_survive": self._kind.acks == "death" or (self._kind.acks == "cut" and not self._deadly),
        }

    def url(self, folder: Path, lease_seconds: float) -> str:
        self._runs += 1
        place = self._kind.place.format(url=self._proxy.url(self._server.url), name=f"run{self._runs}")
        return f"{place}lease_seconds={min(lease_seconds, BROKER_LEASE_SECONDS)}&request_seconds={REQUEST_SECONDS}"

    def strike(self, experiment: Experiment, rng: random.Random) -> None:
        """Each of these may bring any message again that somebody held."""
        what = rng.random()
        if what < DEATHS and self._deadly:
            experiment.shake()
            self._server.kill()
            _pause(rng.uniform(0, AWAY_SECONDS))
            self._server.start()
        elif what < DEATHS + CUTS:
            experiment.shake()
            self._proxy.cut()
        elif what < DEATHS + CUTS + HOLES:
            experiment.shake()
            self._proxy.black_hole()
            _pause(rng.uniform(0, HOLE_SECONDS))
            self._proxy.heal()


async def _abilities(url: str) -> frozenset[Capability]:
    engine = connect.open_engine(url, connect.ASYNC, "tidings.async_engines")
    await engine.open()
    try:
        return frozenset(engine.capabilities)
    finally:
        await engine.close()


@contextmanager
def ground(engine: str) -> Iterator[Ground]:
    """Make ready what a campaign needs to run on an engine."""
    if engine == "file":
        yield Embedded()
        return
    kind = KINDS[engine]
    with kind.make() as server, FaultProxy("127.0.0.1", server.port) as proxy:
        yield OnBroker(kind, server, proxy)
