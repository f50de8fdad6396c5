"""The command `python -m bench [names...] [--quick] [--json FILE]`: runs groups, prints the tables."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import rivals
from bench.measure import Row, Setting

GROUPS = ("publish_serial", "batches", "latency", "fanout", "backlog", "cold_start")
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


def _print_rows(rows: Sequence[Row]) -> None:
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print()
    hows = [f"{row.work}: {row.how} (median of {row.rounds})" for row in rows if row.ours is not None]
    notes = [f"! {row.work}, {row.reference or 'tidings'}: {row.note}" for row in rows if row.note]
    print(*(f"  {line}" for line in dict.fromkeys(hows + notes)), "", sep="\n", flush=True)


def _machine(folder: Path) -> str:
    free = shutil.disk_usage(folder).free >> 30
    load = os.getloadavg()[0]
    return (
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {load:.1f}; data in {folder} ({free} GiB free)"
    )


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
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(GROUPS)
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))} (there are {', '.join(GROUPS)})")
    return arguments


def main() -> int:
    arguments = _arguments()
    begin = time.monotonic()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tidings-bench-") as folder:
        setting = Setting(Path(folder), arguments.quick)
        print(_machine(setting.folder), "; ".join(rivals.versions()), sep="\n")
        print("ratio = tidings / reference, of figures taken in turn in the same run\n", flush=True)
        for name in arguments.names or GROUPS:
            found = _run_group(name, setting)
            _print_rows(found)
            rows += found
    met = [row.met for row in rows]
    print(
        f"{met.count(True)} goals met, {met.count(False)} not met, {time.monotonic() - begin:.0f} s, "
        f"load at the end {os.getloadavg()[0]:.1f}"
    )
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    return 1 if any(row.note.startswith("failed") for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
