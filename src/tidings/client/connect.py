"""From a URL to an engine: the one table of schemes. Strings, so that an engine is imported when it is asked for."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from tidings.errors import InvalidURL, PackageMissing
from tidings.model.url import parse_url, suggestion

DEFAULT_URL = "file:./.tidings"

_ENGINES = "tidings.engines"
_EMBEDDED = f"{_ENGINES}.embedded"

BLOCKING = {
    "memory": f"{_EMBEDDED}.engine:open_engine",
    "file": f"{_EMBEDDED}.engine:open_engine",
    "amqp": f"{_ENGINES}.rabbitmq.engine:open_blocking",
    "amqps": f"{_ENGINES}.rabbitmq.engine:open_blocking",
    "nats": f"{_ENGINES}.nats.engine:open_blocking",
    "redis": f"{_ENGINES}.redis.engine:open_blocking",
    "rediss": f"{_ENGINES}.redis.engine:open_blocking",
    "zmq+tcp": f"{_ENGINES}.zeromq.engine:open_blocking",
    "zmq+ipc": f"{_ENGINES}.zeromq.engine:open_blocking",
}
"""Scheme to the function that opens a blocking engine."""

ASYNC = {
    "memory": f"{_EMBEDDED}.aio:open_engine",
    "file": f"{_EMBEDDED}.aio:open_engine",
    "amqp": f"{_ENGINES}.rabbitmq.engine:open_async",
    "amqps": f"{_ENGINES}.rabbitmq.engine:open_async",
    "nats": f"{_ENGINES}.nats.engine:open_async",
    "redis": f"{_ENGINES}.redis.engine:open_async",
    "rediss": f"{_ENGINES}.redis.engine:open_async",
    "zmq+tcp": f"{_ENGINES}.zeromq.engine:open_async",
    "zmq+ipc": f"{_ENGINES}.zeromq.engine:open_async",
}
"""Scheme to the function that opens an engine for an event loop."""

BROKERS: dict[str, str] = {
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "nats": "nats",
    "redis": "redis",
    "rediss": "redis",
    "zmq+tcp": "zeromq",
    "zmq+ipc": "zeromq",
}
"""Scheme to the extra of this package that brings what its engine needs."""


def open_engine(url: str | None, table: dict[str, str], group: str) -> Any:
    """Open the engine of a URL: the default is `$TIDINGS_URL`, else `file:./.tidings`.

    Other packages add schemes by entry points of the group `tidings.engines` (blocking) or `tidings.async_engines`.
    """
    parsed = parse_url(url if url is not None else os.environ.get("TIDINGS_URL") or DEFAULT_URL)
    target = table.get(parsed.scheme)
    if target is not None:
        return _opener(parsed.scheme, target)(parsed)
    return _plugin(parsed.scheme, table, group)(parsed)


def _opener(scheme: str, target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if scheme not in BROKERS or (error.name or "").partition(".")[0] == "tidings":
            raise
        raise PackageMissing(f"{scheme}: URLs", f"'tidings[{BROKERS[scheme]}]'") from error


def _plugin(scheme: str, table: dict[str, str], group: str) -> Any:
    from importlib.metadata import entry_points

    for found in entry_points(group=group, name=scheme):
        return found.load()
    raise InvalidURL(f"tidings has no engine for {scheme!r} URLs{suggestion(scheme, tuple(table))}")
