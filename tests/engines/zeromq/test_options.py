"""URLs of ZeroMQ: which address is bound, which is connected to, and what is refused."""

from __future__ import annotations

import pytest

from tidings.engines.zeromq.options import DEFAULT_HWM, Framing, read_url
from tidings.errors import InvalidURL, UnsupportedFeature
from tidings.model.options import MAX_BATCH_MESSAGES
from tidings.model.url import parse_url

VIA = "publish=connect&subscribe_to=tcp://other:2"


@pytest.mark.parametrize(
    ("url", "publish", "subscribe", "via"),
    [
        ("zmq+tcp://localhost:7", "bind tcp://127.0.0.1:7", "connect tcp://localhost:7", False),
        ("zmq+tcp://*:7", "bind tcp://*:7", "connect tcp://127.0.0.1:7", False),
        ("zmq+tcp://", "bind tcp://127.0.0.1:5555", "connect tcp://localhost:5555", False),
        ("zmq+tcp://[::1]:7", "bind tcp://[::1]:7", "connect tcp://[::1]:7", False),
        ("zmq+ipc:///run/a b", "bind ipc:///run/a b", "connect ipc:///run/a b", False),
        ("zmq+ipc://bus", "bind ipc://bus", "connect ipc://bus", False),
        (f"zmq+tcp://one:1?{VIA}", "connect tcp://one:1", "connect tcp://other:2", True),
        ("zmq+tcp://*:1?publish=connect&subscribe=bind", "connect tcp://127.0.0.1:1", "bind tcp://*:1", False),
        ("zmq+tcp://h:1?subscribe_to=ipc:///x", "bind tcp://h:1", "connect ipc:///x", False),
        ("zmq+tcp://h:1?subscribe_to=zmq%2Btcp://i:2", "bind tcp://h:1", "connect tcp://i:2", False),
    ],
)
def test_a_url_says_who_binds_what(url: str, publish: str, subscribe: str, via: bool) -> None:
    meeting, _ = read_url(parse_url(url))
    ends = [f"{'bind' if end.binds else 'connect'} {end.address}" for end in (meeting.publish, meeting.subscribe)]
    assert [*ends, meeting.via] == [publish, subscribe, via]


@pytest.mark.parametrize(
    "url",
    [
        "zmq+tcp://host:port",
        "zmq+tcp://host:0",
        "zmq+tcp://a:1,b:2",
        "zmq+tcp://me:secret@host:1",
        "zmq+tcp://host:1/path",
        "zmq+ipc://",
        "zmq+ipc:",
        "zmq+udp://host:1",
        "zmq+tcp://host:1?publish=sometimes",
        "zmq+tcp://host:1?subscribe=",
        "zmq+tcp://host:1?framing=xml",
        "zmq+tcp://host:1?hwm=0",
        "zmq+tcp://host:1?hwm=many",
        "zmq+tcp://host:1?wait_for_subscribers=-1",
        "zmq+tcp://host:1?subscribe_to=nowhere",
        "zmq+tcp://host:1?subscribe_to=nats://h:1",
        "zmq+tcp://host:1?subscribe=bind",
    ],
)
def test_what_is_no_meeting_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL) as refused:
        read_url(parse_url(url))
    assert "secret" not in str(refused.value)


def test_an_option_with_a_mistake_gets_a_suggestion() -> None:
    with pytest.raises(InvalidURL, match="framing"):
        read_url(parse_url("zmq+tcp://h:1?frameing=plain"))


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_nothing_is_promised_that_cannot_be_kept(delivery: str) -> None:
    with pytest.raises(UnsupportedFeature, match=delivery):
        read_url(parse_url(f"zmq+tcp://h:1?delivery={delivery}"))


def test_the_options_arrive() -> None:
    _, options = read_url(parse_url("zmq+tcp://h:1?hwm=5&framing=plain&wait_for_subscribers=2&connect_seconds=0.5"))
    assert (options.hwm, options.framing, options.wait_for_subscribers) == (5, Framing.PLAIN, 2)
    assert options.connect_seconds == 0.5


def test_the_largest_batch_fits_below_the_usual_mark() -> None:
    assert DEFAULT_HWM > MAX_BATCH_MESSAGES
