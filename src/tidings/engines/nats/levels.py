"""What a stored message survives: what is known of it, and what the servers' monitoring can prove."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from http.client import HTTPException
from typing import Any

from tidings.engines.nats.options import NatsOptions
from tidings.errors import UnsupportedFeature
from tidings.model.options import Durability

QUORUM = 3
"""Copies of which one may be lost without the others having to guess."""

_WAY_OUT = {
    Durability.OS: "use storage=file",
    Durability.DISK: "run the servers with `sync_interval: always` and name their monitoring addresses by ?monitor=",
    Durability.QUORUM: "use a cluster and ?replicas=3",
}


class Levels:
    """The durabilities of one bus."""

    def __init__(self, options: NatsOptions) -> None:
        self._options = options
        self._synced = False
        self._silent: list[str] = []

    async def probe(self, server_id: str) -> None:
        """Ask the monitoring addresses, if any is named, whether all servers sync always."""
        urls = [url.strip().rstrip("/") for url in self._options.monitor.split(",") if url.strip()]
        answers = await asyncio.gather(
            *(asyncio.to_thread(_jetstream, url, self._options.connect_seconds) for url in urls)
        )
        self._silent = [url for url, answer in zip(urls, answers, strict=True) if not answer]
        known = {answer.get("server_id") for answer in answers if answer.get("config", {}).get("sync_always") is True}
        sizes = {answer.get("meta_cluster", {}).get("cluster_size", 1) for answer in answers}
        self._synced = server_id in known and sizes == {len(known)}

    def proven(self) -> list[Durability]:
        """Return what a message reaches, the lowest first."""
        levels = [Durability.MEMORY]
        if self._options.storage == "file":
            levels.append(Durability.OS)
            if self._synced:
                levels.append(Durability.DISK)
            if self._options.replicas >= QUORUM:
                levels.append(Durability.QUORUM)
        return levels

    def reached(self, asked: Durability) -> Durability:
        """Return what a receipt is to name. Raises `UnsupportedFeature` when what is asked for is not proven."""
        levels = self.proven()
        if asked not in levels:
            way_out = _WAY_OUT[asked]
            if asked is Durability.DISK and self._silent:
                way_out += f"; no monitoring of a nats-server answered at {', '.join(self._silent)}"
            raise UnsupportedFeature("nats:", f"durability {asked}", way_out)
        return levels[-1] if asked is Durability.MEMORY else asked


def _jetstream(url: str, seconds: float) -> dict[str, Any]:
    """Return what a server tells about JetStream; nothing when it cannot be asked."""
    try:
        with urllib.request.urlopen(f"{url}/jsz?config=1", timeout=seconds) as answer:
            found = json.load(answer)
    except (OSError, ValueError, HTTPException):
        return {}
    return found if isinstance(found, dict) and "server_id" in found else {}
