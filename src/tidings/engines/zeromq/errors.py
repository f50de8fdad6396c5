"""The errors of ZeroMQ in the words of tidings: one table."""

from __future__ import annotations

import errno

import zmq

from tidings.errors import BrokerRefused, BrokerUnavailable, Closed, InvalidURL, TidingsError

_WORDS: dict[int, tuple[type[TidingsError], str]] = {
    errno.EADDRINUSE: (
        BrokerUnavailable,
        "somebody else has bound this address, and one address takes one publisher; give this one an address of its "
        "own, or let all connect to a forwarder: ?publish=connect&subscribe_to=...",
    ),
    errno.EADDRNOTAVAIL: (BrokerRefused, "that is no address of this machine; to publish to another: ?publish=connect"),
    errno.ENODEV: (BrokerRefused, "that is no address of this machine; to publish to another: ?publish=connect"),
    errno.EACCES: (BrokerRefused, "this account may not use it"),
    errno.EPERM: (BrokerRefused, "this account may not use it"),
    errno.ENOENT: (BrokerRefused, "the folder of the socket does not exist"),
    errno.EINVAL: (InvalidURL, "that is no address"),
    errno.ENAMETOOLONG: (InvalidURL, "the path of a socket has at most 107 bytes"),
    errno.EPROTONOSUPPORT: (InvalidURL, "this ZeroMQ does not know that transport"),
    errno.EMFILE: (BrokerUnavailable, "this process has no file descriptor left"),
    zmq.ETERM: (Closed, "the client is closed"),
    zmq.ENOTSOCK: (Closed, "the client is closed"),
}


def translate(address: str, error: zmq.ZMQError) -> TidingsError:
    """Return what ZeroMQ raised as an error of tidings."""
    kind, words = _WORDS.get(error.errno or 0, (BrokerUnavailable, str(error)))
    return kind(f"{address}: {words}")
