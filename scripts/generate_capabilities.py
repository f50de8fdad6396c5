"""Makes the page of what each engine can do from a run of the conformance suite on all engines.

    python scripts/generate_capabilities.py            run it; write docs/capabilities.json and docs/capabilities.md
    python scripts/generate_capabilities.py --page     write the page from the numbers of the last run
    python scripts/generate_capabilities.py --check    exit 1 when the page is stale, and say in what

The page is stale when the engines declare other capabilities than in the last run, or the suite has other cases. That
is told without running any: they are collected once, and which apply to an engine follows from what it can do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tidings.client.connect import BLOCKING, open_engine
from tidings.errors import PackageMissing
from tidings.model.capability import Capability

ROOT = Path(__file__).resolve().parent.parent
SUITE = ROOT / "src" / "tidings" / "testing" / "conformance"
PAGE = ROOT / "docs" / "capabilities.md"
NUMBERS = ROOT / "docs" / "capabilities.json"

EVERYTHING = "all cases"
"""The name of the row that counts every case once."""

ORDER = ("memory", "file", "nats", "redis", "rabbitmq", "zeromq")
"""The columns."""

INTRO = """# What each engine can do

Made by `scripts/generate_capabilities.py` from a run of the conformance suite on real servers. A number says how many
cases that need the ability the engine has passed; each case runs with both clients. `-`: the engine cannot do it and
refuses it by name (`UnsupportedFeature`). `o`: it depends on how the server is set up, and the one of this run is not.

"""

Record = dict[str, Any]


def recorded(*arguments: str) -> list[Record]:
    """Run the suite with the recorder, and return what it noted."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "cases.json")
        environment = {**os.environ, "RECORD": str(record), "PYTHONPATH": str(ROOT / "scripts")}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "conformance_recorder", str(SUITE), *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if not record.exists() or done.returncode not in (0, 1):  # 1: some cases failed, and are told as such
            sys.exit(f"the suite did not run:\n{done.stdout}")
        if "--collect-only" not in arguments:
            print(done.stdout[-3000:])
        found: list[Record] = json.loads(record.read_text(encoding="utf-8"))
        return found


def declared() -> dict[str, list[str]]:
    """Return what each engine says that it can do before it has seen a server, if its driver is installed."""
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for scheme in BLOCKING:
            place = f"{folder}/{scheme}" if scheme in ("memory", "file", "zmq+ipc") else "//127.0.0.1:9"
            try:
                engine = open_engine(f"{scheme}:{place}", BLOCKING, "")
            except PackageMissing:
                continue
            found[engine.name] = sorted(capability.value for capability in engine.capabilities)
            engine.close()
    return found


def rows_of(needs: Iterable[str]) -> Iterator[str]:
    """Yield the rows in which a case counts."""
    yield EVERYTHING
    yield from needs


def numbers(cases: list[Record]) -> dict[str, Record]:
    """Return the numbers of each engine: what it declares, what it could do in the run, and the cases of each row."""
    declares, found = declared(), {}
    for engine in sorted({case["engine"] for case in cases}):
        applied = [case for case in cases if case["engine"] == engine and set(case["needs"]) <= set(case["can"])]
        count = Counter(row for case in applied for row in rows_of(case["needs"]))
        passed = Counter(row for case in applied if case["passed"] for row in rows_of(case["needs"]))
        can = applied[0]["can"] if applied else []
        found[engine] = {"declares": declares[engine], "can": can, "cases": dict(count), "passed": dict(passed)}
    return found


def page(found: dict[str, Record]) -> str:
    """Return the page of these numbers."""
    engines = [engine for engine in ORDER if engine in found]
    lines = ["| |" + "".join(f" {engine} |" for engine in engines), "|---|" + "--:|" * len(engines)]
    for row in (EVERYTHING, *sorted(Capability)):
        lines.append(f"| {row} |" + "".join(f" {cell(found[engine], row)} |" for engine in engines))
    return INTRO + "\n".join(lines) + "\n"


def cell(engine: Record, row: str) -> str:
    """Return what the table says of an engine in a row."""
    if row != EVERYTHING and row not in engine["can"]:
        return "o" if row in engine["declares"] else "-"
    passed, cases = engine["passed"].get(row, 0), engine["cases"].get(row, 0)
    if not cases:
        return "yes"
    return f"{cases:,}" if passed == cases else f"{passed:,} of {cases:,}"


def stale(found: dict[str, Record], text: str) -> Iterator[str]:
    """Yield in what the page is not as it would be after a run now."""
    if text != page(found):
        yield "the page is not made of its numbers"
    cases = [case["needs"] for case in recorded("--engine-url=memory:", "--collect-only")]
    for engine, declares in declared().items():
        if engine not in found:
            yield f"{engine} was not there in the last run"
            continue
        numbers = found[engine]
        if declares != numbers["declares"]:
            yield f"{engine} declares otherwise: {sorted(set(declares) ^ set(numbers['declares']))}"
        apply = Counter(row for needs in cases if set(needs) <= set(numbers["can"]) for row in rows_of(needs))
        for row in sorted(apply.keys() | numbers["cases"].keys()):
            if apply[row] != numbers["cases"].get(row, 0):
                yield f"{engine}, {row}: {apply[row]} cases instead of {numbers['cases'].get(row, 0)}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the page of what each engine can do.")
    parser.add_argument("--page", action="store_true", help="run nothing; make the page of the last numbers")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the page is stale")
    parser.add_argument("--engine-url", action="append", default=[], help="run on these only, and keep the others")
    asked = parser.parse_args()
    found: dict[str, Record] = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
    if asked.check:
        faults = list(stale(found, PAGE.read_text(encoding="utf-8")))
        print("\n".join([*faults, "run python scripts/generate_capabilities.py"] if faults else []), end="")
        return bool(faults)
    if not asked.page:
        run = numbers(recorded("-n", "2", *(f"--engine-url={url}" for url in asked.engine_url)))
        found = {**found, **run} if asked.engine_url else run
        NUMBERS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
