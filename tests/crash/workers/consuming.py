"""Responsible for one thing: workers that read as members of groups."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.crash.workers.bearing import bearing, opened, patiently
from tests.crash.workers.handling import Handler
from tests.crash.workers.work import Stop, Work
from tidings import Client, Subscription
from tidings.client.blocking.delivery import Delivery
from tidings.model.capability import Capability
from tidings.testing import events as e

SILENCE_SECONDS = 5.0  # longer than the lease of a consumer that was killed, and any delay of a retry
HANDLERS = 3  # of a listener: as many as there are keys


def _options(work: Work) -> dict[str, Any]:
    return {
        "consumer_group": work.group,
        "consumer_id": work.name,
        "prefetch": work.prefetch,
        "ordering": work.ordered,
        "filter": work.filter if work.seed % 3 == 0 else None,  # the group has it, whether this is said again or not
        "priority_order": "priorities" in work.policies and work.seed % 2 == 0,
    }


def subscribe(client: Client, work: Work) -> Subscription:
    """Join the group of this work."""
    return patiently(work, partial(client.subscribe, work.topic, auto_ack=work.auto_ack, **_options(work)))


def consumer(work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    """Fetch and settle as a member of a group until asked to stop."""
    with bearing(work), opened(work) as client:  # it may be away at the end, too
        if work.listens:
            _listen(client, work, writer, stop)
        else:
            _fetch(client, work, writer, stop)


def _listen(client: Client, work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    handler = Handler(work, writer)
    listening = partial(client.listen, work.topic, handler.handle, workers=1 + work.seed % HANDLERS, **_options(work))
    with patiently(work, listening):
        stop.wait()
        handler.close()


def _fetch(client: Client, work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    with subscribe(client, work) as subscription:
        handler = Handler(work, writer, subscription)
        most = 1 if work.ordered and work.seed % 2 else work.prefetch
        hand: list[Delivery] = []
        while not stop.asked:
            asked = e.now()
            messages: list[Delivery] = []
            with bearing(work):
                messages = subscription.fetch(max_messages=handler.rng.randint(1, most), timeout=0.05)
            for message in messages:
                handler.seen(message, asked, single=most == 1)
            if messages:
                handler.take_time()
            if work.auto_ack:
                for message in messages:
                    handler.acking(message)  # the next fetch acks it; nothing tells when that is durable
                continue
            hand += messages
            done = len(hand) if most == 1 or not messages else handler.rng.randint(0, len(hand))
            handler.settle(hand[:done])
            del hand[:done]
        handler.close()


def drain(work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    """Take all that is left for the group; say so when nothing comes and the bus itself says that nothing is
    left.
    """
    deadline = e.now() + int(work.drain_seconds * 1e9)
    with opened(work) as client, subscribe(client, work) as subscription:
        handler, came = Handler(work, writer, subscription), e.now()
        while e.now() < deadline:
            asked = e.now()
            messages, answered = list[Delivery](), False
            with bearing(work):
                messages = subscription.fetch(max_messages=500, timeout=work.quiet_seconds)
                answered = True
            for message in messages:
                handler.seen(message, asked)
            handler.settle(messages)
            came = e.now() if messages or not answered else came
            with bearing(work):
                if answered and not messages and _nothing_left(client, work, came):
                    writer.append(e.Drained(at=e.now(), group=work.group))
                    return
        left = client.groups(work.topic) if work.can(Capability.LAG) else "an unknown number"
        raise TimeoutError(f"not drained in {work.drain_seconds:g} s: {left}")


def _nothing_left(client: Client, work: Work, came: int) -> bool:
    """Where the engine does not know, it is believed when nothing has come for long."""
    if not work.can(Capability.LAG):
        return e.now() - came > SILENCE_SECONDS * 1e9
    scheduled = client.statistics(work.topic).scheduled if work.can(Capability.STATISTICS) else 0
    return scheduled == 0 and client.get_consumer_lag(work.topic, work.group) == 0
