"""The pytest option and markers of the conformance suite; pytest loads this by entry point, so it imports little."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("tidings").addoption(
        "--engine-url",
        action="append",
        default=[],
        metavar="URL",
        help="engine that tidings.testing.conformance tests; may be repeated (default: memory: and file:)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*capabilities): what an engine must declare for the case to apply")
    config.addinivalue_line("markers", "clients(*kinds): the clients that the case is for, if not both")
