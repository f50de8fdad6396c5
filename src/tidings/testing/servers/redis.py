"""A Redis server of a test's own."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from tidings.testing.servers.process import HOST, Server, answer

READY = (b"+PONG", b"-NOAUTH")
"""What a server answers when it has loaded its data."""


class RedisServer(Server):
    """`redis-server`; see `Server`.

    `options`: directives of redis.conf, with '_' for '-', such as `appendonly="yes"`, `appendfsync="always"`,
    `maxmemory="10mb"`, `maxmemory_policy="allkeys-lru"`, `requirepass="secret"` (which the URL then has). Without any,
    nothing is kept when the server ends. With `replicaof="127.0.0.1 PORT"` it is a replica of another one, which has no
    password; it is ready when the other counts on it.
    """

    program = "redis-server"
    install = "apt install redis-server (or: make brokers)"

    def __init__(self, folder: Path | str | None = None, **options: str) -> None:
        super().__init__(folder)
        given = {name.replace("_", "-"): value for name, value in options.items()}
        self.options = {"save": "", "repl-diskless-sync-delay": "0", **given}

    @property
    def url(self) -> str:
        """`redis://127.0.0.1:PORT`, with the password where one is asked for."""
        password = self.options.get("requirepass")
        account = f":{quote(password, safe='')}@" if password else ""
        return f"redis://{account}{HOST}:{self.port}"

    def ready(self) -> bool:
        """Return whether it answers clients; a replica, whether its primary counts on it."""
        if "replicaof" in self.options:
            primary = int(self.options["replicaof"].split()[1])
            return b"port=%d,state=online" % self.port in answer(primary, b"INFO replication\r\n")
        return answer(self.port, b"PING\r\n").startswith(READY)

    def _command(self) -> list[str]:
        options = {"bind": HOST, "port": str(self.port), "dir": str(self.folder), **self.options}
        return [self._path, *(word for name, value in options.items() for word in (f"--{name}", value))]
