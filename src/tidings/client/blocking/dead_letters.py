# Generated from aio/dead_letters.py by scripts/generate_blocking.py; do not edit.
"""The messages that were given up on: looking at them, sending them back, and clearing them away.

They are messages of a topic like any other. What is left of them is what the group `DEAD_LETTER_GROUP` has not acked;
looking at them takes them for a moment and gives them back, so two people who look at once see different ones.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

from msgspec import Struct

from tidings.client import outgoing
from tidings.client.blocking import runtime
from tidings.client.blocking.delivery import Delivery
from tidings.client.blocking.subscription import Subscription
from tidings.client.blocking.transaction import record_of
from tidings.errors import InvalidOption, TopicNotFound
from tidings.model.capability import Capability
from tidings.model.dead_letter import DeadLetter, story_of, without_story
from tidings.model.options import (
    MAX_OFFSET,
    Guarantee,
    PublishOptions,
    check_callable,
    check_count,
    check_range,
    is_dead_letter_topic,
)
from tidings.spi import FullEngine

PAGE_MESSAGES = 500
"""Dead letters taken, and sent back in one transaction, at once: a usual batch."""

MAX_LISTED = 10_000
"""Most dead letters that one call lists: they are all in memory then."""


class DeadMessage(Struct, frozen=True):
    """A dead letter: the message as it was, and how it died."""

    message: Delivery
    story: DeadLetter


Filter = Callable[[DeadMessage], bool]

Page = list[DeadMessage]

Pages = Generator[tuple[Subscription, Page], None]


class DeadLetters:
    """The dead letters of one topic; made by `client.dead_letters(topic)`."""

    def __init__(self, engine: FullEngine, subscribe: Callable[[str], Subscription], topic: str) -> None:
        """`subscribe` joins the group that reads a dead-letter topic."""
        self._engine = engine
        self._join = subscribe
        self._topic = topic
        self._origin = None if is_dead_letter_topic(topic) else topic

    def count(self) -> int:
        """Return how many there are."""
        count = 0
        with closing(self._pages(None, None)) as pages:
            for _, page in pages:
                count += len(page)
        return count

    def list(self, limit: int = 100, filter: Filter | None = None) -> Page:
        """Return up to `limit` of those that `filter` says yes to, the oldest of each partition first. They stay."""
        check_count("limit", limit, 1, MAX_LISTED)
        found: Page = []
        with closing(self._pages(filter, limit)) as pages:
            for _, page in pages:
                found += page
        return found

    def peek(self) -> DeadMessage | None:
        """Return the oldest one, None when there is none."""
        return next(iter(self.list(1)), None)

    def purge(self, filter: Filter | None = None, limit: int | None = None) -> int:
        """Remove those that `filter` says yes to, at most `limit`; return how many."""
        removed = 0
        with closing(self._pages(filter, limit)) as pages:
            for subscription, page in pages:
                subscription.ack([dead.message for dead in page])
                removed += len(page)
        return removed

    def redrive(
        self,
        filter: Filter | None = None,
        rate: float | None = None,
        limit: int | None = None,
        on_progress: Callable[[int], Any] | None = None,
    ) -> int:
        """Send those that `filter` says yes to back to where they came from; return how many.

        Each is published there and removed here in one transaction, with its id, key, priority and headers (an
        exactly-once topic would take it for a repetition: there it gets a new id). An engine without transactions
        publishes first: whoever dies in between has sent it back and still has it. `rate`: messages per second, by
        default as fast as it goes; `limit`: how many at most. `on_progress(count)` is called after each transaction.
        What dies again meanwhile is left for the next time.
        """
        if rate is not None:
            check_range("rate", rate, 0.001, 1e6)
        check_callable("on_progress", on_progress)
        sent = 0
        with closing(self._pages(filter, limit)) as pages:
            for subscription, page in pages:
                for batch in [page] if rate is None else [[dead] for dead in page]:
                    if rate is not None and sent:
                        runtime.pause(1 / rate)
                    self._send_back(subscription, batch)
                    sent += len(batch)
                    if on_progress is not None:
                        on_progress(sent)
        return sent

    def _send_back(self, subscription: Subscription, batch: Page) -> None:
        targets = self._engine.topics(sorted({dead.story.topic for dead in batch}))
        once = {topic.name for topic in targets if topic.options.delivery is Guarantee.EXACTLY_ONCE}
        messages = [dead.message for dead in batch]
        if Capability.TRANSACTIONS not in self._engine.capabilities:
            for dead in batch:
                record = record_of(dead.message, without_story(dead.message), _new_id(dead, once))
                options = PublishOptions(self._engine.default_durability, dead.message.priority)
                self._engine.publish(dead.story.topic, [record], options)
            return subscription.ack(messages)
        with subscription.transaction(messages) as transaction:
            for dead in batch:
                headers = without_story(dead.message)
                message_id = _new_id(dead, once)
                transaction.forward(dead.story.topic, dead.message, headers=headers, message_id=message_id)
            transaction.ack()

    def _pages(self, filter: Filter | None, limit: int | None) -> Pages:
        """Yield, in pages, up to `limit` of the dead letters that were there at the beginning and that the filter says
        yes to, each with the subscription that holds them; what is not settled is given back at the end."""
        check_callable("filter", filter)
        if limit is not None:
            check_count("limit", limit, 1, MAX_OFFSET)
        target = self._target()
        if target is None:
            return
        began, seen, left = self._engine.clock.now(), set[tuple[int, int, int]](), limit or MAX_OFFSET
        subscription = self._join(target)
        try:
            while left > 0 and (batch := subscription.fetch(PAGE_MESSAGES, timeout=0)):
                fresh = [message for message in batch if _place(message) not in seen]
                seen.update(map(_place, fresh))
                letters = [dead for message in fresh if (dead := self._read(message)) and dead.story.died_at <= began]
                page = [dead for dead in letters if filter is None or filter(dead)][:left]
                left -= len(page)
                if page:
                    yield subscription, page
                if not fresh:
                    break
        finally:
            subscription.close()

    def _target(self) -> str | None:
        """Return the name of the dead-letter topic, None when there is none yet. Raises `TopicNotFound`."""
        name = self._topic
        found = self._engine.topics([name])
        if not found:
            raise TopicNotFound(name)
        target = name if self._origin is None else found[0].options.dead_letters_of(name)
        if target is None:
            raise InvalidOption("topic", name, "it has no dead letters: its option dead_letter_topic says to drop them")
        return target if self._engine.topics([target]) else None

    def _read(self, message: Delivery) -> DeadMessage | None:
        story = story_of(message)
        if story is None or (self._origin is not None and story.topic != self._origin):
            return None
        return DeadMessage(message, story)


def _new_id(dead: DeadMessage, once: set[str]) -> str | None:
    """Return a new id where the old one would be taken for a repetition."""
    return outgoing.new_id() if dead.story.topic in once else None


def _place(message: Delivery) -> tuple[int, int, int]:
    return message.partition, message.priority, message.offset
