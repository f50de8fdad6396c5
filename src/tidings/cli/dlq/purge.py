"""`tidings dlq purge`: remove dead letters for good."""

from __future__ import annotations

import click

from tidings import Client, DeadLetters, DeadMessage
from tidings.cli.dlq.choosing import Choice, choice, choosing, confirm, count, demand_yes, letters_of, progress, report
from tidings.cli.options import url_option


@click.command(short_help="Remove dead letters for good.")
@click.argument("topic")
@choosing
@url_option
def purge(
    *,
    topic: str,
    ids: tuple[str, ...],
    reason: str | None,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    url: str | None,
) -> None:
    """Remove dead letters of TOPIC, oldest first: all, or those of --id, --reason. They are gone then."""
    if not (dry_run or yes):
        demand_yes("purge")
    wanted = choice(ids, reason)
    with Client(url) as client:
        letters = client.dead_letters(topic)
        found = count(letters, wanted, limit)
        if dry_run:
            report(topic, "purge", found, f"{letters_of(found, topic)} would be removed.", dry_run)
            return
        if found and not yes:
            confirm(f"Remove {letters_of(found, topic)} for good?")
        removed = remove(letters, wanted, found) if found else 0
    report(topic, "purge", removed, f"{letters_of(removed, topic)} removed.", dry_run)


def remove(letters: DeadLetters, wanted: Choice, most: int) -> int:
    """Remove those that were counted, and none that died since; return how many there still were."""
    with progress("Removing", most) as show:
        chosen = 0

        def look(dead: DeadMessage) -> bool:
            nonlocal chosen
            mine = wanted(dead)
            chosen += mine
            show(min(chosen, most))
            return mine

        return letters.purge(look, limit=most)
