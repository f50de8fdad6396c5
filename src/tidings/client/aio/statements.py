"""SQL: statements that make, change, show and query topics and groups, run for `AsyncClient`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tidings.client import outgoing
from tidings.client.aio import runtime
from tidings.client.aio.administration import WINDOW_SECONDS, AsyncAdministration
from tidings.client.aio.delivery import AsyncDelivery
from tidings.client.aio.subscription import AsyncSubscription
from tidings.errors import (
    EngineError,
    GroupExists,
    GroupNotFound,
    InvalidOption,
    InvalidPattern,
    InvalidStatement,
    TopicExists,
    TopicNotFound,
    UnsupportedFeature,
)
from tidings.model.capability import Capability
from tidings.model.options import TopicOptions, is_dead_letter_topic
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import Pattern, is_pattern
from tidings.spi import TopicInfo

if TYPE_CHECKING:
    from tidings.client.aio.dead_letters import AsyncDeadLetters, AsyncDeadMessage
    from tidings.client.tables.complaints import Source
    from tidings.client.tables.database import Content
    from tidings.client.tables.logs import Log, Scan
    from tidings.client.tables.snapshots import Dead
    from tidings.client.tables.table import Table
    from tidings.lang import statements as sql

# The language, SQLite and the tables are loaded by the first statement: few programs have one.

SHOWN_OF_TOPICS = ("topic_name", "messages", "bytes", "partitions", "delivery", "schema")
"""Columns of SHOW TOPICS: those of SYSTEM.topics that cost nothing to find out."""

SHOWN_OF_GROUPS = (
    "group_name",
    "topic_name",
    "lag_messages",
    "lag_seconds",
    "held_messages",
    "retrying_messages",
    "acked_messages",
    "dead_messages",
    "consumers",
    "filter",
)
"""Columns of SHOW GROUPS: what one looks at first. DESCRIBE and SYSTEM.groups have all."""

MAX_DEAD_LETTERS = 10_000
"""Rows of SYSTEM.dead_letters: they are in memory, and while they are listed nobody else sees them."""

DEAD_LETTER_BYTES = 64 * 1024 * 1024
"""Bytes of their data, for the same reason: messages may have megabytes."""


class AsyncStatements(AsyncAdministration):
    """The part of a client that understands SQL."""

    if TYPE_CHECKING:  # what `AsyncClient` brings along

        def subscribe(self, *arguments: Any, **options: Any) -> AsyncSubscription: ...

        def _subscribe(
            self, spec: SubscriptionSpec, auto_ack: bool, message_type: type[AsyncDelivery]
        ) -> AsyncSubscription: ...

        def dead_letters(self, topic: str) -> AsyncDeadLetters: ...

    async def execute(self, text: str, *, on_result: Callable[[Any], Any] | None = None) -> Any:
        """Run SQL statements, separated by `;`, one after the other, and return what the last one gives.

            await client.execute("CREATE TOPIC orders WITH OPTIONS (retention_period: '7 days', max_retries: 3)")
            subscription = await client.execute("SUBSCRIBE TO orders WHERE total > 40")

        CREATE and ALTER TOPIC give a `TopicInfo`; DROP and CREATE GROUP None; SELECT, SHOW and DESCRIBE a `Table`;
        SUBSCRIBE, which has to be the last one, a subscription that acks by itself. `on_result(result)` is called after
        each statement.

        All are read before the first one runs: `InvalidStatement` means that nothing was done, unless a SELECT asks
        for what is not there. Otherwise raises what the methods of the same names raise, and `QueryTooLarge`; of
        several statements, a note on the error says which one failed. Those before it stay done.
        """
        statements = _read(text)
        result: Any = None
        for done, statement in enumerate(statements):
            try:
                result = await self._run(statement, text)
            except Exception as error:
                if len(statements) > 1:
                    which = f"statement {done + 1} of {len(statements)}, in line {statement.line}"
                    error.add_note(f"This was {which}. Done before it: {done}.")
                raise
            if on_result is not None:
                on_result(result)
        return result

    async def query(self, text: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Table:
        """Run one SELECT, SHOW or DESCRIBE and return its rows.

            await client.query("SELECT topic_name FROM SYSTEM.topics WHERE pending_messages > ?", [10_000])
            await client.query("SELECT data->>'status', count(*) FROM orders GROUP BY 1")

        Topics are tables, one row for each message that is stored when the query begins; a name that is no plain word
        stands in double quotes, and can be a pattern (`"orders/*"`). What is known of the bus is in the tables
        `SYSTEM.topics`, `groups`, `consumers`, `subscribers` and `dead_letters`. The SQL is SQLite's; it only reads.
        Conditions on `_published_at`, `_offset`, `_partition` and `_key` save reading the rest of the topic.

        `parameters` are the values of `?`, in order, or those of `:name`, as a dict. The table's `notes` say when it is
        not all of the answer. Cancelling ends the query. Raises `InvalidStatement`, and `QueryTooLarge` when it takes
        too long or too much memory.
        """
        from tidings.lang.statements import Describe, Select, ShowGroups, ShowTopics

        statement, *others = _read(text)
        if others or not isinstance(statement, (Select, Describe, ShowGroups, ShowTopics)):
            reason = "query() takes one statement that gives rows: SELECT, SHOW or DESCRIBE; execute() runs others"
            wrong = others[0] if others else statement
            raise InvalidStatement(text, reason, wrong.line, wrong.column)
        if isinstance(statement, Select):
            return await self._select(statement, text, parameters)
        if parameters:
            raise InvalidOption("parameters", parameters, "only SELECT has parameters; write the value")
        table: Table = await self._run(statement, text)
        return table

    async def _run(self, statement: sql.Statement, text: str) -> Any:
        from tidings.lang import statements as sql

        match statement:
            case sql.CreateTopic():
                return await self._create_topic(statement)
            case sql.AlterTopic():
                return await self.alter_topic(statement.name, force=statement.force, **statement.options)
            case sql.DropTopic():
                return await _tolerant(partial(self.drop_topic, statement.name), statement.if_exists)
            case sql.CreateGroup():
                return await self._create_group(statement)
            case sql.DropGroup():
                outgoing.demand(self._engine, Capability.GROUPS)
                return await _tolerant(partial(self.drop_group, statement.name), statement.if_exists)
            case sql.ShowTopics():
                return await self._show_topics(statement.like)
            case sql.ShowGroups():
                return await self._show_groups(statement.topic)
            case sql.Describe():
                return await self._describe(statement)
            case sql.Select():
                return await self._select(statement, text, ())
            case sql.Subscribe():
                wanted = {"consumer_group": statement.group, "from_beginning": statement.from_beginning}
                return self.subscribe(list(statement.topics), filter=statement.filter, **wanted)

    # -- making

    async def _create_topic(self, statement: sql.CreateTopic) -> TopicInfo:
        for found in await self._engine.topics([statement.name]):
            if statement.if_not_exists:
                return found
            raise TopicExists(statement.name, "CREATE TOPIC IF NOT EXISTS leaves it as it is")
        return await self.create_topic(statement.name, TopicOptions(**statement.options))

    async def _create_group(self, statement: sql.CreateGroup) -> None:
        outgoing.demand(self._engine, Capability.GROUPS)
        if await self._engine.has_group(statement.name):
            if statement.if_not_exists:
                return
            raise GroupExists(statement.name, "CREATE GROUP IF NOT EXISTS leaves it as it is")
        topics, filter = list(statement.topics), statement.filter
        await self.create_group(topics, statement.name, filter=filter, from_beginning=statement.from_beginning)

    # -- showing

    async def _show_topics(self, like: str | None) -> Table:
        from tidings.client.tables.snapshots import TopicState, shown

        found = [info for info in await self.topics() if like is None or Pattern.parse(like).matches(info.name)]
        return shown("topics", SHOWN_OF_TOPICS, [TopicState(info) for info in found])

    async def _show_groups(self, topic: str | None) -> Table:
        from tidings.client.tables.snapshots import shown

        outgoing.demand(self._engine, Capability.GROUPS)
        if topic is not None:
            await self.describe_topic(topic)
        return shown("groups", SHOWN_OF_GROUPS, await self.groups(topic))

    async def _describe(self, statement: sql.Describe) -> Table:
        """Return the properties of a topic, a row each; or how a group stands, a row for each of its topics."""
        from tidings.client.tables.snapshots import SYSTEM_TABLES, described, shown

        name = statement.name
        if statement.kind != "group":
            for info in await self._engine.topics([name]):
                return described(info)
        can = statement.kind != "topic" and Capability.GROUPS in self._engine.capabilities
        if not can or not await self._engine.has_group(name):
            raise GroupNotFound(name) if statement.kind == "group" else TopicNotFound(name)
        groups = [found for found in await self.groups() if found.group == name]
        return shown("groups", SYSTEM_TABLES["groups"].names, groups)

    # -- querying

    async def _select(self, statement: sql.Select, text: str, parameters: Any) -> Table:
        from tidings.client.tables.database import Query

        source = _source(statement, text)
        query = Query(source, parameters, await self._content(statement, source))
        reader = _Reader(self)
        return await runtime.beside(lambda: query.run(reader), query.stop)

    async def _content(self, statement: sql.Select, source: Source) -> Content:
        """Return what the names in the statement may stand for."""
        from tidings.client.tables.database import Content
        from tidings.client.tables.snapshots import SYSTEM_TABLES

        words = {name.lower() for name in statement.names}
        tables = words & SYSTEM_TABLES.keys() if "system" in words else set()
        logs = await self._logs(statement.names)
        for name in logs:
            if twin := next((other for other in logs if other != name and other.lower() == name.lower()), None):
                raise source.refuse(f"SQL cannot tell the topics {name!r} and {twin!r} apart; query one of them")
        snapshots, notes = await self._snapshots(tables)
        return Content(logs, snapshots, tuple(notes))

    async def _logs(self, names: Collection[str]) -> dict[str, Log]:
        from tidings.client.tables.logs import log_of

        patterns: dict[str, Pattern] = {}
        for name in filter(is_pattern, names):
            with suppress(InvalidPattern):  # a column named "count(**)", perhaps
                patterns[name] = Pattern.parse(name)
        found = await self._engine.topics(None if patterns else sorted(names))
        logs = {info.name: log_of(info.name, [info]) for info in found if info.name in names}
        for name, pattern in patterns.items():
            logs[name] = log_of(name, [info for info in found if pattern.matches(info.name)])
        return logs

    async def _snapshots(self, tables: Collection[str]) -> tuple[dict[str, list[tuple[Any, ...]]], list[str]]:
        """Return the rows of SYSTEM tables, and notes on what is missing."""
        from tidings.client.tables.snapshots import SYSTEM_TABLES, Consumer, Subscriber, TopicState

        found: dict[str, list[Any]] = {}
        notes: list[str] = []
        if "topics" in tables or "subscribers" in tables:
            outgoing.demand(self._engine, Capability.STATISTICS)
            infos = {info.name: info for info in await self.topics()}
            statistics = await self._engine.statistics(None, WINDOW_SECONDS)
            found["topics"] = [TopicState(infos[each.topic], each) for each in statistics if each.topic in infos]
            found["subscribers"] = [Subscriber(each.topic, info) for each in statistics for info in each.subscribers]
        if "groups" in tables or "consumers" in tables:
            outgoing.demand(self._engine, Capability.GROUPS)
            found["groups"] = groups = await self.groups()
            found["consumers"] = [Consumer(group, info) for group in groups for info in group.consumers]
        if "dead_letters" in tables:
            found["dead_letters"], all_of_them = await self._letters()
            if not all_of_them:
                notes.append(f"only {len(found['dead_letters']):,} of the dead letters were read")
        return {name: SYSTEM_TABLES[name].rows(found[name]) for name in tables}, notes

    async def _letters(self) -> tuple[list[Dead], bool]:
        """Return the dead letters of all topics, within the limits, and whether these are all of them."""
        from tidings.client.tables.snapshots import Dead

        found: list[Dead] = []
        room = DEAD_LETTER_BYTES

        def fits(letter: AsyncDeadMessage) -> bool:
            nonlocal room
            room -= len(letter.message.record.data)
            return room >= 0

        for place in _places_of_dead_letters(await self.topics()):
            if len(found) < MAX_DEAD_LETTERS and room >= 0:
                with suppress(TopicNotFound):  # dropped meanwhile
                    letters = await self.dead_letters(place).list(MAX_DEAD_LETTERS - len(found), fits)
                    found += [Dead(letter.message, letter.story) for letter in letters]
        return found, len(found) < MAX_DEAD_LETTERS and room >= 0

    async def _begin(self, scan: Scan) -> AsyncSubscription:
        """Open the temporary subscription that a query reads a log with."""
        from tidings.client.tables.logs import PAGE_MESSAGES

        outgoing.demand(self._engine, Capability.REPLAY)
        if Capability.OFFSETS not in self._engine.capabilities:  # which tell where the log ended at first
            feature = "SQL over messages, as they have no offsets"
            raise UnsupportedFeature(self._engine.name, feature, "subscribe with from_beginning=True")
        spec = SubscriptionSpec(
            patterns=(Pattern.parse(scan.pattern),),
            consumer=f"query-{outgoing.new_id()}",
            start=scan.start,
            prefetch=PAGE_MESSAGES,
            partitions=scan.partitions,
            key=scan.key,
        )
        subscription = self._subscribe(spec, False, AsyncDelivery)
        await subscription.open()
        return subscription


class _Reader:
    """What a query reads from, in whatever thread that is."""

    def __init__(self, client: AsyncStatements) -> None:
        self._client = client
        self._call = runtime.calling()

    def begin(self, scan: Scan) -> _Pages:
        return _Pages(self._call(self._client._begin, scan), self._call)

    def topics(self) -> list[str]:
        return [info.name for info in self._call(self._client.topics)]


class _Pages:
    """A log under way."""

    def __init__(self, subscription: AsyncSubscription, call: runtime.Calling) -> None:
        self._subscription = subscription
        self._call = call

    def fetch(self, limit: int) -> list[AsyncDelivery]:
        found: list[AsyncDelivery] = self._call(self._subscription.fetch, limit, 0)
        return found

    def close(self) -> None:
        with suppress(EngineError):  # the bus is busy: it is told that nobody reads here when the client is closed
            self._call(self._subscription.close)


def _read(text: str) -> list[sql.Statement]:
    """Return the statements of a text. Raises `InvalidStatement` when one of them is none."""
    from tidings.lang import parse_statements
    from tidings.lang import statements as sql

    if not isinstance(text, str):
        raise InvalidStatement(text, "give SQL as text")
    statements = parse_statements(text)
    for statement in statements[:-1]:
        if isinstance(statement, sql.Subscribe):
            reason = "SUBSCRIBE has to be the last statement: it gives a subscription, and nothing runs after it"
            raise InvalidStatement(text, reason, statement.line, statement.column)
    if len(statements) > 1:
        from tidings.client.tables.database import check_syntax

        for statement in statements:
            if isinstance(statement, sql.Select):
                check_syntax(_source(statement, text))
    return statements


def _source(statement: sql.Select, whole: str) -> Source:
    """Return where in the text a SELECT stands."""
    from tidings.client.tables.complaints import Source

    lines = whole.split("\n")
    start = sum(len(line) + 1 for line in lines[: statement.line - 1]) + statement.column - 1
    return Source(statement.text, whole, start)


async def _tolerant(drop: Callable[[], Any], missing_is_fine: bool) -> None:
    try:
        await drop()
    except (TopicNotFound, GroupNotFound):
        if not missing_is_fine:
            raise


def _places_of_dead_letters(topics: Sequence[TopicInfo]) -> list[str]:
    """Return what to ask for the dead letters of, so that each is found once: dead-letter topics, and the topics that
    have theirs under another name."""
    there = {info.name for info in topics}
    places = [name for name in there if is_dead_letter_topic(name)]
    for info in topics:
        target = info.options.dead_letters_of(info.name)
        if target in there and not is_dead_letter_topic(target):
            places.append(info.name)
    return sorted(places)
