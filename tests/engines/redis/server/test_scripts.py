"""The scripts are whole, and Redis takes them."""

from __future__ import annotations

from importlib.resources import files

import pytest
from redis import Redis

from tidings.engines.redis.server import scripts


def test_no_file_is_left_out() -> None:
    there = {path.name.removesuffix(".lua") for path in files(scripts.__package__ or "").joinpath("lua").iterdir()}
    assert there == {part for parts in scripts.PARTS.values() for part in parts}


@pytest.mark.parametrize("name", scripts.PARTS)
def test_redis_knows_each_by_its_sum(redis_url: str, name: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert client.script_load(scripts.SOURCES[name].decode()).encode() == scripts.SUMS[name]
