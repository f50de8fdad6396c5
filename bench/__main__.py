"""The command `python -m bench [names...] [--quick] [--json FILE]`: runs groups, prints tables."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.measuring import rivals
from bench.measuring.sides import Row, Setting

GROUPS = ("publish_serial", "batches", "latency", "fanout", "backlog", "policies", "filters", "brokers", "cold_start")
README = Path(__file__).with_name("README.md")
RESULTS = "<!-- results -->"
COLUMNS = ("work", "tidings", "reference", "figure", "ratio", "middle half", "goal", "")


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return "-"
    text = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {True: "met", False: "NOT MET", None: ""}[row.met]
    spread = f"{row.spread[0]:.2f}..{row.spread[1]:.2f}" if row.spread else "-"
    ratio = f"{row.ratio:.2f} x" if row.ratio is not None else "-"
    ours = _number(row.ours, row.unit if row.ours is not None else "")
    theirs = _number(row.reference_figure)
    return row.work, ours, row.reference or "-", theirs, ratio, spread, row.goal, verdict


def _table(rows: Sequence[Row]) -> list[str]:
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    hows = [f"  {row.work}: {row.how} (median of {row.rounds})" for row in rows if row.ours is not None]
    notes = [f"  ! {row.work}, {row.reference or 'tidings'}: {row.note}" for row in rows if row.note]
    return [*lines, "", *dict.fromkeys(hows + notes), ""]


def _heading() -> list[str]:
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return [
        f"{system}, {os.cpu_count()} cores, load at the start {os.getloadavg()[0]:.1f}",
        "; ".join(rivals.versions()),
        "ratio = tidings / reference, of figures taken in turn in the same run",
        "",
    ]


def _verdict(rows: Sequence[Row], seconds: float) -> str:
    met = [row.met for row in rows]
    load = os.getloadavg()[0]
    return f"{met.count(True)} goals met, {met.count(False)} not met; {seconds:.0f} s, load at the end {load:.1f}"


def _write_readme(lines: Sequence[str]) -> None:
    """Put the lines of this run in the place of those of the last one."""
    before, begin, rest = README.read_text().partition(RESULTS)
    _, end, after = rest.partition(RESULTS)
    README.write_text(before + begin + "\n```text\n" + "\n".join(lines) + "\n```\n" + end + after)


def _run_group(name: str, setting: Setting) -> list[Row]:
    """The rows of one group; a group that fails gives one row that says so, and the others still run."""
    try:
        rows: list[Row] = importlib.import_module(f"bench.{name}").run(setting)
    except Exception as error:
        traceback.print_exc()
        return [Row(name, "", "", met=False, note=f"failed: {type(error).__name__}: {error}")]
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"default all: {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="smaller and fewer: a look, not a result")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument("--readme", action="store_true", help="also put the results into bench/README.md")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(GROUPS)
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))} (there are {', '.join(GROUPS)})")
    return arguments


def main() -> int:
    arguments = _arguments()
    # Told to end, the benchmark still ends its servers and removes its folders.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    begin = time.monotonic()
    rows: list[Row] = []
    said: list[str] = []

    def say(lines: Sequence[str]) -> None:
        print(*lines, sep="\n", flush=True)
        said.extend(lines)

    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as folder:
        setting = Setting(Path(folder), arguments.quick)
        say(_heading())
        for name in arguments.names or GROUPS:
            found = _run_group(name, setting)
            say(_table(found))
            rows += found
    say([_verdict(rows, time.monotonic() - begin)])
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    if arguments.readme:
        _write_readme(said)
    return 1 if any(row.note.startswith("failed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
