"""What pytest knows of the conformance suite before it collects: an option, two markers, the list of what is left out.

Every pytest run where tidings is installed loads this by entry point, so it imports nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

LEFT_OUT = pytest.StashKey[dict[str, tuple[str, tuple[str, ...]]]]()
"""The cases that do not apply, each with its engine and what that lacks, in order; gathered while collecting."""

MISSING = pytest.StashKey[dict[str, str]]()
"""The engines that are not there, each with the reason."""

_FROM_WORKER = "conformance_left_out"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("tidings").addoption(
        "--engine-url",
        action="append",
        default=[],
        metavar="URL",
        help="engine that tidings.testing.conformance tests, such as file: or redis://host; may be repeated "
        "(default: all, on brokers that are started for it)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = {}
    config.stash[MISSING] = {}
    config.addinivalue_line("markers", "needs(*capabilities): what an engine must declare for the case to apply")
    config.addinivalue_line("markers", "clients(*kinds): the clients that the case is for, if not both")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of pytest-xdist: hand the lists to the process that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_FROM_WORKER] = (session.config.stash[LEFT_OUT], session.config.stash[MISSING])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist ended."""
    left_out, missing = getattr(node, "workeroutput", {}).get(_FROM_WORKER, ({}, {}))
    node.config.stash[LEFT_OUT].update(left_out)
    node.config.stash[MISSING].update(missing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out, missing = config.stash[LEFT_OUT], config.stash[MISSING]
    if left_out or missing:
        terminalreporter.section("conformance cases that do not apply")
    for engine, reason in missing.items():
        terminalreporter.write_line(f"all cases on {engine}: {reason}")
    for line in briefly(left_out) if config.get_verbosity() < 1 else fully(left_out):
        terminalreporter.write_line(line)


def fully(left_out: dict[str, tuple[str, tuple[str, ...]]]) -> list[str]:
    """Return a line for each case."""
    return [f"{case}: {engine} lacks {', '.join(lacks)}" for case, (engine, lacks) in left_out.items()]


def briefly(left_out: dict[str, tuple[str, tuple[str, ...]]]) -> list[str]:
    """Return a line for each engine: of one that can do little, the cases would fill many screens."""
    cases = Counter(engine for engine, _ in left_out.values())
    lacking: dict[str, set[str]] = {}
    for engine, lacks in left_out.values():
        lacking.setdefault(engine, set()).update(lacks)
    return [
        f"{cases[engine]} cases on {engine}, which lacks {'; '.join(sorted(lacks))}"
        for engine, lacks in lacking.items()
    ]
