"""A forwarder, for buses with several publishers: all clients connect to it, publishers here and subscribers there.

    python -m tidings.engines.zeromq.forwarder 'zmq+tcp://127.0.0.1:5559?publish=connect&subscribe_to=tcp://127.0.0.1:5560'

It takes the very URL that the clients take. It stores nothing; it is also what tells them that they have been heard.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType

import zmq

from tidings.engines.zeromq.errors import translate
from tidings.engines.zeromq.frames import MARK
from tidings.engines.zeromq.options import read_url
from tidings.errors import InvalidURL
from tidings.model.url import parse_url

BURST = 1000
"""Messages that are forwarded before subscriptions are looked at again."""


class Forwarder:
    """Forwards from when it is made until it is closed, in a thread of its own."""

    def __init__(self, url: str) -> None:
        """Bind both addresses of the URL. Raises `InvalidURL`, `BrokerUnavailable`, `BrokerRefused`."""
        meeting, options = read_url(parse_url(url))
        if not meeting.via or meeting.publish.address == meeting.subscribe.address:
            raise InvalidURL(f"{url}: give publish=connect and a subscribe_to of its own; the forwarder binds both")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._publishers = self._bind(zmq.XSUB, meeting.publish.address, options.hwm)
        self._subscribers = self._bind(zmq.XPUB, meeting.subscribe.address, options.hwm)
        self._publishers.send(b"\1")  # everything: what nobody wants ends here, so a subscription is heard at once
        self._end = self._context.socket(zmq.PAIR)
        self._end.bind("inproc://end")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidings-forwarder", daemon=True)
        self._thread.start()

    def _bind(self, kind: int, address: str, hwm: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        socket.set(zmq.SNDHWM, hwm)
        socket.set(zmq.RCVHWM, hwm)
        try:
            socket.bind(address)
        except zmq.ZMQError as error:
            self._context.destroy(0)
            raise translate(address, error) from error
        return socket

    def _run(self) -> None:
        end = self._context.socket(zmq.PAIR)
        end.connect("inproc://end")
        poller = zmq.Poller()
        for socket in (end, self._subscribers, self._publishers):
            poller.register(socket, zmq.POLLIN)
        while end not in (ready := dict(poller.poll())):
            if self._subscribers in ready:
                self._answer()
            if self._publishers in ready:
                self._forward()
        for socket in (end, self._subscribers, self._publishers):
            socket.close(0)
        self._ended.set()

    def _answer(self) -> None:
        """Send the probes of subscribers back to them."""
        while frames := _receive(self._subscribers):
            if frames[0].startswith(b"\1" + MARK):
                self._subscribers.send(frames[0][1:])

    def _forward(self) -> None:
        for _ in range(BURST):
            frames = _receive(self._publishers)
            if frames is None:
                return
            self._subscribers.send_multipart(frames)

    def wait(self) -> None:
        """Return when it was closed."""
        self._ended.wait()

    def close(self) -> None:
        """Stop forwarding. Idempotent."""
        if not self._context.closed:
            self._end.send(b"")
            self._thread.join()
            self._end.close(0)
            self._context.term()

    def __enter__(self) -> Forwarder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _receive(socket: zmq.Socket[bytes]) -> list[bytes] | None:
    try:
        return socket.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None


def main(arguments: list[str]) -> None:
    """Forward until interrupted."""
    if len(arguments) != 1:
        raise SystemExit(__doc__)
    with Forwarder(arguments[0]) as forwarder:
        sys.stdout.write(f"forwarding: {arguments[0]}\n")
        sys.stdout.flush()
        try:
            forwarder.wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main(sys.argv[1:])
