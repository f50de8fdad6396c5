"""`tidings publish`: one message from the command line, or one for each line of stdin as the lines come."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
import msgspec

from tidings import Client, Compression, Durability, Receipt, TidingsError
from tidings.cli.interrupts import Interrupts
from tidings.cli.options import duration, header, priority, url_option
from tidings.cli.output import ReaderGone, abandon_stdout, on_terminal, receipt_line, say, write, write_json

READ_BYTES = 1 << 18
"""What one read of stdin takes at most; its lines are published together. Some thousand lines make a sync cheap."""

MAX_LINE_BYTES = 64 << 20
"""Longest line of stdin kept in memory while its end is awaited: no engine takes a message of that size."""

Parse = Callable[[bytes], Any]


@click.command(short_help="Publish a message, or the lines of stdin.")
@click.argument("topic")
@click.argument("data", default="-", metavar="[DATA|-]")
@click.option("--json", "as_json", is_flag=True, help="DATA must be JSON.")
@click.option("--text", "as_text", is_flag=True, help="DATA is text, even if it looks like JSON.")
@click.option("--key", help="Partition key: messages with equal keys keep their order.")
@click.option("-H", "--header", "headers", multiple=True, type=header, metavar="NAME:VALUE", help="May be repeated.")
@click.option("--id", "message_id", help="The message's id, for a publish that is repeated. [default: a new one]")
@click.option("--priority", type=priority, default="normal", metavar="PRIORITY", help="low, normal, high, or 0 to 9.")
@click.option("--ttl", type=duration, metavar="TIME", help="Do not deliver it after so long: 30s, 10m, 1d3h.")
@click.option("--delay", type=duration, metavar="TIME", help="Deliver it so much later.")
@click.option(
    "--compression", type=click.Choice([kind.value for kind in Compression]), help="[default: as the topic says]"
)
@click.option("--durability", type=click.Choice([level.value for level in Durability]), help="What it must survive.")
@url_option
def publish(
    *,
    topic: str,
    data: str,
    as_json: bool,
    as_text: bool,
    key: str | None,
    headers: Sequence[tuple[str, str]],
    message_id: str | None,
    priority: str | int,
    ttl: float | None,
    delay: float | None,
    compression: str | None,
    durability: str | None,
    url: str | None,
) -> None:
    """Publish DATA to TOPIC; with - (or without DATA) each line of stdin, at once when it is there.

    DATA that parses as JSON is published as JSON, anything else as text; blank lines of stdin are left out. Write --
    before DATA that begins with a dash. A receipt is printed for each message once it is stored: a line of JSON in a
    pipe, a short sentence on a terminal.
    """
    if as_json and as_text:
        raise click.UsageError("Give --json or --text, not both.")
    parse = PARSERS["json" if as_json else "text" if as_text else "either"]
    common: dict[str, Any] = {"partition_key": key, "headers": dict(headers), "durability": durability}
    common |= {"priority": priority, "ttl_seconds": ttl, "delay_seconds": delay, "compression": compression}
    if data != "-":
        value = parse(os.fsencode(data))
        with Client(url) as client:
            show([client.publish(topic, value, message_id=message_id, **common)])
    elif message_id is not None:
        raise click.UsageError("--id is for one message; the lines of stdin get an id each.")
    else:
        with Interrupts() as interrupts, Client(url) as client:
            publish_lines(client, topic, parse, common, interrupts)


def publish_lines(client: Client, topic: str, parse: Parse, common: dict[str, Any], interrupts: Interrupts) -> None:
    """Publish what stdin says, line by line, in batches as they come."""
    if sys.stdin.isatty():
        say(f"Each line is published to {topic}. Ctrl-D ends it.")
    stored = 0
    for lines in read_lines(interrupts):
        try:
            receipts = client.publish_batch(topic, [parse(line) for line in lines], **common)
        except (TidingsError, click.ClickException):
            click.echo(f"{stored} lines were published before this:", err=True)
            raise
        stored += len(receipts)
        try:
            show(receipts)
        except ReaderGone:
            abandon_stdout()  # the receipts have no reader any more, but the lines are still to be published


def read_lines(interrupts: Interrupts) -> Iterator[list[bytes]]:
    """Yield the complete lines of each read, without waiting for more; blank ones left out."""
    rest = bytearray()
    while True:
        with interrupts.waiting():
            chunk = os.read(sys.stdin.fileno(), READ_BYTES)
        if b"\n" in chunk or not chunk:
            head, _, tail = chunk.rpartition(b"\n")
            lines = [line.rstrip(b"\r") for line in bytes(rest + (head if chunk else b"")).split(b"\n")]
            rest = bytearray(tail)
            if found := [line for line in lines if line.strip()]:
                yield found
        else:
            rest += chunk
        if not chunk:
            return
        if len(rest) > MAX_LINE_BYTES:
            raise click.ClickException(f"a line of stdin is longer than {MAX_LINE_BYTES} bytes")


def show(receipts: list[Receipt]) -> None:
    """Print receipts: each in a pipe, a summary on a terminal."""
    if on_terminal():
        write(receipt_line(receipts))
    else:
        write_json(receipts)


# -- what DATA means


def _text(raw: bytes) -> str | bytes:
    """Text, or the bytes themselves where they are no UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _json(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"--json: {error}") from None


def _either(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _text(raw)


PARSERS: dict[str, Parse] = {"either": _either, "json": _json, "text": _text}
