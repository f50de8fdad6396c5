"""The examples print what they promise, each as a real process on a bus directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import WaitUntil
from tidings import Client, Exchange

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECONDS = 30  # an example that takes longer hangs
LINES = 100  # what one reads at a glance; the longest, a saga, has three steps and the way back

ALONE = {
    "first/callbacks.py": """
        Email Service: User 'alice' logged in!
        Log Service: User 'alice' logged in!
        Log Service: User 'alice' logged out!
    """,
    "first/background.py": """
        Subscriber is listening...
        Received message from news:
        Content: {'type': 'breaking_news', 'title': 'Important Update', 'content': 'A new version was released!', \
'timestamp': '2024-01-01 10:00:00'}
        Received message from updates:
        Content: {'version': '2.0'}
    """,
    "first/user_channels.py": """
        Channel user:login: {'user_id': 1001}
        Channel user:logout: {'user_id': 1002}
        Channel user:update: {'user_id': 1003}
    """,
    "first/many_channels.py": """
        Processing order: A-17
        Processing payment: $99.99
        Sending notification to user 1001: Your order has been shipped
    """,
    "logs/late_subscribers.py": """
        temporary queue: ['User logged in']
        late temporary queue: []
        late durable queue: ['Server started', 'User logged in', 'Error occurred']
    """,
    "events/user_events.py": """
        Published: signup for user user123
        Published: purchase for user user123
        Published: churn for user user123
        Sending welcome email to user123
        Updating analytics for user123
        Starting retention campaign for user123
    """,
    "events/fan_out.py": """
        email: System Maintenance - at 10 PM tonight
        sms: System Maintenance - at 10 PM tonight
        push: System Maintenance - at 10 PM tonight
    """,
    "events/topic_hierarchy.py": """
        users/* got users/created, users/updated
        users/created got users/created
        ** got orders/eu/shipped, orders/placed, users/created, users/updated
    """,
    "events/batching.py": """
        Published 10000 messages, durable on: disk
        Processed 10000 messages, left: 0
    """,
    "events/acknowledgment.py": """
        Processed and acked: order 1, attempt 1
        Failed to process order 2, attempt 1: the payment service is away
        Fatal error on order 3, attempt 1: negative total
        Processed and acked: order 2, attempt 2
        given up: {'order_id': 3, 'total': -1}, because of negative total
    """,
    "events/consumer_group.py": "Processed 100 orders, each once: True",
    "events/partition_key.py": """
        user123: login > search > purchase > logout
        user456: login > search > purchase > logout
        user789: login > search > purchase > logout
    """,
    "events/event_sourcing.py": "version 3, balance 180, the same: True",
    "events/saga.py": """
        order-1: reserve inventory
        order-2: reserve inventory
        order-1: process payment
        order-2: process payment
        order-1: ship order
        order-2: ship order: no courier
        order-1: shipping confirmed
        order-2: refund payment
        order-2: release inventory
        order-2: saga rolled back
    """,
    "policies/guarantees.py": """
        at_most_once: 10 failed, 10 failed
        at_least_once: 10 failed, 10 failed, 10 done, 10 done
        exactly_once: 10 failed, 10 done
    """,
    "policies/topic_options.py": """
        topic 'limited_events' has 2 subscribers, the most its max_subscribers allows
        Published: A-17
        data does not fit the schema of topic 'checked_orders' at 'order_id': expected `str`, got `int`
    """,
    "policies/priorities.py": """
        task123: process_payment (priority 8)
        task122: send_mail (priority 5)
        task121: clean_up (priority 1)
    """,
    "policies/expiration.py": """
        sale123: 50% off
        left: 0, some expired: True
    """,
    "policies/delays.py": """
        the first one is scheduled: True
        taken back: True, once more: False
        delivered: call back
    """,
    "policies/dead_letters.py": """
        payment 1, attempt 1: paid
        payment 2, attempt 1: no answer
        payment 2, attempt 2: no answer
        payment 2, attempt 3: no answer
        payment 2, attempt 4: no answer
        support: payment 2, retries exhausted
        group payments gave it up after 4 attempts: no answer
        sent back: 1, left: 0
        payment 2, attempt 1: paid
    """,
    "policies/robust_subscriber.py": """
        value: 25
        ERROR: Error processing message: division by zero
        value: 20
        dead letter: {'divisor': 0}, because of division by zero
    """,
    "policies/ordered.py": """
        user123: login
        user123: search fails
        user123: search
        user123: purchase
    """,
    "policies/transactions.py": """
        attempt 1: died half way, bookings: 0
        attempt 2: committed
        alice: -30
        bob: +30
    """,
    "policies/backpressure.py": """
        reject: topic 'bounded/reject' is full: group 'slow' has 3 messages or more to settle (max_length); \
wait, add consumers, or drop_group() if nobody reads it any more
        drop_oldest: received second, third, fourth
        block: received first, second, third, fourth
    """,
    "patterns/request_reply.py": """
        2 + 3 = 5
        at once: 11 22 33
    """,
    "patterns/cqrs.py": "{'email': 'alice@example.org', 'name': 'Alice'}",
    "scale/batch_publishing.py": """
        10000 messages in 100 writes, on: disk
        100 receipts, all on disk: True
    """,
    "scale/compression.py": """
        the reader gets the same: True
        less than a third of the space: True
    """,
    "scale/sharding.py": """
        100 users, one shard each: True
        one worker each: True
        in order: True
    """,
    "scale/workers.py": """
        at once: True
        each courier in order: True
    """,
    "monitoring/topic_metrics.py": """
        topic_name: busy
        messages_published: 12000
        messages_consumed: 1000
        pending_messages: 11000
        subscriber_count: 1
        publish_rate: 200.0/s
        consume_rate: some
    """,
    "monitoring/subscriber_lag.py": """
        subscriber_id: reports (r1 holds 50)
        topic_name: measurements
        lag_messages: 2000
        lag_seconds: more than 0
    """,
    "monitoring/flow_metrics.py": """
        pubsub_messages_published_total{topic="sensor_readings"} 20
        pubsub_messages_consumed_total{topic="sensor_readings",consumer_group="dashboard"} 20
        pubsub_message_latency_seconds_count{topic="sensor_readings"} 20
        latencies are positive and short: True
    """,
    "monitoring/health_check.py": """
        ALERT: Low throughput: 0 msgs/sec
        file is well
        ALERT: High consumer lag: 12000
        file is well
        ALERT: High consumer lag: 11500
        ALERT: High error rate: 10.00%
        file is well
    """,
    "language/topic_filtering.py": """
        urgent: A-17
        urgent: A-20
        high: A-17, A-20
        event of: user123
        large and high: ['A-17']
        not high: ['A-18']
        not high, or none: ['A-18', 'A-19']
    """,
    "language/filtered_group.py": """
        wolf: 4
        bear: 2
        acked 2, filtered 3, lag 0
        filter: animal IN ('wolf', 'bear') AND count > 1
        consumer group 'rangers' exists already: its filter is "animal IN ('wolf', 'bear') AND count > 1", not \
"animal = 'lynx'"; use it so, or drop_group() first
    """,
    "language/content_routing.py": """
        in California: {'temp': 70, 'cloudy': False} (weather.ca.mountainview)
        a superhero fights: Batman and Joker
        surprising: Batman, Superman and the Joker teamed up
        a teamup or a fight: Superman fights alone
        with Batman: Batman, Superman and the Joker teamed up
        kept for the press: Batman and Bane ['superhero', 'fight']
    """,
    "language/create_topics.py": """
        notifications: at_most_once
        order_notifications: at_least_once, order_id STRING, status STRING, timestamp TIMESTAMP, \
details MAP<STRING, ANY>
        orders: at_least_once
        payment_processing: at_least_once
        transactions: exactly_once
        user_events: at_least_once
        changed: 200 kept: 604800.0
        left: 5
        line 2, column 15: there is no option retention_perod; did you mean retention_period?
    """,
    "language/query_a_topic.py": """
        paid: 1
        placed: 2
        {'order_id': 2, 'total': 250}
        {'order_id': 3, 'total': 7}
        injected: 0
        placed: [(1,), (3,)]
        no such column: totl; a field of the data is data->>'totl'
        no such table: queried_order; did you mean queried_orders?
        DELETE cannot stand here; messages are acked, or expire
    """,
    "language/topic_metrics_sql.py": """
        topic_name: hectic
        messages_published: 12000
        messages_consumed: 1000
        pending_messages: 11000
        subscriber_count: 1
        publish_rate: 200.0
        consume_rate: some
        topics and backlog: (2, 11060)
    """,
    "language/subscriber_lag_sql.py": """
        subscriber_id: n1
        topic_name: readings
        lag_messages: 2000
        lag_seconds: more than 0
        last_message_time: 20...
        l1 of live: 2000 acked, 0 held
        n1 of nightly: 0 acked, 50 held
    """,
}
"""What the examples print that need no second terminal."""

TESTS = {"testing/test_orders.py"}
"""The examples that are run by pytest; the guide shows them."""

TOGETHER = {
    "first/topic_loop.py",
    "logs/emit_log.py",
    "logs/receive_logs.py",
    "services/event_service.py",
    "services/email_service.py",
    "services/analytics_service.py",
    "exchange_demo.py",
    "grow/orders.py",
    "grow/move.py",
}
"""The examples for several terminals: each has its part in a test below, or in the other files of this folder."""


class Shell:
    """Runs examples on one bus, as a user with several terminals does."""

    def __init__(self, folder: Path, wait_until: WaitUntil) -> None:
        self._folder = folder
        self._wait_until = wait_until
        self._environment = {**os.environ, "TIDINGS_URL": f"file:{folder / 'bus'}", "PYTHONUNBUFFERED": "1"}

    def _command(self, example: str, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-W", "error", str(EXAMPLES / example), *arguments]

    def run(self, example: str, *arguments: str) -> list[str]:
        """Run an example to its end; return the lines it printed."""
        done = subprocess.run(
            self._command(example, arguments),
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    @contextmanager
    def terminal(self, example: str, *arguments: str, ready: str) -> Iterator[list[str]]:
        """Start an example and go on when it printed a line that begins with `ready`; after the block the list has what
        it printed more."""
        number = len(list(self._folder.glob("*.out")))
        path = self._folder / f"{number}.out"
        with path.open("wb") as out:
            command = self._command(example, arguments)
            process = subprocess.Popen(command, cwd=self._folder, env=self._environment, stdout=out, stderr=out)
        lines: list[str] = []
        try:
            self._wait_until(lambda: ready in path.read_text() or process.poll() is not None, SECONDS)
            yield lines
            assert process.wait(SECONDS) == 0, path.read_text()
        finally:
            process.kill()
            process.wait()
        first, *rest = path.read_text().splitlines()
        assert first.startswith(ready)
        lines += rest

    def client(self) -> Client:
        """Join the bus of the examples."""
        return Client(self._environment["TIDINGS_URL"])


@pytest.fixture
def shell(tmp_path: Path, wait_until: WaitUntil) -> Shell:
    return Shell(tmp_path, wait_until)


def test_every_example_is_run() -> None:
    found = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")}
    assert found == ALONE.keys() | TOGETHER | TESTS
    listed = (EXAMPLES / "README.md").read_text()
    assert [example for example in sorted(found) if f"[{example}]({example})" not in listed] == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LINES
    run = "python -m pytest" if path.name.startswith("test_") else "python"
    assert f"Run: {run} examples/{path.relative_to(EXAMPLES)}" in text


@pytest.mark.parametrize("example", ALONE)
def test_example(example: str, shell: Shell) -> None:
    expected = [line.strip() for line in ALONE[example].strip().splitlines()]
    assert shell.run(example) == expected
    assert shell.run(example) == expected, "the second run, on the same bus"


@pytest.mark.timeout(240)  # dozens of processes, one after the other
def test_the_examples_share_a_bus(shell: Shell) -> None:
    for example in reversed(ALONE):
        assert shell.run(example) == [line.strip() for line in ALONE[example].strip().splitlines()], example


@pytest.mark.parametrize("example", sorted(TESTS))
def test_tests_pass_and_are_those_of_the_guide(example: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / example)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
    code = (EXAMPLES / example).read_text().split('"""\n\n', 1)[1]
    assert (done.returncode, f"{code.count('def test_')} passed" in done.stdout) == (0, True), done.stdout + done.stderr
    assert f"```python\n{code}```" in (EXAMPLES.parent / "docs" / "guide.md").read_text()


def test_topic_loop_gets_the_topics_of_its_expression(shell: Shell) -> None:
    with shell.terminal("first/topic_loop.py", "subscribe", "2", ready="Waiting for news from ca") as printed:
        shell.run("first/topic_loop.py", "publish")
    assert printed == [
        "I got the topic: weather.ca.mountainview",
        "With the message: {'temp': 70, 'cloudy': False}",
        "I got the topic: weather.ca.sanfrancisco",
        "With the message: {'temp': 61, 'cloudy': True}",
    ]


def test_both_terminals_receive_all_logs(shell: Shell) -> None:
    ready = " [*] Waiting for logs. To exit press CTRL+C"
    lines = ["Server started", "User logged in", "Error occurred"]
    with (
        shell.terminal("logs/receive_logs.py", "3", ready=ready) as first,
        shell.terminal("logs/receive_logs.py", "3", ready=ready) as second,
    ):
        for line in lines:
            assert shell.run("logs/emit_log.py", line) == [f" [x] Sent '{line}'"]
    assert first == second == [f" [x] {line}" for line in lines]


def test_services_get_every_event_also_those_published_while_they_are_down(shell: Shell) -> None:
    mails = [
        "[Email Service] Received: user.created",
        "Sending welcome email to alice@example.com",
        "[Email Service] Received: order.placed",
        "Sending order confirmation for order 456",
    ]
    with (
        shell.terminal("services/email_service.py", "2", ready="[Email Service] Ready") as email,
        shell.terminal("services/analytics_service.py", "2", ready="[Analytics] Ready") as analytics,
    ):
        assert shell.run("services/event_service.py") == ["Published: user.created", "Published: order.placed"]
    assert email == mails
    assert [line.partition(" at 20")[0] for line in analytics] == [
        "[Analytics] Recording: user.created",
        "[Analytics] Recording: order.placed",
    ]
    shell.run("services/event_service.py")
    assert shell.run("services/email_service.py", "2") == ["[Email Service] Ready", *mails]


HIERARCHY = {"teamup": {"superheroes": ["Batman"]}, "surprising": True}


@pytest.mark.parametrize(
    ("demo", "others", "key"),
    [
        ("regex", "weather.ny.albany", "weather.ca.mountainview"),
        ("tags", ["supervillain", "fight", "sidekick"], ["superhero", "fight", "sidekick"]),
        ("hierarchy", {"romance": {"superheroes": ["Batman"]}}, HIERARCHY),  # what each of its filters wants
    ],
)
def test_the_exchange_demo_routes_by_content(demo: str, others: Any, key: Any, shell: Shell) -> None:
    arguments = ("exchange_demo.py", demo, "subscribe", "1")
    with shell.client() as client, shell.terminal(*arguments, ready="Waiting for ") as printed:
        exchange = Exchange(client, name=f"{demo}_demo")
        exchange.topic(others).publish("for somebody else")
        exchange.topic(key).publish("for the demo")
    assert printed == [f"I got the topic: {key}", "With the message: for the demo"]

    with shell.client() as client, Exchange(client, name=f"{demo}_demo").queue().subscribe() as messages:
        lines = shell.run("exchange_demo.py", demo, "publish", "2")
        assert lines == [f"Published {topic} {payload}" for _, (topic, payload) in zip(range(2), messages)]
