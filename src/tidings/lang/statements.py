"""The statements of the language, as data: what a text asks for, checked as far as that goes without a bus."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from tidings.model.predicate import Predicate


class Statement(Struct, frozen=True, kw_only=True):
    """What all have: the line and column, from 1, at which the statement begins in the text."""

    line: int = 1
    column: int = 1


class CreateTopic(Statement, frozen=True):
    """CREATE TOPIC. `options` are those of `TopicOptions` that the statement names, the schema as text among them."""

    name: str
    options: dict[str, Any] = {}
    if_not_exists: bool = False


class AlterTopic(Statement, frozen=True):
    """ALTER TOPIC. `options` as in `CreateTopic`; None takes a schema away. `force`: also where that breaks readers."""

    name: str
    options: dict[str, Any] = {}
    force: bool = False


class DropTopic(Statement, frozen=True):
    """DROP TOPIC."""

    name: str
    if_exists: bool = False


class CreateGroup(Statement, frozen=True):
    """CREATE GROUP. `topics` are names and wildcard patterns."""

    name: str
    topics: tuple[str, ...]
    filter: Predicate | None = None
    from_beginning: bool = False
    if_not_exists: bool = False


class DropGroup(Statement, frozen=True):
    """DROP GROUP."""

    name: str
    if_exists: bool = False


class ShowTopics(Statement, frozen=True):
    """SHOW TOPICS. `like`: a name or wildcard pattern of the topics to show, None for all."""

    like: str | None = None


class ShowGroups(Statement, frozen=True):
    """SHOW GROUPS. `topic`: of this topic only."""

    topic: str | None = None


class Describe(Statement, frozen=True):
    """DESCRIBE. `kind` is None where the statement does not say whether it means a topic or a group."""

    kind: Literal["topic", "group"] | None
    name: str


class Subscribe(Statement, frozen=True):
    """SUBSCRIBE. `topics` are names and wildcard patterns; `group` is None for a temporary subscription."""

    topics: tuple[str, ...]
    group: str | None = None
    filter: Predicate | None = None
    from_beginning: bool = False


class Select(Statement, frozen=True):
    """SELECT, or WITH ... SELECT. `text` is SQLite's; `names` are all words and quoted names in it, as written, among
    them those of the tables it reads."""

    text: str
    names: frozenset[str]
