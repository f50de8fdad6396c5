"""The driver's connection, which talks TLS or not at all when it is told to."""

from __future__ import annotations

from typing import Any

from nats.aio.client import Client
from nats.errors import Error


class NoTLS(Error):
    """TLS is wanted, and the server has none."""

    def __str__(self) -> str:
        return "the server offers no TLS; nothing was sent to it: give it a certificate, or leave out ?tls=true"


class Driver(Client):
    """What the driver does, except that it sends nothing in the clear when `connect` is given `tls`: not when it
    reconnects either."""

    @property
    def ignored(self) -> bool:
        """Whether the other end took the connection, and did not greet as a NATS server does."""
        return bool(self._transport) and not self._server_info

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Take in the greeting, before anything is sent: the driver itself turns to TLS only where that is required."""
        if initial_connection and "tls" in self.options:
            if not (info.get("tls_required") or info.get("tls_available")):
                self._transport.close()  # type: ignore[union-attr]  # when it reconnects it would leave it open
                raise NoTLS
            info["tls_required"] = True
        await super()._process_info(info, initial_connection)
