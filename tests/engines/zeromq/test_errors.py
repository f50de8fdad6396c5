"""The table of errors: nothing of ZeroMQ comes through, and each says where and what to do."""

from __future__ import annotations

import errno

import pytest
import zmq

from tidings.engines.zeromq.errors import translate
from tidings.errors import BrokerRefused, BrokerUnavailable, Closed, InvalidURL, TidingsError


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.EADDRINUSE, BrokerUnavailable, "publish=connect"),
        (errno.ENODEV, BrokerRefused, "publish=connect"),
        (errno.EADDRNOTAVAIL, BrokerRefused, "publish=connect"),
        (errno.EACCES, BrokerRefused, "may not"),
        (errno.ENOENT, BrokerRefused, "folder"),
        (errno.EINVAL, InvalidURL, "no address"),
        (errno.ENAMETOOLONG, InvalidURL, "107"),
        (errno.EMFILE, BrokerUnavailable, "descriptor"),
        (zmq.ETERM, Closed, "closed"),
        (zmq.ENOTSOCK, Closed, "closed"),
        (errno.ENOTRECOVERABLE, BrokerUnavailable, ""),
        (None, BrokerUnavailable, ""),
    ],
)
def test_each_error_has_its_words(code: int | None, kind: type[TidingsError], words: str) -> None:
    error = translate("tcp://here:1", zmq.ZMQError(code))
    assert type(error) is kind
    assert str(error).startswith("tcp://here:1: ")
    assert words in str(error)
