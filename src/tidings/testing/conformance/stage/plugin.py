"""What pytest knows of the conformance suite before it collects: an option, two markers, the list of what is left out.

Every pytest run where tidings is installed loads this by entry point, so it imports nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

LEFT_OUT = pytest.StashKey[dict[str, None]]()
"""The cases that do not apply, with the reason, in order; gathered while collecting."""

_FROM_WORKER = "conformance_left_out"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("tidings").addoption(
        "--engine-url",
        action="append",
        default=[],
        metavar="URL",
        help="engine that tidings.testing.conformance tests; may be repeated (default: memory: and file:)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = {}
    config.addinivalue_line("markers", "needs(*capabilities): what an engine must declare for the case to apply")
    config.addinivalue_line("markers", "clients(*kinds): the clients that the case is for, if not both")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of pytest-xdist: hand the list to the process that prints."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        left_out = session.config.stash[LEFT_OUT]
        output[_FROM_WORKER] = list(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist ended."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[LEFT_OUT].update(dict.fromkeys(output.get(_FROM_WORKER, ())))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[LEFT_OUT]:
        terminalreporter.section("conformance cases that do not apply")
        for line in config.stash[LEFT_OUT]:
            terminalreporter.write_line(line)
