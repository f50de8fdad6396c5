"""How the demonstration is shown: live on a terminal, as lines of text elsewhere, and the account as a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tidings.cli.demo.account import Account, Result
from tidings.cli.latency import Percentiles
from tidings.cli.output import on_terminal, style, write, write_table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Screen:
    """Lines of text: what happened. `update` is called often and shows nothing."""

    def happened(self, text: str) -> None:
        """Tell an event."""
        write(text + "\n")

    def update(self, account: Account) -> None:
        """Show how far everybody is."""


class SilentScreen(Screen):
    """Nothing, for `--json`."""

    def happened(self, text: str) -> None:
        pass


class LiveScreen(Screen):
    """A bar for the publisher and each reader; events scroll by above."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def happened(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def update(self, account: Account) -> None:
        self._move("published", account.published.distinct, account.messages)
        for name, tally in account.tallies.items():
            self._move(name, tally.distinct, account.messages)

    def _move(self, name: str, done: int, total: int) -> None:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._bars[name], completed=done)


@contextmanager
def open_screen(silent: bool) -> Iterator[Screen]:
    """Give the screen that fits to where stdout goes."""
    if silent or not on_terminal():
        yield SilentScreen() if silent else Screen()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(40), MofNCompleteColumn())
    with Progress(*columns) as progress:
        yield LiveScreen(progress)


def show_result(result: Result) -> None:
    """Print the account."""
    rows = [
        (reader.name, *(f"{n:,}" for n in (reader.delivered, reader.redelivered, reader.duplicates, reader.lost)))
        for reader in result.readers
    ]
    write("\n")
    write_table(("READER", "DELIVERED", "REDELIVERED", "DUPLICATES", "LOST"), rows)
    write("\n" + "\n".join(_sentences(result)) + "\n\n")
    verdict = _verdict(result)
    write((style(verdict, fg="green" if result.ok else "red", bold=True) if on_terminal() else verdict) + "\n")


def _sentences(result: Result) -> Iterator[str]:
    rate = f"{result.published_per_second:,.0f}/s"
    yield f"published    {result.published:,} messages in {result.publish_seconds:.1f} s ({rate}), all of them on disk"
    yield "the group    " + ", ".join(f"{name} handled {count:,}" for name, count in result.workers.items())
    if result.killed is not None:
        yield f"kill -9      {result.killed} died holding {result.held_when_killed:,}, which went to the others;"
        yield "             duplicates are those that it had handled and not yet acked"
    yield f"throughput   {result.delivered_per_second:,.0f} deliveries/s over {result.seconds:.1f} s"
    yield from _latency("latency      one at a time:", result.latency_one_at_a_time)
    yield from _latency("             in a flood:   ", result.latency_in_batches)


def _latency(title: str, found: Percentiles | None) -> Iterator[str]:
    if found is not None:
        p50, _, p99, most = found.readable()
        yield f"{title} p50 {p50}, p99 {p99}, max {most}"


def _verdict(result: Result) -> str:
    invented = sum(reader.invented for reader in result.readers)
    counts = f"{result.lost:,} lost, {result.unacked:,} not acked, {invented:,} never published"
    return f"{'Nothing was lost' if result.ok else 'FAILED'}: {counts}."
