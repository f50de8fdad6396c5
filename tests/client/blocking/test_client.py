"""How the blocking client lets go; what else it does is generated from the other one, and tested there."""

from __future__ import annotations

import pytest

from tidings import Client


def test_an_exception_out_of_the_block_of_the_client_nacks_what_was_in_hand(bus_url: str) -> None:
    def fail() -> None:
        with Client(bus_url) as client:
            for _ in client.subscribe("a", consumer_group="g"):
                raise ValueError("body")

    with Client(bus_url) as watcher:
        watcher.create_group("a", "g")
        watcher.publish("a", "x")
        with pytest.raises(ValueError, match="body"):
            fail()
        assert watcher.get_consumer_lag("a", "g") == 1
        with watcher.subscribe("a", consumer_group="g") as again:
            assert [(message.data, message.attempt) for message in again.fetch(1, timeout=20)] == [("x", 2)]
