"""The connection: made once and again, told what is wrong, and not hung up by a broker that is silent."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from pamqp import commands

from tests.engines.rabbitmq.conftest import Bus, parcel
from tidings.engines.rabbitmq.channel import Channel
from tidings.engines.rabbitmq.errors import Gone, NotReady
from tidings.engines.rabbitmq.link import FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, Backoff, Link
from tidings.engines.rabbitmq.options import Names, read_url
from tidings.engines.rabbitmq.publisher import Publisher
from tidings.errors import BrokerRefused, BrokerUnavailable, Closed
from tidings.model.url import parse_url
from tidings.testing.conformance.stage.place import until
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import RabbitmqServer
from tidings.testing.servers.process import free_port


def link_to(url: str) -> Link:
    return Link(*read_url(parse_url(url)))


async def test_who_connects_at_once_gets_one_connection(bus: Bus) -> None:
    first, *others = await asyncio.gather(*(bus.link.connection() for _ in range(5)))
    assert all(other is first for other in others)


async def test_a_lost_connection_is_made_again(bus: Bus) -> None:
    first = await bus.link.connection()
    await first.close()
    again = await bus.link.connection()
    assert again is not first
    assert again.is_opened


async def test_where_nobody_listens() -> None:
    link = link_to(f"amqp://me:secret@127.0.0.1:{free_port()}/")
    with pytest.raises(BrokerUnavailable) as refused:
        await link.connection()
    assert "secret" not in str(refused.value)
    assert "is this a RabbitMQ server" not in str(refused.value)
    await link.close()


async def test_the_first_host_that_answers_is_taken(amqp_url: str) -> None:
    account, _, place = amqp_url.removeprefix("amqp://").partition("@")
    link = link_to(f"amqp://{account}@127.0.0.1:{free_port()},{place}")
    assert (await link.connection()).is_opened
    await link.close()


async def test_a_wrong_password_is_told(amqp_url: str) -> None:
    link = link_to(amqp_url.replace("guest:guest", "guest:guessed"))
    with pytest.raises(BrokerRefused, match="password") as refused:
        await link.connection()
    assert "guessed" not in str(refused.value)
    await link.close()


async def test_a_virtual_host_that_is_not_there_is_told(amqp_url: str) -> None:
    link = link_to(f"{amqp_url}nope")
    with pytest.raises(BrokerRefused, match=r"virtual host does not exist.* nope "):
        await link.connection()
    await link.close()


@pytest.mark.parametrize("other", ["nats_url", "redis_url"])
async def test_another_server_is_asked_after(request: pytest.FixtureRequest, other: str) -> None:
    """The one answers something else, the other waits for more."""
    place = request.getfixturevalue(other).partition("://")[2]
    link = link_to(f"amqp://{place.strip('/')}?connect_seconds=0.5")
    with pytest.raises(BrokerUnavailable, match="is this a RabbitMQ server"):
        await link.connection()
    await link.close()


async def test_what_the_broker_refuses_is_told_and_the_link_goes_on(bus: Bus) -> None:
    channel = await bus.link.channel()
    with pytest.raises(BrokerRefused):
        await bus.link.ask(channel.rpc(commands.Queue.Declare(queue=f"{bus.names.exchange}.none", passive=True)))
    assert channel.is_closed
    assert not (await bus.link.channel()).is_closed


async def test_a_silent_broker_is_let_go_of(url: str) -> None:
    parsed = parse_url(url)
    ((host, port),) = read_url(parsed)[0].hosts
    with FaultProxy(host, port) as proxy:
        link = link_to(proxy.url(url).replace("request_seconds=20", "request_seconds=2"))
        channel = await link.channel()
        proxy.black_hole()
        with pytest.raises(BrokerUnavailable, match="did not answer"):
            await link.reach(channel)
        proxy.heal()
        assert not (await link.channel()).is_closed
        await link.close()


async def test_a_question_outlives_who_asked_it(bus: Bus) -> None:
    """Its answer would be taken for that of the next question."""
    channel = await bus.link.channel()
    asking = asyncio.ensure_future(bus.link.declare(channel, f"{bus.names.exchange}.a", {}, durable=True))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await bus.link.declare(channel, f"{bus.names.exchange}.b", {}, durable=True) == f"{bus.names.exchange}.b"


async def test_a_closed_link_is_closed(bus: Bus) -> None:
    await bus.link.connection()
    await bus.link.close()
    with pytest.raises(Closed):
        await bus.link.connection()


async def test_a_question_of_its_own_leaves_no_channel(bus: Bus) -> None:
    connection = await bus.link.connection()
    before = len(connection.channels)
    queue = await bus.queue()
    open_now = len(connection.channels)
    answer = await bus.link.once(commands.Queue.Declare(queue=queue, passive=True))
    assert answer.queue == queue
    with pytest.raises(Gone):
        await bus.link.once(commands.Queue.Declare(queue=f"{queue}.none", passive=True))
    assert len(connection.channels) == open_now > before


async def test_who_gives_up_leaves_no_channel(bus: Bus) -> None:
    """Also while it is being opened: it is closed as soon as it is open."""
    connection = await bus.link.connection()
    before = dict(connection.channels)
    for turns in range(30):
        asking = asyncio.ensure_future(bus.link.once(commands.Queue.Declare(queue="none", passive=True)))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait((asking,))
    await until(lambda: connection.channels == before)
    assert connection.is_open


async def test_what_is_not_ready_is_tried_again(bus: Bus) -> None:
    """Not for ever, and nothing else is."""
    tries = count(1)

    async def third_time() -> int:
        if (number := next(tries)) < 3:
            raise NotReady("wait")
        return number

    async def never() -> None:
        raise NotReady("wait")

    async def refused() -> None:
        next(tries)
        raise BrokerUnavailable("gone")

    assert await bus.link.patiently(third_time) == 3
    with pytest.raises(BrokerUnavailable):
        await bus.link.patiently(refused)
    assert next(tries) == 5
    hasty = link_to(f"{bus.url}&connect_seconds=0.1")
    with pytest.raises(NotReady):
        await hasty.patiently(never)


async def test_who_finds_a_stream_made_can_use_it(bus: Bus) -> None:
    """The one who was not first, too."""

    async def prepare(_: Channel) -> None:
        """Nothing is needed."""

    async def make_and_use(link: Link, publisher: Publisher, name: str) -> None:
        await link.make_stream(name, {"x-queue-type": "stream"})
        await publisher.send([parcel(name)], name)

    links = [link_to(bus.url) for _ in range(6)]
    pairs = [(link, Publisher(link, prepare)) for link in links]
    channels = [await publisher.channel() for _, publisher in pairs]
    for number in range(10):
        await asyncio.gather(*(make_and_use(*pair, f"{bus.names.exchange}.{number}") for pair in pairs))
    assert not any(channel.is_closed for channel in channels)
    for link in links:
        await link.close()


async def test_streams_are_made_by_one_after_the_other(bus: Bus) -> None:
    """Who has the turn for too long, as a connection that is dead and the broker does not know it, holds nobody up."""
    name, stream = f"{bus.names.exchange}.s", {"x-queue-type": "stream"}
    turn = commands.Queue.Declare(queue=bus.link.turn(name), exclusive=True)
    await bus.link.once(turn)
    hasty, patient = link_to(f"{bus.url}&connect_seconds=0.1"), link_to(bus.url)
    waiting = asyncio.ensure_future(patient.make_stream(name, stream))
    await hasty.make_stream(name, stream)
    assert not waiting.done()
    await bus.link.once(commands.Queue.Delete(queue=turn.queue))
    await waiting
    await bus.link.once(turn)  # it was given up
    await hasty.close()
    await patient.close()


@pytest.mark.timeout(90)
async def test_what_is_registered_outlives_the_brokers_death(rabbitmq_server: RabbitmqServer) -> None:
    """A quorum queue that was made a moment before, with what is in it."""

    async def prepare(_: Channel) -> None:
        """Nothing is needed."""

    link = link_to(rabbitmq_server.url)
    bus = Bus(rabbitmq_server.url, link, Names("x"), Publisher(link, prepare))
    queue = await bus.queue(**{"x-queue-type": "quorum"})
    await bus.publisher.send([parcel(queue) for _ in range(3)], "orders")
    await link.register()
    await asyncio.to_thread(rabbitmq_server.kill)
    await asyncio.to_thread(rabbitmq_server.start)
    await bus.publisher.send([parcel(queue)], "orders")
    answer = await link.once(commands.Queue.Declare(queue=queue, passive=True))
    assert answer.message_count == 4
    await link.close()


async def test_pauses_begin_anew_with_a_connection(bus: Bus) -> None:
    """A broker that is back has its queues and streams within tenths of a second."""
    backoff = Backoff(bus.link)
    backoff._next = MAX_BACKOFF_SECONDS
    await bus.link.connection()
    async with asyncio.timeout(MAX_BACKOFF_SECONDS / 4):
        await backoff.pause()
    assert backoff._next == 2 * FIRST_BACKOFF_SECONDS


async def test_pauses_grow_to_a_bound(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    timeout = asyncio.timeout

    def note(seconds: float) -> asyncio.Timeout:
        pauses.append(seconds)
        return timeout(0)

    monkeypatch.setattr("tidings.engines.rabbitmq.link.asyncio.timeout", note)
    backoff = Backoff(bus.link)
    for _ in range(12):
        await backoff.pause()
    assert FIRST_BACKOFF_SECONDS / 2 <= pauses[0] <= FIRST_BACKOFF_SECONDS
    assert all(MAX_BACKOFF_SECONDS / 2 <= pause <= MAX_BACKOFF_SECONDS for pause in pauses[7:])


async def test_a_pause_ends_when_somebody_else_has_connected(bus: Bus) -> None:
    backoff = Backoff(bus.link)
    backoff._next = MAX_BACKOFF_SECONDS
    async with asyncio.timeout(MAX_BACKOFF_SECONDS / 4):
        _, connection = await asyncio.gather(backoff.pause(), bus.link.connection())
    assert connection.is_opened


async def test_whoever_waits_for_a_link_that_is_closed_is_told(bus: Bus) -> None:
    waiting = asyncio.ensure_future(bus.link.connection())
    await asyncio.wait((waiting,), timeout=0)
    await bus.link.close()
    with pytest.raises(Closed):
        await waiting
