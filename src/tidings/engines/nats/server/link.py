"""The connection: made when it is needed, made again by itself, and many requests in the air at once."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import AuthorizationError, Error

from tidings.brokers.address import Address
from tidings.engines.nats.options import NatsOptions, server_urls
from tidings.engines.nats.server.driver import Driver, NoTLS
from tidings.engines.nats.server.errors import NoAnswer, NoResponder, describe, translate, translated
from tidings.errors import BrokerRefused, BrokerUnavailable, Closed

RECONNECT_SECONDS = 0.2
"""Between two attempts to reach the same server: a restart takes about as long, and a hundred clients that try five
times a second do not disturb it."""

PING_SECONDS = 5.0
"""How often the connection is tried when nothing else is heard; after two that were not answered it counts as lost."""

CLOSE_SECONDS = 2.0
"""How long what is left to be sent may take when the connection is closed."""

MAX_IN_FLIGHT = 2000
"""Requests sent before the first answers are waited for: enough to hide the way there and back, and a bound for what
waits in the memory of client and server."""

FLUSH_EVERY = 100
"""Messages after which the driver may begin to send: the server works on them while we make the next ones."""

Request: TypeAlias = tuple[str, bytes, dict[str, str] | None]
"""Subject, body and headers."""

Post: TypeAlias = tuple[str, bytes, str, dict[str, str] | None]
"""Subject, body, where to answer (empty: nowhere), headers."""

Outcome: TypeAlias = Msg | Exception


class _Answers:
    """The answers to some requests, in their order; `done` when all are there."""

    __slots__ = ("done", "left", "results")

    def __init__(self, count: int) -> None:
        self.results: list[Outcome | None] = [None] * count
        self.left = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def give_up(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def put(self, index: int, result: Outcome) -> None:
        self.results[index] = result
        self.left -= 1
        if not self.left:
            self.give_up()


class Link:
    """One connection of one event loop. `epoch` counts how often it was made; `listeners` are called when it comes and
    when it goes, and by `tell`."""

    def __init__(self, address: Address, options: NatsOptions) -> None:
        self._address = address
        self._options = options
        self._client: Client | None = None
        self._opening = asyncio.Lock()
        self._connected = asyncio.Event()
        self._waiting: dict[str, tuple[_Answers, int]] = {}
        self._numbers = itertools.count(1)
        self._inbox = ""
        self._trying = False
        self._failures = 0
        self._reason = ""
        self._closed = False
        self.epoch = 0
        self.listeners: list[Callable[[], None]] = []

    # -- connecting

    async def open(self) -> None:
        """Connect, if that has not been done. Raises `BrokerUnavailable`, `BrokerRefused`."""
        async with self._opening:
            if self._closed:
                raise Closed("the client is closed")
            if self._client is None:
                self._client = await self._connect()

    async def _connect(self) -> Client:
        client, options = Driver(), self._options
        self._trying, self._failures = True, 0
        try:
            with translated(f"connecting to {self._address}"):
                async with asyncio.timeout(options.connect_seconds):
                    await client.connect(**self._settings())
                    self._inbox = f"{client.new_inbox()}."
                    await client.subscribe(f"{self._inbox}*", cb=self._answered)
        except BaseException as error:
            self._trying = False
            ignored = client.ignored
            await client.close()
            if ignored and isinstance(error, BrokerUnavailable):
                raise BrokerUnavailable(f"{error}; it does not greet as NATS does: is this a nats-server?") from error
            raise
        self._trying = False
        self._up()
        return client

    def _settings(self) -> dict[str, Any]:
        address, options = self._address, self._options
        account: dict[str, Any] = {"user": address.user, "password": address.password}
        if address.user is not None and address.password is None:
            account = {"token": address.user}
        return account | {
            "servers": server_urls(address, options),
            "name": "tidings",
            "user_credentials": options.credentials,
            "tls": ssl.create_default_context() if options.tls else None,
            "connect_timeout": options.connect_seconds,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_SECONDS,
            "ping_interval": PING_SECONDS,
            "pending_size": 0,  # nothing is kept to be sent after a reconnect: who published would know nothing of it
            "error_cb": self._failed,
            "disconnected_cb": self._down,
            "reconnected_cb": self._again,
        }

    async def _failed(self, error: Exception) -> None:
        """Note an error. As long as there was no connection, the first failure of each server is told at once."""
        self._reason = describe(error)
        if not self._trying:
            return
        if isinstance(error, AuthorizationError) or "authorization" in self._reason.lower():
            raise BrokerRefused(f"nats: {self._address} does not let this account in: {self._reason}")
        if isinstance(error, NoTLS):
            raise translate(error, f"connecting to {self._address}")
        self._failures += 1
        if self._failures >= len(self._address.hosts):
            raise BrokerUnavailable(f"nats: cannot connect to {self._address}: {self._reason}")

    def _up(self) -> None:
        self.epoch += 1
        self._connected.set()
        self.tell()

    async def _again(self) -> None:
        self._up()

    async def _down(self) -> None:
        self._connected.clear()
        waiting, self._waiting = self._waiting, {}
        for answers, index in waiting.values():
            answers.put(index, NoAnswer("the connection was lost"))
        self.tell()

    def tell(self) -> None:
        """Let those who wait look whether there is something to do for them."""
        for listener in tuple(self.listeners):
            listener()

    @property
    def is_up(self) -> bool:
        return self._connected.is_set() and self._client is not None and not self._client.is_reconnecting

    async def client(self) -> Client:
        """Return the driver's connection when it is up; waits for that no longer than for an answer."""
        if self._client is None:
            await self.open()
        if not self.is_up:
            try:
                async with asyncio.timeout(self._options.request_seconds):
                    while self._client is not None and not self.is_up:
                        self._connected.clear()  # the driver knows of a loss a moment before it tells us
                        await self._connected.wait()
            except TimeoutError:
                raise BrokerUnavailable(f"nats: {self._address} cannot be reached: {self._reason}") from None
        if self._client is None:
            raise Closed("the client is closed")
        return self._client

    @property
    def server(self) -> dict[str, Any]:
        """What the server says of itself."""
        return self._client._server_info if self._client is not None else {}

    # -- requests

    async def request(self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Msg:
        """Send one request and return its answer. Raises `NoAnswer`, `NoResponder`, `BrokerUnavailable`."""
        (result,) = await self.requests([(subject, body, headers)])
        if isinstance(result, Exception):
            raise result
        return result

    async def requests(self, requests: Sequence[Request], seconds: float | None = None) -> list[Outcome]:
        """Send all, then wait `seconds` (None: the usual time) for all answers; what has none, or is not sent, is an
        exception in the result."""
        results: list[Outcome] = []
        seconds = seconds or self._options.request_seconds
        for at in range(0, len(requests), MAX_IN_FLIGHT):
            try:
                results += await self._requests(requests[at : at + MAX_IN_FLIGHT], seconds)
            except BrokerUnavailable as error:
                if not at:
                    raise
                results += [error] * (len(requests) - at)
                break
        return results

    async def _requests(self, requests: Sequence[Request], seconds: float) -> list[Outcome]:
        client = await self.client()
        answers = _Answers(len(requests))
        tokens = [str(next(self._numbers)) for _ in requests]
        timer = asyncio.get_running_loop().call_later(seconds, answers.give_up)
        try:
            for index, (subject, body, headers) in enumerate(requests):
                self._waiting[tokens[index]] = (answers, index)
                await client.publish(subject, body, f"{self._inbox}{tokens[index]}", headers)
                if not (index + 1) % FLUSH_EVERY:
                    await asyncio.sleep(0)
            await answers.done
        except (Error, OSError) as error:
            if index == 0:
                raise BrokerUnavailable(f"nats: {self._address} cannot be reached: {describe(error)}") from error
        finally:
            timer.cancel()
            for token in tokens:
                self._waiting.pop(token, None)
        return [NoAnswer("no answer in time") if result is None else result for result in answers.results]

    async def _answered(self, message: Msg) -> None:
        found = self._waiting.pop(message.subject[len(self._inbox) :], None)
        if found is not None:
            answers, index = found
            nobody = message.headers is not None and not message.data and message.headers.get("Status") == "503"
            answers.put(index, NoResponder("nobody answers") if nobody else message)

    # -- more

    async def post(self, messages: Sequence[Post]) -> None:
        """Send without waiting for anything."""
        client = await self.client()
        with translated("sending"):
            for number, (subject, body, reply, headers) in enumerate(messages, 1):
                await client.publish(subject, body, reply, headers)
                if not number % FLUSH_EVERY:
                    await asyncio.sleep(0)

    async def subscribe(self, subject: str, arrived: Callable[[Msg], Any]) -> Subscription:
        """Let a coroutine function be called for what comes; made again after a reconnect."""
        client = await self.client()
        with translated("subscribing"):
            return await client.subscribe(subject, cb=arrived)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Take no more, and return when what was on its way has been handed over. Also when this fails it is over, and
        not made again after a reconnect: what came then would be nobody's."""
        client = self._client
        if client is None:
            return
        try:
            if self.is_up:
                with translated("unsubscribing"):
                    await client._send_unsubscribe(subscription._id)
                await self.flush()
        finally:
            client._remove_sub(subscription._id)
            if not client.is_closed:
                await subscription._pending_queue.join()
            subscription._stop_processing()

    async def flush(self) -> None:
        """Return when the server has seen everything that was sent, and we everything that it had sent until then."""
        answers = _Answers(1)
        token = str(next(self._numbers))
        client = await self.client()
        self._waiting[token] = (answers, 0)
        try:
            with translated("asking whether the server is there"):
                async with asyncio.timeout(self._options.request_seconds):
                    await client.publish(f"{self._inbox}{token}")  # to ourselves: the server keeps the order
                    await answers.done
        finally:
            self._waiting.pop(token, None)

    async def close(self) -> None:
        self._closed = True
        async with self._opening:
            client, self._client = self._client, None
        self._connected.set()  # for those who wait for the connection: there will be none
        if client is not None:
            closing = asyncio.ensure_future(client.close())
            await asyncio.wait([closing], timeout=CLOSE_SECONDS)
            if not closing.done():  # a network that takes nothing: the driver would wait until the system gives it up
                client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
            with translated("closing"):
                await closing
