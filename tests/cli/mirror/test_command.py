"""`tidings mirror`, as real processes: everything is kept, nothing is lost when it is killed, Ctrl-C ends it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.programs import Programs, Terminal, end_of, interrupt, lines_of
from tests.conftest import wait_for
from tidings import Client, Message, TopicNotFound, TopicOptions
from tidings.cli.main import main
from tidings.cli.mirror.command import group_for, place
from tidings.cli.mirror.copying import BATCH_MESSAGES


class Buses:
    """A source and a target in directories, and the programs that copy."""

    def __init__(self, programs: Programs, target: str = "") -> None:
        self.programs = programs
        self.urls = programs.url, target or f"file:{programs.folder / 'target'}"
        self.source, self.target = map(Client, self.urls)

    def begin(self, *options: str) -> subprocess.Popen[bytes]:
        return self.programs.piped("mirror", *self.urls, *options)

    def copy(self, *options: str) -> list[Any]:
        return self.programs.json("mirror", *self.urls, *options)

    def read(self, topic: str) -> list[Message]:
        with self.target.subscribe(topic, from_beginning=True, auto_ack=False) as subscription:
            found: list[Message] = []
            while more := subscription.fetch(10_000, 0):
                found += more
            return found

    def stored(self, topic: str) -> int:
        try:
            return self.target.describe_topic(topic).messages
        except TopicNotFound:
            return 0


@pytest.fixture
def buses(programs: Programs) -> Iterator[Buses]:
    made = Buses(programs)
    with made.source, made.target:
        yield made


def test_everything_of_a_message_is_kept(buses: Buses) -> None:
    source = buses.source
    options = TopicOptions(partitions=2, max_retries=3)
    source.create_topic("orders/placed", options)
    receipts = [
        source.publish("orders/placed", {"total": 1}, partition_key="ann", headers={"trace": "7"}, ttl_seconds=3600),
        source.publish("orders/placed", "text", message_id="mine", priority="high"),
        source.publish("orders/placed", b"\xff\x00", compression="zstd"),
        source.publish("orders/placed", None),
    ]
    source.publish("others", 1)
    source.create_topic("orders/empty", TopicOptions(max_retries=1))
    (line,) = buses.copy("--topics", "orders/*")
    assert (line["copied"], line["repeated"], line["left"], line["complete"]) == (4, 0, 0, True)
    assert [info.name for info in buses.target.topics()] == ["orders/empty", "orders/placed"]
    assert buses.target.describe_topic("orders/empty").options.max_retries == 1
    assert buses.target.describe_topic("orders/placed").options == options
    found = {message.id: message for message in buses.read("orders/placed")}
    assert [found[receipt.message_id].data for receipt in receipts] == [{"total": 1}, "text", b"\xff\x00", None]
    order, mine = found[receipts[0].message_id], found["mine"]
    assert (order.key, order.headers, order.partition) == ("ann", {"trace": "7"}, receipts[0].partition)
    assert (mine.priority, mine.expires_at, order.priority) == (8, None, 5)
    with source.subscribe("orders/placed", from_beginning=True, partition_key_filter="ann") as subscription:
        (original,) = subscription.fetch(1, 10)
    assert order.expires_at == original.expires_at


@pytest.mark.parametrize(
    ("target", "delivery"),
    [("file", "at_least_once"), ("file", "exactly_once"), ("nats", "exactly_once"), ("redis", "exactly_once")],
)
def test_a_copy_that_is_killed_again_and_again_loses_nothing(
    target: str, delivery: str, programs: Programs, request: pytest.FixtureRequest
) -> None:
    """While it is published; each key stays in order, and an exactly-once target has each message once."""
    buses = Buses(programs, "" if target == "file" else request.getfixturevalue(f"{target}_server").url)
    with buses.source, buses.target:
        kill_again_and_again(buses, delivery, 3000 if target == "file" else 600)


def kill_again_and_again(buses: Buses, delivery: str, each: int) -> None:
    keys, kills = 5, 4
    buses.source.create_topic("t", TopicOptions(partitions=3, delivery=delivery))
    published = threading.Event()

    def publish() -> None:
        with Client(buses.urls[0]) as client:
            for number in range(0, each, 100):
                for key in range(keys):
                    client.publish_batch("t", range(number, number + 100), partition_key=f"k{key}")
        published.set()

    def enough_stored(count: int) -> bool:
        return published.is_set() or buses.stored("t") >= count

    publisher = threading.Thread(target=publish)
    publisher.start()
    for enough in range(1, keys * each // 2, keys * each // 2 // kills):
        program = buses.begin("--follow")
        wait_for(partial(enough_stored, enough), 20)
        program.kill()
        program.wait()
    publisher.join(20)
    *_, line = buses.copy()
    assert line["complete"]
    found = buses.read("t")
    for key in range(keys):
        values = [message.data for message in found if message.key == f"k{key}"]
        assert list(dict.fromkeys(values)) == list(range(each)), "each, and the first of each in order"
    again = sum(count - 1 for count in Counter(message.id for message in found).values())
    assert again <= (0 if delivery == "exactly_once" else kills * BATCH_MESSAGES)


def test_following_until_ctrl_c(buses: Buses) -> None:
    """Also a topic that appears later; and the next one goes on where this one ended."""
    buses.source.publish_batch("a", range(10))
    program = buses.begin("--follow")
    wait_for(lambda: buses.stored("a") == 10, 20)
    buses.source.create_topic("b", TopicOptions(max_retries=1))
    buses.source.publish_batch("b", range(5))
    wait_for(lambda: buses.stored("b") == 5, 20)
    assert buses.target.describe_topic("b").options.max_retries == 1
    status, output, errors = interrupt(program)
    *_, line = lines_of(output)
    assert (status, errors, line["copied"], line["complete"]) == (130, "", 15, False)
    buses.source.publish("a", "more")
    *_, line = buses.copy()
    assert (line["copied"], line["complete"]) == (1, True)


def test_being_told_to_end_is_clean_too(buses: Buses) -> None:
    buses.source.publish("a", 1)
    program = buses.begin("--follow")
    wait_for(lambda: buses.stored("a") == 1, 20)
    status, output, errors = interrupt(program, signal.SIGTERM)
    assert (status, errors, lines_of(output)[-1]["copied"]) == (143, "", 1)
    assert {info.lag for info in buses.source.groups()} == {0}


def test_a_full_target_is_waited_for(buses: Buses) -> None:
    buses.target.create_topic("t", TopicOptions(max_length=100))
    buses.source.create_topic("t", TopicOptions(max_length=100))
    buses.target.create_group("t", "slow")
    buses.source.publish_batch("t", range(250))
    program = buses.begin()
    assert program.stderr is not None
    assert b"Warning: target: topic 't' is full" in program.stderr.readline()
    got: list[Any] = []
    with buses.target.subscribe("t", consumer_group="slow", auto_ack=False) as subscription:
        while len(got) < 250:
            batch = subscription.fetch(100, 20)
            assert batch, "the copy goes on when there is room"
            got += [message.data for message in batch]
            subscription.ack(batch)
    status, output, _ = end_of(program)
    assert (status, lines_of(output)[-1]["complete"], got) == (0, True, list(range(250)))


def test_what_a_group_has_not_done_moves_with_it(buses: Buses) -> None:
    buses.source.publish_batch("t", range(10))
    with buses.source.subscribe("t", consumer_group="billing", from_beginning=True, auto_ack=False) as subscription:
        subscription.ack(subscription.fetch(4, 10))
    *_, line = buses.copy("--group", "billing", "--groups")
    assert line["copied"] == 6
    assert [message.data for message in buses.read("t")] == list(range(4, 10))


def test_groups_are_made_before_anything_is_copied(buses: Buses) -> None:
    buses.source.publish_batch("t", range(10))
    buses.source.create_group("t", "billing", filter="total > 1")
    buses.copy("--groups")
    (info,) = buses.target.groups()
    assert (info.group, info.filter, info.lag + info.filtered) == ("billing", "total > 1", 10)


def test_on_a_terminal(buses: Buses) -> None:
    buses.source.publish_batch("t", range(1234))
    with Terminal(buses.programs, "mirror", *buses.urls) as terminal:
        assert terminal.end() == 0
        assert "Copying as group 'mirror to file:" in terminal.text
        assert "1,234 copied" in terminal.text.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("file:bus", "file:other"), "there is no bus at 'bus' to copy from"),
        (("file:bus", "file:./bus"), "source and target are the same bus"),
        (("file:bus?lease_seconds=1", "file:bus"), "source and target are the same bus"),
        (("memory:a", "memory:a"), "source and target are the same bus"),
        (("file:bus", "nowhere"), "give scheme:place"),
        (("file:bus", "file:other", "--topics", "a//b"), "empty segment"),
        (("zmq+ipc:bus", "file:other"), "cannot do consumer groups: a copy needs it on the source"),
    ],
)
def test_what_cannot_work_is_refused(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["mirror", *arguments])
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "bus").exists()


def test_what_matches_nothing_is_told(buses: Buses) -> None:
    buses.source.publish("t", 1)
    status, _, errors = buses.programs.run("mirror", *buses.urls, "--topics", "other")
    assert (status, "no topic of the source matches" in errors) == (0, True)


def test_what_the_target_cannot_keep_ends_it(buses: Buses) -> None:
    buses.source.create_topic("t", TopicOptions(partitions=2))
    buses.target.create_topic("t")
    buses.source.publish("t", 1)
    status, _, errors = buses.programs.run("mirror", *buses.urls)
    assert status == 2
    assert "partitions is 1 and not 2" in errors
    assert "Give --force" in errors
    assert buses.copy("--force")[-1]["copied"] == 1


def test_a_place_has_no_password_and_no_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place("nats://me:secret@host:4222/bus?x=1") == "nats://***@host:4222/bus"
    assert place("file:./bus?x=1") == f"file:{tmp_path.resolve() / 'bus'}"
    assert group_for("redis://host") == "mirror to redis://host"
    long = group_for(f"file:/{'x' * 200}")
    assert (len(long) <= 128, long) == (True, group_for(f"file:/{'x' * 200}?y=1"))
    assert long != group_for(f"file:/{'x' * 201}")
