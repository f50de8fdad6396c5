"""Responsible for one thing: what a worker of a crash experiment is told to do, and what its messages are.

A message follows from its id, so that a publisher that takes over from a killed one repeats it byte by byte.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from tests.crash.workers.filters import details_of
from tidings import TopicOptions
from tidings.model.capability import Capability
from tidings.testing import events as e

DRAIN_SECONDS: Final = 15.0  # a drain of some thousand messages takes a fraction of a second; a CI machine may be busy
QUIET_SECONDS: Final = 0.2  # how long nothing must come before lag 0 is believed to be the end
LOOK_SECONDS: Final = 0.05  # how often a worker that has nothing to do looks whether it was asked to stop
LARGEST_PAD: Final = 4000  # small enough for many messages, large enough to cross pages and segments
KEYS: Final = (None, "k1", "k2", "k3")
PRIORITIES: Final[dict[str | int, int]] = {"low": 1, "normal": 5, "high": 8, 0: 0, 9: 9}

POLICIES: Final = ("transactions", "dying", "once", "ordering", "timed", "priorities")
RETRIES: Final = 3
RETRY_SECONDS: Final = 0.03
TOPIC: Final = "orders"
OUTPUTS: Final = "invoices"  # where transactions publish
SOMEDAY: Final = "someday"  # where messages wait that are not due before the end
FAR_SECONDS: Final = 3600.0
DEEDS: Final = {"fail": 0.03, "reject": 0.03, "poison": 0.001}  # what is done to such a share of the messages
VICTIMS: Final = "billing"  # the group in which it is done


_pause = threading.Event().wait


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker does. `name` is unique in the experiment, and the file name of its history.

    `policies`: what of `POLICIES` is tried. `resumes`: the publisher whose last messages are to be published again.
    `gentle`: poison is a message like any other. `age`: goes before the ids of messages that were sent back, which
    otherwise look like those that died. `filters`: what groups let through, for those that have a filter. `shaky`: the
    broker comes and goes. `lacks`: the capabilities that the engine has not.
    """

    role: str
    name: str
    url: str
    folder: str
    seed: int = 0
    topic: str = TOPIC
    group: str = ""
    durability: tuple[str, ...] = ("os", "disk")
    partitions: int = 1
    messages: int = 100_000
    largest_batch: int = 20
    prefetch: int = 32
    auto_ack: bool = False
    listens: bool = False
    nack_share: float = 0.05
    retries: int = RETRIES
    acks_survive: bool = True
    drain_seconds: float = DRAIN_SECONDS
    quiet_seconds: float = QUIET_SECONDS
    torn_tails: bool = False
    policies: tuple[str, ...] = ()
    filters: dict[str, str] = {}
    resumes: str = ""
    age: str = ""
    gentle: bool = False
    shaky: bool = False
    lacks: tuple[str, ...] = ()

    def can(self, ability: Capability) -> bool:
        """Whether the engine has an ability."""
        return ability not in self.lacks

    @property
    def history(self) -> Path:
        return Path(self.folder) / f"{self.name}.jsonl"

    @property
    def ordered(self) -> bool:
        """Whether its group reads the topic in order."""
        return "ordering" in self.policies and self.topic == TOPIC

    @property
    def filter(self) -> str | None:
        """The filter of its group, if it has one."""
        return self.filters.get(self.group)

    @property
    def bus(self) -> Path:
        """The directory that the URL names."""
        return Path(self.url.removeprefix("file:").split("?")[0])


class Stop:
    """Whether the parent asked this worker to come to an end."""

    asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self.asked = True

    def wait(self) -> None:
        """Return when it was asked; signals interrupt nothing else than this wait."""
        while not self.asked:
            _pause(LOOK_SECONDS)


def options_of(work: Work) -> TopicOptions:
    """The options of the topic that is published to."""
    return TopicOptions(
        partitions=work.partitions if work.can(Capability.PARTITIONS) else 1,
        delivery="exactly_once" if "once" in work.policies else "at_least_once",
        max_retries=work.retries if "dying" in work.policies else 1000,
        retry_delay=RETRY_SECONDS,
        retry_backoff=1.0,
        dead_letter_expired=buries_expired(work),
    )


def buries_expired(work: Work) -> bool:
    """Whether expired messages become dead letters."""
    return {"dying", "timed"} <= set(work.policies)


def body_of(message_id: str, policies: tuple[str, ...] = ()) -> dict[str, object]:
    """The data of a message; `deed` is what a consumer is to do to it."""
    rng = random.Random(message_id)
    body: dict[str, object] = {"id": message_id, "pad": "x" * rng.randint(0, rng.choice((50, LARGEST_PAD)))}
    chance = rng.random()
    for deed, share in DEEDS.items() if "dying" in policies else ():
        if 0 <= chance < share:
            body["deed"] = deed
        chance -= share
    return body | {"details": details_of(rng)}


def hash_of(body: object) -> str:
    """The digest of the data of a message."""
    return e.payload_hash(msgspec.json.encode(body))
