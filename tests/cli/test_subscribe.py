"""`tidings subscribe`: two terminals, pipes, the end by count, time, Ctrl-C, and a reader that leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from tests.cli.programs import Programs, Terminal, end_of, interrupt, lines_of
from tests.conftest import WaitUntil
from tidings import Client, TopicOptions
from tidings.cli.main import main


@contextmanager
def flood(client: Client, topic: str) -> Iterator[Callable[[], int]]:
    """Publish 0, 1, 2, ... while the block runs; gives a function that ends it and says how many there were."""
    ended = threading.Event()
    numbers = 0

    def run() -> None:
        nonlocal numbers
        while not ended.is_set() and numbers < 1_000_000:
            client.publish_batch(topic, range(numbers, numbers + 100), durability="os")
            numbers += 100

    def finish() -> int:
        ended.set()
        thread.join()
        return numbers

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield finish
    finally:
        finish()


def attached(client: Client, topic: str) -> bool:
    return any(info.consumers for info in client.groups(topic))


def test_two_terminals(programs: Programs) -> None:
    with (
        Terminal(programs, "subscribe", "orders/*") as reader,
        Terminal(programs, "publish", "orders/new", "-") as writer,
    ):
        reader.expect("Waiting for messages on orders/*. Ctrl-C ends it.")
        writer.expect("Each line is published")
        writer.type('{"order_id": 17}\n')
        writer.expect("published on orders/new, partition 0, offset 0 (disk)")
        assert 'orders/new\x1b[0m  {"order_id":17}\r\n' in reader.expect("17}")
        writer.type("a second line\n")
        reader.expect("a second line")
        reader.program.send_signal(signal.SIGINT)
        assert reader.end() == 130
        assert "Traceback" not in reader.text
        writer.program.send_signal(signal.SIGINT)
        assert writer.end() == 130


def test_lines_of_json_up_to_a_count(programs: Programs) -> None:
    with Client(programs.url) as client:
        client.publish_batch("orders/a", range(1000))
        client.publish("orders/b", {"x": None})
    lines = programs.json("subscribe", "orders/*", "--from-beginning", "--count", "1001")
    assert sorted(line["data"] for line in lines if line["topic"] == "orders/a") == list(range(1000))
    assert [line["data"] for line in lines if line["topic"] == "orders/b"] == [{"x": None}]


def test_a_group_keeps_its_place_and_count_takes_no_more(bus_url: str) -> None:
    arguments = ["--url", bus_url, "subscribe", "a", "--group", "g", "--from-beginning", "--count"]
    with Client(bus_url) as client:
        client.publish_batch("a", range(10))
        seen = [CliRunner().invoke(main, [*arguments, count]) for count in ("4", "5")]
        assert [[line["data"] for line in lines_of(done.stdout_bytes)] for done in seen] == [
            [0, 1, 2, 3],
            [4, 5, 6, 7, 8],
        ]
        assert client.get_consumer_lag("a", "g") == 1


def data_of(bus_url: str, *arguments: str) -> list[object]:
    """Run `tidings subscribe` and return what the printed messages hold."""
    done = CliRunner().invoke(main, ["--url", bus_url, "subscribe", *arguments, "--timeout", "50ms"])
    assert done.stderr == ""
    return [line["data"] for line in lines_of(done.stdout_bytes)]


def test_some_of_the_messages(bus_url: str) -> None:
    with Client(bus_url) as client:
        client.create_topic("a", TopicOptions(partitions=4))
        places = [client.publish("a", n, partition_key=f"k{n % 3}").partition for n in range(12)]
        for chosen in ({0}, {1, 3}):
            options = [option for number in chosen for option in ("--partition", str(number))]
            wanted = [n for n, place in enumerate(places) if place in chosen]
            assert sorted(map(str, data_of(bus_url, "a", "--from-beginning", *options))) == sorted(map(str, wanted))
        assert data_of(bus_url, "a", "--from-beginning", "--key", "k1") == [1, 4, 7, 10]
        assert data_of(bus_url, "a", "--from-beginning", "--key", "k1", "--group", "g") == [1, 4, 7, 10]
        assert client.get_consumer_lag("a", "g") == 0


@pytest.mark.parametrize("group", [[], ["--group", "g"]])
def test_only_what_matches(bus_url: str, group: list[str]) -> None:
    with Client(bus_url) as client:
        client.publish_batch("a", [{"total": n, "tags": ["x"] * (n % 2)} for n in range(6)])
        where = ["--where", "total > 1 AND tags CONTAINS 'x'"]
        assert data_of(bus_url, "a", "--from-beginning", *where, *group) == [
            {"total": 3, "tags": ["x"]},
            {"total": 5, "tags": ["x"]},
        ]
        done = CliRunner().invoke(main, ["--url", bus_url, "subscribe", "a", "--where", "total >", *group])
        assert (done.exit_code, "line 1, column 8" in done.stderr) == (2, True)


@pytest.mark.parametrize("group", [[], ["--group", "g"]])
def test_the_highest_priority_first(bus_url: str, group: list[str]) -> None:
    with Client(bus_url) as client:
        for priority in (1, 9, 5, 8):
            client.publish("a", priority, priority=priority)
        assert data_of(bus_url, "a", "--from-beginning", "--priority-order", *group) == [9, 8, 5, 1]
        assert data_of(bus_url, "a", "--from-beginning") == [1, 9, 5, 8]


def test_one_at_a_time_in_order(bus_url: str) -> None:
    """An ordering reader waits for what another has in hand; one that is none is refused in the group."""
    with Client(bus_url) as client:
        client.publish_batch("a", range(4), partition_key="k")
        arguments = ["a", "--group", "g", "--from-beginning", "--ordering"]
        assert data_of(bus_url, *arguments, "--count", "1") == [0]
        with client.subscribe("a", consumer_group="g", ordering=True, auto_ack=False) as subscription:
            assert subscription.fetch(1, 10)[0].data == 1
            assert data_of(bus_url, *arguments) == []
            done = CliRunner().invoke(main, ["--url", bus_url, "subscribe", "a", "--group", "g", "--timeout", "1s"])
            assert (done.exit_code, "ordering" in done.stderr) == (2, True)
        assert data_of(bus_url, *arguments) == [1, 2, 3]


@pytest.mark.parametrize("arguments", [["--partition", "x"], ["--partition", "-1"], ["--key", ""]])
def test_what_cannot_be_chosen_is_refused(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, ["--url", "memory:", "subscribe", "a", *arguments])
    assert done.exit_code == 2
    assert "partition" in done.stderr


def test_since(bus_url: str) -> None:
    with Client(bus_url) as client:
        client.publish("a", "old")
        for since, code in (("1h", 0), ("0", 4)):
            done = CliRunner().invoke(
                main, ["--url", bus_url, "subscribe", "a", "--since", since, "--count", "1", "--timeout", "50ms"]
            )
            assert done.exit_code == code, since


def test_time_is_up() -> None:
    def code(*arguments: str) -> int:
        return CliRunner().invoke(main, ["--url", "memory:", "subscribe", "a", *arguments]).exit_code

    assert code("--timeout", "20ms") == 0
    assert code("--timeout", "20ms", "--count", "1") == 4
    assert code("--from-beginning", "--since", "1m") == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_printed_is_acked_when_it_is_interrupted(
    programs: Programs, wait_until: WaitUntil, number: signal.Signals, code: int
) -> None:
    with Client(programs.url) as client:
        client.create_group("a", "g")
        program = programs.piped("subscribe", "a", "--group", "g")
        assert program.stdout is not None
        wait_until(lambda: attached(client, "a"), 20)
        with flood(client, "a") as finish:
            first = program.stdout.readline()
            status, rest, errors = interrupt(program, number)
            published = finish()
        assert (status, errors) == (code, "")
        printed = [line["data"] for line in lines_of(first + rest)]
        assert printed == list(range(len(printed)))
        assert client.get_consumer_lag("a", "g") == published - len(printed)


def test_a_reader_that_leaves_costs_no_message(programs: Programs, wait_until: WaitUntil) -> None:
    with Client(programs.url) as client:
        client.create_group("a", "g")
        program = programs.piped("subscribe", "a", "--group", "g")
        assert program.stdout is not None
        wait_until(lambda: attached(client, "a"), 20)
        client.publish("a", "written")
        assert lines_of(program.stdout.readline())[0]["data"] == "written"
        wait_until(lambda: client.get_consumer_lag("a", "g") == 0)
        program.stdout.close()
        program.stdout = None
        client.publish("a", "not written")
        status, _, errors = end_of(program)
        assert (status, errors) == (0, "")
        assert client.get_consumer_lag("a", "g") == 1
    assert programs.json("subscribe", "a", "--group", "g", "--count", "1")[0]["data"] == "not written"


def test_a_lease_that_is_lost_is_told_and_it_goes_on(programs: Programs) -> None:
    with Client(programs.url) as client:
        client.publish("a", "again")
        with Terminal(programs, "subscribe", "a", "--group", "g", "--from-beginning") as reader:
            reader.expect("again")
            client.seek_group("a", "g", "beginning")
            reader.expect("again\r\n" + reader.text.splitlines()[1].partition("\x1b")[0])
            assert reader.program.poll() is None
