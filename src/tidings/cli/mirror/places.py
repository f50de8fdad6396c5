"""What the target needs before messages can be copied to it: the topics with their options, and the groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click
from msgspec.structs import replace

from tidings import Capability, Client, Message, TopicExists, TopicNotFound, TopicOptions, UnsupportedFeature
from tidings.cli.mirror.patience import Patience
from tidings.client.outgoing import abilities_of
from tidings.model.dead_letter import DEAD_LETTER_GROUP
from tidings.model.options import NORMAL_PRIORITY, default_options
from tidings.model.topics import Pattern

WAY_OUT = "give --force to leave that out"


class Places:
    """Makes on the target what the source has. With `force` what the target cannot keep is left out, and told."""

    def __init__(self, source: Client, target: Client, patience: Patience, force: bool) -> None:
        self._source = source
        self._target = target
        self._patience = patience
        self._force = force
        self._made: set[str] = set()
        self._lacks = frozenset(Capability) - target.capabilities

    def make_all(self, patterns: Sequence[Pattern]) -> bool:
        """Make all topics that match, also the empty ones; return whether there is one, as far as it is known."""
        if Capability.TOPICS not in self._source.capabilities:
            return True
        found = [info.name for info in self._source.topics() if matches(patterns, info.name)]
        for name in found:
            self.make(name)
        return bool(found)

    def make(self, topic: str) -> None:
        """Make a topic on the target, with the options that it has on the source, unless that was done."""
        if topic not in self._made:
            options = self._patience.call("source", lambda: self._options_of(topic))
            if options is not None and options != default_options(topic):
                self._patience.call("target", lambda: self._create(topic, options))
            elif Capability.TOPICS not in self._lacks:
                self._patience.call("target", lambda: self._create(topic, options or default_options(topic)))
            self._made.add(topic)

    def _options_of(self, topic: str) -> TopicOptions | None:
        """Return the options of a topic on the source; None where these are not kept, or it was dropped meanwhile."""
        if Capability.TOPICS not in self._source.capabilities:
            return None
        try:
            return self._source.describe_topic(topic).options
        except TopicNotFound:
            return None

    def _create(self, topic: str, options: TopicOptions) -> None:
        lost = [name for name in changed(options) if self._lacks.intersection(needed_by(name, options))]
        if Capability.TOPICS in self._lacks:
            lost = changed(options)
        if lost:
            self._leave_out(topic, [f"{name}={getattr(options, name)}" for name in lost])
        if Capability.TOPICS in self._lacks:
            return
        kept = replace(options, **{name: getattr(TopicOptions(), name) for name in lost})
        try:
            self._target.create_topic(topic, kept)
        except TopicExists as error:
            if not self._force:
                error.add_note("Give --force to copy into it as it is.")
                raise
        except UnsupportedFeature as error:
            self._leave_out(topic, [str(error)])
            self._target.create_topic(topic, default_options(topic))

    def _leave_out(self, topic: str, what: Iterable[str]) -> None:
        told = f"options of topic {topic!r}: {', '.join(what)}"
        if not self._force:
            raise UnsupportedFeature("the target", f"these {told}", WAY_OUT)
        click.echo(f"Warning: the target is without these {told}", err=True)

    def make_groups(self, patterns: Sequence[Pattern], mine: str) -> None:
        """Make the groups of these topics, with their filters; they get what is copied from now on."""
        for info in self._source.groups():
            if info.group in (mine, DEAD_LETTER_GROUP) or not matches(patterns, info.topic):
                continue
            try:
                self._target.create_group(info.topic, info.group, filter=info.filter)
            except UnsupportedFeature as error:
                if not self._force:
                    error.add_note(f"This is about group {info.group!r}; {WAY_OUT}.")
                    raise
                click.echo(f"Warning: without group {info.group!r} on {info.topic!r}: {error}", err=True)

    def fit(self, message: Message) -> Message:
        """Return the message as the target can take it; unless `force` is set that is as it is."""
        if self._force and Capability.PRIORITY in self._lacks and message.priority != NORMAL_PRIORITY:
            message = replace(message, priority=NORMAL_PRIORITY)
        if self._force and Capability.EXPIRY in self._lacks and message.expires_at is not None:
            message = replace(message, record=replace(message.record, extra=None))
        return message


def matches(patterns: Sequence[Pattern], topic: str) -> bool:
    """Whether one of the patterns matches."""
    return any(pattern.matches(topic) for pattern in patterns)


def changed(options: TopicOptions) -> list[str]:
    """Return the names of the options that are not the usual ones."""
    usual = TopicOptions()
    return [name for name in options.__struct_fields__ if getattr(options, name) != getattr(usual, name)]


def needed_by(name: str, options: TopicOptions) -> set[Capability]:
    """Return the abilities that one of the options needs."""
    alone = TopicOptions(**{name: getattr(options, name)})
    return {capability for capability, wanted in abilities_of(alone).items() if wanted}
