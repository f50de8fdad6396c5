"""Starts a server by hand: prints its URL and runs until its standard input ends or it is interrupted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from tidings.testing.servers import (
    NatsCluster,
    NatsServer,
    RabbitmqServer,
    RedisServer,
    Server,
    ServerFailed,
    ServerMissing,
)

KINDS: dict[str, Callable[..., Server | NatsCluster]] = {
    "nats": NatsServer,
    "nats-cluster": NatsCluster,
    "rabbitmq": RabbitmqServer,
    "redis": RedisServer,
}

USAGE = f"""usage: python -m tidings.testing.servers {"|".join(KINDS)} [option=value ...]
The options are those of the class, such as appendonly=yes (redis), sync_interval=always (nats, nats-cluster)."""


def main(arguments: Sequence[str]) -> int:
    """Run the server that the arguments name; return the exit code."""
    kind, *options = arguments or ("",)
    if kind not in KINDS or not all("=" in option for option in options):
        sys.stderr.write(USAGE + "\n")
        return 2
    try:
        with suppress(KeyboardInterrupt), KINDS[kind](**dict(option.split("=", 1) for option in options)) as server:
            sys.stdout.write(server.url + "\n")
            sys.stdout.flush()
            sys.stdin.read()
    except (ServerMissing, ServerFailed, TypeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
