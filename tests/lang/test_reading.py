"""Every statement, word for word as the Geode document writes it, and in all its other forms."""

from __future__ import annotations

import pytest

from tidings.errors import InvalidStatement
from tidings.lang import parse_filter, parse_statements
from tidings.lang.statements import (
    AlterTopic,
    CreateGroup,
    CreateTopic,
    Describe,
    DropGroup,
    DropTopic,
    Select,
    ShowGroups,
    ShowTopics,
    Statement,
    Subscribe,
)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GEODE: list[tuple[str, list[Statement]]] = [
    (
        """\
-- Create topic for user events
CREATE TOPIC user_events
WITH OPTIONS (
retention_period: '7 days',
message_ttl: '24 hours',
max_subscribers: 100
);
-- Create topic with message schema
CREATE TOPIC order_notifications
SCHEMA (
order_id STRING,
status STRING,
timestamp TIMESTAMP,
details MAP<STRING, ANY>
);
""",
        [
            CreateTopic(
                "user_events",
                {"retention_period": 604_800, "message_ttl": 86_400, "max_subscribers": 100},
                line=2,
            ),
            CreateTopic(
                "order_notifications",
                {"schema": "order_id STRING, status STRING, timestamp TIMESTAMP, details MAP<STRING, ANY>"},
                line=9,
            ),
        ],
    ),
    (
        """\
-- Subscribe only to high-priority orders
SUBSCRIBE TO order_notifications
WHERE priority = 'high';
-- Subscribe to specific user's events
SUBSCRIBE TO user_events
WHERE user_id = 'user123';
""",
        [
            Subscribe(("order_notifications",), filter=parse_filter("priority = 'high'"), line=2),
            Subscribe(("user_events",), filter=parse_filter("user_id = 'user123'"), line=5),
        ],
    ),
    (
        "CREATE TOPIC notifications\nWITH DELIVERY at_most_once;",
        [CreateTopic("notifications", {"delivery": "at_most_once"})],
    ),
    ("CREATE TOPIC orders\nWITH DELIVERY at_least_once;", [CreateTopic("orders", {"delivery": "at_least_once"})]),
    (
        "CREATE TOPIC transactions\nWITH DELIVERY exactly_once;",
        [CreateTopic("transactions", {"delivery": "exactly_once"})],
    ),
    (
        """\
CREATE TOPIC payment_processing
WITH OPTIONS (
max_retries: 3,
dead_letter_topic: 'payment_failures'
);
""",
        [CreateTopic("payment_processing", {"max_retries": 3, "dead_letter_topic": "payment_failures"})],
    ),
    (
        """\
SELECT
topic_name,
messages_published,
messages_consumed,
pending_messages,
subscriber_count,
publish_rate,
consume_rate
FROM SYSTEM.topics
WHERE pending_messages > 10000;
""",
        [
            Select(
                "SELECT\ntopic_name,\nmessages_published,\nmessages_consumed,\npending_messages,\nsubscriber_count,\n"
                "publish_rate,\nconsume_rate\nFROM SYSTEM.topics\nWHERE pending_messages > 10000",
                words(
                    "SELECT topic_name messages_published messages_consumed pending_messages subscriber_count "
                    "publish_rate consume_rate FROM SYSTEM topics WHERE"
                ),
            )
        ],
    ),
    (
        """\
SELECT
subscriber_id,
topic_name,
lag_messages,
lag_seconds,
last_message_time
FROM SYSTEM.subscribers
WHERE lag_messages > 1000;
""",
        [
            Select(
                "SELECT\nsubscriber_id,\ntopic_name,\nlag_messages,\nlag_seconds,\nlast_message_time\n"
                "FROM SYSTEM.subscribers\nWHERE lag_messages > 1000",
                words(
                    "SELECT subscriber_id topic_name lag_messages lag_seconds last_message_time FROM SYSTEM "
                    "subscribers WHERE"
                ),
            )
        ],
    ),
]


@pytest.mark.parametrize(("text", "statements"), GEODE)
def test_the_statements_of_the_geode_document(text: str, statements: list[Statement]) -> None:
    assert parse_statements(text) == statements


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("create topic a", CreateTopic("a")),
        ("CREATE TOPIC IF NOT EXISTS orders/placed", CreateTopic("orders/placed", if_not_exists=True)),
        ("CREATE TOPIC if-needed", CreateTopic("if-needed")),
        ("CREATE TOPIC iffy", CreateTopic("iffy")),
        ('CREATE TOPIC "if"', CreateTopic("if")),
        ('CREATE TOPIC "say ""hi"" (now)"', CreateTopic('say "hi" (now)')),
        ("CREATE TOPIC users:x.y-z", CreateTopic("users:x.y-z")),
        ("CREATE TOPIC größe", CreateTopic("größe")),
        ("CREATE TOPIC topic", CreateTopic("topic")),
        (
            "CREATE TOPIC a WITH OPTIONS (delivery = 'exactly_once', compression: NULL, dead_letter_expired: true)",
            CreateTopic("a", {"delivery": "exactly_once", "compression": None, "dead_letter_expired": True}),
        ),
        (
            "CREATE TOPIC a WITH DELIVERY Exactly_Once SCHEMA (x int) WITH OPTIONS(retry_backoff:.5e1, partitions: +3)",
            CreateTopic("a", {"delivery": "exactly_once", "schema": "x INT", "retry_backoff": 5, "partitions": 3}),
        ),
        (
            "CREATE TOPIC a WITH OPTIONS (partitions: 4) WITH OPTIONS (overflow: 'block')",
            CreateTopic("a", {"partitions": 4, "overflow": "block"}),
        ),
        (
            'CREATE TOPIC a SCHEMA ("a b" UUID NOT NULL, c LIST<STRUCT<d INT NOT NULL, e MAP<STRING, LIST<ANY>>>>)',
            CreateTopic(
                "a", {"schema": '"a b" UUID NOT NULL, c LIST<STRUCT<d INT NOT NULL, e MAP<STRING, LIST<ANY>>>>'}
            ),
        ),
        (
            "CREATE TOPIC a SCHEMA (string STRING, not-null INT, list LIST<INT>, schema ANY)",
            CreateTopic("a", {"schema": "string STRING, not-null INT, list LIST<INT>, schema ANY"}),
        ),
        (
            "ALTER TOPIC a WITH OPTIONS (retention_bytes: '1 GiB', message_ttl: null)",
            AlterTopic("a", {"retention_bytes": 2**30, "message_ttl": None}),
        ),
        ("ALTER TOPIC a WITHOUT SCHEMA", AlterTopic("a", {"schema": None})),
        ("ALTER TOPIC a SCHEMA (x INT) FORCE", AlterTopic("a", {"schema": "x INT"}, force=True)),
        ("ALTER TOPIC a WITH DELIVERY at_most_once", AlterTopic("a", {"delivery": "at_most_once"})),
        ("DROP TOPIC a", DropTopic("a")),
        ("DROP TOPIC IF EXISTS a", DropTopic("a", if_exists=True)),
        ("CREATE GROUP g ON a", CreateGroup("g", ("a",))),
        (
            'create group if not exists order-processors on orders/**, "odd name", # from beginning where x > 1',
            CreateGroup(
                "order-processors", ("orders/**", "odd name", "#"), parse_filter("x > 1"), True, if_not_exists=True
            ),
        ),
        ('CREATE GROUP "a * b" ON a', CreateGroup("a * b", ("a",))),
        ("DROP GROUP g", DropGroup("g")),
        ("DROP GROUP IF EXISTS g", DropGroup("g", if_exists=True)),
        ("SHOW TOPICS", ShowTopics()),
        ("SHOW TOPICS LIKE 'orders/*'", ShowTopics("orders/*")),
        ("SHOW GROUPS", ShowGroups()),
        ("SHOW GROUPS ON a", ShowGroups("a")),
        ("DESCRIBE a", Describe(None, "a")),
        ("DESCRIBE topic a", Describe("topic", "a")),
        ("DESCRIBE GROUP group-a", Describe("group", "group-a")),
        ("DESCRIBE topics", Describe(None, "topics")),
        ('DESCRIBE "topic"', Describe(None, "topic")),
        ("SUBSCRIBE TO *", Subscribe(("*",))),
        ("SUBSCRIBE TO to, from", Subscribe(("to", "from"))),
        (
            "SUBSCRIBE TO orders/* GROUP g FROM BEGINNING WHERE a = 1 OR b",
            Subscribe(("orders/*",), "g", parse_filter("a = 1 OR b"), True),
        ),
        ("SUBSCRIBE TO a-b--c", Subscribe(("a-b",))),
        ("SUBSCRIBE TO a /* all of them */", Subscribe(("a",))),
    ],
)
def test_statement(text: str, statement: Statement) -> None:
    assert parse_statements(text) == [statement]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SELECT 1", "SELECT"),
        ("select a.b", "select a b"),
        ("SELECT 'FROM x', \"y\", [z], `w` -- v\n/* u */", "SELECT y z w"),
        ("SELECT 'it''s' FROM \"orders/placed\"", "SELECT FROM orders/placed"),
        ("SELECT data->>'a' - -1 / 2", "SELECT data"),
        ("WITH x AS (SELECT ';') SELECT * FROM x", "WITH x AS SELECT FROM"),
        ("SELECT ? , :name, $x1", "SELECT name x1"),
        ("SELECT 1e5, x'00'", "SELECT x"),
        ("SELECT \"say ;\", 'a;b', [;], `;`, 1 /* ; */ -- ;", "SELECT say_;"),
    ],
)
def test_selections_are_taken_as_they_are(text: str, names: str) -> None:
    first, second = parse_statements(f"  {text}\n;DROP TOPIC a")
    assert isinstance(first, Select)
    assert first.text == text
    assert {name.replace(" ", "_") for name in first.names} - {";"} == set(names.split())
    assert isinstance(second, DropTopic)


def test_quoted_names_of_a_selection_are_unquoted() -> None:
    (statement,) = parse_statements('SELECT "a""b", `c``d`, [e f]')
    assert isinstance(statement, Select)
    assert statement.names == {"SELECT", 'a"b', "c`d", "e f"}


def test_many_statements_know_where_they_begin() -> None:
    found = parse_statements(";;\n-- first\n  DROP TOPIC a;;\n/* second\n*/ SHOW TOPICS; SELECT 1;\n;")
    assert found == [
        DropTopic("a", line=3, column=3),
        ShowTopics(line=5, column=4),
        Select("SELECT 1", frozenset({"SELECT"}), line=5, column=17),
    ]


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("CREATE TOPIC a/*", 14, "it contains the wildcard '*'"),
        ("CREATE TOPIC a//b", 14, "it has an empty segment"),
        ('CREATE TOPIC ""', 14, "it is empty"),
        (f"CREATE TOPIC {'a' * 256}", 14, "it is 256 bytes long"),
        ("SUBSCRIBE TO a, b**", 17, "'**' and '#' are whole segments"),
        ("SHOW TOPICS LIKE 'a//*'", 18, "it has an empty segment"),
        ("SHOW GROUPS ON a*", 16, "it contains the wildcard"),
        ("DESCRIBE TOPIC a*", 16, "it contains the wildcard"),
        ("DROP GROUP g*", 12, "wildcards are for topics"),
        ('CREATE GROUP " g" ON a', 14, "give 1 to 128 printable characters"),
        ("CREATE TOPIC a WITH DELIVERY exactly_ones", 30, "did you mean exactly_once?"),
        ("CREATE TOPIC a WITH DELIVERY 7", 30, "give one of at_most_once, at_least_once, exactly_once"),
        ("CREATE TOPIC a WITH OPTIONS (max_retry: 3)", 30, "did you mean max_retries?"),
        ("CREATE TOPIC a WITH OPTIONS (max_retries: -3)", 43, "give a whole number from 0"),
        ("CREATE TOPIC a WITH OPTIONS (max_retries: 99999999999999999999)", 43, "give a whole number"),
        (f"CREATE TOPIC a WITH OPTIONS (max_retries: {'9' * 5000})", 43, "give a whole number"),
        (f"CREATE TOPIC a WITH OPTIONS (retry_backoff: {'9' * 5000})", 45, "give a number from 1 to 100"),
        ("CREATE TOPIC a WITH OPTIONS (partitions: 2, partitions: 2)", 45, "partitions is given twice"),
        ("CREATE TOPIC a WITH DELIVERY exactly_once WITH OPTIONS (delivery: 'exactly_once')", 57, "given twice"),
        ("ALTER TOPIC a SCHEMA (x INT) WITHOUT SCHEMA", 38, "schema is given twice"),
        ("CREATE TOPIC a SCHEMA (x INTEGRE)", 26, "there is no type INTEGRE"),
        ("CREATE TOPIC a SCHEMA (x INT,\n  y STRNIG)", 5, "there is no type STRNIG; did you mean STRING?"),
        ("CREATE TOPIC a SCHEMA (x LIST<STRUCT<y FLOT>>)", 40, "did you mean FLOAT?"),
        ("CREATE TOPIC a SCHEMA (x LIST)", 24, "give <"),
        ("CREATE TOPIC a SCHEMA (x INT<INT>)", 24, "give nothing more"),
        ("CREATE TOPIC a SCHEMA (x MAP<ANY, INT>)", 24, "the keys of a MAP"),
        ("CREATE TOPIC a SCHEMA (x INT, x INT)", 16, "two columns have this name"),
        ('CREATE TOPIC a SCHEMA ("" INT)', 24, "the name of a column has 1 to 128"),
        ("SUBSCRIBE TO a WHERE lenght(x) > 1", 22, "did you mean length?"),
        ("CREATE GROUP g ON a WHERE x ~ '('", 29, "RE2 refuses it"),
    ],
)
def test_what_the_grammar_allows_and_the_bus_would_not(text: str, column: int, reason: str) -> None:
    with pytest.raises(InvalidStatement) as caught:
        parse_statements(text)
    error = caught.value
    assert reason in error.reason
    assert (error.line, error.column) == (text.count("\n") + 1, column)
