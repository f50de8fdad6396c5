"""`tidings query`: SQL statements, and the rows that they give."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from tidings import Client, Subscription, Table, TopicInfo
from tidings.cli.interrupts import Interrupts
from tidings.cli.options import url_option
from tidings.cli.output import on_terminal, readable, say, write_json, write_table
from tidings.cli.subscribe import read


@click.command(short_help="Run SQL statements.")
@click.argument("statements")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each row, also on a terminal.")
@url_option
def query(*, statements: str, as_json: bool, url: str | None) -> None:
    """Run STATEMENTS of SQL, separated by ';'; `-` reads them from stdin.

    \b
    tidings query "SELECT topic_name, pending_messages FROM SYSTEM.topics"
    tidings query "SELECT data->>'status', count(*) FROM orders GROUP BY 1"
    tidings query "CREATE TOPIC orders WITH OPTIONS (retention_period: '7 days')"
    tidings query "SUBSCRIBE TO orders WHERE total > 100"

    Rows come as a table on a terminal, else as JSON Lines; what is missing in them is told on stderr. SUBSCRIBE prints
    messages, as `tidings subscribe` does, until Ctrl-C. When a statement cannot be read nothing is run, and the
    exit code is 2.
    """
    text = sys.stdin.buffer.read().decode(errors="surrogateescape") if statements == "-" else statements
    with Interrupts() as interrupts, Client(url) as client:
        with interrupts.waiting():
            result = client.execute(text, on_result=partial(show, as_json=as_json))
        if isinstance(result, Subscription):
            say("Waiting for messages. Ctrl-C ends it.")
            with result:
                read(result, interrupts, None, None)


def show(result: Any, as_json: bool) -> None:
    """Print what a statement gave."""
    if isinstance(result, Table):
        show_table(result, as_json)
    elif isinstance(result, TopicInfo):
        say(f"Topic {result.name} is ready.")
    elif result is None:
        say("Done.")


def show_table(table: Table, as_json: bool) -> None:
    """Print rows, and tell what is missing."""
    if as_json or not on_terminal():
        write_json(table.dicts())
    else:
        figures = {n for n in range(len(table.columns)) if _is_figure([row[n] for row in table])}
        write_table(table.columns, [tuple(map(cell, row)) for row in table], names=0, figures=figures)
    for note in table.notes:
        click.echo(f"Note: {note}.", err=True)


def _is_figure(cells: list[Any]) -> bool:
    return all(isinstance(value, (int, float)) for value in cells if value is not None)


def cell(value: Any) -> str:
    """Return a value as people read it."""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return "NULL" if value is None else readable(value)
