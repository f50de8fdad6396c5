"""A machine on which no server is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidings.testing.servers import process


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program is found, and nobody judges a change here."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(process, "FOLDERS", ())
    monkeypatch.delenv("CI", raising=False)
