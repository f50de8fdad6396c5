"""A RabbitMQ server of a test's own: a node that has nothing to do with the service of the machine."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

from tidings.testing.servers.process import HOST, START_SECONDS, Server, answer, find_program, free_port, wait_until

DEBIAN = "/usr/lib/rabbitmq/bin"
"""Where Debian keeps the program itself; that of the PATH changes to the account of the machine's service."""

CONFIG = """
listeners.tcp.1 = {host}:{port}
disk_free_limit.absolute = 1MB
log.console = true
log.file = false
load_definitions = {folder}/definitions.json
{config}
"""

DEFINITIONS = {
    "vhosts": [{"name": "/"}],
    "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
    "permissions": [{"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
    "queues": [
        {"name": "first", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {"x-queue-type": "stream"}}
    ],
}
"""What a server begins with: what RabbitMQ makes by itself, and a stream. A broker that is killed within a second after
it has made the first stream of its life loses all of them, and no test is about the first second of a broker's life."""

COORDINATOR = b"rabbit_stream_coordinator"
"""What RabbitMQ has noted when it will know of its streams again."""

EPMD = '"$0" -port "$ERL_EPMD_PORT" -address "$ERL_EPMD_ADDRESS" & exec "$@"'
"""Starts Erlang's directory of nodes as a member of the server's process group; by itself it would become a daemon."""


class RabbitmqServer(Server):
    """`rabbitmq-server` as a node of its own; see `Server`. It takes some seconds to start.

    `config`: more lines of its configuration file (rabbitmq.conf).
    """

    program = "rabbitmq-server"
    install = "apt install rabbitmq-server (or: make brokers)"

    def __init__(self, folder: Path | str | None = None, *, config: str = "") -> None:
        super().__init__(folder)
        self.config = config
        self.node = f"t{uuid4().hex[:12]}@localhost"
        self._epmd = find_program("epmd", self.install)
        self._epmd_port, self._distribution_port = free_port(), free_port()

    @property
    def url(self) -> str:
        """`amqp://guest:guest@127.0.0.1:PORT/`."""
        return f"amqp://guest:guest@{HOST}:{self.port}/"

    def ready(self) -> bool:
        """Return whether it answers clients."""
        return answer(self.port, b"AMQP\0\0\x09\x01").startswith(b"\x01")

    def wait_ready(self) -> None:
        """Return when it is ready, and would outlive its death."""
        super().wait_ready()
        wait_until(self._has_noted_streams, START_SECONDS)

    def _has_noted_streams(self) -> bool:
        notes = self.folder.glob("mnesia/*/coordination/*/names.dets")
        return any(COORDINATOR in note.read_bytes() for note in notes)

    def _command(self) -> list[str]:
        (self.folder / "rabbitmq.conf").write_text(
            CONFIG.format(host=HOST, port=self.port, folder=self.folder, config=self.config), encoding="utf-8"
        )
        (self.folder / "definitions.json").write_text(json.dumps(DEFINITIONS), encoding="utf-8")
        (self.folder / "plugins").write_text("[].", encoding="utf-8")
        (self.folder / "environment").touch()
        real = Path(DEBIAN, self.program)
        return ["/bin/sh", "-c", EPMD, self._epmd, str(real) if real.exists() else self._path]

    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "HOME": folder,  # of the cookie that admits to the node
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/logs",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/environment",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/generated",
            "ERL_CRASH_DUMP_SECONDS": "0",  # none
            "RABBITMQ_ALLOW_INPUT": "1",  # so that the script becomes the server, instead of watching over it
            "RABBITMQ_SERVER_START_ARGS": "-noinput",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
